"""Where the Docker engine is, and a connection to it: unix socket, TCP, TLS, or SSH. Only the standard library is used.

The same rules as those of the ``docker`` command: ``DOCKER_HOST`` first, then the context that ``DOCKER_CONTEXT`` or
``~/.docker/config.json`` names, then the usual sockets of this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

#: Sockets of an engine on this machine: the system's, a rootless one's, Docker Desktop's, Colima's.
SOCKETS = (
    "/var/run/docker.sock",
    "$XDG_RUNTIME_DIR/docker.sock",
    "$HOME/.docker/run/docker.sock",
    "$HOME/.docker/desktop/docker.sock",
    "$HOME/.colima/default/docker.sock",
)
#: How long a login over SSH is kept for the next request.
SSH_PERSIST = "60s"
_TLS_FILES = ("ca.pem", "cert.pem", "key.pem")


class BadEndpoint(ValueError):
    """``DOCKER_HOST`` or a Docker context can't be understood; the message says why."""


class Endpoint:
    """The address of an engine.

    Parameters
    ----------
    url
        ``unix://PATH``, ``tcp://HOST:PORT[/PREFIX]``, ``https://HOST:PORT`` (TCP with TLS) or
        ``ssh://[USER@]HOST[:PORT][/SOCKET]``.
    tls_dir
        Folder with ``ca.pem``, ``cert.pem`` and ``key.pem`` (as far as they are there); TCP is secured by TLS where it
        is given.
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
        scheme = "tcp" if scheme == "http" else scheme
        if scheme not in {"unix", "tcp", "https", "ssh"} or not rest:
            raise BadEndpoint(f'"{url}" is none of unix://PATH, tcp://HOST:PORT, ssh://USER@HOST.')
        self.url = f"{scheme}://{rest}"
        self.tls_dir = tls_dir
        self.verify = verify
        self._scheme, self._rest = scheme, rest

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}>"

    def as_record(self) -> dict[str, str | bool]:
        """Return the arguments that make the same one, for another process."""
        return {"url": self.url, "tls_dir": self.tls_dir, "verify": self.verify}

    @property
    def local(self) -> bool:
        """Whether the engine sees the files of this machine: one behind a unix socket does."""
        return self._scheme == "unix"

    @property
    def base_path(self) -> str:
        """What goes before the path of every request, for an engine behind a proxy; mostly empty."""
        path = self._rest.partition("/")[2].strip("/") if self._scheme in {"tcp", "https"} else ""
        return f"/{path}" if path else ""

    def connect(self, timeout: float | None = 10.0) -> socket.socket:
        """Open a connection.

        Raises
        ------
        OSError
            Nobody answers there.
        BadEndpoint
            The port isn't a number, or the host can't be a name.
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
        secured = bool(self.tls_dir) or self._scheme == "https"
        host, port = _host_and_port(self._rest.partition("/")[0], 2376 if secured else 2375)
        try:
            connection = socket.create_connection((host, port), timeout)
        except UnicodeError:  # a label of no letters, or of more than 63
            raise BadEndpoint(f'"{host}" can\'t be the name of a machine.') from None
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            # A log is followed for hours; a connection that a router has forgotten must be noticed.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        if not secured:
            return connection
        try:
            return self._secured(connection, host)
        except BaseException:
            connection.close()
            raise

    def _secured(self, connection: socket.socket, host: str) -> socket.socket:
        import ssl

        names = [f"{self.tls_dir}/{name}" if self.tls_dir else "" for name in _TLS_FILES]
        ca, certificate, key = (name if name and os.path.exists(name) else "" for name in names)  # noqa: PTH110
        context = ssl.create_default_context(cafile=ca or None)
        # Certificates made as Docker's manual says lack fields that Python 3.13 insists on.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate, key or None)
        return context.wrap_socket(connection, server_hostname=host)

    def _over_ssh(self, timeout: float | None) -> socket.socket:
        """Return a socket whose other end is ``docker system dial-stdio`` on the remote machine, like `docker`."""
        import subprocess
        import tempfile

        address, _, path = self._rest.partition("/")
        user, at, host = address.rpartition("@")
        name, port = _host_and_port(host, 0)
        argv = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={int(timeout or 30)}", "-T"]
        argv += _shared_ssh(os.environ)
        argv += ["-l", user] if at else []
        argv += ["-p", str(port)] if port else []
        remote = ["docker", *(["--host", f"unix:///{path}"] if path else []), "system", "dial-stdio"]
        ours, theirs = socket.socketpair()
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads could fill up
        try:
            # start_new_session keeps Ctrl-C from ssh: it ends when we close our end.
            process = subprocess.Popen(
                [*argv, "--", name, *remote],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=complaints,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            complaints.close()
            raise
        finally:
            theirs.close()
        tunnel = Tunnel(process, complaints, ours)
        tunnel.settimeout(timeout)
        return tunnel


def _shared_ssh(environ: Mapping[str, str]) -> list[str]:
    """Return the options that let all requests go through one login, which takes a second or two.

    As the ``docker`` command does, with the same variables: ``DOCKER_SSH_NO_MUX``, ``DOCKER_SSH_MUX_PERSIST``.
    """
    folder = config_dir(environ)
    # A socket's path has at most 104 bytes on some systems, and ssh puts 17 of its own behind it while it binds.
    if environ.get("DOCKER_SSH_NO_MUX", "").lower() in {"1", "t", "true"} or len(folder.encode()) > 40:
        return []
    try:
        os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103
    except OSError:
        return []
    if not os.access(folder, os.W_OK | os.X_OK):
        return []
    persist = environ.get("DOCKER_SSH_MUX_PERSIST", "") or SSH_PERSIST
    options = ("ControlMaster=auto", f"ControlPath={folder}/tao-%C", f"ControlPersist={persist}")
    return [word for option in options for word in ("-o", option)]


class Tunnel(socket.socket):
    """A socket to a process that carries the bytes on, here ``ssh``.

    Parameters
    ----------
    process
        The process; it ends with the socket.
    complaints
        The file that its standard error goes to.
    end
        Our end of the pair; it is taken over.
    """

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes], end: socket.socket) -> None:
        super().__init__(fileno=end.detach())
        self._process = process
        self._complaints = complaints

    def complaint(self) -> str:
        """Return the last lines of what the process has to say, once it has ended; empty where there is nothing."""
        try:
            self._process.wait(1.0)
        except Exception:  # it still runs: subprocess isn't imported here just for the exception's name
            return ""
        self._complaints.seek(0)
        lines = self._complaints.read(1 << 16).decode("utf-8", "replace").split("\n")
        return " ".join(line.strip() for line in lines if line.strip())[-400:]

    def close(self) -> None:
        """Close the connection and end the process."""
        super().close()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(Exception):
                self._process.wait(1.0)
        self._complaints.close()


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
        folder = environ.get("DOCKER_CERT_PATH", "") or config_dir(environ)
        return Endpoint(host, folder if tls else "", verify=bool(environ.get("DOCKER_TLS_VERIFY", "")))
    name = environ.get("DOCKER_CONTEXT", "") or _current_context(environ)
    if name and name != "default":
        return _context(name, environ)
    known = [_expanded(pattern, environ) for pattern in SOCKETS]
    found = [path for path in known if os.path.exists(path)]  # noqa: PTH110
    # One's own rootless engine before the system's that one may not use.
    usable = [path for path in found if os.access(path, os.R_OK | os.W_OK)]
    return Endpoint(f"unix://{[*usable, *found, *known][0]}")


def _expanded(pattern: str, environ: Mapping[str, str]) -> str:
    for variable in ("XDG_RUNTIME_DIR", "HOME"):
        pattern = pattern.replace(f"${variable}", environ.get(variable, "") or "/nonexistent")
    return pattern


def config_dir(environ: Mapping[str, str]) -> str:
    """Return the folder of the ``docker`` command's own configuration."""
    home = environ.get("HOME", "") or os.path.expanduser("~")  # noqa: PTH111
    return environ.get("DOCKER_CONFIG", "") or f"{home}/.docker"


def _current_context(environ: Mapping[str, str]) -> str:
    try:
        with open(f"{config_dir(environ)}/config.json", encoding="utf-8") as file:  # noqa: PTH123
            name = json.load(file).get("currentContext", "")
    except (OSError, ValueError, AttributeError):
        return ""  # a broken file there is told by whoever needs what is in it
    return str(name or "")


def _context(name: str, environ: Mapping[str, str]) -> Endpoint:
    import hashlib

    # The docker command files a context under the hash of its name.
    folder = hashlib.sha256(name.encode()).hexdigest()
    root = f"{config_dir(environ)}/contexts"
    try:
        with open(f"{root}/meta/{folder}/meta.json", encoding="utf-8") as file:  # noqa: PTH123
            entry = json.load(file)["Endpoints"]["docker"]
        tls = f"{root}/tls/{folder}/docker"
        verify = not entry.get("SkipTLSVerify")
        secured = os.path.isdir(tls) or not verify  # noqa: PTH112
        host = str(entry["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadEndpoint(f'There is no usable Docker context "{name}".') from None
    return Endpoint(host, tls if secured and not host.startswith(("unix:", "ssh:")) else "", verify=verify)
