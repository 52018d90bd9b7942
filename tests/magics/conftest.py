from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import taomagic
from taomagic.launcher.context import Context
from taomagic.launcher.control import all_jobs
from taomagic.launcher.runners.process import ProcessRunner

ENGINE = Path(__file__).with_name("scenario_engine.py")
SCENARIOS = ("train-2", "train-3", "slow-8", "noise-20000", "fail-1", "fail-3", "polite", "stubborn", "ok")

#: A first cell for notebooks: the extension, the environment, and the stand-in for the engine.
FIRST_CELL = f"""\
import sys
from taomagic.launcher.runners.process import ProcessRunner
%load_ext taomagic
%tao_env ssd --key secret-key
_magics = get_ipython().magics_manager.registry["TaoMagics"]
_magics.runner = ProcessRunner([sys.executable, "-u", {str(ENGINE)!r}])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of its own, with a model for each scenario; its jobs end with the test."""
    home, folder = tmp_path / "home", tmp_path / "home" / "ssd"
    (folder / "ssd").mkdir(parents=True)
    for scenario in SCENARIOS:
        (folder / "ssd" / f"{scenario}.hdf5").write_bytes(b"model")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(Path(taomagic.__file__).parents[1]))
    # %tao_env sets variables for good; monkeypatch gives each one back only if it was set through it.
    names = (
        "KEY NUM_GPUS GPU_INDEX LOCAL_PROJECT_DIR LOCAL_DATA_DIR LOCAL_EXPERIMENT_DIR LOCAL_SPECS_DIR "
        "DATA_DOWNLOAD_DIR USER_EXPERIMENT_DIR SPECS_DIR LAUNCHER_MOUNTS TAOMAGIC_DERIVED TAOMAGIC_BACKEND TAO_PANEL"
    )
    for name in names.split():
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    yield folder
    for job in all_jobs(Context.current(), everywhere=False):
        job.kill()


@pytest.fixture
def shell(project: Path) -> InteractiveShell:
    """An IPython with the extension loaded, the environment set and the engine's stand-in."""
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    taomagic.load_ipython_extension(shell)
    shell.run_line_magic("tao_env", "ssd --key secret-key")
    shell.magics_manager.registry["TaoMagics"].runner = ProcessRunner([sys.executable, "-u", str(ENGINE)])
    return shell
