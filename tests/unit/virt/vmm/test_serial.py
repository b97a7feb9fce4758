"""The serial port, as a guest in real mode sees it. Source: National Semiconductor, PC16550D data sheet."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.vmm.serial import SerialPort
from tests.unit.virt.kvm.toy import DONE, FIRST_VECTOR, Running, Toy, toy

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH = range(0x3F8, 0x400)
FCR = IIR
GSI = 4
NOTHING, MODEM, EMPTIED, RECEIVED, ERRORS, TIME_OUT = 0x01, 0x00, 0x02, 0x04, 0x06, 0x0C
FIFOS = 0xC0
QUEUE = 4096


@pytest.fixture
def log() -> Iterator[int]:
    fd = os.memfd_create("serial")
    yield fd
    os.close(fd)


@pytest.fixture
def guest(log: int) -> Iterator[Toy]:
    with toy(interrupts=True, log=log) as one:
        yield one


@pytest.fixture
def port(guest: Toy) -> SerialPort:
    assert guest.board
    return SerialPort(guest.board)


def logged(log: int) -> bytes:
    return os.pread(log, 1 << 20, 0)


def test_output_lands_in_the_log_in_order_and_without_python(guest: Toy, log: int) -> None:
    guest.run_to_end("ba f8 03 b0 41 b9 1a 00 ee fe c0 e2 fb e6 10")
    assert logged(log) == b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    counters = guest.vcpu.counters()
    assert (counters.answered, counters.exits) == (26, 27)


def test_a_string_at_once(guest: Toy, log: int) -> None:
    guest.write(0x3000, b"a string at once")
    guest.run_to_end("be 00 30 ba f8 03 b9 10 00 fc f3 6e e6 10")
    assert logged(log) == b"a string at once"


def test_a_wide_access_is_several_registers(guest: Toy, log: int) -> None:
    guest.run_to_end("ba f8 03 b8 41 05 ef ed a3 00 30 e6 10")
    assert logged(log) == b"A"
    assert guest.memory.content[0x3000:0x3002] == b"\0\x05"


def test_a_client_gets_what_it_takes(guest: Toy, port: SerialPort, log: int) -> None:
    ours, client = socket.socketpair()
    with ours, client:
        guest.out_byte(DATA, ord("a"))
        port.attach_client(ours)
        guest.out_byte(DATA, ord("b"))
        port.detach_client()
        guest.out_byte(DATA, ord("c"))
        assert (client.recv(10), logged(log)) == (b"b", b"abc")


def test_a_client_that_does_not_read_holds_nobody_up(guest: Toy, port: SerialPort, log: int) -> None:
    ours, client = socket.socketpair()
    with ours, client:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        port.attach_client(ours)
        guest.run_to_end("ba f8 03 b9 00 80 ee e2 fd e6 10")
        client.setblocking(False)
        got = 0
        while True:
            try:
                got += len(client.recv(65536))
            except BlockingIOError:
                break
    counters = port.counters()
    assert (counters.transmitted, len(logged(log))) == (0x8000, 0x8000)
    assert 0 < got == 0x8000 - counters.dropped < 0x8000


def test_a_client_that_is_gone(guest: Toy, port: SerialPort, log: int) -> None:
    ours, client = socket.socketpair()
    with ours:
        client.close()
        port.attach_client(ours)
        guest.out_byte(DATA, ord("a"))
    assert logged(log) == b"a"


@pytest.fixture
def busy_thread() -> Iterator[None]:
    """One that lets no other thread of Python's have more than its turns."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("busy_thread")
def test_output_goes_on_while_python_computes(guest: Toy, log: int) -> None:
    """Did each byte wait for its turn, they would take four times as long as a guest has in these tests."""
    guest.run_to_end("ba f8 03 b9 00 40 ee e2 fd e6 10")
    assert len(logged(log)) == 0x4000
    assert guest.vcpu.counters().passed[ExitReason.KVM_EXIT_IO] == 1


def test_the_registers_that_only_keep(guest: Toy) -> None:
    assert guest.in_byte(IER) == guest.in_byte(MCR) == guest.in_byte(SCRATCH) == 0
    for register, kept in ((IER, 0x0F), (MCR, 0x1F), (SCRATCH, 0xFF), (LCR, 0x7F)):
        guest.out_byte(register, 0x7F if register == LCR else 0xFF)
        assert guest.in_byte(register) == kept
        guest.out_byte(register, 0)


def test_the_divisor_is_behind_the_first_two(guest: Toy, log: int) -> None:
    guest.out_byte(LCR, 0x83)
    guest.out_byte(DATA, 0x34)
    guest.out_byte(IER, 0x12)
    assert (guest.in_byte(DATA), guest.in_byte(IER)) == (0x34, 0x12)
    guest.out_byte(LCR, 0x03)
    assert (guest.in_byte(DATA), guest.in_byte(IER), logged(log)) == (0, 0, b"")


def test_the_transmitter_is_always_empty(guest: Toy) -> None:
    assert guest.in_byte(LSR) == 0x60
    guest.out_byte(DATA, 0x41)
    assert guest.in_byte(LSR) == 0x60


def test_fifos_are_seen(guest: Toy) -> None:
    assert guest.in_byte(IIR) == NOTHING
    guest.out_byte(FCR, 0xC8)
    assert guest.in_byte(IIR) == NOTHING
    guest.out_byte(FCR, 0x01)
    assert guest.in_byte(IIR) == FIFOS | NOTHING


def test_the_empty_transmitter_interrupts_until_it_is_told(guest: Toy) -> None:
    guest.out_byte(DATA, 0x41)
    assert not guest.line(GSI)
    guest.out_byte(IER, 0x02)
    assert guest.line(GSI)
    assert guest.in_byte(IIR) == EMPTIED
    assert not guest.line(GSI)
    assert guest.in_byte(IIR) == NOTHING
    guest.out_byte(DATA, 0x42)
    assert guest.line(GSI)
    guest.out_byte(IER, 0)
    assert not guest.line(GSI)
    assert guest.in_byte(IIR) == NOTHING
    guest.out_byte(IER, 0x02)
    assert guest.in_byte(IIR) == EMPTIED


def test_received_bytes_interrupt_until_they_are_read(guest: Toy, port: SerialPort) -> None:
    guest.out_byte(IER, 0x01)
    assert port.receive(b"xy") == 2
    for byte in b"xy":
        assert guest.line(GSI)
        assert guest.in_byte(IIR) == RECEIVED
        assert guest.in_byte(LSR) == 0x61
        assert guest.in_byte(DATA) == byte
    assert not guest.line(GSI)
    assert (guest.in_byte(IIR), guest.in_byte(LSR), guest.in_byte(DATA)) == (NOTHING, 0x60, 0)


@pytest.mark.parametrize(("control", "trigger"), [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_fewer_bytes_than_wanted_are_told_of_as_a_time_out(
    guest: Toy, port: SerialPort, control: int, trigger: int
) -> None:
    guest.out_byte(FCR, control)
    guest.out_byte(IER, 0x01)
    port.receive(b"." * trigger)
    assert guest.in_byte(IIR) == FIFOS | RECEIVED
    guest.in_byte(DATA)
    assert guest.in_byte(IIR) == FIFOS | (TIME_OUT if trigger > 1 else NOTHING)


@pytest.mark.parametrize("control", [0x03, 0x00])
def test_a_fifo_is_cleared(guest: Toy, port: SerialPort, control: int) -> None:
    guest.out_byte(FCR, 0x01)
    port.receive(b"lost")
    guest.out_byte(FCR, control)
    assert guest.in_byte(LSR) == 0x60


def test_a_full_queue_takes_no_more(guest: Toy, port: SerialPort) -> None:
    assert port.receive(b"a" + b"." * (QUEUE - 2)) == QUEUE - 1
    assert port.receive(b"bc") == 1
    assert port.receive(b"d") == 0
    assert guest.in_byte(DATA) == ord("a")
    assert port.receive(b"de") == 1
    guest.run_to_end("bf 00 30 ba f8 03 b9 00 10 fc f3 6c e6 10")
    assert guest.memory.content[0x3000:0x4000] == b"." * (QUEUE - 2) + b"bd"
    assert port.counters().received == QUEUE + 1


def test_the_loop_back_is_full_after_a_fifo(guest: Toy, port: SerialPort, log: int) -> None:
    guest.out_byte(FCR, 0x01)
    guest.out_byte(MCR, 0x10)
    assert port.receive(b"from outside") == 0
    guest.out_byte(IER, 0x04)
    for value in range(17):
        guest.out_byte(DATA, value)
    assert guest.line(GSI)
    assert guest.in_byte(IIR) == FIFOS | ERRORS
    assert guest.in_byte(LSR) == 0x63
    assert guest.in_byte(LSR) == 0x61
    assert not guest.line(GSI)
    assert [guest.in_byte(DATA) for _ in range(16)] == list(range(16))
    assert logged(log) == b""


def test_modem_lines(guest: Toy) -> None:
    assert guest.in_byte(MSR) == 0xB0
    guest.out_byte(IER, 0x08)
    guest.out_byte(MCR, 0x1A)
    assert guest.line(GSI)
    assert guest.in_byte(IIR) == MODEM
    assert guest.in_byte(MSR) == 0x92
    assert not guest.line(GSI)
    guest.out_byte(MCR, 0x15)
    assert guest.in_byte(MSR) == 0x60 | 0x0B
    guest.out_byte(MCR, 0x11)
    assert guest.in_byte(MSR) == 0x20 | 0x04


def test_the_most_urgent_interrupt_comes_first(guest: Toy, port: SerialPort) -> None:
    guest.out_byte(IER, 0x0F)
    guest.out_byte(MCR, 0x10)
    guest.out_byte(DATA, 1)
    guest.out_byte(DATA, 2)
    assert guest.in_byte(IIR) == ERRORS
    guest.in_byte(LSR)
    assert guest.in_byte(IIR) == RECEIVED
    guest.in_byte(DATA)
    assert guest.in_byte(IIR) == EMPTIED
    assert guest.in_byte(IIR) == MODEM
    guest.in_byte(MSR)
    assert guest.in_byte(IIR) == NOTHING


def test_each_received_byte_interrupts_the_guest(guest: Toy, port: SerialPort) -> None:
    """The handler reads one byte, as if there were no more."""
    guest.enable_pic(GSI)
    guest.out_byte(IER, 0x01)
    guest.handle_interrupt(FIRST_VECTOR + GSI, "ba f8 03 ec e6 10 cf")
    guest.start("f4 eb fd", interrupts=True)
    running = Running(guest.vcpu)
    port.receive(b"abc")
    typed = b""
    while len(typed) < 3:
        assert running.reason() == ExitReason.KVM_EXIT_IO
        assert guest.vcpu.shared.io.port == DONE
        typed += guest.exit_data()
        running = Running(guest.vcpu)
    guest.vcpu.kick()
    assert (running.reason(), typed) == (ExitReason.KVM_EXIT_INTR, b"abc")


def test_a_guest_that_transmits_from_its_handler_alone(guest: Toy, log: int) -> None:
    """It writes a byte whenever the transmitter interrupts, and never reads why."""
    guest.enable_pic(GSI)
    guest.write(0x3000, b"by interrupts")
    guest.handle_interrupt(FIRST_VECTOR + GSI, "ba f8 03 ac 84 c0 75 02 e6 10 ee cf")
    guest.start("be 00 30 ba f9 03 b0 02 fb ee f4 eb fd", interrupts=True)
    guest.expect_done()
    assert logged(log) == b"by interrupts"


def test_a_suspended_port_goes_on(guest: Toy, port: SerialPort) -> None:
    for register, value in ((FCR, 0x81), (LCR, 0x03), (MCR, 0x0B), (SCRATCH, 0x77), (IER, 0x03)):
        guest.out_byte(register, value)
    port.receive(b"waiting")
    state = port.state()
    with toy(interrupts=True, log=-1) as other:
        assert other.board
        SerialPort(other.board).restore(state)
        assert SerialPort(other.board).state() == state
        assert other.line(GSI)
        assert [other.in_byte(register) for register in (IIR, LCR, MCR, SCRATCH, IER)] == [
            FIFOS | TIME_OUT, 0x03, 0x0B, 0x77, 0x03,
        ]  # fmt: skip
        assert bytes(other.in_byte(DATA) for _ in range(7)) == b"waiting"
        assert other.in_byte(IIR) == FIFOS | EMPTIED


def test_a_reset(guest: Toy, port: SerialPort) -> None:
    new = port.state()
    guest.out_byte(IER, 0x03)
    guest.out_byte(SCRATCH, 1)
    port.receive(b"lost")
    assert guest.line(GSI)
    port.reset()
    assert not guest.line(GSI)
    assert port.state() == new


def test_a_machine_without_interrupts_polls(log: int) -> None:
    with toy(log=log) as guest:
        guest.out_byte(IER, 0x02)
        guest.out_byte(DATA, 0x41)
    assert logged(log) == b"A"
