"""Real images, a real HTTP server on the loopback, and local disks in a temporary directory."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .making import make_qcow2, no_ceph, open_disks

Answer = Callable[[BaseHTTPRequestHandler], None]


class WebServer:
    """Answers each path as the test says; `closing` is set before it stops, so that slow answers can end."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def url(self, path: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}{path}"

    def serve(self, path: str, content: bytes) -> str:
        """Answer `path` with the content; the URL."""
        self.answers[path] = lambda request: send(request, content)
        return self.url(path)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append(self.path)
                try:
                    web.answers[self.path](self)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                """Keep the tests' output clean."""

        return Handler


def send(request: BaseHTTPRequestHandler, content: bytes, length: int | None = None) -> None:
    """An ordinary answer, with a Content-Length that may lie."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def with_parts(content: bytes, seen: list[int]) -> Answer:
    """A server that knows of parts; `seen` gets the offsets that it was asked for."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        seen.append(start)
        if start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start:])

    return answer


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for 127.0.0.1 that nobody trusts yet."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 1 -subj /CN=test"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(path.with_suffix(".crt")))
    subprocess.run([*command.split(), *names], check=True, capture_output=True, timeout=20)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def tls_web(certificate: Path) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with WebServer(context) as server:
        yield server


@pytest.fixture(params=["web", "tls_web"])
def any_web(request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> WebServer:
    """With and without TLS, trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server: WebServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def qcow2_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound qcow2 image of 64 MiB with a little data."""
    return make_qcow2(tmp_path_factory.mktemp("image") / "good.qcow2")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The directory that file:// images may come from."""
    directory = tmp_path / "sources"
    directory.mkdir()
    return directory


@pytest.fixture
def settings(tmp_path: Path, sources: Path) -> StorageSettings:
    return StorageSettings(
        disk_dir=tmp_path / "disks",
        image_dir=tmp_path / "images",
        snapshot_dir=tmp_path / "snapshots",
        backup_dir=tmp_path / "backups",
        rbd=no_ceph(tmp_path),
        image_sources=(sources,),
        reserved_space=0,
        connect_timeout=5,
        download_timeout=10,
    )


@pytest.fixture
def disks(settings: StorageSettings) -> NodeDisks:
    return open_disks(settings)


@pytest.fixture
def full_disks(settings: StorageSettings) -> NodeDisks:
    """A node that has no space to give."""
    return open_disks(replace(settings, reserved_space=1 << 60))
