"""Where images may come from, and what a bad server or a crash can do: nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from compute_agent.errors import InsufficientResources, InvalidImage, StorageError
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .conftest import WebServer, send, with_parts
from .making import cached, checksum, ignore, image_disk, leftovers, local_disk, make_instance, number, open_disks

CHECKSUM = checksum(b"never seen")


def create(disks: NodeDisks, url: str, digest: str = CHECKSUM) -> None:
    disks.create(make_instance(image_disk(url, digest)), ignore)


def redirect(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    return answer


def test_http_with_progress(disks: NodeDisks, web: WebServer, qcow2_content: bytes) -> None:
    seen: list[int] = []
    url = web.serve("/image?signature=1", qcow2_content)
    disks.create(make_instance(image_disk(url, checksum(qcow2_content))), seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == 100
    watchdogs = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for watchdog in watchdogs:
        watchdog.join(1)
    assert not any(watchdog.is_alive() for watchdog in watchdogs)


def test_https_trusts_known_servers_only(
    disks: NodeDisks, tls_web: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, qcow2_content: bytes
) -> None:
    url = tls_web.serve("/image", qcow2_content)
    with pytest.raises(StorageError, match="certificate verify failed"):
        create(disks, url, checksum(qcow2_content))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    create(disks, url, checksum(qcow2_content))


def test_redirects_are_followed(disks: NodeDisks, web: WebServer, qcow2_content: bytes) -> None:
    web.serve("/there", qcow2_content)
    web.answers["/here"] = redirect("/there")
    create(disks, web.url("/here"), checksum(qcow2_content))
    assert web.requests == ["/here", "/there"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x", "http://u:p@127.0.0.1/"])
def test_redirect_elsewhere_is_refused(
    disks: NodeDisks, settings: StorageSettings, web: WebServer, target: str
) -> None:
    web.answers["/"] = redirect(target)
    with pytest.raises(InvalidImage) as caught:
        create(disks, web.url("/"))
    assert caught.value.field == "instance.block_devices[0].image.url"
    assert leftovers(settings) == []


def test_redirect_loop_ends(disks: NodeDisks, web: WebServer) -> None:
    web.answers["/"] = redirect("/")
    with pytest.raises(StorageError, match="redirects"):
        create(disks, web.url("/"))


def test_secrets_of_a_url_are_not_told(disks: NodeDisks, web: WebServer) -> None:
    web.answers["/image?signature=SECRET"] = lambda request: request.send_error(403)
    with pytest.raises(StorageError, match="status 403") as refused:
        create(disks, web.url("/image?signature=SECRET"))
    with pytest.raises(InvalidImage) as invalid:
        create(disks, "http://user:SECRET@localhost/image")
    assert "SECRET" not in f"{refused.value}{invalid.value}"


def test_server_that_is_not_there(disks: NodeDisks, settings: StorageSettings) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        create(disks, "http://127.0.0.1:1/image")
    assert leftovers(settings) == []


@pytest.mark.parametrize("url", ["http://[::1/x", "http://localhost:99999/", "http:///x", "http://" + "a" * 70 + ".x/"])
def test_urls_that_are_none(disks: NodeDisks, url: str) -> None:
    with pytest.raises((InvalidImage, StorageError)):
        create(disks, url)


def test_answer_that_ends_early(disks: NodeDisks, web: WebServer) -> None:
    web.answers["/"] = lambda request: send(request, b"x" * 1000, length=5000)
    with pytest.raises(StorageError, match="ended after 1000 of 5000 bytes"):
        create(disks, web.url("/"))


def dripping(web: WebServer, start: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(start)
        while not web.closing.wait(0.01):
            request.wfile.write(b"x")

    return answer


@pytest.mark.parametrize(
    "start", [b"HTTP/1.0 200 OK\r\nX-Header: ", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["headers", "content"]
)
def test_dripping_server_meets_the_deadline(settings: StorageSettings, any_web: WebServer, start: bytes) -> None:
    disks = open_disks(replace(settings, download_timeout=0.2))
    any_web.answers["/"] = dripping(any_web, start)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"did not arrive within 0\.2 s"):
        create(disks, any_web.url("/"))
    assert time.monotonic() - began < 2
    assert {content for path in leftovers(settings) for content in path.read_bytes()} <= set(b"x")


def test_silent_server_meets_the_deadline(settings: StorageSettings, web: WebServer) -> None:
    disks = open_disks(replace(settings, connect_timeout=0.1))

    def say_nothing(request: BaseHTTPRequestHandler) -> None:
        web.closing.wait()

    web.answers["/"] = say_nothing
    with pytest.raises(StorageError, match="timed out"):
        create(disks, web.url("/"))


def test_no_space_for_a_download(full_disks: NodeDisks, settings: StorageSettings, web: WebServer) -> None:
    web.answers["/"] = lambda request: send(request, b"x", length=1 << 40)
    with pytest.raises(InsufficientResources, match=rf"{settings.image_dir} .* 1048576\.0 MiB needed, .* free"):
        create(full_disks, web.url("/"))
    assert leftovers(settings) == []


def test_disk_that_fills_up_meanwhile(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    """The system then writes a part and tells only by a number; the checksum is of what was received."""
    disk = local_disk(sources, b"x" * 150_000, "raw")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            disks.create(make_instance(disk), ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cached(settings) == []


def test_one_download_for_many_boots(
    disks: NodeDisks, settings: StorageSettings, web: WebServer, qcow2_content: bytes
) -> None:
    instance = make_instance(image_disk(web.serve("/image", qcow2_content), checksum(qcow2_content)))
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda index: disks.create(number(instance, index), ignore), range(20)))
    assert web.requests == ["/image"]
    assert len(disks.inspect()) == 20
    assert len(cached(settings)) == 1


def test_many_boots_share_a_failure_each_with_its_own_field(disks: NodeDisks, web: WebServer, sources: Path) -> None:
    web.serve("/", b"wrong")
    bad = image_disk(web.url("/"), CHECKSUM)
    instances = [make_instance(bad), number(make_instance(local_disk(sources, b"good", "raw"), bad), 1)]
    with ThreadPoolExecutor(2) as threads:
        boots = [threads.submit(disks.create, instance, ignore) for instance in instances]
        fields = [boot.exception(5) for boot in boots]
    assert [field.field for field in fields if isinstance(field, InvalidImage)] == [
        "instance.block_devices[0].image.checksum",
        "instance.block_devices[1].image.checksum",
    ]


def test_bad_source_does_not_fail_those_who_named_a_good_one(
    disks: NodeDisks, web: WebServer, qcow2_content: bytes
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def fail_late(request: BaseHTTPRequestHandler) -> None:
        asked.set()
        go_on.wait(5)
        request.send_error(404)

    web.answers["/bad"] = fail_late
    with ThreadPoolExecutor(1) as threads:
        bad = threads.submit(create, disks, web.url("/bad"), checksum(qcow2_content))
        assert asked.wait(5)
        good = number(make_instance(image_disk(web.serve("/good", qcow2_content), checksum(qcow2_content))), 1)
        disks.create(good, ignore)
        go_on.set()
        assert isinstance(bad.exception(5), StorageError)
    assert disks.inspect() == {good.uuid}


DOWNLOADING_AGENT = """
import sys
from pathlib import Path
from compute_agent.storage.settings import StorageSettings
from tests.unit.storage.making import image_disk, make_instance, no_ceph, open_disks
base = Path(sys.argv[1])
directories = {f"{name}_dir": base / f"{name}s" for name in ("disk", "image", "snapshot", "backup")}
settings = StorageSettings(**directories, rbd=no_ceph(base), reserved_space=0)
open_disks(settings).create(make_instance(image_disk(*sys.argv[2:])), lambda percent: print(percent, flush=True))
"""


def test_killed_half_way_then_done_again(
    tmp_path: Path, settings: StorageSettings, web: WebServer, qcow2_content: bytes
) -> None:
    def send_half(request: BaseHTTPRequestHandler) -> None:
        send(request, qcow2_content[: len(qcow2_content) // 2], length=len(qcow2_content))
        web.closing.wait(10)

    web.answers["/image"] = send_half
    url, digest = web.url("/image"), checksum(qcow2_content)
    command = [sys.executable, "-c", DOWNLOADING_AGENT, str(tmp_path), url, digest]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert 0 < int(agent.stdout.readline()) < 100
        agent.kill()
    (part,) = cached(settings)
    arrived = part.stat().st_size
    assert (part.suffix, 0 < arrived < len(qcow2_content)) == (".part", True)
    seen: list[int] = []
    web.answers["/image"] = with_parts(qcow2_content, seen)
    disks = open_disks(settings)
    create(disks, url, digest)
    assert seen == [arrived]
    assert [path.read_bytes() for path in cached(settings)] == [qcow2_content]


def refusal(disks: NodeDisks, url: str) -> str:
    with pytest.raises(InvalidImage) as caught:
        create(disks, url)
    assert caught.value.field == "instance.block_devices[0].image.url"
    return caught.value.reason


def test_files_elsewhere_are_refused_and_not_told_of(
    disks: NodeDisks, settings: StorageSettings, sources: Path
) -> None:
    (sources / "link").symlink_to("/etc/passwd")
    (sources / "loop").symlink_to(sources / "loop")
    (sources.parent / "sources-too").mkdir()
    reasons = {
        refusal(disks, url)
        for url in (
            "file:///etc/passwd",
            "file:///etc/no-such-file",
            f"file://{sources}/../disks/x",
            f"file://{sources}/%2e%2e/%2e%2e/etc/passwd",
            f"file://{sources}/link",
            f"file://{sources}/a%00b",
            f"file://{sources}-too/x",
            "file:///proc/self/environ",
        )
    }
    assert reasons == {f"files may come from {sources}, {settings.snapshot_dir} only"}
    assert leftovers(settings) == []


def test_files_that_are_none(disks: NodeDisks, sources: Path) -> None:
    os.mkfifo(sources / "fifo")
    assert refusal(disks, f"file://{sources}/fifo") == "not a regular file"
    assert refusal(disks, f"file://{sources}") == "not a regular file"
    with pytest.raises(StorageError, match="No such file"):
        create(disks, f"file://{sources}/missing")
