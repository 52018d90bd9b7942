"""Images: is it here, and if not, pull it, with progress, a look at the disk, and the right login."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.errors import EnvironmentProblem, StageInterrupted
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.image_facts import ImageFacts, find
from taomagic.launcher.containers.names import parse_name
from taomagic.launcher.containers.problems import explain_pull, login_needed, pull_kind
from taomagic.launcher.containers.pulling import PullProgress, PullReader, PullState

if TYPE_CHECKING:
    from taomagic.launcher.containers.login import Credentials

__all__ = ["ImageFacts", "PullProgress", "ensure", "find", "pull"]

#: Free space below which a pull begins with a warning where the image's size is unknown: NVIDIA's need that much.
ROOMY_BYTES = 25 * 10**9
#: Free space that no pull may go below.
RESERVE_BYTES = 500 * 10**6
#: What an image takes unpacked, compared with its download: two to three times as much, as a rule.
UNPACKED = 3
#: Seconds that the registry may take to begin.
_ANSWER_S = 600.0
#: Seconds between two reports.
REPORT_S = 0.1

_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}

Report = Callable[[PullProgress], None]
Ask = Callable[[str], str]


def ensure(
    engine: Engine,
    name: str,
    environ: Mapping[str, str],
    report: Report | None = None,
    ask: Ask | None = None,
) -> ImageFacts:
    """Return an image, pulled if it isn't here.

    Parameters
    ----------
    engine
        The engine.
    name
        The image.
    environ
        Tells where docker's configuration is, and may hold an NGC API key.
    report
        Told how far the pull is, at most ten times a second; the last report has a ``state`` that is ``finished``.
    ask
        Asks a person for a key, in a field that doesn't show it, and returns an empty text where nobody answers;
        by default the method ``ask`` of ``report``, if it has one. Without it a missing login is an error at once.

    Raises
    ------
    EngineProblem
        The engine can't be reached.
    EnvironmentProblem
        The image can't be pulled: no login, no network, no such image, no space.
    StageInterrupted
        The pull was interrupted.
    """
    found = find(engine, name)
    if found is not None:
        return found
    asking: Ask | None = ask if ask is not None else getattr(report, "ask", None)
    pull(engine, name, environ, report or _nobody, asking)
    found = find(engine, name)
    if found is None:
        raise EnvironmentProblem(
            "The pull has ended, but the image isn't here.",
            where=name,
            hint=f"In a terminal, `docker pull {name}` may say more.",
        )
    return found


def pull(
    engine: Engine, name: str, environ: Mapping[str, str], report: Report, ask: Ask | None = None
) -> None:
    """Pull an image; the arguments and exceptions are those of :func:`ensure`.

    Every login that is known is tried, then none at all (a registry may give an image to anyone, but to nobody whose
    login has expired), then a person is asked.
    """
    from taomagic.launcher.containers import login

    registry = parse_name(name).registry
    known = login.candidates(registry, environ)
    pulling = _Pulling(engine, name, report)
    state: PullState = "failed"
    try:
        refused = pulling.with_any([*known, None])
        if refused is not None:
            typed = None if ask is None else login.login(engine, registry, ask)
            if typed is None:
                raise login_needed(name, refused.message, with_credentials=bool(known))
            pulling.start(typed)
        state = "done"
    except EngineProblem as problem:
        raise explain_pull(problem, name, with_credentials=bool(known)) from None
    except KeyboardInterrupt:
        state = "stopped"
        raise StageInterrupted(
            "The pull was interrupted.",
            where=name,
            hint=f"The Docker engine begins anew next time. In a terminal it can take its time: docker pull {name}",
        ) from None
    finally:
        report(pulling.reader.progress(time.monotonic(), state))


class _Pulling:
    """A pull, with one login after the other."""

    def __init__(self, engine: Engine, name: str, report: Report) -> None:
        self._engine, self._name, self._report = engine, name, report
        self._parts = parse_name(name)
        self.reader = PullReader(name)
        report(self.reader.progress(time.monotonic()))
        self._info: Mapping[str, Any] = engine.get("/info")

    def with_any(self, known: Iterable[Credentials | None]) -> EngineProblem | None:
        """Pull with the first login that is accepted; return the first refusal where none is."""
        refused = None
        for credentials in known:
            try:
                self.start(credentials)
            except EngineProblem as problem:
                if pull_kind(problem) != "login":
                    raise
                # What is told is the answer to the best login, not the one to none.
                refused = refused or problem
            else:
                return None
        return refused

    def start(self, credentials: Credentials | None) -> None:
        """Pull with a login, or without (``None``)."""
        from taomagic.launcher.containers import registry

        architecture = str(self._info.get("Architecture") or "")
        sizes = registry.layer_sizes(self._parts, credentials, _GO_NAMES.get(architecture, architecture))
        notes = check_disk(self._engine, self._name, self._info, sum(sizes.values()))
        self.reader = PullReader(self._name, sizes, notes)
        try:
            self._follow({"X-Registry-Auth": credentials.header()} if credentials is not None else {})
        except EngineProblem as problem:
            if credentials is not None:
                problem.message = credentials.hide(problem.message)
                problem.args = (problem.message,)
            raise

    def _follow(self, headers: Mapping[str, str]) -> None:
        blocks = self._engine.stream(
            "POST",
            "/images/create",
            headers=headers,
            answer_within=_ANSWER_S,
            fromImage=self._parts.origin,
            tag=self._parts.version,
        )
        next_report = float("-inf")
        for block in blocks:
            now = time.monotonic()
            self.reader.feed(block, now)
            if now >= next_report:
                next_report = now + REPORT_S
                self._report(self.reader.progress(now))
        self.reader.close()


def check_disk(engine: Engine, name: str, info: Mapping[str, Any], download: int) -> tuple[str, ...]:
    """Compare an image with the free space of the engine's disk, where that is a disk of this machine.

    Parameters
    ----------
    download
        Bytes of the image, compressed; 0 where unknown.

    Returns
    -------
    tuple of str
        Warnings.

    Raises
    ------
    EnvironmentProblem
        It can't fit.
    """
    root = data_root(info) if engine.endpoint.local else None
    if root is None:
        return ()
    free = shutil.disk_usage(root).free
    # Unpacked it is never smaller than compressed.
    if free < download + RESERVE_BYTES:
        wanted = (
            f"the download alone is {gigabytes(download)}" if download else "that is too little for any image"
        )
        raise EnvironmentProblem(
            f"Only {gigabytes(free)} are free on the disk of the Docker engine ({root}): {wanted}.",
            where=name,
            hint="Free some space: docker system df shows what takes it, docker image prune -a removes images that no "
            "container uses.",
        )
    if download and free < download * UNPACKED:
        return (
            f"Only {gigabytes(free)} are free on {root}, and the image takes {gigabytes(download)}, unpacked two to "
            "three times as much.",
        )
    if not download and free < ROOMY_BYTES:
        return (f"Only {gigabytes(free)} are free on {root}; some of NVIDIA's images need more.",)
    return ()


def data_root(info: Mapping[str, Any]) -> Path | None:
    """Return the folder in which an engine of this machine keeps its images; ``None`` where it can't be looked at.

    Parameters
    ----------
    info
        The engine's answer to ``GET /info``.
    """
    if "Docker Desktop" in str(info.get("OperatingSystem", "")):
        return None  # in a virtual machine, whose disk isn't ours
    root = str(info.get("DockerRootDir") or "")
    if ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or []):
        root = "/var/lib/containerd"
    path = Path(root)
    try:
        return path if root and path.exists() else None
    except OSError:
        return None


def gigabytes(size: float) -> str:
    """Return a size as Docker's own commands show it: decimal, with a unit that suits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _nobody(_progress: PullProgress) -> None:
    """Take a report that nobody wants to see."""
