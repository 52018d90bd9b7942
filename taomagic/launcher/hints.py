"""What to do about failures that the engine couldn't explain itself, by exit code and by what the log says."""

from __future__ import annotations

import re

_MEMORY = "The machine ran out of memory. Lower batch_size_per_gpu in the spec, or close other programs."
_SHARED = "Shared memory or the disk ran out while in use. Free some space, or lower n_workers in the spec."
_CRASH = "The program crashed. If it does again: pip install --force-reinstall 'taomagic[engine]'"
#: What to do where the engine can't hand GPUs to containers.
GPU_RUNTIME = (
    "Install NVIDIA's driver and the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker "
    "&& sudo systemctl restart docker. Without a GPU, the embedded engine runs the command: --backend process."
)
_BY_EXIT_CODE = {
    -9: _MEMORY,
    137: _MEMORY,
    -7: _SHARED,
    135: _SHARED,
    -11: _CRASH,
    139: _CRASH,
    127: "The program to run wasn't found. Reinstall taomagic in this Python environment.",
}
_BY_TEXT = (
    (
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError",
        "The GPU ran out of memory. Lower batch_size_per_gpu in the spec, or end other programs that use the GPU.",
    ),
    (r"\bMemoryError\b|can't allocate memory|Cannot allocate memory|bad_alloc", _MEMORY),
    (
        r"No space left on device|Disk quota exceeded",
        "The disk is full. Free some space (old checkpoints are the largest files) and run it again.",
    ),
    (
        r"No module named '?(?:torch|cv2|numpy|h5py|onnx|onnxruntime|safetensors|cryptography)\b",
        "The embedded engine isn't complete here. Install it: pip install 'taomagic[engine]'",
    ),
    (
        r"Permission denied",
        "A file or folder belongs to another user. After a container ran as root: sudo chown -R $USER FOLDER",
    ),
    (r"Too many open files", "Raise the limit in the shell that starts Jupyter: ulimit -n 4096"),
    (
        r"DataLoader worker .* is killed|unable to open shared memory",
        "A loading process ran out of memory. Set n_workers: 0 in the spec.",
    ),
)


def guess(exit_code: int | None, text: str) -> tuple[str, ...]:
    """Return hints for a failed command, the likeliest first.

    Parameters
    ----------
    exit_code
        Of the command; negative for a signal, 128 + n as a shell reports it.
    text
        The last lines of its log.
    """
    found = [hint for pattern, hint in _BY_TEXT if re.search(pattern, text)]
    if exit_code is not None and exit_code in _BY_EXIT_CODE and not found:
        found.append(_BY_EXIT_CODE[exit_code])
    return tuple(found)
