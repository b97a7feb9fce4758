"""What a controller should not have sent: each gets an error that names what and where, and changes nothing."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import oslo_messaging
import pytest

from compute_agent import errors
from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import Instance, PortDetails
from compute_agent.instance.state import VmState
from sandbox.broker import Broker
from sandbox.node import Node
from tests.functional.guests import Guests, a_port, an_order, until
from tests.fuzz.broker import call_all, publish_all

PathOfField = tuple[str | int, ...]


@pytest.fixture
def call(node: Node) -> Callable[..., Any]:
    """A call as anybody on the broker can make it, past the typed client."""
    target = oslo_messaging.Target(exchange="compute_agent", topic="compute", server=node.host, version="1.0")
    raw = oslo_messaging.get_rpc_client(node.client.transport, target, timeout=10)

    def call(verb: str, **arguments: object) -> Any:
        return raw.call({}, verb, **arguments)

    return call


def a_message(**changes: object) -> dict[str, Any]:
    """The arguments of a good boot request, as plain JSON values."""
    message = {"request_id": str(uuid.uuid4()), "instance": msgspec.to_builtins(an_order())}
    return message | changes


def set_in(message: dict[str, Any], path: PathOfField, value: object) -> dict[str, Any]:
    holder: Any = message
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return message


BAD_FIELDS = [
    (("instance", "flavor", "vcpus"), -1, "instance.flavor.vcpus"),
    (("instance", "flavor", "vcpus"), 10**30, "instance.flavor.vcpus"),
    (("instance", "flavor", "vcpus"), "2", "instance.flavor.vcpus"),
    (("instance", "flavor", "memory_mb"), 0, "instance.flavor.memory_mb"),
    (("instance", "flavor", "memory_mb"), 10**12, "instance.flavor.memory_mb"),
    (("instance", "uuid"), "../../etc/passwd", "instance.uuid"),
    (("instance", "colour"), "blue", "instance.colour"),
    (("instance", "ports", 0, "mac_address"), "52:54:00", "instance.ports[0].mac_address"),
    (("instance", "ports", 0, "details"), {"bridge_name": "br int; reboot"}, "instance.ports[0].details.bridge_name"),
    (("instance", "block_devices", 0, "size_gb"), -5, "instance.block_devices[0].size_gb"),
    (("instance", "block_devices", 0, "source_type"), "tape", "instance.block_devices[0].source_type"),
    (("instance", "name"), "two\nlines", "instance.name"),
    (("request_id",), "not a uuid", "request_id"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD_FIELDS, ids=lambda one: str(one)[:40])
def test_a_bad_field_is_named(
    guests: Guests, call: Callable[..., Any], path: PathOfField, value: object, field: str
) -> None:
    with pytest.raises(errors.InvalidMessage) as caught:
        call("build_and_run_instance", **set_in(a_message(), path, value))
    assert caught.value.args[0] == field
    assert guests.client.list_instances() == []


def test_a_missing_field_is_named(guests: Guests, call: Callable[..., Any]) -> None:
    message = a_message()
    del message["instance"]["flavor"]
    with pytest.raises(errors.InvalidMessage, match=r"instance\.flavor"):
        call("build_and_run_instance", **message)


def test_a_wrong_version_is_refused(node: Node) -> None:
    target = oslo_messaging.Target(exchange="compute_agent", topic="compute", server=node.host, version="2.0")
    raw = oslo_messaging.get_rpc_client(node.client.transport, target, timeout=10)
    with pytest.raises(errors.InvalidMessage, match=r"version: .*2\.0"):
        raw.call({}, "list_instances")


def test_an_unknown_verb_is_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(errors.InvalidMessage, match="make_coffee"):
        call("make_coffee")


def test_an_unknown_instance(guests: Guests) -> None:
    nobody = str(uuid.uuid4())
    for verb in (guests.client.stop_instance, guests.client.terminate_instance, guests.client.get_console_output):
        with pytest.raises(errors.InstanceNotFound, match=nobody):
            verb(nobody)
    with pytest.raises(errors.OperationNotFound, match=nobody):
        guests.client.get_operation(nobody)


def test_a_uuid_in_use_and_a_state_that_does_not_allow_it(guests: Guests) -> None:
    instance = guests.boot()
    with pytest.raises(errors.InstanceExists, match=instance.uuid):
        guests.client.build_and_run_instance(instance)
    with pytest.raises(errors.InvalidState, match="is active: start needs it to be stopped"):
        guests.client.start_instance(instance.uuid)
    assert guests.view(instance.uuid).vm_state is VmState.ACTIVE


def test_a_bridge_that_is_not_there(guests: Guests) -> None:
    order = msgspec.structs.replace(an_order(), ports=[a_port(details=PortDetails(bridge_name="br-none"))])
    with pytest.raises(errors.NetworkError, match="br-none"):
        guests.client.build_and_run_instance(order)
    assert guests.client.list_instances() == []


# --- much of it -----------------------------------------------------------------------------------

DEFECTS = ("Failed while answering", "in a way that nobody foresaw", "could not be undone")
"""What the agent logs of a mistake of its own."""
MESSAGES = int(os.environ.get("MESSAGES", "1000"))


def test_whatever_is_in_the_queue_the_next_message_is_answered(guests: Guests, broker: Broker, node: Node) -> None:
    began, size = node.pid, node.memory("VmRSS")
    publish_all(broker.transport_url, node.host, Random("queue"), MESSAGES)
    until(lambda: is_answered(guests), 120 + MESSAGES / 10)
    end_everything(guests)
    assert node.pid == began
    assert node.memory("VmRSS") - size < 64
    log = node.log.read_text(errors="replace")
    assert not [defect for defect in DEFECTS if defect in log]


def test_hostile_calls_are_answered_with_errors_of_ours(guests: Guests, call: Callable[..., Any]) -> None:
    call_all(call, Random("calls"), MESSAGES // 2)
    end_everything(guests)


def is_answered(guests: Guests) -> bool:
    with suppress(errors.DeadlineExceeded):
        guests.client.list_instances()
        return True
    return False


def end_everything(guests: Guests) -> None:
    """What has been taken comes to its end, whatever it was."""
    guests.client.host_maintenance_mode(False)  # a message may have asked for it in due form
    until(lambda: all(one.finished_at for one in guests.client.list_operations(limit=1000)), 120)
    guests.terminate_all()


# --- images ---------------------------------------------------------------------------------------


def image_order(path: Path, *, size_gb: int = 1, **changes: str) -> Instance:
    """An order whose first disk is made from a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    declared = {"url": f"file://{path}", "checksum": f"sha256:{digest}", "disk_format": "qcow2"} | changes
    device = BlockDevice(source_type="image", image=msgspec.convert(declared, Image), size_gb=size_gb, boot_index=0)
    return msgspec.structs.replace(an_order(), block_devices=[device], direct_boot=None)


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", "create", "-q", *map(str, arguments)], check=True, timeout=20)


def a_good_image(directory: Path) -> Path:
    path = directory / f"{uuid.uuid4()}.qcow2"
    qemu_img("-f", "qcow2", path, "64M")
    return path


def truncated(directory: Path) -> Instance:
    path = a_good_image(directory)
    path.write_bytes(path.read_bytes()[:100])
    return image_order(path)


def with_backing_file(directory: Path) -> Instance:
    path = directory / f"{uuid.uuid4()}.qcow2"
    qemu_img("-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", path)
    return image_order(path)


def with_data_file(directory: Path) -> Instance:
    path = directory / f"{uuid.uuid4()}.qcow2"
    qemu_img("-f", "qcow2", "-o", f"data_file={directory}/data.raw", path, "64M")
    return image_order(path)


def with_wrong_checksum(directory: Path) -> Instance:
    return image_order(a_good_image(directory), checksum="sha256:" + "0" * 64)


def with_wrong_format(directory: Path) -> Instance:
    return image_order(a_good_image(directory), disk_format="raw")


def that_does_not_fit(directory: Path) -> Instance:
    path = directory / f"{uuid.uuid4()}.qcow2"
    qemu_img("-f", "qcow2", path, "2G")
    return image_order(path)


def that_is_not_there(directory: Path) -> Instance:
    order = image_order(a_good_image(directory))
    Path(order.block_devices[0].image.url.removeprefix("file://")).unlink()  # type: ignore[union-attr]
    return order


def from_where_it_must_not_read(directory: Path) -> Instance:
    return image_order(Path("/etc/passwd"), disk_format="raw")


BAD_IMAGES = [
    (truncated, "InvalidImage", "qcow2"),
    (with_backing_file, "InvalidImage", "backing"),
    (with_data_file, "InvalidImage", "data"),
    (with_wrong_checksum, "InvalidImage", "checksum"),
    (with_wrong_format, "InvalidImage", "raw"),
    (that_does_not_fit, "InvalidImage", "does not fit"),
    (that_is_not_there, "StorageError", "qcow2"),
    (from_where_it_must_not_read, "InvalidImage", "/etc/passwd"),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD_IMAGES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_bad_image_fails_the_boot_and_leaves_an_instance_to_terminate(
    guests: Guests, node: Node, make: Callable[[Path], Instance], error: str, says: str
) -> None:
    order = make(node.image_source)
    try:
        operation = guests.fail(guests.client.build_and_run_instance(order))
    except errors.ComputeAgentError as refused:  # what the message alone shows is refused at once
        assert type(refused).__name__ == error
        assert says in str(refused)
        assert guests.client.list_instances() == []
        return
    assert operation.fault is not None
    assert operation.fault.type == error
    assert says in operation.fault.message
    view = guests.view(order.uuid)
    assert (view.vm_state, view.fault, view.pid) == (VmState.ERROR, operation.fault, None)
    assert not list((node.directory / "state" / "disks").glob(f"*{order.uuid}*"))
    guests.finish(guests.client.terminate_instance(order.uuid))


def test_no_space(guests: Guests, node: Node) -> None:
    """A download larger than what is free; the size is what the server says."""

    class Huge(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(2**60))
            self.end_headers()
            self.wfile.write(b"the first of many")

    with serving(Huge) as url:
        order = image_order(a_good_image(node.image_source), url=f"{url}/huge.qcow2", checksum="sha256:" + "1" * 64)
        operation = guests.fail(guests.client.build_and_run_instance(order))
    assert operation.fault is not None
    assert operation.fault.type == "InsufficientResources"


class serving:  # noqa: N801  (a context manager, used like a function)
    """An HTTP server on loopback."""

    def __init__(self, handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def downloads() -> Iterator[list[str]]:
    yield []


def test_one_download_serves_many_boots(guests: Guests, node: Node, downloads: list[str]) -> None:
    class Counting(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            downloads.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None: ...

    path = a_good_image(node.image_source)
    with serving(partial(Counting, directory=str(node.image_source))) as url:
        orders = [image_order(path, url=f"{url}/{path.name}") for _ in range(5)]
        for accepted in [guests.client.build_and_run_instance(order) for order in orders]:
            guests.finish(accepted)
    assert len(downloads) == 1
