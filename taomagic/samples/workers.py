"""Draw many scenes, in this process or in several.

The helper processes are plain ``python -c`` children rather than a process pool: a pool starts the caller's main module
anew, which a notebook doesn't have and a short script without ``if __name__ == "__main__"`` doesn't survive.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taomagic.errors import DataProblem

#: (position of the split in every scene's seed, name of the split, first number, number after the last)
Chunk = tuple[int, str, int, int]


@dataclass(frozen=True)
class Recipe:
    """What every scene of a set has in common.

    Attributes
    ----------
    folder
        Where the splits' folders are; they exist already.
    size
        Width and height in pixels.
    seed
        Seed of the set.
    suffix
        ``jpg`` or ``png``.
    """

    folder: str
    size: tuple[int, int]
    seed: int
    suffix: str


def draw_chunk(recipe: Recipe, chunk: Chunk) -> Counter[str]:
    """Draw and write some scenes of one split; return the number of objects per class.

    A label file is written where the split has a label folder.
    """
    import cv2
    import numpy as np

    from taomagic.samples.scenes import draw_scene

    position, split, start, end = chunk
    images, labels = Path(recipe.folder, split, "image_2"), Path(recipe.folder, split, "label_2")
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if recipe.suffix == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    labelled = labels.is_dir()
    objects: Counter[str] = Counter()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for number in range(start, end):
            rng = np.random.Generator(np.random.Philox(key=[recipe.seed, position << 32 | number]))
            scene = draw_scene(rng, *recipe.size)
            _, encoded = cv2.imencode(f".{recipe.suffix}", scene.image, options)
            (images / f"{number:06d}.{recipe.suffix}").write_bytes(encoded.tobytes())
            if labelled:
                rows = "".join(f"{thing.label_row()}\n" for thing in scene.objects)
                (labels / f"{number:06d}.txt").write_bytes(rows.encode("ascii"))
                objects.update(thing.name for thing in scene.objects)
    finally:
        cv2.setNumThreads(threads)
    return objects


def draw_chunks(
    recipe: Recipe, chunks: Sequence[Chunk], processes: int, report: Callable[[int], None]
) -> Counter[str]:
    """Draw all chunks and return the number of objects per class.

    Parameters
    ----------
    recipe, chunks
        What to draw.
    processes
        1 draws in this process; more start that many helpers.
    report
        Called in this thread with the number of scenes that were finished.

    Raises
    ------
    OSError
        The disk is full, or a folder can't be written.
    DataProblem
        A helper process ended unexpectedly.
    """
    objects: Counter[str] = Counter()
    if processes == 1:
        for chunk in chunks:
            objects.update(draw_chunk(recipe, chunk))
            report(chunk[3] - chunk[2])
        return objects
    answers: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
    helpers = [_start_helper(recipe, chunks[k::processes], answers) for k in range(processes)]
    try:
        for _ in helpers:
            while (answer := answers.get()) is not None:
                if "errno" in answer:
                    raise OSError(answer["errno"], answer["message"])
                objects.update(answer["objects"])  # type: ignore[call-overload]
                report(int(str(answer["drawn"])))
        for helper in helpers:
            if helper.wait() != 0:
                raise DataProblem(
                    f"a drawing process ended with exit code {helper.returncode}",
                    hint="try again with processes=1, which draws in this process and shows the cause",
                )
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
    return objects


def _start_helper(
    recipe: Recipe, chunks: Sequence[Chunk], answers: queue.SimpleQueue[dict[str, object] | None]
) -> subprocess.Popen[str]:
    """Start one helper and a thread that passes on its answers, then ``None``."""
    # The helper must find this package even where it was put on the path by hand.
    package_parent = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
    helper = subprocess.Popen(
        [sys.executable, "-c", "from taomagic.samples.workers import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert helper.stdin is not None
    helper.stdin.write(json.dumps({"recipe": asdict(recipe), "chunks": chunks}))
    helper.stdin.close()

    def listen() -> None:
        assert helper.stdout is not None
        with helper.stdout as lines:
            for line in lines:
                answers.put(json.loads(line))
        answers.put(None)

    threading.Thread(target=listen, name="taomagic-samples", daemon=True).start()
    return helper


def main() -> None:
    """Draw what standard input asks for; one JSON line to standard output per chunk."""
    order = json.load(sys.stdin)
    recipe = Recipe(**{**order["recipe"], "size": tuple(order["recipe"]["size"])})
    try:
        for chunk in order["chunks"]:
            objects = draw_chunk(recipe, tuple(chunk))
            print(json.dumps({"drawn": chunk[3] - chunk[2], "objects": objects}), flush=True)
    except OSError as error:
        print(json.dumps({"errno": error.errno, "message": error.strerror or str(error)}), flush=True)
