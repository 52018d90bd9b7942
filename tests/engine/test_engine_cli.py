"""What the engine says about failures that are nobody's mistake."""

import signal
import subprocess
import sys
import types

import pytest

from taomagic.engine import cli


class OutOfMemoryError(RuntimeError):
    """Stands for torch's own, which needs a GPU to be raised."""


@pytest.fixture(autouse=True)
def untouched_signals(monkeypatch):
    monkeypatch.setattr(cli, "install_handlers", lambda: None)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore of it."),
        RuntimeError(
            "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        RuntimeError(
            "alloc.cpp:73: error: (-4:Insufficient memory) in function 'OutOfMemoryError'\n"
        ),  # OpenCV's
        MemoryError(),
    ],
)
def test_a_full_memory_is_told_with_a_hint_and_without_a_traceback(monkeypatch, capsys, tmp_path, error):
    def run(_args, _paths):
        raise error

    monkeypatch.setattr(cli.importlib, "import_module", lambda _name: types.SimpleNamespace(run=run))
    assert cli.main(["ssd", "train", "-e", "spec.txt", "-r", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "ERROR: the memory is full" in output
    assert "HINT: Lower batch_size_per_gpu" in output
    assert "Traceback" not in output
    assert '"FAILURE"' in (tmp_path / "status.json").read_text()


def test_a_signal_that_a_module_turned_into_another_error_still_stops(monkeypatch, capsys, tmp_path):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.undo()  # with the true handlers

    def importing(_name):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(cli.importlib, "import_module", importing)
    try:
        assert cli.main(["ssd", "train", "-e", "spec.txt", "-r", str(tmp_path)]) == 128 + signal.SIGTERM
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    output = capsys.readouterr().out
    assert "Stopped by SIGTERM." in output
    assert "Traceback" not in output
    # The next command of the same process isn't stopped by it: an error is one again.
    monkeypatch.setattr(cli.importlib, "import_module", lambda _name: 1 / 0)
    try:
        assert cli.main(["ssd", "train", "-e", "spec.txt", "-r", str(tmp_path)]) == 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_signal_after_the_end_only_hastens_it():
    code = (
        "import atexit, signal, sys\n"
        "from taomagic.engine.signals import end_with, install_handlers\n"
        "atexit.register(signal.raise_signal, signal.SIGTERM)\n"
        "install_handlers()\n"
        "end_with(3)\n"
        "sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
