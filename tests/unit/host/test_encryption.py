"""What agents send each other is read by those two only."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509

from compute_agent.errors import HostError
from compute_agent.host.encryption import SealedServer, sealed

KEY, OTHER_KEY = "ab" * 32, "cd" * 32


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


Ends = tuple[socket.socket, socket.socket]


def test_one_who_knows_certificate_and_key_is_let_in(ends: Ends) -> None:
    server = SealedServer(KEY)
    with ThreadPoolExecutor(1) as other:
        accepted = other.submit(server.accept, ends[0])
        with sealed(ends[1], server.certificate, KEY) as client, accepted.result(10) as taken:
            assert taken.version() == "TLSv1.3"
            client.sendall(b"disks")
            assert taken.recv(5) == b"disks"


def test_one_who_does_not_know_the_key_is_hung_up_on(ends: Ends) -> None:
    server = SealedServer(KEY)
    with ThreadPoolExecutor(1) as other:
        accepted = other.submit(server.accept, ends[0])
        with sealed(ends[1], server.certificate, OTHER_KEY) as client:
            with pytest.raises(HostError, match="does not know the key"):
                accepted.result(10)
            assert client.recv(1) == b""


def test_a_server_with_another_certificate_gets_to_see_no_key(ends: Ends) -> None:
    impostor, meant = SealedServer(KEY), SealedServer(KEY)
    with ThreadPoolExecutor(1) as other:
        accepted = other.submit(impostor.accept, ends[0])
        with pytest.raises(HostError, match="cannot be encrypted"):
            sealed(ends[1], meant.certificate, KEY)
        with pytest.raises(HostError):
            accepted.result(10)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n"])
def test_one_who_does_not_encrypt_is_hung_up_on(ends: Ends, said: bytes) -> None:
    ends[1].sendall(said)
    ends[1].shutdown(socket.SHUT_WR)
    with pytest.raises(HostError, match="cannot be encrypted"):
        SealedServer(KEY).accept(ends[0])


def test_a_certificate_is_valid_whatever_the_clocks_say() -> None:
    valid = x509.load_pem_x509_certificate(SealedServer(KEY).certificate.encode())
    assert (valid.not_valid_before_utc.year, valid.not_valid_after_utc.year) == (1970, 9999)


def test_where_nothing_is_to_be_encrypted_nothing_is(ends: Ends) -> None:
    assert sealed(ends[1], None, None) is ends[1]
    with pytest.raises(HostError, match="without a certificate"):
        sealed(ends[1], None, KEY)
