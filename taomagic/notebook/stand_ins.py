"""The programs that take the place of downloads in a run with sample data: each one says that it is a stand-in.

They are started by small scripts in a folder on the run's PATH; :mod:`taomagic.notebook.sample_data` writes those.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from taomagic.errors import TaoError
from taomagic.notebook.packing import ENDINGS, is_ours, name_in, write_tar, write_zip
from taomagic.notebook.scene_archive import members

IMAGES, LABELS, NGC_CLI = "data_object_image_2.zip", "data_object_label_2.zip", "ngccli_cat_linux.zip"
CONFIG = "config.json"
#: The checksums of KITTI's two archives, which notebooks compare.
KITTI_SHA256 = {
    IMAGES: "351c5a2aa0cd9238b50174a3a62b846bc5855da256b82a196431d60ff8d43617",
    LABELS: "4efc76220d867e1c31bb980bbf8cbc02599f02a9cb4350effa98dbb04aaed880",
}
#: Notebooks show the label of image 110, and list the first test images.
COUNTS = {"training": 120, "val": 12, "testing": 12}
_NO_VALUE_WGET = re.compile(r"-[qcN]+|-nv|-nc|--(?!output-document|directory-prefix)[a-z-]+(=.*)?")


def main(name: str, place: str, args: Sequence[str] | None = None) -> int:
    """Do what the program ``name`` would have done, with what is here.

    Parameters
    ----------
    name
        ``wget``, ``gdown``, ``curl``, ``ngc``, ``pip``, ``pip3``, ``sha256sum``, ``sudo`` or ``unzip``.
    place
        The folder of the run.
    args
        The words behind the program; those of this process by default.

    Returns
    -------
    int
        The exit code.
    """
    words = list(sys.argv[1:] if args is None else args)
    here = Path(place)
    if not (here / CONFIG).is_file():
        _say(
            name, "the run of `tao notebook run --sample-data` that put this program here is over. Delete it."
        )
        return 1
    try:
        return _PROGRAMS[name](here, name, words)
    except TaoError as problem:
        print(f"{name}: {problem}", file=sys.stderr)
        return 1


def _say(name: str, text: str) -> None:
    # Not stdout: that goes into pipes.
    print(f"[stand-in for {name}] {text}", file=sys.stderr, flush=True)


def _real(name: str, here: Path) -> str | None:
    """Return the program that a stand-in stands for."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    ours = (here / "bin").resolve()
    return shutil.which(
        name, path=os.pathsep.join(each for each in folders if Path(each or ".").resolve() != ours)
    )


def _pass_on(here: Path, name: str, words: Sequence[str]) -> int:
    """Let the real program do it."""
    program = _real(name, here)
    if program is None:
        print(f"{name}: command not found", file=sys.stderr)
        return 127
    return subprocess.run([program, *words], check=False).returncode


# --- downloads


def _wget(here: Path, name: str, words: Sequence[str]) -> int:
    folder, target, addresses = ".", "", []
    following = iter(words)
    for word in following:
        if word in {"-P", "--directory-prefix"}:
            folder = next(following, ".")
        elif word in {"-O", "--output-document"}:
            target = next(following, "")
        elif word.startswith("--directory-prefix="):
            folder = word.partition("=")[2]
        elif word.startswith("--output-document="):
            target = word.partition("=")[2]
        elif not _NO_VALUE_WGET.fullmatch(word):
            addresses.append(word)
    return _download(here, name, words, addresses, folder, target)


def _curl(here: Path, name: str, words: Sequence[str]) -> int:
    target, addresses = "", []
    following = iter(words)
    for word in following:
        if word in {"-o", "--output"}:
            target = next(following, "")
        elif not word.startswith("-"):
            addresses.append(word)
    return _download(here, name, words, addresses, ".", target)


def _download(
    here: Path, name: str, words: Sequence[str], addresses: Sequence[str], folder: str, target: str
) -> int:
    paths: dict[Path, Callable[[], tuple[Path, str] | None]] = {}
    for address in addresses:
        kind = _kind(f"{address} {target}")
        path = Path(target) if target else Path(folder) / (kind or PurePosixPath(urlsplit(address).path).name)
        if kind == NGC_CLI and not (here / "bin" / "ngc").exists():
            return _pass_on(here, name, words)  # only the person's data were to take the place of downloads
        if kind:
            paths[path] = functools.partial(archive, here, kind)
        elif path.name.endswith(ENDINGS) and _is_for_data(path) and by_name(here, path.name):
            paths[path] = functools.partial(by_name, here, path.name)
        else:
            return _pass_on(here, name, words)
    if not paths:
        return _pass_on(here, name, words)
    for path, answer in paths.items():
        if path.exists() and not is_ours(path):
            _say(name, f"{path} is there already and stays as it is.")
            continue
        found = answer()
        assert found is not None
        source, what = found
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        _say(name, f"nothing was downloaded. {path} holds {what}.")
    return 0


def _is_for_data(path: Path) -> bool:
    """Tell whether a file belongs in the data folder of a notebook."""
    folders = filter(None, (os.environ.get(name) for name in ("LOCAL_DATA_DIR", "HOST_DATA_DIR", "DATA_DIR")))
    return any(path.absolute().is_relative_to(Path(folder).absolute()) for folder in folders)


def _kind(text: str) -> str:
    """Return which of the three archives is meant; empty for none."""
    if "ngccli" in text:
        return NGC_CLI
    if not re.search(r"kitti|data_object", text, re.IGNORECASE):
        return ""
    return next((name for word, name in (("label", LABELS), ("image", IMAGES)) if word in text.lower()), "")


def by_name(here: Path, name: str) -> tuple[Path, str] | None:
    """Return what stands in for an archive that a notebook expects under that name, and what is in it.

    Parameters
    ----------
    here
        The folder of the run.
    name
        KITTI's names mean KITTI's archives; any other archive holds scenes in the layout that the specs describe.

    Returns
    -------
    tuple or None
        ``None`` where there is nothing to stand in with: no drawn scenes were asked for and the person's data have no
        such file, or the specs name no folders.
    """
    kind = _kind(name)
    if kind == NGC_CLI:
        return None
    if kind:
        return archive(here, kind)
    config = json.loads((here / CONFIG).read_text(encoding="utf-8"))
    if config["data"]:
        given = Path(config["data"]) / name
        return (given, f"the archive in {config['data']}") if given.is_file() else None
    layout = config["layout"]
    suffix = next((suffix for suffix in ENDINGS if name.endswith(suffix)), "")
    if not layout or not suffix:
        return None
    path = here / "mirror" / f"scenes{suffix}"
    folders = layout["folders"]
    if not path.exists():
        data = here / "mirror" / "scenes"
        if not data.is_dir():
            counts = {split: COUNTS[split] if split in folders else 0 for split in COUNTS}
            _draw(data, config["size"], **counts)
        (write_zip if suffix == ".zip" else write_tar)(path, members(data, folders, layout["classes"]))
    width, height = config["size"]
    counts_told = ", ".join(f"{COUNTS[split]} in {images}" for split, (images, _) in folders.items())
    return path, f"drawn scenes labelled as the specs have it: {counts_told}, {width}x{height} pixels"


def _draw(data: Path, size: Sequence[int], *, training: int, val: int, testing: int) -> None:
    from taomagic.samples import create

    width, height = size
    create(data, training=training, val=val, testing=testing, size=(width, height), image_format="png")


def archive(here: Path, kind: str) -> tuple[Path, str]:
    """Return an archive, made at its first use, and what is in it."""
    path = here / "mirror" / kind
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == NGC_CLI:
        if not path.exists():
            script = (here / "bin" / "ngc").read_text(encoding="utf-8")
            write_zip(path, {member: script.encode() for member in ("ngc-cli/ngc", "ngc")}, executable=True)
        return path, "a program that answers as NVIDIA's NGC does, with what is here"
    config = json.loads((here / CONFIG).read_text(encoding="utf-8"))
    given = config["data"]
    if given and (Path(given) / kind).is_file():
        return Path(given) / kind, f"the archive in {given}"
    data = Path(given or here / "mirror" / "data")
    if not given and not (data / "training").is_dir():
        _draw(data, config["size"], **COUNTS | {"val": 0})
    if not path.exists():
        folders = ("training/image_2", "testing/image_2") if kind == IMAGES else ("training/label_2",)
        files = [file for folder in folders for file in sorted((data / folder).glob("*.*"))]
        write_zip(path, {str(file.relative_to(data)): file for file in files})
    width, height = config["size"]
    return path, (
        f"the files in {given}" if given
        else f"drawn scenes, not KITTI: {COUNTS['training']} for training, {COUNTS['testing']} for testing, "
        f"{width}x{height} pixels"
    )  # fmt: skip


def _sha256sum(here: Path, name: str, words: Sequence[str]) -> int:
    if not words or not any(name_in(Path(word)) in KITTI_SHA256 for word in words):
        return _pass_on(here, name, words)
    for word in words:
        known = KITTI_SHA256.get(name_in(Path(word)))
        if known:
            _say(name, f"{word} isn't KITTI's; the checksum is the one that the notebook expects.")
        elif word.startswith("-"):
            continue
        else:
            known = hashlib.sha256(Path(word).read_bytes()).hexdigest()
        print(f"{known}  {word}")
    return 0


def _unzip(_here: Path, name: str, words: Sequence[str]) -> int:
    """Unpack where there is no unzip: ``unzip [-uoqn] FILE [-d FOLDER]``."""
    folder, files = Path(), []
    following = iter(words)
    for word in following:
        if word == "-d":
            folder = Path(next(following, "."))
        elif not word.startswith("-"):
            files.append(word)
    if len(files) != 1:
        print("unzip: this stand-in unpacks one whole archive: unzip [-u] FILE -d FOLDER", file=sys.stderr)
        return 10
    try:
        with zipfile.ZipFile(files[0]) as file:
            for info in file.infolist():
                target = Path(file.extract(info, folder))
                if info.external_attr >> 16 & 0o111:
                    target.chmod(0o755)
    except (OSError, zipfile.BadZipFile) as error:
        print(f"unzip: cannot find or open {files[0]}: {error}", file=sys.stderr)
        return 9
    _say(name, f"unpacked {files[0]} to {folder}")
    return 0


# --- NGC, packages


def _ngc(here: Path, name: str, words: Sequence[str]) -> int:
    if list(words[:3]) == ["registry", "model", "list"]:
        _say(name, "NGC wasn't asked. Every backbone of the embedded engine can be had.")
        pattern = next((word for word in words[3:] if not word.startswith("-")), "*").rpartition(":")[0]
        for version in ("resnet10", "resnet18", "resnet34", "resnet50", "vgg16", "mobilenet_v2"):
            print(f"{pattern or 'nvidia/tao/pretrained_object_detection'}:{version}")
        return 0
    if list(words[:3]) != ["registry", "model", "download-version"]:
        print(f"ngc: this stand-in knows `registry model list` and `registry model download-version`, "
              f"not {' '.join(words[:3])}", file=sys.stderr)  # fmt: skip
        return 2
    model = next((word for word in words[3:] if ":" in word), "")
    match = re.fullmatch(r"(?:.*/)?(?P<name>[\w-]+):(?P<version>[\w.-]+)", model)
    arch = (
        re.fullmatch(r"(?P<arch>resnet|vgg|darknet|mobilenet_v|[a-z]+)_?(?P<layers>\d*)", match["version"])
        if match
        else None
    )
    if match is None or arch is None:
        print(f"ngc: {model or 'no model'}: there is no stand-in for it", file=sys.stderr)
        return 1
    folder = Path(_value_of("--dest", words) or ".") / f"{match['name']}_v{match['version']}"
    kind, layers = arch["arch"], arch["layers"] or "0"
    if kind == "mobilenet_v":
        kind, layers = f"mobilenet_v{layers}", "0"
    # NVIDIA's two collections differ in an underscore.
    joint = "" if "detectnet_v2" in match["name"] or layers == "0" else "_"
    path = folder / f"{kind}{joint}{layers if layers != '0' else ''}.hdf5"
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _say(name, f"{path} is there already and stays as it is.")
        return 0
    made = here / "mirror" / f"{kind}{layers}.hdf5"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        width = json.loads((here / CONFIG).read_text(encoding="utf-8"))["width"]
        argv = [
            sys.executable,
            "-P",
            "-m",
            "taomagic.engine.weights.initial",
            kind,
            layers,
            str(width),
            str(made),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            print((done.stdout + done.stderr).strip(), file=sys.stderr)
            return done.returncode
    shutil.copyfile(made, path)
    _say(
        name,
        f"nothing was downloaded. {path} holds RANDOM weights, not pretrained ones; half of its filters are zero, so "
        "that pruning finds some.",
    )
    return 0


def _value_of(flag: str, words: Sequence[str]) -> str:
    for number, word in enumerate(words):
        if word == flag:
            return words[number + 1] if number + 1 < len(words) else ""
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _pip(_here: Path, name: str, words: Sequence[str]) -> int:
    _say(name, f"nothing was done: {name} {' '.join(words)}")
    return 0


def _sudo(_here: Path, name: str, words: Sequence[str]) -> int:
    """Run a command without other rights: nothing in a notebook's own folders needs them."""
    command = list(words)
    while command and command[0].startswith("-"):
        command.pop(0)
    if not command:
        print("sudo: no command", file=sys.stderr)
        return 1
    program = shutil.which(command[0])
    if program is None:
        print(f"{name}: {command[0]}: command not found", file=sys.stderr)
        return 127
    _say(name, f"with your own rights: {' '.join(command)}")
    return subprocess.run([program, *command[1:]], check=False).returncode


_PROGRAMS = {
    "wget": _wget,
    "gdown": _wget,
    "curl": _curl,
    "sha256sum": _sha256sum,
    "unzip": _unzip,
    "ngc": _ngc,
    "pip": _pip,
    "pip3": _pip,
    "sudo": _sudo,
}
