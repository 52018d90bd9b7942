from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.launcher import hints
from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.progress import SERIES_POINTS, Progress, Snapshot
from taomagic.launcher.states import JobState


def snapshot_of(text: str, *, state: JobState = JobState.RUNNING, elapsed_s: float = 0.0) -> Snapshot:
    progress = Progress(lambda path: Path("/host" + path))
    reader = EventReader()
    for event in [*reader.feed(text.encode()), *reader.close()]:
        progress.add(event)
    return progress.snapshot(
        state=state,
        command="tao ssd train",
        job_id="0",
        label="ssd train",
        exit_code=None,
        elapsed_s=elapsed_s,
    )


def test_eta_counts_the_epochs_to_come() -> None:
    bar = "4/4 [====] - 10s 2s/step - loss: 1.0\n"
    running = " 2/4 [==>.] - ETA: 5s - loss: 1.0\r"
    assert snapshot_of(f"Epoch 1/4\n{bar}Epoch 2/4\n{running}").eta_s == pytest.approx(25)
    assert snapshot_of(f"Epoch 1/4\n{running}").eta_s == pytest.approx(35)


def test_eta_before_the_first_step_is_the_engines_estimate() -> None:
    assert snapshot_of("Estimated time: 2 min 0 s (x)\n", elapsed_s=20).eta_s == pytest.approx(100)
    assert snapshot_of("hello\n").eta_s is None


def test_loss_is_drawn_by_fractions_of_epochs() -> None:
    snapshot = snapshot_of("Epoch 2/4\n 1/4 [>...] - ETA: 5s - loss: 3.0\r4/4 [====] - 1s - loss: 2.0\n")
    assert snapshot.series["loss"] == [(1.25, 3.0), (2.0, 2.0)]
    assert snapshot.fraction == pytest.approx(0.5)
    assert snapshot.history == ({"epoch": 2, "loss": 2.0},)


def test_metrics_without_epochs_make_no_curve() -> None:
    snapshot = snapshot_of("car           AP    0.9\n              mAP   0.9\n")
    assert snapshot.metrics == {"AP_car": 0.9, "mAP": 0.9}
    assert snapshot.per_class_ap == {"car": 0.9}
    assert snapshot.series == {}


def test_nan_is_a_metric_but_no_point() -> None:
    snapshot = snapshot_of("Epoch 1/1\ncar           AP    nan\n")
    assert "AP_car" in snapshot.metrics
    assert snapshot.series == {}


def test_long_series_keep_their_ends() -> None:
    steps = "".join(f"{step}/9999 [=>..] - ETA: 5s - loss: {step}.0\r" for step in range(1, 5000))
    points = snapshot_of("Epoch 1/1\n" + steps).series["loss"]
    assert len(points) <= 2 * SERIES_POINTS
    assert points[0][1] == 1.0
    assert points[-1][1] == 4999.0


def test_transient_line_is_apart_from_the_log() -> None:
    snapshot = snapshot_of("one\n 1/4 [>...] - ETA: 5s\r")
    assert snapshot.lines == ("one",)
    assert snapshot.bar == " 1/4 [>...] - ETA: 5s"


def test_only_the_last_lines_are_kept_and_the_rest_counted() -> None:
    snapshot = snapshot_of("".join(f"{number}\n" for number in range(500)))
    assert len(snapshot.lines) == 200
    assert snapshot.dropped == 300
    assert snapshot.lines[0] == "300"


def test_engines_own_summary_is_the_cause() -> None:
    text = "ValueError: deep inside\nERROR: the spec is wrong\nHINT: mend it\n"
    snapshot = snapshot_of(text, state=JobState.FAILED)
    assert snapshot.cause == "the spec is wrong"
    assert snapshot.errors == ("ValueError: deep inside", "the spec is wrong")
    assert snapshot.hints == ("mend it",)


def test_artefacts_are_listed_once_with_their_place_here() -> None:
    [artefact] = snapshot_of("Saved: /w/a.onnx\nSaved: /w/a.onnx\n").artefacts
    assert (artefact.host, artefact.container, artefact.kind) == (Path("/host/w/a.onnx"), "/w/a.onnx", "onnx")


@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (-9, "", "memory"),
        (137, "", "memory"),
        (1, "RuntimeError: CUDA out of memory. Tried", "GPU"),
        (1, "MemoryError", "memory"),
        (1, "OSError: [Errno 28] No space left on device", "disk is full"),
        (1, "ModuleNotFoundError: No module named 'torch'", "taomagic[engine]"),
    ],
)
def test_known_causes_have_a_hint(code: int, text: str, word: str) -> None:
    assert word in hints.guess(code, text)[0]


# Lines as NVIDIA's containers, TensorFlow 1, PyTorch and CUDA print them.
@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (
            1,
            "RuntimeError: DataLoader worker (pid 325) is killed by signal: Bus error.",
            '"shm_size": "16G"',
        ),
        (1, "ERROR: This might be caused by insufficient shared memory (shm).", "shm_size"),
        (1, "RuntimeError: unable to open shared memory object </torch_1394_27> in read-write mode", "shm_size"),
        (1, "OSError: [Errno 28] No space left on device: '/dev/shm/nccl-x'", "shm_size"),
        (135, "", "shm_size"),
        (1, "OSError: [Errno 28] No space left on device: '/results/a.tlt'", "disk is full"),
        (
            1,
            "cudaGetDeviceCount() failed. Status: CUDA driver version is insufficient for CUDA runtime version",
            "newer NVIDIA driver",
        ),
        (1, "RuntimeError: Found no NVIDIA driver on your system. Please check that you have one", "sees no GPU"),
        (1, "WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.", "sees no GPU"),
        (1, "RuntimeError: CUDA error: no kernel image is available for execution", "nothing of this GPU"),
        (1, "ValueError: Invalid decryption. Unable to open file (file signature not found).", "-k"),
        (1, "OSError: Unable to open file (file signature not found)", "nvidia_tlt"),
        (1, "[ERROR] Failed to parse the model, please check the encoding key to make sure it's correct", "tlt_encode"),
        (1, "_pickle.UnpicklingError: invalid load key, '\\xa1'.", "-k"),
        (1, "ResourceExhaustedError: OOM when allocating tensor with shape[16,512]", "batch_size_per_gpu"),
        (137, "", "memory"),
        (1, "PermissionError: [Errno 13] Permission denied: '/workspace/tao-experiments/ssd'", "chown"),
        (1, "OSError: [Errno 30] Read-only file system: '/opt/x'", "mounted folders"),
        (1, "FileNotFoundError: [Errno 2] No such file or directory: '/home/ada/a.txt'", "path of this machine"),
        (1, "AssertionError: /home/ada/data/images doesn't exist", "path of this machine"),
        (127, 'bash: ssd: command not found', "tao info --verbose"),
        (126, "", "may not be executed"),
        (126, "[FATAL tini (7)] exec ssd failed: Exec format error", "another kind of processor"),
        (139, "", "crashed in the container"),
        (1, "RuntimeError: CUDA error: invalid device ordinal", "--gpus"),
        (1, "There are not enough slots available in the system to satisfy the 4 slots", "--gpus"),
    ],
)  # fmt: skip
def test_known_causes_in_containers_have_a_hint(code: int, text: str, word: str) -> None:
    assert word in hints.guess(code, text, container=True)[0]


def test_containers_are_not_told_to_install_our_engine() -> None:
    for code, text in ((1, "ModuleNotFoundError: No module named 'torch'"), (127, ""), (139, "")):
        assert "pip install" in hints.guess(code, text)[0] or "Reinstall" in hints.guess(code, text)[0]
        for hint in hints.guess(code, text, container=True):
            assert "pip install" not in hint
            assert "Reinstall" not in hint


def test_telemetry_gives_no_hint() -> None:
    progress = Progress()
    reader = EventReader()
    log = (
        "AssertionError: no images\n"
        "Telemetry data couldn't be sent, but the command ran successfully.\n"
        "[Error]: <urlopen error [Errno 13] Permission denied>\n"
        "Execution status: FAIL\n"
    )
    for event in [*reader.feed(log.encode()), *reader.close()]:
        progress.add(event)
    assert "AssertionError" in progress.recent_text()
    assert "Permission" not in progress.recent_text()


def failed(text: str) -> Snapshot:
    return snapshot_of(text, state=JobState.FAILED)


TELEMETRY = (
    "Telemetry data couldn't be sent, but the command ran successfully.\n"
    "[WARNING]: <urlopen error [Errno -2] Name or service not known>\n"
)
TF1 = """Traceback (most recent call last):
  File "/opt/tlt/entrypoint.py", line 3, in <module>
    main()
  File "/root/.cache/dosei/train.py", line 99, in <module>
AssertionError: Dataset path doesn't exist.
"""
MPI = """--------------------------------------------------------------------------
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
--------------------------------------------------------------------------
Traceback (most recent call last):
  File "/usr/local/bin/ssd", line 8, in <module>
    sys.exit(main())
  File "/usr/lib/python3.8/subprocess.py", line 516, in run
subprocess.CalledProcessError: Command '['mpirun', '-np', '2', 'ssd']' returned non-zero exit status 1.
"""
FAIL = "Execution status: FAIL\n"
PYTORCH = "[2026-11-21 09:00:00,123 - TAO Toolkit - root - ERROR] "
RECORD = "2026-11-21 09:00:00,123 [TAO Toolkit] [WARNING] nvidia_tao_tf1.cv.entrypoint 104: "


@pytest.mark.parametrize(
    "log",
    [
        TF1 + TELEMETRY + FAIL,
        TF1 + MPI + TELEMETRY + FAIL,
        "".join(f"[1,0]<stderr>:{line}" for line in TF1.splitlines(keepends=True)) + MPI + FAIL,
        TF1 + "".join(RECORD + line for line in TELEMETRY.splitlines(keepends=True)) + RECORD + FAIL,
        TF1 + TELEMETRY.replace("[WARNING]", "[Error]") + PYTORCH + FAIL,
    ],
)
def test_the_cause_is_the_error_itself_not_what_came_of_it(log: str) -> None:
    snapshot = failed(log)
    assert snapshot.cause == "AssertionError: Dataset path doesn't exist."
    assert snapshot.warnings == ()
    assert not any("elemetry" in text or "urlopen" in text or "Execution" in text for text in snapshot.errors)


def test_a_failure_that_only_the_status_tells_says_so() -> None:
    log = "working\n" + TELEMETRY + "Execution status: FAIL\n"
    assert failed(log).cause == "the command says: Execution status: FAIL"
    assert snapshot_of(log).cause == ""  # it still runs
    assert failed("working\n").cause == ""


def test_an_exception_of_the_launching_process_is_better_than_nothing() -> None:
    assert failed(MPI).cause.startswith("subprocess.CalledProcessError")
    assert failed("KeyboardInterrupt\n").cause == "KeyboardInterrupt"


def test_wrong_arguments_are_the_cause() -> None:
    log = "usage: ssd train [-h] -e SPEC\nssd train: error: the following arguments are required: -e\n" + MPI
    assert failed(log).cause == "the following arguments are required: -e"


def test_unknown_causes_have_none() -> None:
    assert hints.guess(1, "something else") == ()
