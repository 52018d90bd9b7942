"""What the Docker engine refuses, in words that a person can act on."""

from __future__ import annotations

import errno
import re
import sys

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.containers.api import EngineProblem
from taomagic.launcher.containers.endpoint import BadEndpoint
from taomagic.launcher.containers.names import NGC, parse_name

WITHOUT_DOCKER = "Without Docker, the embedded engine runs the command: --backend process."
NGC_KEY = (
    "Get a free API key at ngc.nvidia.com (Setup > API Keys), then in a terminal: docker login nvcr.io, with the user "
    "name $oauthtoken and the API key as password. Or set NGC_API_KEY and run the command again."
)

# What a registry or the engine says -> kind of problem. The engine hands on the words of Go's libraries and of the
# registry's own pages, so these are looked for anywhere, and the order counts.
_KINDS = (
    ("space", r"no space left on device|disk quota exceeded"),
    ("rate", r"toomanyrequests|too many requests|rate limit"),
    ("platform", r"no matching manifest for|does not match the specified platform"),
    ("unknown", r"manifest unknown|name unknown|manifest for .* not found|no such image|reference .*: not found"),
    ("certificate", r"x509:|certificate (?:verify failed|signed by unknown)"),
    ("plain", r"server gave http response to https client"),
    (
        "login",
        r"unauthori[sz]ed|\bdenied\b|authentication required|no basic auth credentials|incorrect username or password|"
        r"403 forbidden|authorization required",
    ),
    ("registry", r"unexpected http status|verification failed|filesystem layer|digest mismatch"),
    (
        "network",
        r"no such host|dial tcp|i/o timeout|network is unreachable|tls handshake timeout|context deadline exceeded|"
        r"request canceled|temporary failure in name resolution|proxyconnect|connection reset|unexpected eof|\beof$|"
        r"no route to host|client\.timeout exceeded",
    ),
)  # fmt: skip
_START_KINDS = (
    ("gpu", r"could not select device driver|nvidia-(?:container|ctk)|libnvidia-ml|invalid runtime name: nvidia"),
    (
        "mount",
        r"mounts denied|is not shared from the host|bind source path does not exist|invalid mount config|"
        r"error mounting",
    ),
    ("limit", r"\brlimits?\b"),
    ("user", r"unable to find (?:user|group) "),
    ("network", r"network \S+ not found"),
    ("port", r"port is already allocated|address already in use"),
    ("command", r"executable file not found|exec: .*: no such file or directory|exec: .*: permission denied"),
    ("space", r"no space left on device|disk quota exceeded"),
    ("version", r"client version .* is too (?:new|old)"),
    ("platform", r"exec format error"),
    ("name", r"invalid reference format"),
    ("missing", r"no such image"),
)  # fmt: skip


def explain(problem: EngineProblem | BadEndpoint, doing: str, *, image: str = "") -> EnvironmentProblem:
    """Return what to tell a person about a refusal of the engine.

    Parameters
    ----------
    problem
        What :class:`~taomagic.launcher.containers.api.Engine` raised, or what ``find_endpoint`` did.
    doing
        What was tried, to go on after "couldn't": ``"pull the image"``, ``"start the container"``.
    image
        The image concerned, where there is one.
    """
    if isinstance(problem, BadEndpoint):
        return EnvironmentProblem(
            str(problem),
            where="Docker",
            hint="Correct DOCKER_HOST or DOCKER_CONTEXT; `docker context ls` shows the contexts. "
            + WITHOUT_DOCKER,
        )
    if problem.unreachable:
        return _unreachable(problem)
    text = problem.message
    if "HTTPS server" in text:  # Go's answer to plain words at a port that speaks TLS
        return _unreachable(problem)
    for kind, pattern in _START_KINDS:
        if re.search(pattern, text, re.IGNORECASE):
            return _at_start(kind, text, doing, image)
    return EnvironmentProblem(
        f"The Docker engine couldn't {doing}: {_sentence(text)}", where=image, hint=_by_status(problem.status)
    )


def explain_pull(problem: EngineProblem, image: str, *, with_credentials: bool = False) -> EnvironmentProblem:
    """Return what to tell a person about a pull that failed.

    Parameters
    ----------
    problem
        What the engine answered, or what it reported in the middle of the pull.
    image
        The image's full name.
    with_credentials
        Whether a login was sent with the request: then it is a wrong one.
    """
    if problem.unreachable:
        return _unreachable(problem)
    kind = pull_kind(problem)
    text, registry = problem.message, parse_name(image).registry
    if kind == "login":
        return login_needed(image, text, with_credentials=with_credentials)
    messages = {
        "space": (
            "The disk of the Docker engine is full: the image doesn't fit.",
            "Free some space there: docker system df shows what takes it, docker image prune -a removes images that "
            "no container uses.",
        ),
        "rate": (
            f"{registry} lets nobody download that much in so short a time: {_sentence(text)}",
            f"Wait some hours, or log in for a higher limit: docker login {registry}",
        ),
        "platform": (
            f"The image isn't made for this machine's processor: {_sentence(text)}",
            "NVIDIA's TAO images are for 64-bit Intel and AMD processors (amd64). " + WITHOUT_DOCKER,
        ),
        "unknown": (
            f"{registry} has no such image.",
            "Look at its name and tag. For NVIDIA's images: `tao info --verbose` lists those of each release, "
            "`--release` or TAOMAGIC_RELEASE chooses one.",
        ),
        "certificate": (
            f"The Docker engine doesn't trust the certificate of {registry}: {_sentence(text)}",
            "Behind a company's proxy its certificate must be known to the engine; also check this machine's date.",
        ),
        "plain": (
            f"{registry} speaks plain HTTP, which the Docker engine refuses.",
            'Add the registry to "insecure-registries" in /etc/docker/daemon.json and restart the engine.',
        ),
        "registry": (
            f"{registry} has a difficulty, or what came from it is damaged: {_sentence(text)}",
            "Run the command again, perhaps some minutes later.",
        ),
        "network": (
            f"The Docker engine can't reach {registry}: {_sentence(text)}",
            "Check the network and the proxy (docker info shows the engine's). An image that is here already needs "
            "none: docker save and docker load bring it from another machine.",
        ),
    }  # fmt: skip
    if kind in messages:
        message, hint = messages[kind]
        return EnvironmentProblem(message, where=image, hint=hint)
    return EnvironmentProblem(
        f"The Docker engine couldn't pull the image: {_sentence(text)}",
        where=image,
        hint=_by_status(problem.status) or f"In a terminal, `docker pull {image}` may say more.",
    )


def pull_kind(problem: EngineProblem) -> str:
    """Return what kind of problem a failed pull has: ``login``, ``network``, …; empty where none is known."""
    if problem.unreachable:
        return ""
    for kind, pattern in _KINDS:
        if re.search(pattern, problem.message, re.IGNORECASE):
            return kind
    return {401: "login", 403: "login", 404: "unknown", 429: "rate"}.get(problem.status, "")


def login_needed(image: str, text: str = "", *, with_credentials: bool = False) -> EnvironmentProblem:
    """Return the explanation of a registry that wants a login, or another one.

    Parameters
    ----------
    image
        The image that was asked for.
    text
        The registry's words.
    with_credentials
        Whether a login was sent.
    """
    registry = parse_name(image).registry
    if registry == NGC:
        if with_credentials:
            message = "NVIDIA's registry nvcr.io refuses the login: the API key is wrong, old, or not for this image."
        else:
            message = "NVIDIA's registry nvcr.io wants a login before it gives this image."
        return EnvironmentProblem(message, where=image, hint=NGC_KEY)
    if with_credentials:
        message = f"{registry} refuses the login, or there is no such image: {_sentence(text)}"
    else:
        message = f"{registry} wants a login, or there is no such image: {_sentence(text)}"
    return EnvironmentProblem(
        message, where=image, hint=f"Look at the name, or log in: docker login {registry}"
    )


def _at_start(kind: str, text: str, doing: str, image: str) -> EnvironmentProblem:
    from taomagic.launcher import hints

    reason = _sentence(_innermost(text))
    messages = {
        "gpu": ("The Docker engine can't give GPUs to a container.", hints.GPU_RUNTIME),
        "mount": (
            f"The Docker engine can't mount a folder: {reason}",
            "Look at the mount map (%tao_env shows it). Docker Desktop: Settings > Resources > File sharing.",
        ),
        "user": (
            f"The image doesn't know the user of the mount map's DockerOptions: {reason}",
            'Give numbers, which every image takes: "user": "1000:1000".',
        ),
        "limit": (
            f"The Docker engine may not raise a limit of the mount map's DockerOptions: {reason}",
            'An engine without root\'s rights can\'t. Delete the limit from "ulimits" in the mount map, or raise it '
            "for the engine itself. Type 8 is memlock, 3 is stack; see getrlimit(2).",
        ),
        "network": (
            f"There is no such network as in the mount map's DockerOptions: {reason}",
            "`docker network ls` shows the networks that there are.",
        ),
        "port": (
            f"A port of the mount map's DockerOptions is in use: {reason}",
            "Choose another one under `ports`, or end what uses it: tao list, docker ps",
        ),
        "command": (
            f"The image doesn't hold the command: {reason}",
            "`tao info --verbose` shows which image holds which task; --release chooses another one.",
        ),
        "space": (
            f"The disk of the Docker engine is full: it couldn't {doing}.",
            "Free some space there: docker system df shows what takes it, docker system prune removes what is unused.",
        ),
        "version": (
            f"The Docker engine is of another age: {reason}",
            "Update Docker: https://docs.docker.com/engine/install/",
        ),
        "platform": (
            "The image isn't made for this machine's processor.",
            "NVIDIA's TAO images are for 64-bit Intel and AMD processors (amd64). " + WITHOUT_DOCKER,
        ),
        "name": (
            f'"{image}" isn\'t the name of an image.',
            "A name is REGISTRY/REPOSITORY:TAG, in small letters, e.g. nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5",
        ),
        "missing": (
            f"The image isn't here: it couldn't {doing}.",
            "It may have been removed in the meantime. Run the command again: it is pulled then.",
        ),
    }  # fmt: skip
    message, hint = messages[kind]
    return EnvironmentProblem(message, where=image, hint=hint)


def _unreachable(problem: EngineProblem) -> EnvironmentProblem:
    """Explain why nobody answered, by address and error."""
    url, text = problem.url, _sentence(problem.message)
    if url.startswith("unix://"):
        return _no_socket(url.removeprefix("unix://"), problem)
    if url.startswith("ssh://"):
        message = f"The Docker engine can't be reached over SSH: {text}"
        hint = (
            "Logging in must need no password (a key, ssh-agent), and docker must be installed there. "
            "Try in a terminal: ssh HOST docker version"
        )
    elif _is_tls(problem.cause, problem.message):
        message = f"The Docker engine and this machine don't trust each other: {text}"
        hint = (
            "DOCKER_CERT_PATH must name the folder with ca.pem, cert.pem and key.pem of that engine, and "
            "DOCKER_TLS_VERIFY=1 switches TLS on."
        )
    else:
        message = f"The Docker engine can't be reached: {text}"
        hint = "Check DOCKER_HOST (or the context: docker context ls), the network, and that the engine runs there."
    return EnvironmentProblem(message, where=url or "Docker", hint=hint)


def _no_socket(path: str, problem: EngineProblem) -> EnvironmentProblem:
    number = problem.cause.errno if isinstance(problem.cause, OSError) else None
    hint = _start_hint()
    if number in {errno.EACCES, errno.EPERM}:
        message, hint = f"You may not use the Docker engine: no permission for {path}.", _group_hint()
    elif number in {errno.ENOENT, errno.ENOTDIR}:
        message = f"No Docker engine runs on this machine: there is no {path}."
    elif number == errno.ECONNREFUSED:
        message = f"The Docker engine isn't running: nobody answers at {path}."
    else:
        message = f"The Docker engine at {path} doesn't answer: {_sentence(problem.message)}"
    return EnvironmentProblem(message, where="Docker", hint=hint)


def _is_tls(cause: Exception | None, message: str) -> bool:
    ssl = sys.modules.get("ssl")
    return (ssl is not None and isinstance(cause, ssl.SSLError)) or "HTTPS server" in message


def _group_hint() -> str:
    import getpass
    import grp
    import os

    try:
        group = grp.getgrnam("docker")
        user = getpass.getuser()
    except (KeyError, OSError):
        return "Use rootless Docker (dockerd-rootless-setuptool.sh install), or ask who administers this machine."
    if user in group.gr_mem and group.gr_gid not in os.getgroups():
        return (
            "You are a member of the group docker, but this session began before that: log out and in again, "
            "and start Jupyter anew."
        )
    return "Become a member of its group: sudo usermod -aG docker $USER; then log in again and start Jupyter anew."


def _start_hint() -> str:
    if sys.platform == "darwin":
        return "Start Docker Desktop (or colima start), and run the command again. " + WITHOUT_DOCKER
    if _is_wsl():
        return (
            "Start Docker Desktop on Windows, with WSL integration switched on for this distribution. "
            + WITHOUT_DOCKER
        )
    from shutil import which

    if which("dockerd") or which("docker"):
        return "Start it: sudo systemctl start docker. " + WITHOUT_DOCKER
    return "Install Docker: https://docs.docker.com/engine/install/. " + WITHOUT_DOCKER


def _is_wsl() -> bool:
    import os

    return "microsoft" in os.uname().release.lower()


def _by_status(status: int) -> str:
    if status >= 500:
        return "This is an error inside the Docker engine; its own log says more: journalctl -u docker"
    return ""


def _innermost(text: str) -> str:
    """Return the last part of a chain of Go errors, which says what really happened."""
    match = re.search(r"(exec: .*|error mounting .*|bind source path does not exist.*|Bind for .*)", text)
    return match.group(1) if match else text


def _sentence(text: str) -> str:
    """Return words of the engine as one line that ends with a full stop; pages of HTML are stripped of their tags."""
    text = " ".join(re.sub(r"<[^<>]{1,400}>", " ", text).split()) or "no reason given"
    if len(text) > 400:
        text = text[:399] + "…"
    return text if text[-1] in ".!?…" else f"{text}."
