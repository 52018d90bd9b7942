"""Ways to an engine besides its own socket: a TCP port, a TLS port with certificates, and an `ssh` that isn't one."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

FAKE_SSH = """#!/bin/sh
# Notes its arguments, then does what ssh would do on the other machine.
for word in "$@"; do printf '%s\\n' "$word"; done > "$SSH_RECORD"
if [ -n "$SSH_REFUSES" ]; then echo "$SSH_REFUSES" >&2; exit 255; fi
while [ "$1" != "--" ]; do shift; done
shift 2
DOCKER_HOST="$SSH_TARGET" exec "$@"
"""


class Forwarder:
    """Carries the bytes of a TCP port to a unix socket.

    Parameters
    ----------
    socket_path
        The engine's.
    context
        Secures the port with TLS.
    """

    def __init__(self, socket_path: str, context: ssl.SSLContext | None = None) -> None:
        self._path, self._context = socket_path, context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop, and break every connection off."""
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection off, without a word."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            target = socket.socket(socket.AF_UNIX)
            target.connect(self._path)
            self._open += [connection, target]
            back = threading.Thread(target=_copy, args=(target, connection), daemon=True)
            back.start()
            _copy(connection, target)
            back.join()
        connection.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def make_certificates(folder: Path, *, host: str = "127.0.0.1") -> None:
    """Write ``ca``, ``server`` and ``client`` certificates into folders, named as Docker names them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)

    def make(subject: str, key: Any, issuer: str, issuer_key: Any, *extensions: Any) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    keys = {each: ec.generate_private_key(ec.SECP256R1()) for each in ("ca", "server", "client")}
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    # Without key identifiers, as Docker's manual has them made.
    made = {
        "ca": make(
            "ca", keys["ca"], "ca", keys["ca"], (x509.BasicConstraints(ca=True, path_length=None), True)
        ),
        "server": make("server", keys["server"], "ca", keys["ca"], (alternative, False)),
        "client": make("client", keys["client"], "ca", keys["ca"]),
    }
    pem = serialization.Encoding.PEM
    for owner in ("server", "client"):
        place = folder / owner
        place.mkdir(parents=True)
        (place / "ca.pem").write_bytes(made["ca"].public_bytes(pem))
        (place / "cert.pem").write_bytes(made[owner].public_bytes(pem))
        (place / "key.pem").write_bytes(
            keys[owner].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


def server_context(folder: Path, *, wants_client: bool = True) -> ssl.SSLContext:
    """Return a TLS context for an engine that knows its clients by their certificates, as `dockerd --tlsverify`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    if wants_client:
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def write_context(config: Path, name: str, host: str, *, skip_verify: bool = False) -> Path:
    """Write a Docker context as the ``docker`` command stores it; return the folder for its TLS files."""
    import hashlib

    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / folder
    meta.mkdir(parents=True)
    entry = {"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip_verify}}}
    (meta / "meta.json").write_text(json.dumps(entry), encoding="utf-8")
    return config / "contexts" / "tls" / folder / "docker"
