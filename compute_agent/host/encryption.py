"""Connections between two agents that nobody else can read, change or use: TLS 1.3.

The one that listens makes a certificate for this one purpose, and a key; the other has got both by another way. By
the certificate it knows whom it has reached, by the key, which it says first, it is known.
"""

from __future__ import annotations

import datetime
import hmac
import os
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from compute_agent.errors import HostError

_NAME = "compute-agent"
_VALID_FROM = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_VALID_UNTIL = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""Whatever the clocks of the two hosts say. The latter means that no end is known (RFC 5280, 4.1.2.5)."""
_HANDSHAKE = 10.0
"""Seconds."""


class SealedServer:
    """Takes connections of whoever has been told `certificate` and the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.certificate = _load_new_certificate(self._context)

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """The same connection, encrypted; it is closed where nothing comes of it.

        :raises HostError: the other side does not know the key, or ends the connection.
        """
        sealed = _shake_hands(self._context, connection, server_side=True)
        try:
            if not hmac.compare_digest(_read(sealed, len(self._key)), self._key):
                raise HostError("who has connected does not know the key")
        except BaseException:
            sealed.close()
            raise
        return sealed


def sealed(connection: socket.socket, certificate: str | None, key: str | None) -> socket.socket:
    """The same connection, encrypted where there is a key; it is closed where nothing comes of it.

    :raises HostError: who has been reached is not whose certificate it is.
    """
    if key is None:
        return connection
    if certificate is None:
        connection.close()
        raise HostError("a connection between agents cannot be encrypted without a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=certificate)
    encrypted = _shake_hands(context, connection, server_side=False)
    encrypted.sendall(key.encode())
    return encrypted


def _shake_hands(context: ssl.SSLContext, connection: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
    connection.settimeout(_HANDSHAKE)
    try:
        return context.wrap_socket(connection, server_side, server_hostname=None if server_side else _NAME)
    except OSError as error:
        connection.close()
        raise HostError(f"a connection between agents cannot be encrypted: {error}") from error


def _read(connection: ssl.SSLSocket, count: int) -> bytes:
    found = b""
    try:
        while len(found) < count and (more := connection.recv(count - len(found))):
            found += more
    except OSError as error:
        raise HostError(f"who has connected says no key: {error}") from error
    return found


def _load_new_certificate(context: ssl.SSLContext) -> str:
    """One that signs itself, with a private key that nobody else gets to see; PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(private, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    chain = os.memfd_create("certificate", os.MFD_CLOEXEC)  # the ssl module takes nothing but files
    try:
        os.write(chain, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
        context.load_cert_chain(f"/proc/self/fd/{chain}")
    finally:
        os.close(chain)
    return certificate.decode()
