"""A Docker engine for tests, and small images made from busybox: nothing here needs a registry."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Every image made here bears it; only such an image is ever given, or loses, a name of NVIDIA's.
LABEL = "taomagic.test"
#: Tasks that the replaying image has on its PATH.
REPLAYED = (
    "ssd",
    "detectnet_v2",
    "yolo_v4",
    "classification_tf2",
    "action_recognition",
    "speech_to_text",
    "annotations",
)
#: What NVIDIA's images have as their entrypoint: it prints a banner and hands over.
ENTRYPOINT = "/opt/nvidia/nvidia_entrypoint.sh"
_REPLAY = Path(__file__).with_name("replay.sh")
_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
_BANNER = """#!/bin/sh
echo
echo "=== TAO Toolkit ==="
echo "NVIDIA Release 5.0.0-TF1"
exec "$@"
"""


class NoDocker(Exception):
    """There is no engine to test with; the message says why."""


class Docker:
    """The ``docker`` command on one engine.

    Parameters
    ----------
    host
        ``unix:///…`` or ``tcp://…``.
    """

    def __init__(self, host: str) -> None:
        self.host = host

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment, with ``DOCKER_HOST`` for this engine."""
        return {**os.environ, "DOCKER_HOST": self.host}

    def run(
        self, *words: str, stdin: bytes | None = None, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker WORDS``; an error shows what docker said."""
        done = subprocess.run(
            ["docker", *words],
            input=stdin,
            env=self.environ,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        text = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
        if check and text.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {text.stderr or text.stdout}")
        return text

    def __call__(self, *words: str, timeout: float = 60.0) -> str:
        """Return the stripped output of ``docker WORDS``."""
        return self.run(*words, timeout=timeout).stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows about a container or an image."""
        found: list[dict[str, Any]] = json.loads(self("inspect", name))
        return found[0]

    def exists(self, name: str) -> bool:
        """Whether there is a container or an image of that name."""
        return self.run("inspect", name, check=False).returncode == 0

    def containers(self, label: str = "taomagic.job") -> list[str]:
        """Return the ids of all containers, running or not, with a label (``name`` or ``name=value``)."""
        return self("ps", "-aq", "--no-trunc", "--filter", f"label={label}").split()

    def alive(self, timeout: float = 5.0) -> str:
        """Return the engine's version, or nothing where nobody answers."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = self.run("version", "--format", "{{.Server.Version}}", check=False, timeout=timeout)
            return done.stdout.strip() if done.returncode == 0 else ""
        return ""


class Daemon:
    """A ``dockerd`` of our own, which can be stopped and started without disturbing anybody.

    Parameters
    ----------
    folder
        Holds its images, state and log. Its name must be short: a socket's path has at most 107 bytes.
    options
        For its command line, e.g. ``["--live-restore"]``.
    system
        It is the machine's own engine, with its usual socket, data and network, instead of a private one in
        ``folder``, whose containers reach nothing.
    """

    def __init__(self, folder: Path, options: Sequence[str] = (), *, system: bool = False) -> None:
        self.folder = folder
        self._system = system
        self.docker = Docker("unix:///var/run/docker.sock" if system else f"unix://{folder}/docker.sock")
        self._argv = [
            "dockerd",
            "--host",
            self.docker.host,
            "--pidfile",
            str(folder / "dockerd.pid"),
            *options,
        ]
        self._containerd_socket = folder / "containerd.sock"
        if not system:
            self._argv += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
            self._argv += [
                "--iptables=false",
                "--ip-masq=false",
                "--containerd",
                str(self._containerd_socket),
            ]
            # In a network of its own: two engines share the name docker0, and one without a bridge removes it.
            self._argv = ["unshare", "--net", "--", *self._argv]
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """The end of what it has said."""
        with contextlib.suppress(OSError):
            return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-3000:]
        return ""

    def start(self, patience: float = 60.0) -> Docker:
        """Start it and wait until it answers.

        Raises
        ------
        NoDocker
            It ended, or doesn't answer; the message has the end of its log.
        """
        deadline = time.monotonic() + patience
        if not self._system and self._containerd is None:
            # Beside dockerd, as systemd has it, not as its child: it must outlive a dockerd that is killed.
            config = self.folder / "containerd.toml"
            config.write_text(
                'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n', encoding="utf-8"
            )
            words = ["containerd", "--config", str(config), "--address", str(self._containerd_socket)]
            words += ["--root", str(self.folder / "containerd"), "--state", str(self.folder / "state")]
            self._containerd = self._spawn(words)
            self._wait(self._containerd, self._containerd_socket.exists, deadline)
        self._process = self._spawn(self._argv)
        self._wait(self._process, lambda: bool(self.docker.alive()), deadline)
        return self.docker

    def _spawn(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log.txt").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal must not take the engine away before the fixtures end.
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, process: subprocess.Popen[bytes], ready: Callable[[], bool], deadline: float) -> None:
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoDocker(f"{process.args[0]} didn't start:\n{self.log}")  # type: ignore[index]
            time.sleep(0.1)

    def stop(self, patience: float = 30.0) -> None:
        """Stop it as `systemctl stop docker` does; without ``--live-restore`` its containers end, too."""
        process, self._process = self._process, None
        _end(process, patience)

    def kill(self) -> None:
        """End it as a crash does: its containers go on."""
        process, self._process = self._process, None
        _end(process, 0.0)
        # The next one refuses to start beside the pid file of this one.
        (self.folder / "dockerd.pid").unlink(missing_ok=True)

    def dispose(self) -> None:
        """End it and all that it has: containers, and the mounts that a killed one leaves behind."""
        if not self._system:
            with contextlib.suppress(NoDocker, AssertionError, subprocess.TimeoutExpired):
                if self._process is None:
                    self.start()
                if left := self.docker("ps", "-aq").split():
                    self.docker("rm", "-f", *left)
        self.stop()
        containerd, self._containerd = self._containerd, None
        _end(containerd, 10.0)
        if self._system:
            return
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", mount], check=False)


def _end(process: subprocess.Popen[bytes] | None, patience: float) -> None:
    """End a process: politely where there is patience, and by force where that doesn't help."""
    if process is None:
        return
    if patience:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    process.kill()
    process.wait(10.0)


def find_engine(environ: Mapping[str, str]) -> Docker:
    """Return the engine that answers at ``DOCKER_HOST``, or on this machine's socket.

    Raises
    ------
    NoDocker
        Nobody answers there.
    """
    if shutil.which("docker") is None:
        raise NoDocker("the docker command isn't installed")
    docker = Docker(environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    done = docker.run("version", "--format", "{{.Server.Version}}", check=False)
    if done.returncode:
        raise NoDocker(f"no Docker engine answers: {done.stderr.strip()}")
    return docker


def may_start_engine(environ: Mapping[str, str]) -> bool:
    """Whether we may start the machine's own ``dockerd``: as root, where it's installed, in CI or on demand."""
    wanted = (
        environ.get("CI", "") not in {"", "0", "false"} or environ.get("TAOMAGIC_START_DOCKERD", "") == "1"
    )
    return (
        wanted
        and not environ.get("DOCKER_HOST")
        and os.geteuid() == 0
        and shutil.which("dockerd") is not None
    )


def find_busybox() -> Path:
    """Return a busybox that needs no libraries.

    Raises
    ------
    NoDocker
        There is none.
    """
    for name in _BUSYBOX:
        path = Path(name)
        if path.is_file() and b"ld-linux" not in path.read_bytes()[:4096]:
            return path
    raise NoDocker(
        "there is no static busybox to make an image from (Debian: apt-get install busybox-static)"
    )


Tree = dict[str, bytes | str]


def busybox_tree() -> Tree:
    """Return a file system with every applet of busybox: path -> content, or ``"-> target"`` for a link.

    Like in any image there is a ``/tmp`` for everyone, a root user, and ``/bin/bash`` (here a plain shell).
    """
    busybox = find_busybox()
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    tree: Tree = {f"bin/{name}": "-> busybox" for name in (*applets, "bash")}
    tree |= {
        "bin/busybox": busybox.read_bytes(),
        "usr/bin/env": "-> /bin/env",
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": b"root:x:0:\n",
        "root/": b"",
        "tmp/": b"",
        "var/tmp/": b"",
        "workspace/": b"",
    }
    return tree


def archive(tree: Tree) -> bytes:
    """Return a file system as a tar; scripts and programs are executable, ``/tmp`` is everyone's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in sorted(tree.items()):
            entry = tarfile.TarInfo(path.rstrip("/"))
            if path.endswith("/"):
                entry.type = tarfile.DIRTYPE
                entry.mode = {"tmp/": 0o1777, "var/tmp/": 0o1777, "root/": 0o700}.get(path, 0o755)
                tar.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o644 if path.startswith("etc/") else 0o755
                tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def make_image(docker: Docker, name: str, tree: Tree, changes: Sequence[str] = ()) -> str:
    """Return the tag of an image with these files, made by ``docker import`` unless it is there already.

    Parameters
    ----------
    docker
        The engine.
    name
        ``taomagic-test/NAME``; the tag is made from the content, so a changed script makes a new image.
    tree
        See :func:`busybox_tree`.
    changes
        Dockerfile instructions: ``ENTRYPOINT ["/bin/x"]``, ``USER 1000``, ``STOPSIGNAL SIGINT``, ``ENV A=b``.
    """
    changes = ("ENV PATH=/usr/local/bin:/bin:/usr/bin", 'CMD ["/bin/bash"]', f"LABEL {LABEL}=1", *changes)
    content = archive(tree)
    digest = hashlib.sha256(content + "\n".join(changes).encode()).hexdigest()[:12]
    tag = f"taomagic-test/{name}:{digest}"
    if not docker.exists(tag):
        words = [word for change in changes for word in ("--change", change)]
        docker.run("import", *words, "-", tag, stdin=content)
    return tag


def make_busybox(docker: Docker) -> str:
    """Return an image with a shell and the usual small programs."""
    return make_image(docker, "busybox", busybox_tree())


def make_replayer(
    docker: Docker, *changes: str, entrypoint: bool = False, without: Sequence[str] = ()
) -> str:
    """Return an image whose tasks replay what ``replay.sh`` is told.

    Parameters
    ----------
    docker
        The engine.
    changes
        More Dockerfile instructions.
    entrypoint
        With an entrypoint as in NVIDIA's images, which prints a banner and runs what it is given.
    without
        Tasks that it doesn't have.
    """
    tree = busybox_tree() | {
        "usr/local/lib/replay.sh": _REPLAY.read_bytes(),
        ENTRYPOINT.lstrip("/"): _BANNER.encode(),
    }
    tree |= {f"usr/local/bin/{task}": "-> ../lib/replay.sh" for task in REPLAYED if task not in without}
    if entrypoint:
        changes = (f'ENTRYPOINT ["{ENTRYPOINT}"]', *changes)
    return make_image(docker, "replayer", tree, changes)


@contextlib.contextmanager
def tagged(docker: Docker, image: str, name: str) -> Iterator[str]:
    """Give an image another name for a while.

    An image that isn't from these tests keeps its name: whoever has NVIDIA's images here must not lose them.

    Raises
    ------
    NoDocker
        Another image has that name.
    """
    if docker.exists(name) and not _ours(docker, name):
        raise NoDocker(f"an image {name} that isn't made by these tests is here; it is left alone")
    docker("tag", image, name)
    try:
        yield name
    finally:
        if docker.exists(name) and _ours(docker, name):
            docker.run("rmi", "--no-prune", name, check=False)


def _ours(docker: Docker, name: str) -> bool:
    labels = docker.inspect(name)["Config"].get("Labels") or {}
    return LABEL in labels
