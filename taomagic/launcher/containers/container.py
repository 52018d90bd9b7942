"""What a container is created with: from a command and the mount map to the JSON of ``POST /containers/create``.

What a container will be can be told, and tested, without an engine: :func:`create_body` asks neither it nor the disk.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from taomagic.launcher import backends
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.project.docker_options import parse_port, parse_size
from taomagic.project.mounts import MountMap

#: Labels by which a container is found again, from any kernel.
JOB_LABEL, PROJECT_LABEL = "taomagic.job", "taomagic.project"
#: All GPUs that the engine has, in the words of its API.
ALL_GPUS = -1
#: From this release on the containers are told who started them (NVIDIA's launcher, `TAO_CLIENT_TYPE`).
_TELLS_CLIENT = (6, 25, 11)
# Flags of the TF1 and deploy tools that take numbers of GPUs, and settings of the newer tools (`train.num_gpus=2`).
_COUNT_FLAGS, _INDEX_FLAGS = ("--gpus", "--num_gpus"), ("--gpu_index", "--gpu_ids")
_COUNT_SETTING = re.compile(r"(?:\w+\.)*(?:num_)?gpus=(\d+)")
_INDEX_SETTING = re.compile(r"(?:\w+\.)*gpu_ids=\[?([\d,\s]+)\]?")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class EngineFacts:
    """What of an engine matters to a container.

    Parameters
    ----------
    local
        It sees the files of this machine.
    has_gpus
        It can give GPUs to containers.
    has_init
        It has ``docker-init``, which passes signals on and collects orphans.
    rootless
        It runs as an ordinary user: root in a container is that user, and nobody else has files on this machine.
    """

    local: bool = True
    has_gpus: bool = False
    has_init: bool = True
    rootless: bool = False

    @classmethod
    def from_info(cls, info: Mapping[str, Any], *, local: bool) -> EngineFacts:
        """Read them from the answer to ``GET /info``.

        An engine has GPUs when it knows NVIDIA's runtime, or names GPUs as CDI devices (Docker 28.3). On this machine
        the hook of NVIDIA's container toolkit will do, too: with it `docker run --gpus` works without any runtime.
        """
        runtimes = info.get("Runtimes") or {}
        devices = info.get("DiscoveredDevices") or []
        has_gpus = any("nvidia" in name for name in runtimes)
        has_gpus |= any(str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices)
        has_gpus |= local and shutil.which("nvidia-container-runtime-hook") is not None
        security = info.get("SecurityOptions") or []
        return cls(
            local=local,
            has_gpus=has_gpus,
            has_init=bool(info.get("InitBinary")),
            rootless=any(str(option).startswith("name=rootless") for option in security),
        )


def create_body(
    command: Command,
    context: Context,
    image: str,
    *,
    job_id: str,
    engine: EngineFacts,
    release: str = "",
    entrypoint: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return what a command's container is created with.

    Parameters
    ----------
    command
        With ``action == "run"``. Its words become the container's own process, as they are: no shell reads them.
    context
        The mount map, where relative sources begin, and who the person is.
    image
        Its name or id.
    job_id
        For the label.
    engine
        Where the container will run.
    release
        Of TAO, e.g. ``"6.26.3"``.
    entrypoint
        The image's own.

    Returns
    -------
    dict
        The body of ``POST /containers/create``. There is never a TTY: whether a command works must not depend on where
        it is typed. So ``tty`` in the map has no effect on commands, whatever it says.
    """
    mounts = context.mounts.resolve(context.cwd, command.volumes)
    options = mounts.docker_options
    user = _user(options.get("user"), engine)
    home, tmpfs = _home(user, context, mounts)
    variables = {**home, **_client(release), **mounts.envs}
    if home and "HOME" in mounts.envs:
        tmpfs = {}
    host: dict[str, Any] = {
        "Mounts": [
            # Not `Binds`: an engine makes their missing sources itself, as root's.
            {"Type": "bind", "Source": source, "Target": destination}
            for source, destination in mounts.mounts
        ],
        "AutoRemove": False,  # its end is read first
        "Init": engine.has_init,
        **_host_options(options),
    }
    if tmpfs:
        host["Tmpfs"] = tmpfs
    gpus = gpus_wanted(command, mounts.envs)
    if gpus and engine.has_gpus:
        host["DeviceRequests"] = [{"Driver": "", "Count": gpus, "Capabilities": [["gpu"]]}]
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": list(command.container_argv),
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Labels": {JOB_LABEL: job_id, PROJECT_LABEL: str(context.project_dir)},
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "HostConfig": host,
    }
    if user:
        body["User"] = user
        # What a class shares is often readable for its group only.
        if groups := _more_groups(user):
            host["GroupAdd"] = groups
    if _is_shell(entrypoint):
        body["Entrypoint"] = [""]  # "none" in the words of the API
    if ports := options.get("ports"):
        body["ExposedPorts"] = {_container_port(inside): {} for inside in ports}
    return body


def _host_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``HostConfig`` that ``DockerOptions`` ask for."""
    host: dict[str, Any] = {}
    if "shm_size" in options:
        host["ShmSize"] = parse_size(options["shm_size"])
    if "ulimits" in options:
        host["Ulimits"] = [
            {"Name": name, "Soft": limit, "Hard": limit} for name, limit in options["ulimits"].items()
        ]
    if "ports" in options:
        host["PortBindings"] = {
            _container_port(inside): [{"HostPort": str(outside).strip()}]
            for inside, outside in options["ports"].items()
        }
    if "privileged" in options:
        host["Privileged"] = options["privileged"]
    if "network" in options:
        host["NetworkMode"] = options["network"]
    return host


def _container_port(text: str) -> str:
    number, protocol = parse_port(text) or (text, "tcp")
    return f"{number}/{protocol}"


def _is_shell(entrypoint: Iterable[str] | None) -> bool:
    """Tell whether an entry point is a shell that wouldn't run the task.

    A bare one (``bash``) takes the task for a script to read; one with a line of its own (``sh -c …``, Docker's shell
    form) drops what follows, unless the line has ``"$@"``. NVIDIA's launcher never meets this: it runs the task beside
    the entry point, by `docker exec`.
    """
    words = list(entrypoint or ())
    if not words or PurePosixPath(words[0]).name not in _SHELLS or any("$@" in word for word in words):
        return False
    return all(word.startswith("-") for word in words[1:]) or any(
        re.fullmatch(r"-[a-z]*c", word) for word in words[1:]
    )


def caller_id() -> str:
    """Return the person's ``UID:GID``; empty where a system has none."""
    return f"{os.getuid()}:{os.getgid()}" if hasattr(os, "getuid") else ""


def _more_groups(user: str) -> list[str]:
    """Return the person's other groups, if the container runs as that person; root needs none."""
    uid, _, gid = user.partition(":")
    if not hasattr(os, "getgroups") or uid == "0" or user != caller_id():
        return []
    return [str(group) for group in sorted(os.getgroups()) if str(group) != gid]


def _user(wish: str | None, engine: EngineFacts) -> str:
    """Return ``UID:GID``, or nothing for the image's own user.

    By default the caller, so that results are theirs; NVIDIA's launcher takes root.
    """
    user = wish or caller_id()
    # Behind a rootless engine the caller is root in there; their own number would be a stranger's.
    return "0:0" if engine.rootless and user == caller_id() else user


def _home(user: str, context: Context, mounts: MountMap) -> tuple[dict[str, str], dict[str, str]]:
    """Return variables and a folder in memory that make an unknown user at home in a container.

    A number that the image doesn't know has ``/`` as its home and no name, and tools fail on both (``/.cache``,
    Python's `getpass`). The folder is a tmpfs: it works with every image and every engine and takes no time, where
    uploading a folder takes 60 ms of the 400 that `docker run` needs, and more over SSH. What is put into it takes
    memory, at most half of the machine's; for large caches, mount a folder there.
    """
    uid, _, gid = user.partition(":")
    if not uid.isdigit() or int(uid) == 0:
        return {}, {}  # root has a home, and so has a user whom the image knows by name
    name = context.environ.get("USER") or context.environ.get("LOGNAME") or ""
    if not _LOGIN.fullmatch(name) or user != caller_id() or name == "root":
        name = "tao"
    home = f"/home/{name}"
    variables = {"HOME": home, "USER": name, "LOGNAME": name}
    if any(destination == home for _, destination in mounts.mounts):
        return variables, {}
    if any(PurePosixPath(home).is_relative_to(destination) for _, destination in mounts.mounts):
        home = variables["HOME"] = f"/var/home/{name}"  # /home is theirs, and may not have such a folder
    owner = f"uid={uid}" + (f",gid={gid}" if gid.isdigit() else "")
    return variables, {home: f"exec,mode=0700,{owner}"}


def _client(release: str) -> dict[str, str]:
    numbers = tuple(int(part) for part in release.split(".") if part.isdigit())
    return {"TAO_CLIENT_TYPE": "launcher"} if numbers >= _TELLS_CLIENT else {}


def gpus_wanted(command: Command, envs: Mapping[str, str] | None = None) -> int:
    """Return how many GPUs the container needs to see: the first ``n``, 0 for none, or :data:`ALL_GPUS`.

    Parameters
    ----------
    command
        Read are ``--gpus N``, ``--gpu_index I J…``, and the newer tools' ``num_gpus=N`` and ``gpu_ids=[I,J]``.
    envs
        The container's variables.

    Notes
    -----
    With indices, all GPUs up to the highest one are needed: in a container GPUs are numbered from 0, and the tools get
    the same ``--gpu_index`` as here. Given GPU 2 alone, ``--gpu_index 2`` would name one that isn't there. For the same
    reason all are needed where ``CUDA_VISIBLE_DEVICES`` is set, and where the newer tools are given a number only:
    their spec may name others than the first. With nothing named, all are, as NVIDIA's launcher always does.
    """
    counts, indices = [], []
    words = command.typed
    settings_count = None
    for position, word in enumerate(words):
        flag, equals, value = word.partition("=")
        values = [value] if equals else []
        if not equals:
            for following in words[position + 1 :]:
                if not following.isdigit():
                    break
                values.append(following)
        if flag in _COUNT_FLAGS:
            counts += [int(text) for text in values[:1] if text.isdigit()]
        elif flag in _INDEX_FLAGS:
            indices += [int(text) for part in values for text in re.findall(r"\d+", part)]
        elif match := _COUNT_SETTING.fullmatch(word):
            settings_count = int(match[1])
        elif match := _INDEX_SETTING.fullmatch(word):
            indices += [int(text) for text in re.findall(r"\d+", match[1])]
    if 0 in counts or settings_count == 0:
        return 0
    visible = (envs or {}).keys() & {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}
    if visible or not (counts or indices):
        return ALL_GPUS
    return max([*counts, *(index + 1 for index in indices)])


def gpu_warning(command: Command, engine: EngineFacts) -> str:
    """Return what to tell a person whose command wants GPUs of an engine that has none; empty where all is well.

    A program of their own (``tao TASK run ls``) is no reason to: most need no GPU, and those that do say so.
    """
    if engine.has_gpus or command.runs_program or not gpus_wanted(command):
        return ""
    advice = (
        "The embedded engine needs none: --backend process."
        if backends.engine_runs(command)
        else "Most commands in NVIDIA's containers need one. If the machine has one, install nvidia-container-toolkit."
    )
    return f"The Docker engine offers no GPU, so the container starts without one. {advice}"
