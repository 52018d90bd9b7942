"""NVIDIA's notebooks for Colab, elsewhere: its folders lie beside the notebook. And what no notebook may install."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

#: Where a notebook of that edition finds its specs and helpers: the repository that it is part of.
REPOSITORY = "COLAB_NOTEBOOKS_PATH"
_PARTS = frozenset({"tensorflow", "pytorch"})
#: Any of these in a cell, or set by an earlier one, tells that a notebook is of that edition.
_SIGNS = (REPOSITORY, "GOOGLE_COLAB")
#: Colab's own folder, which cells also name outside of variables.
_CONTENT = re.compile(r"(?<![\w$})\].:/-])/content(?=[/\s\"'])")
_TENSORRT = re.compile(r"[\"'=\s](?P<path>/[^\s\"']*/(?P<top>TensorRT-\d+(?:\.\d+)+)[^\s\"'/]*\.tar\.gz)")
_ASSIGNMENT = re.compile(
    r"^(?P<head>[ \t]*%(?:set_)?env[ \t]+(?P<name>\w+)[ \t]*[ =][ \t]*)(?P<value>/[^\s\"']*)(?P<tail>[ \t]*)$",
    re.MULTILINE,
)
_SPECS = re.compile(r"/(?P<part>tensorflow|pytorch)/(?P<net>\w+(?:/\w+)?)/specs\b")
# Installs CUDA, Python and wheels with apt-get and pip.
_INSTALLATION = re.compile(r"/(?P<script>setup_env\w*\.sh)\b")
# Its `tao` would take the place of ours, and its old Docker and Requests that of what Jupyter needs.
_LAUNCHER = re.compile(
    r"\bpip[\d.]*\s+install\b[^;|&\n]*?(?<![\w/-])(?P<package>nvidia[-_](?:tao|tlt|pyindex))(?![\w-])"
)


def redirected(text: str, folder: Path, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a cell with folders that are there, and what to tell the reader.

    Parameters
    ----------
    text
        The cell.
    folder
        The notebook's.
    environ
        Tells whether an earlier cell was one for Colab: only such notebooks are changed.

    Returns
    -------
    tuple
        A path that ``%env`` sets is put below the notebook's folder where even its first folder isn't on this machine
        (``/results``), and so is every ``/content``; the repository becomes the one that the notebook lies in. New
        folders are made, and an empty archive of TensorRT where the reader should have put NVIDIA's.

    Examples
    --------
    >>> redirected("%env DATA_DIR=/content/data", Path("/tmp"), {})
    ('%env DATA_DIR=/content/data', [])
    """
    if not any(sign in text or sign in environ for sign in _SIGNS):
        return text, []
    notices: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        path = Path(value)
        if name == REPOSITORY:
            if path.is_dir():
                return match[0]
            ours = _repository(text, folder)
        elif len(path.parts) > 1 and not Path(*path.parts[:2]).exists():
            ours = folder.joinpath(*path.parts[1:])
            ours.mkdir(parents=True, exist_ok=True)
        else:
            return match[0]
        notices.append(f"{name}: {value} isn't here; {ours} takes its place.")
        return f"{match['head']}{ours}{'/' if value.endswith('/') else ''}{match['tail']}"

    text = _ASSIGNMENT.sub(replace, text)
    if not Path("/content").exists() and _CONTENT.search(text):
        text = _CONTENT.sub(lambda _: f"{folder}/content", text)
        notices.append(f"/content isn't here; {folder}/content takes its place.")
    for match in _TENSORRT.finditer(text):
        archive = Path(match["path"])
        if archive.is_relative_to(folder) and not archive.exists():
            _write_empty(archive, match["top"])
            notices.append(f"TensorRT isn't needed; {archive} is an empty archive in its place.")
    return text, notices


def _write_empty(archive: Path, top: str) -> None:
    """Write an archive in which there is nothing but the folders that notebooks look for."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        for name in (top, f"{top}/lib"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            file.addfile(entry)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
    temporary.write_bytes(content.getvalue())
    temporary.replace(archive)


def _repository(text: str, folder: Path) -> Path:
    """Return the folder below which ``tensorflow/NET/specs`` is what lies beside the notebook."""
    if folder.parent.name in _PARTS:
        return folder.parents[1]
    match = _SPECS.search(text)
    if match is None:
        return folder
    root = folder / ".tao" / "colab"
    link = root / match["part"] / match["net"]
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)
    return root


def left_out(line: str, environ: Mapping[str, str]) -> str:
    """Return why a shell line that installs something is left out; empty where it is to be run.

    Examples
    --------
    >>> environ = {"COLAB_NOTEBOOKS_PATH": "/nvidia-tao", "bash_script": "setup_env_desktop.sh"}
    >>> left_out("sh $COLAB_NOTEBOOKS_PATH/tensorflow/$bash_script", environ)
    "setup_env_desktop.sh isn't needed and was left out: it installs CUDA, Python and TensorFlow on this machine."
    >>> left_out("pip3 install nvidia-tao", {})
    "nvidia-tao was left out: taomagic is the launcher here, and NVIDIA's would take the place of its `tao`."
    >>> left_out("sh setup.sh", {})
    ''
    """
    if launcher := _LAUNCHER.search(line):
        package = launcher["package"]
        return f"{package} was left out: taomagic is the launcher here, and NVIDIA's would take the place of its `tao`."
    if REPOSITORY not in environ:
        return ""
    text = re.sub(r"\$\{?(\w+)\}?", lambda match: environ.get(match[1], match[0]), line)
    match = _INSTALLATION.search(text)
    if match is None:
        return ""
    return f"{match['script']} isn't needed and was left out: it installs CUDA, Python and TensorFlow on this machine."
