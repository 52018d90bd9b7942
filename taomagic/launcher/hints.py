"""What to do about failures that a command couldn't explain itself, by exit code and by what its log says."""

from __future__ import annotations

import re

_MEMORY = "The machine ran out of memory. Lower batch_size_per_gpu in the spec, or close other programs."
_SHARED = "Shared memory or the disk ran out while in use. Free some space, or lower n_workers in the spec."
_CRASH = "The program crashed. If it does again: pip install --force-reinstall 'taomagic[engine]'"
_WITHOUT_CONTAINER = "Without a container, the embedded engine may run the command: --backend process."
#: What to do where the engine can't hand GPUs to containers.
GPU_RUNTIME = (
    "Install NVIDIA's driver and the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure "
    "--runtime=docker && sudo systemctl restart docker. Without a GPU, the embedded engine runs the command: "
    "--backend process."
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
_SHM = (
    "The container's shared memory is too small. In the mount map, under DockerOptions: "
    '"shm_size": "16G" (or lower the number of workers in the spec).'
)
_OTHER_IMAGE = "`tao info --verbose` shows which image holds which task; --release chooses another one."
_BY_EXIT_CODE_IN_CONTAINER = {
    **_BY_EXIT_CODE,
    -7: _SHM,
    135: _SHM,
    -11: "The program crashed in the container. If it does again, another --release of the image may not.",
    139: "The program crashed in the container. If it does again, another --release of the image may not.",
    126: f"The program in the image may not be executed. {_OTHER_IMAGE}",
    127: f"The image has no such program. {_OTHER_IMAGE}",
    132: "The image's programs need a processor with AVX, or of another kind. " + _WITHOUT_CONTAINER,
}
_KEY = (
    "The key is probably not the one that the model was saved with: give that one with -k. Models that NVIDIA offers "
    "have nvidia_tlt or tlt_encode."
)
_BY_TEXT = (
    (
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|OOM when allocating tensor|"
        r"CUDA_ERROR_OUT_OF_MEMORY|ResourceExhaustedError",
        "The GPU ran out of memory. Lower batch_size_per_gpu in the spec, or end other programs that use the GPU.",
    ),
    (r"\bMemoryError\b|can't allocate memory|Cannot allocate memory|bad_alloc", _MEMORY),
    (
        r"No space left on device|Disk quota exceeded",
        "The disk is full. Free some space (old checkpoints are the largest files) and run it again.",
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
_BY_TEXT_IN_PROCESS = (
    (
        r"No module named '?(?:torch|cv2|numpy|h5py|onnx|onnxruntime|safetensors|cryptography)\b",
        "The embedded engine isn't complete here. Install it: pip install 'taomagic[engine]'",
    ),
)
# What only NVIDIA's containers say. They know more than the lines above, and come first.
_BY_TEXT_IN_CONTAINER = (
    (
        r"insufficient shared memory|unable to open shared memory|DataLoader worker .* Bus error|"
        r"unable to write to file </torch_|/dev/shm/?\S*'?: No space left|No space left on device: '/dev/shm|"
        r"NCCL WARN .*(?:shm|shared memory)|Error while creating shared memory",
        _SHM,
    ),
    (
        r"CUDA driver version is insufficient|driver on your system is too old|forward compatibility was attempted|"
        r"unsupported display driver|requires? (?:at least )?(?:NVIDIA )?[Dd]river|incompatible driver",
        "The image needs a newer NVIDIA driver than this machine has. Update it, or choose an older --release.",
    ),
    (
        r"no CUDA-capable device|Found no NVIDIA driver|NVIDIA Driver was not detected|libcuda\.so\.1: cannot open|"
        r"CUDA_ERROR_NO_DEVICE|No CUDA GPUs are available",
        "The container sees no GPU. " + GPU_RUNTIME,
    ),
    (
        r"no kernel image is available|sm_\d+ is not compatible",
        "The image knows nothing of this GPU, which is too old or too new for it. Choose another one with --release.",
    ),
    (
        r"[Ee]xec format error",
        "The image is made for another kind of processor; NVIDIA's are for amd64 (x86-64). "
        + _WITHOUT_CONTAINER,
    ),
    (
        r"[Ii]nvalid decryption|check the encoding key|[Uu]nable to decrypt|[Dd]ecryption failed|"
        r"file signature not found|invalid load key|key used to load the model is incorrect",
        _KEY,
    ),
    (
        r"not enough slots available|invalid device ordinal|number of GPUs .* must be",
        "--gpus and --gpu_index ask for more GPUs than the container has. `nvidia-smi -L` lists those of this machine.",
    ),
    (
        r"Read-only file system",
        "The container may write only to mounted folders. Put the results below one of them; %tao_env shows the map.",
    ),
    (
        r"(?:No such file or directory|does not exist|doesn't exist|not found)[^\n]*(?:/home/|/Users/|/media/)|"
        r"(?:/home/|/Users/|/media/)[^\n]*(?:No such file or directory|does not exist|doesn't exist|not found)",
        "A path of this machine means nothing in a container, which sees only mounted folders. Write it as the "
        "container sees it; %tao_env shows the map.",
    ),
)


def guess(exit_code: int | None, text: str, *, container: bool = False) -> tuple[str, ...]:
    """Return hints for a failed command, the likeliest first.

    Parameters
    ----------
    exit_code
        Of the command; negative for a signal, 128 + n as a shell reports it.
    text
        The last lines of its log.
    container
        Whether it ran in a container, where some things have other reasons and remedies.
    """
    patterns = (*(_BY_TEXT_IN_CONTAINER if container else _BY_TEXT_IN_PROCESS), *_BY_TEXT)
    found = [hint for pattern, hint in patterns if re.search(pattern, text)]
    codes = _BY_EXIT_CODE_IN_CONTAINER if container else _BY_EXIT_CODE
    if exit_code is not None and exit_code in codes and not found:
        found.append(codes[exit_code])
    return tuple(found)
