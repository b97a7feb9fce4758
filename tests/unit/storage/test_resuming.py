"""A download goes on where it stopped, and what comes of it is what was declared."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from compute_agent.errors import InvalidImage, StorageError
from compute_agent.storage.image_cache.room import PART_LIFETIME
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .conftest import WebServer, send, with_parts
from .making import cached, checksum, ignore, image_disk, leftovers, local_source, make_instance, number, open_disks

CONTENT = os.urandom(300_000)
HALF = len(CONTENT) // 2


def create(disks: NodeDisks, url: str, content: bytes = CONTENT) -> None:
    disks.create(make_instance(image_disk(url, checksum(content), "raw")), ignore)


def cut_off(times: int, seen: list[int]) -> Callable[[BaseHTTPRequestHandler], None]:
    """The connection breaks so often, each time after a third."""
    whole = with_parts(CONTENT, seen)

    def answer(request: BaseHTTPRequestHandler) -> None:
        if len(seen) >= times:
            whole(request)
            return
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        seen.append(start)
        request.send_response(206 if start else 200)
        request.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.end_headers()
        request.wfile.write(CONTENT[start : start + len(CONTENT) // 3])

    return answer


@pytest.fixture
def begun(settings: StorageSettings, disks: NodeDisks, web: WebServer) -> Path:
    """Half of ``/image``, as a broken connection leaves it."""
    web.answers["/image"] = lambda request: send(request, CONTENT[:HALF], length=len(CONTENT))
    with pytest.raises(StorageError, match=f"ended after {HALF} of {len(CONTENT)} bytes"):
        create(disks, web.url("/image"))
    (part,) = leftovers(settings)
    assert part.read_bytes() == CONTENT[:HALF]
    return part


def test_a_connection_that_breaks_now_and_then(disks: NodeDisks, settings: StorageSettings, web: WebServer) -> None:
    seen: list[int] = []
    web.answers["/image"] = cut_off(2, seen)
    create(disks, web.url("/image"))
    assert seen == [0, len(CONTENT) // 3, 2 * (len(CONTENT) // 3)]
    assert [path.read_bytes() for path in cached(settings)] == [CONTENT]


@pytest.mark.usefixtures("begun")
def test_the_next_boot_goes_on(disks: NodeDisks, web: WebServer) -> None:
    seen: list[int] = []
    web.answers["/image"] = with_parts(CONTENT, seen)
    create(disks, web.url("/image"))
    assert seen == [HALF]


@pytest.mark.usefixtures("begun")
def test_a_server_that_knows_no_parts(disks: NodeDisks, settings: StorageSettings, web: WebServer) -> None:
    create(disks, web.serve("/image", CONTENT))
    assert [path.read_bytes() for path in cached(settings)] == [CONTENT]


@pytest.mark.usefixtures("begun")
def test_a_server_that_sends_another_part(disks: NodeDisks, settings: StorageSettings, web: WebServer) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if "Range" in request.headers:
            request.send_response(206)
            request.send_header("Content-Range", f"bytes 5-10/{len(CONTENT)}")
            request.send_header("Content-Length", "5")
            request.end_headers()
            request.wfile.write(CONTENT[5:10])
        else:
            send(request, CONTENT)

    web.answers["/image"] = answer
    create(disks, web.url("/image"))
    assert [path.read_bytes() for path in cached(settings)] == [CONTENT]


def test_a_spoilt_beginning_is_fetched_again(disks: NodeDisks, web: WebServer, begun: Path) -> None:
    begun.write_bytes(b"\0" * HALF)
    seen: list[int] = []
    web.answers["/image"] = with_parts(CONTENT, seen)
    create(disks, web.url("/image"))
    assert seen == [HALF, 0]


def test_only_the_name_was_missing(disks: NodeDisks, web: WebServer, begun: Path) -> None:
    begun.write_bytes(CONTENT)
    web.requests.clear()
    create(disks, web.url("/image"))
    assert web.requests == []


def test_more_than_there_is(disks: NodeDisks, web: WebServer, begun: Path) -> None:
    begun.write_bytes(CONTENT + b"x")
    seen: list[int] = []
    web.answers["/image"] = with_parts(CONTENT, seen)
    create(disks, web.url("/image"))
    assert seen == [len(CONTENT) + 1, 0]


@pytest.mark.usefixtures("begun")
def test_another_url_begins_anew(disks: NodeDisks, web: WebServer) -> None:
    seen: list[int] = []
    web.answers["/other"] = with_parts(CONTENT, seen)
    create(disks, web.url("/other"))
    assert seen == [0]


def test_wrong_content_is_not_kept(disks: NodeDisks, settings: StorageSettings, web: WebServer, begun: Path) -> None:
    seen: list[int] = []
    web.answers["/image"] = with_parts(CONTENT[:-1] + b"?", seen)
    with pytest.raises(InvalidImage):
        create(disks, web.url("/image"), CONTENT[:-1] + b"!")
    assert leftovers(settings) == [begun]  # of another image
    assert seen == [0]


def test_what_nobody_goes_on_with_is_removed(settings: StorageSettings, begun: Path) -> None:
    open_disks(settings)
    assert begun.exists()
    long_ago = time.time() - PART_LIFETIME - 1
    os.utime(begun, (long_ago, long_ago))
    open_disks(settings)
    assert not begun.exists()


def test_a_file_is_resumed_too(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    source = local_source(sources, CONTENT)
    path = sources / source.url.rpartition("/")[2]
    path.write_bytes(b"")
    with pytest.raises(InvalidImage):
        create(disks, source.url)
    path.write_bytes(CONTENT)
    disks.create(number(make_instance(image_disk(source.url, source.checksum, "raw")), 1), ignore)
    assert [path.read_bytes() for path in cached(settings)] == [CONTENT]
