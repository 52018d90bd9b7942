"""Where the Docker engine is, and a connection to it: unix socket, TCP, TLS, or SSH. Only the standard library is used.

The same rules as those of the ``docker`` command: ``DOCKER_HOST`` first, then the context that ``DOCKER_CONTEXT`` or
``~/.docker/config.json`` names, then the usual sockets of this machine.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping

#: Sockets of an engine on this machine: the system's, a rootless one's, Docker Desktop's, Colima's.
SOCKETS = (
    "/var/run/docker.sock",
    "$XDG_RUNTIME_DIR/docker.sock",
    "$HOME/.docker/run/docker.sock",
    "$HOME/.docker/desktop/docker.sock",
    "$HOME/.colima/default/docker.sock",
)
_TLS_FILES = ("ca.pem", "cert.pem", "key.pem")


class BadEndpoint(ValueError):
    """``DOCKER_HOST`` or a Docker context can't be understood; the message says why."""


class Endpoint:
    """The address of an engine.

    Parameters
    ----------
    url
        ``unix://PATH``, ``tcp://HOST:PORT`` or ``ssh://[USER@]HOST[:PORT][/SOCKET]``.
    tls_dir
        Folder with ``ca.pem``, ``cert.pem`` and ``key.pem`` (as far as they are there); empty for plain TCP.
    verify
        Whether the engine's certificate is checked.

    Raises
    ------
    BadEndpoint
        The address has another form.
    """

    def __init__(self, url: str, tls_dir: str = "", *, verify: bool = True) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator:  # "HOST:PORT", as old scripts set it
            scheme, rest = "tcp", url
        if scheme in {"http", "https"}:
            scheme = "tcp"
        if scheme not in {"unix", "tcp", "ssh"} or not rest:
            raise BadEndpoint(f'"{url}" is none of unix://PATH, tcp://HOST:PORT, ssh://USER@HOST.')
        self.url = f"{scheme}://{rest}"
        self.tls_dir = tls_dir
        self.verify = verify
        self._scheme, self._rest = scheme, rest

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}>"

    @property
    def local(self) -> bool:
        """Whether the engine sees the files of this machine: one behind a unix socket does."""
        return self._scheme == "unix"

    def connect(self, timeout: float | None = 10.0) -> socket.socket:
        """Open a connection.

        Raises
        ------
        OSError
            Nobody answers there.
        BadEndpoint
            The port isn't a number.
        """
        if self._scheme == "unix":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(timeout)
            try:
                connection.connect(self._rest)
            except OSError:
                connection.close()
                raise
            return connection
        if self._scheme == "ssh":
            return self._over_ssh(timeout)
        host, port = _host_and_port(self._rest.partition("/")[0], 2376 if self.tls_dir else 2375)
        connection = socket.create_connection((host, port), timeout)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            # A log is followed for hours; a connection that a router has forgotten must be noticed.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        return self._secured(connection, host) if self.tls_dir else connection

    def _secured(self, connection: socket.socket, host: str) -> socket.socket:
        import ssl

        ca, certificate, key = (os.path.join(self.tls_dir, name) for name in _TLS_FILES)  # noqa: PTH118
        context = ssl.create_default_context(cafile=ca if os.path.exists(ca) else None)  # noqa: PTH110
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if os.path.exists(certificate):  # noqa: PTH110
            context.load_cert_chain(certificate, key)
        return context.wrap_socket(connection, server_hostname=host)

    def _over_ssh(self, timeout: float | None) -> socket.socket:
        """Return a socket whose other end is ``docker system dial-stdio`` on the remote machine, like `docker`."""
        import subprocess

        address, _, path = self._rest.partition("/")
        user, at, host = address.rpartition("@")
        name, port = _host_and_port(host, 0)
        argv = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={int(timeout or 30)}", "-T"]
        argv += ["-l", user] if at else []
        argv += ["-p", str(port)] if port else []
        remote = ["docker", *(["--host", f"unix:///{path}"] if path else []), "system", "dial-stdio"]
        command = [*argv, "--", name, *remote]
        ours, theirs = socket.socketpair()
        try:
            # Nobody waits for ssh: it ends when our end of the pair is closed. start_new_session keeps Ctrl-C from it.
            end = theirs.fileno()
            subprocess.Popen(
                command, stdin=end, stdout=end, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(timeout)
        return ours


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):  # no port; [::1] has colons of its own
        host, port = text, ""
    if port and not port.isdigit():
        raise BadEndpoint(f'"{port}" isn\'t a port number.')
    return host.strip("[]"), int(port) if port else default


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Return the engine to use, whether it runs or not.

    Raises
    ------
    BadEndpoint
        ``DOCKER_HOST`` can't be understood, or there is no context of the name that is chosen.
    """
    if host := environ.get("DOCKER_HOST", ""):
        tls = environ.get("DOCKER_TLS_VERIFY", "") or environ.get("DOCKER_TLS", "")
        folder = environ.get("DOCKER_CERT_PATH", "") or _config_dir(environ)
        return Endpoint(host, folder if tls else "", verify=bool(environ.get("DOCKER_TLS_VERIFY", "")))
    name = environ.get("DOCKER_CONTEXT", "") or _current_context(environ)
    if name and name != "default":
        return _context(name, environ)
    for pattern in SOCKETS:
        path = pattern
        for variable in ("XDG_RUNTIME_DIR", "HOME"):
            path = path.replace(f"${variable}", environ.get(variable, "") or "/nonexistent")
        if os.path.exists(path):  # noqa: PTH110
            return Endpoint(f"unix://{path}")
    return Endpoint(f"unix://{SOCKETS[0]}")


def _config_dir(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "") or os.path.expanduser("~")  # noqa: PTH111
    return environ.get("DOCKER_CONFIG", "") or f"{home}/.docker"


def _current_context(environ: Mapping[str, str]) -> str:
    try:
        with open(f"{_config_dir(environ)}/config.json", encoding="utf-8") as file:  # noqa: PTH123
            name = json.load(file).get("currentContext", "")
    except (OSError, ValueError, AttributeError):
        return ""  # a broken file there is told by whoever needs what is in it
    return str(name or "")


def _context(name: str, environ: Mapping[str, str]) -> Endpoint:
    import hashlib

    # The docker command files a context under the hash of its name.
    folder = hashlib.sha256(name.encode()).hexdigest()
    root = f"{_config_dir(environ)}/contexts"
    try:
        with open(f"{root}/meta/{folder}/meta.json", encoding="utf-8") as file:  # noqa: PTH123
            entry = json.load(file)["Endpoints"]["docker"]
        tls = f"{root}/tls/{folder}/docker"
        has_tls = os.path.isdir(tls)  # noqa: PTH112
        return Endpoint(str(entry["Host"]), tls if has_tls else "", verify=not entry.get("SkipTLSVerify"))
    except (OSError, ValueError, KeyError, TypeError):
        raise BadEndpoint(f'There is no usable Docker context "{name}".') from None
