"""`make demo`: the whole life of two Debian guests, ordered over RabbitMQ, reached over Open vSwitch; nothing is left.

Runs inside `sandbox/enter`. Exit status 0 only if everything that it says was seen to be so.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from compute_agent.errors import ComputeAgentError
from demonstration.acts import Demo
from demonstration.guest import HOST_ADDRESS, Guest, make_keys
from sandbox.broker import Broker
from sandbox.commands import SandboxError
from sandbox.images import debian_image
from sandbox.narrator import Narrator
from sandbox.node import Node
from sandbox.notify import tail
from sandbox.switch import Switch


def main() -> int:
    """The exit status: 0 if all was well."""
    narrator = Narrator()
    try:
        with tempfile.TemporaryDirectory(prefix="demo-") as directory:
            _run(narrator, Path(directory))
    except (SandboxError, ComputeAgentError) as error:
        narrator.chapter("The demo failed")
        narrator.quote(str(error))
        return 1
    except KeyboardInterrupt:
        narrator.chapter("Interrupted; everything has been taken down")
        return 130
    narrator.chapter(f"All was well, in {narrator.seconds:.0f} s")
    return 0


def _run(narrator: Narrator, directory: Path) -> None:
    with ExitStack() as surroundings:
        image, broker, switch = _set_up(narrator, directory, surroundings)
        node = surroundings.enter_context(Node(directory / "node", broker.transport_url, switch.connection))
        narrator.say(
            f"agent: serves host {node.host}, guests run on {node.client.get_host()['hypervisor']['accelerator']}"
        )
        keys = make_keys(directory / "keys")
        guests = [Guest(node.client, name, number, image, keys) for number, name in ((11, "anna"), (12, "boris"))]
        with _log_shown_on_failure(narrator, node):
            Demo(narrator=narrator, node=node, switch=switch, first=guests[0], second=guests[1]).play()
        narrator.chapter("Agent, broker and switch are taken down")
    narrator.say("done")


def _set_up(narrator: Narrator, directory: Path, surroundings: ExitStack) -> tuple[Path, Broker, Switch]:
    """Image, broker and switch, side by side."""
    narrator.chapter("A compute node is set up: private namespaces, broker, switch and agent")
    with ThreadPoolExecutor() as pool:
        image = pool.submit(_get_image, narrator)
        broker = pool.submit(surroundings.enter_context, Broker(directory / "broker"))
        switch = surroundings.enter_context(Switch(directory / "switch"))
        switch.add_bridge("br-int", HOST_ADDRESS)
        narrator.say("switch: Open vSwitch with bridge br-int, datapath in user space")
        broker.result()
        narrator.say(f"broker: RabbitMQ on port {broker.result().port}")
        return image.result(), broker.result(), switch


def _get_image(narrator: Narrator) -> Path:
    narrator.say("image: Debian 12 with cloud-init, from Debian's packages (the first time takes a minute or two)")
    image = debian_image()
    narrator.say(f"image: {image.stat().st_size >> 20} MiB, {image}")
    return image


@contextmanager
def _log_shown_on_failure(narrator: Narrator, node: Node) -> Iterator[None]:
    try:
        yield
    except (SandboxError, ComputeAgentError):
        narrator.chapter("The end of the agent's log")
        narrator.quote(tail(node.log))
        raise


if __name__ == "__main__":
    sys.exit(main())
