"""`create`: KITTI's layout, reproducible bytes, and no mixing with what is there."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import cv2
import pytest

from taomagic.errors import DataProblem, UsageProblem
from taomagic.samples import create
from taomagic.samples import layout as layout_module

SIZE = (160, 64)


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*/*.*"))
        if path.parent.name in ("image_2", "label_2")
    }


def test_layout_is_kittis(tmp_path: Path) -> None:
    made = create(tmp_path / "data", training=3, val=2, testing=1, size=SIZE)
    assert made.created
    assert dict(made.images) == {"training": 3, "val": 2, "testing": 1}
    names = set(contents(tmp_path / "data"))
    assert names == {
        *(f"training/image_2/{n:06d}.jpg" for n in range(3)),
        *(f"training/label_2/{n:06d}.txt" for n in range(3)),
        *(f"val/image_2/{n:06d}.jpg" for n in range(2)),
        *(f"val/label_2/{n:06d}.txt" for n in range(2)),
        "testing/image_2/000000.jpg",
    }
    assert cv2.imread(str(tmp_path / "data/training/image_2/000000.jpg")).shape == (64, 160, 3)
    rows = [
        row.split()
        for path in (tmp_path / "data").rglob("label_2/*.txt")
        for row in path.read_text().splitlines()
    ]
    assert rows
    assert all(len(row) == 15 for row in rows)
    assert sum(made.objects.values()) == len(rows)
    assert "nothing to do" not in made.summary()


def test_bytes_depend_on_neither_counts_nor_processes(tmp_path: Path) -> None:
    create(tmp_path / "few", training=2, val=1, testing=0, size=SIZE, seed=4, image_format="png")
    create(
        tmp_path / "many", training=20, val=3, testing=1, size=SIZE, seed=4, image_format="png", processes=2
    )
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert few.items() <= many.items()
    create(tmp_path / "other", training=2, val=1, testing=0, size=SIZE, seed=5, image_format="png")
    other = contents(tmp_path / "other")
    assert other["training/image_2/000000.png"] != few["training/image_2/000000.png"]


def test_training_and_validation_scenes_differ(tmp_path: Path) -> None:
    create(tmp_path, training=1, val=1, testing=1, size=SIZE)
    images = [
        (tmp_path / split / "image_2/000000.jpg").read_bytes() for split in ("training", "val", "testing")
    ]
    assert len(set(images)) == 3


def test_the_identical_set_is_left_alone(tmp_path: Path) -> None:
    create(tmp_path, training=2, val=1, testing=0, size=SIZE)
    before = (tmp_path / "training/image_2/000000.jpg").stat().st_mtime_ns
    again = create(tmp_path, training=2, val=1, testing=0, size=SIZE)
    assert not again.created
    assert "nothing to do" in again.summary()
    assert (tmp_path / "training/image_2/000000.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["another seed", "a file removed", "a file added", "a label edited"])
def test_a_different_set_is_never_mixed_in(tmp_path: Path, change: str) -> None:
    create(tmp_path, training=2, val=0, testing=0, size=SIZE)
    first = contents(tmp_path)
    seed = 1 if change == "another seed" else 0
    if change == "a file removed":
        (tmp_path / "training/image_2/000001.jpg").unlink()
    elif change == "a file added":
        (tmp_path / "training/image_2/mine.jpg").write_bytes(b"mine")
    elif change == "a label edited":
        (tmp_path / "training/label_2/000001.txt").write_text("changed\n")
    with pytest.raises(DataProblem, match="already holds other images") as caught:
        create(tmp_path, training=2, val=0, testing=0, size=SIZE, seed=seed)
    assert "force" in caught.value.hint
    create(tmp_path, training=2, val=0, testing=0, size=SIZE, seed=seed, force=True)
    assert (contents(tmp_path) == first) == (seed == 0)


def test_foreign_files_beside_the_set_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    create(tmp_path, training=1, val=0, testing=0, size=SIZE)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(layout_module.Path, "write_bytes", full)
    with pytest.raises(DataProblem, match="No space left on device"):
        create(tmp_path, training=1, val=0, testing=0, size=SIZE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"training": -1},
        {"training": 0, "val": 0, "testing": 0},
        {"size": (10, 10)},
        {"size": (100, 100000)},
        {"seed": -1},
        {"image_format": "gif"},
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, object]
) -> None:
    with pytest.raises(UsageProblem):
        create(tmp_path / "new", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_progress_is_reported_up_to_the_end(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    create(
        tmp_path,
        training=18,
        val=1,
        testing=0,
        size=SIZE,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(16, 19), (18, 19), (19, 19)]
