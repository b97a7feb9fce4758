"""What the two sides of a connection encrypt with. That the kernel does is shown where it can: `tests/host`."""

from __future__ import annotations

from compute_agent.host.kernel_tls import secrets_of

KEY = bytes(range(32))


def test_both_sides_know_what_either_encrypts_with_and_they_do_not_use_the_same() -> None:
    client, server = (secrets_of(KEY, side) for side in ("client", "server"))
    assert len(client) == 2 + 2 + 8 + 32 + 4 + 8
    assert client[:4] == server[:4] == b"\x04\x03\x34\x00", "TLS 1.3, AES-GCM with 256 bits"
    assert not set(_words(client[4:48])) & set(_words(server[4:48]))
    assert not set(_words(client[4:48])) & set(_words(secrets_of(bytes(32), "client")[4:48]))
    assert KEY not in client + server


def _words(content: bytes) -> list[bytes]:
    return [content[at : at + 4] for at in range(0, len(content), 4)]
