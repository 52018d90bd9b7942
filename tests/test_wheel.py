"""What a person gets from `pip install`: a wheel that loads in a clean environment and carries everything it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(target.glob("*.whl"))


def test_the_wheel_carries_notebooks_specs_protos_and_the_catalog(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for wanted in (
        "taomagic/samples/notebooks/ssd/ssd.ipynb",
        "taomagic/samples/notebooks/detectnet_v2/detectnet_v2.ipynb",
        "taomagic/samples/specs/ssd/ssd_train_resnet18_kitti.txt",
        "taomagic/samples/specs/ssd/sample/ssd_train_resnet10_sample.txt",
        "taomagic/samples/specs/detectnet_v2/sample/detectnet_v2_train_resnet10_sample.txt",
        "taomagic/spec/ssd.proto",
        "taomagic/engine/device_bundle/run.py",
        "taomagic/engine/device_bundle/templates/README.md",
        "taomagic/spec/ssd_pb2.py",
        "taomagic/launcher/catalog.json",
        "taomagic/launcher/catalog.toml",
        "taomagic/py.typed",
        "taomagic/view/panel.css",
        "taomagic/view/panel.js",
        "taomagic-0.1.0.data/data/etc/jupyter/jupyter_server_config.d/taomagic.json",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or "__pycache__" in name]


def test_jupyterlab_finds_the_extension_of_an_installed_wheel(wheel: Path, tmp_path: Path):
    """As it lies in the wheel, so that one that was built without Node.js can't pass unnoticed."""
    if not (ROOT / "build/labextension/package.json").is_file():
        reason = "The JupyterLab extension isn't built: make labextension (needs Node.js)."
        if os.environ.get("TAOMAGIC_REQUIRE_NODE"):
            pytest.fail(reason)
        pytest.skip(reason)
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (data,) = tmp_path.glob("*.data/data")
    server = json.loads((data / "etc/jupyter/jupyter_server_config.d/taomagic.json").read_text())
    assert server == {"ServerApp": {"jpserver_extensions": {"taomagic.server": True}}}
    environ = {**os.environ, "HOME": str(tmp_path), "JUPYTER_PATH": str(data / "share/jupyter")}
    command = [sys.executable, "-m", "jupyterlab.labextensions", "list"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)
    listed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert re.search(r"taomagic v0\.1\.0 enabled +OK +\(python, taomagic\)", listed), listed


def test_the_wheel_loads_the_extension_in_a_clean_environment_without_torch(wheel: Path, tmp_path: Path):
    """Installs only the core dependencies; needs a package index, as `pip install` does."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    constraints = ROOT / "constraints.txt"
    install = [python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel]
    done = subprocess.run(install, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    script = (
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        "shell = Shell.instance()\n"
        "shell.run_line_magic('load_ext', 'taomagic')\n"
        "print(sorted(name for name in shell.magics_manager.magics['line'] if name.startswith('tao')))\n"
        "import taomagic.samples\n"
        "print(taomagic.samples.copy_specs('ssd', 'specs').created[0].name)\n"
        "print(taomagic.samples.copy_notebook('ssd', '.').created[0].name)\n"
    )
    ran = subprocess.run([python, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["['tao', 'tao_env']", "ssd_retrain_resnet10_sample.txt", "ssd.ipynb"]
    info = subprocess.run(
        [python.parent / "tao", "info"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert info.stdout.startswith("Configuration of the TAO Toolkit Instance")
    # A command that needs the engine says what to install.
    spec = "specs/ssd_train_resnet10_sample.txt"
    train = [python.parent / "tao", "ssd", "train", "-e", spec, "-r", "out", "-k", "k"]
    refused = subprocess.run(train, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert refused.returncode == 1
    assert "taomagic[engine]" in refused.stdout + refused.stderr
