from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import taomagic
from taomagic.launcher.context import Context
from taomagic.launcher.control import all_jobs
from taomagic.launcher.runners.process import ProcessRunner

ENGINE = Path(__file__).with_name("scenario_engine.py")
SCENARIOS = (
    "train-2",
    "train-3",
    "gate-4",
    "noise-20000",
    "train-400",
    "fail-1",
    "fail-3",
    "polite",
    "stubborn",
    "ok",
)

VARIABLES = (
    "KEY NUM_GPUS GPU_INDEX LOCAL_PROJECT_DIR LOCAL_DATA_DIR LOCAL_EXPERIMENT_DIR LOCAL_SPECS_DIR "
    "DATA_DOWNLOAD_DIR USER_EXPERIMENT_DIR SPECS_DIR LAUNCHER_MOUNTS TAOMAGIC_DERIVED TAOMAGIC_BACKEND TAO_PANEL "
    "TAOMAGIC_RELEASE TAOMAGIC_SHELL_LINES TAO_LANG"
)

#: A first cell for notebooks: the extension, the environment, and the stand-in for the engine.
FIRST_CELL = f"""\
import sys
from taomagic.launcher.runners.process import ProcessRunner
%load_ext taomagic
%tao_env ssd --key secret-key
_magics = get_ipython().magics_manager.registry["TaoMagics"]
_magics.runner = ProcessRunner([sys.executable, "-u", {str(ENGINE)!r}])
"""


@contextmanager
def new_project(folder: Path) -> Iterator[Path]:
    """A project of its own, with a model for each scenario; its jobs end with it."""
    home, project = folder / "home", folder / "home" / "ssd"
    (project / "ssd").mkdir(parents=True)
    for scenario in SCENARIOS:
        (project / "ssd" / f"{scenario}.hdf5").write_bytes(b"model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", str(Path(taomagic.__file__).parents[1]))
        # %tao_env sets variables for good; a variable is given back only if it was set through the patch.
        for name in VARIABLES.split():
            patch.setenv(name, "")
            patch.delenv(name)
        patch.chdir(project)
        yield project
        for job in all_jobs(Context.current(need_mounts=False), everywhere=False):
            job.kill()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project for one test."""
    with new_project(tmp_path) as project:
        yield project


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
