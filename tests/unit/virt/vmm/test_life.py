"""A machine's run states and events, with fake hardware."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from compute_agent.errors import DeviceError, MonitorError
from compute_agent.virt.vmm.life import Life
from compute_agent.virt.vmm.run_state import RunState
from tests.unit.virt.waiting import until


class Hardware:
    """A fake that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.error: DeviceError | None = None

    def hold(self) -> None:
        self.told.append("hold")

    def stop(self) -> None:
        self.told.append("stop")
        if self.error:
            raise self.error

    def go(self) -> None:
        self.told.append("go")

    def reset(self) -> None:
        self.told.append("reset")


class World:
    def __init__(self) -> None:
        self.hardware = Hardware()
        self.events: list[tuple[str, Mapping[str, object]]] = []
        self.life = Life(self.hardware, lambda event, data: self.events.append((event, data)))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    thread = threading.Thread(target=world.life.serve)
    thread.start()
    yield world
    world.life.end()
    thread.join()


def test_it_runs_and_stops_when_told_and_says_so_once(world: World) -> None:
    for _ in range(2):
        world.life.resume()
    for _ in range(2):
        world.life.pause()
    assert (world.hardware.told, world.names) == (["go", "stop"], ["RESUME", "STOP"])
    assert world.life.state is RunState.PAUSED


def test_a_guest_that_powers_itself_off_stays_off_until_it_is_reset(world: World) -> None:
    world.life.resume()
    world.life.wish_for_power_off()
    until(lambda: world.life.state is RunState.SHUTDOWN)
    assert ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}) in world.events
    with pytest.raises(MonitorError, match="Resetting"):
        world.life.resume()
    world.life.reset()
    world.life.resume()
    assert world.hardware.told == ["go", "hold", "stop", "stop", "reset", "go"]
    assert world.life.state is RunState.RUNNING


def test_a_guest_that_resets_itself_goes_on_running(world: World) -> None:
    world.life.resume()
    world.life.wish_for_reset()
    until(lambda: "RESET" in world.names)
    assert world.events[-1] == ("RESET", {"guest": True, "reason": "guest-reset"})
    with world.life.still():
        assert world.hardware.told == ["go", "hold", "stop", "reset", "go"]
        assert world.life.state is RunState.RUNNING


def test_two_processors_that_want_a_reset_at_once_get_one(world: World) -> None:
    world.life.resume()
    with world.life.still():
        world.life.wish_for_reset()
        world.life.wish_for_reset()
    until(lambda: "RESET" in world.names)
    world.life.end()
    assert world.names.count("RESET") == 1


def test_a_power_off_that_crosses_a_pause_is_not_forgotten(world: World) -> None:
    world.life.resume()
    with world.life.still():
        world.life.wish_for_power_off()
        world.life.pause()
    until(lambda: world.life.state is RunState.SHUTDOWN)


def test_a_processor_that_fails_leaves_a_machine_that_only_a_reset_revives(world: World) -> None:
    world.life.resume()
    world.life.wish_for_end("three faults in a row")
    until(lambda: world.life.state is RunState.INTERNAL_ERROR)
    with pytest.raises(MonitorError, match="Resetting"):
        world.life.resume()


def test_a_device_that_cannot_go_on_makes_it_an_error_to_do_so(world: World) -> None:
    world.life.resume()
    world.hardware.error = DeviceError("3 requests are lost")
    world.life.pause()
    assert world.life.state is RunState.INTERNAL_ERROR
