"""What the sample notebooks show: boxes on images, parts of specs, training curves, and the closing comparison.

Each function returns something that a notebook draws by itself; nothing here runs a model or knows an engine.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.errors import DataProblem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture:
    """A drawing that a notebook shows by itself, whether or not `%matplotlib inline` has been called.

    Parameters
    ----------
    figure
        What to show.
    """

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"<Picture {width:g} × {height:.3g} inches>"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write it to a file of the kind that the name says (``.png``, ``.svg``, ``.pdf``)."""
        self.figure.savefig(path, dpi=150)


#: Colours that also differ in brightness, so that a grey print or a colour-blind reader can tell them apart.
CLASS_COLOURS = {"car": "#1f77ff", "pedestrian": "#ffb000", "cyclist": "#dc267f"}
_OTHER_COLOUR = "#00a86b"
_EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Box:
    """One box of a KITTI label file: class, corners in pixels, and the confidence of a detection (else ``None``)."""

    name: str
    corners: tuple[float, float, float, float]
    confidence: float | None


def read_boxes(path: Path) -> list[Box]:
    """Read the boxes of a KITTI label file; ``DontCare`` regions are left out, a missing file has none."""
    if not path.exists():
        return []
    boxes = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[0].lower() == "dontcare":
            continue
        x1, y1, x2, y2 = (float(v) for v in fields[4:8])
        boxes.append(
            Box(fields[0].lower(), (x1, y1, x2, y2), float(fields[15]) if len(fields) > 15 else None)
        )
    return boxes


def find_images(folder: str | Path, names: str = "*") -> list[Path]:
    """Return the images of a folder whose names fit a pattern, sorted by name.

    Raises
    ------
    DataProblem
        If there are none.
    """
    files = sorted(p for p in Path(folder).glob(names) if p.suffix.lower() in _EXTENSIONS)
    if not files:
        raise DataProblem("there are no images in this folder", where=str(folder))
    return files


def show_boxes(
    images: str | Path, labels: Mapping[str, str | Path], *, count: int = 6, columns: int = 2
) -> Picture:
    """Draw the same images once for each set of labels.

    Parameters
    ----------
    images
        Folder of images.
    labels
        Title -> folder of KITTI label files. With one entry the images fill a grid; with several, each image gets a row
        and each set a column, so that truth and predictions stand side by side.
    count
        Number of images.
    columns
        Columns of the grid when there is one set.
    """
    from matplotlib import image as mpl_image

    files = find_images(images)[:count]
    if len(labels) == 1:
        title = next(iter(labels))
        cells = [(path, title, labels[title]) for path in files]
    else:
        cells = [(path, title, folder) for path in files for title, folder in labels.items()]
        columns = len(labels)
    height, width = mpl_image.imread(files[0]).shape[:2]
    figure, axes = _grid(len(cells), columns, height / width)
    for axis, (path, title, folder) in zip(axes, cells, strict=False):
        axis.imshow(mpl_image.imread(path), cmap="gray")
        axis.set_title(f"{title}: {path.name}", fontsize=9)
        _draw_boxes(axis, read_boxes(Path(folder) / f"{path.stem}.txt"))
    return Picture(figure)


def _draw_boxes(axis: Any, boxes: Sequence[Box]) -> None:
    from matplotlib.patches import Rectangle

    for box in boxes:
        x1, y1, x2, y2 = box.corners
        colour = CLASS_COLOURS.get(box.name, _OTHER_COLOUR)
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))
        text = box.name if box.confidence is None else f"{box.name} {box.confidence:.2f}"
        axis.text(
            x1, y1 - 2, text, fontsize=6, color="white", va="bottom",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def show_images(folder: str | Path, names: str = "*", *, count: int = 6, columns: int = 2) -> Picture:
    """Draw the images of a folder as they are.

    Parameters
    ----------
    folder
        Folder of images.
    names
        Pattern that their names fit.
    count
        Number of images.
    columns
        Columns of the grid.
    """
    from matplotlib import image as mpl_image

    pictures = [(path.stem, mpl_image.imread(path)) for path in find_images(folder, names)[:count]]
    height, width = pictures[0][1].shape[:2]
    figure, axes = _grid(len(pictures), columns, height / width)
    for axis, (title, pixels) in zip(axes, pictures, strict=False):
        axis.imshow(pixels, cmap="gray")
        axis.set_title(title, fontsize=9)
    return Picture(figure)


def _grid(cells: int, columns: int, aspect: float) -> tuple[Figure, Any]:
    """Return a figure, and the axes of at least so many pictures, whose height is ``aspect`` times their width."""
    from matplotlib.figure import Figure

    rows = -(-cells // columns)
    figure = Figure(figsize=(12, rows * (12 / columns * aspect + 0.3)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def spec_block(path: str | Path, name: str) -> str:
    """Return a block of a spec file, such as ``training_config``, as it is written there.

    Raises
    ------
    DataProblem
        The file has no such block.
    """
    text = Path(path).read_text(encoding="utf-8")
    block = re.search(rf"^{re.escape(name)} *:? *{{.*?^}}", text, flags=re.MULTILINE | re.DOTALL)
    if block is None:
        names = ", ".join(re.findall(r"^(\w+) *:? *{", text, flags=re.MULTILINE))
        raise DataProblem(f"there is no block {name}", where=str(path), hint=f"the blocks are: {names}")
    return block[0]


def plot_training(runs: Mapping[str, Any]) -> Picture:
    """Draw loss and average precision over the epochs.

    Parameters
    ----------
    runs
        Title -> the result of a ``%tao … train``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss_axis, score_axis = figure.subplots(1, 2)
    for title, run in runs.items():
        for axis, names in ((loss_axis, ("loss", "validation_loss")), (score_axis, ("mAP",))):
            for name in names:
                points = [(row["epoch"], row[name]) for row in run.history if name in row]
                if points:
                    style = "--" if name == "validation_loss" else "-"
                    label = f"{title}: {name.replace('_', ' ')}"
                    axis.plot(*zip(*points, strict=True), style, marker=".", label=label)
    loss_axis.set(xlabel="epoch", ylabel="loss", yscale="log", title="Loss: lower is better")
    score_axis.set(
        xlabel="epoch", ylabel="mAP", ylim=(0, 1), title="Mean average precision: higher is better"
    )
    for axis in (loss_axis, score_axis):
        axis.xaxis.get_major_locator().set_params(integer=True)  # there is no epoch 2.5
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return Picture(figure)


#: Columns of the closing table: heading, metric of an ``evaluate`` result, format.
_COLUMNS = (
    ("mAP", "mAP", "{:.3f}"),
    ("parameters", "parameters", "{:,.0f}"),
    ("file (MB)", "model_mb", "{:.2f}"),
    ("ms / image", "ms_per_image", "{:.1f}"),
)


class Comparison:
    """The closing table: what pruning, retraining and exporting did to a model.

    Parameters
    ----------
    results
        Title -> the result of a ``%tao … evaluate``.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.rows = {title: dict(result.metrics) for title, result in results.items()}

    @classmethod
    def from_file(cls, path: str | Path, titles: Sequence[str]) -> Comparison:
        """Return what ``deploy … compare`` found out.

        Parameters
        ----------
        path
            ``comparison.json``.
        titles
            Of the models, in the order of the command.
        """
        models = json.loads(Path(path).read_text(encoding="utf-8"))["models"]
        table = cls({})
        for title, model in zip(titles, models, strict=True):
            metrics = {name: model[name] for name in ("mAP", "parameters")}
            metrics |= {"model_mb": model["size_mb"], "ms_per_image": model["latency_ms"]["median"]}
            table.rows[title] = {name: value for name, value in metrics.items() if value is not None}
        return table

    def _cells(self) -> list[list[str]]:
        head = ["model", *(heading for heading, _, _ in _COLUMNS)]
        body = []
        for title, metrics in self.rows.items():
            values = [form.format(metrics[name]) if name in metrics else "–" for _, name, form in _COLUMNS]
            body.append([title, *values])
        return [head, *body]

    def __str__(self) -> str:
        """Return the table as aligned text."""
        cells = self._cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in cells
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        style = "padding:4px 14px;text-align:right"
        top = "".join(f'<th scope="col" style="{style}">{escape(c)}</th>' for c in head)
        rows = "".join(
            f'<tr><th scope="row" style="padding:4px 14px;text-align:left">{escape(row[0])}</th>'
            + "".join(f'<td style="{style}">{escape(c)}</td>' for c in row[1:])
            + "</tr>"
            for row in body
        )
        return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"
