"""TensorBoard: what ``visualizer`` in the spec asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from taomagic.engine.data.loading import Batch

#: [H, W, 3], red first.
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BoardSettings:
    """What TensorBoard is to show.

    Attributes
    ----------
    num_images
        Images of a batch to draw.
    weight_histograms
        Whether to show how the weights of each layer are distributed.
    step_interval
        Steps between two points of a curve.
    image_interval
        Epochs between two rounds of images and histograms, from the first epoch on.
    red_first
        The order of the channels.
    """

    num_images: int
    weight_histograms: bool = False
    step_interval: int = 1
    image_interval: int = 1
    red_first: bool = False


class TensorBoard:
    """Writes events under ``<results_dir>/events``; without settings every method does nothing.

    Parameters
    ----------
    settings
        As the spec's ``visualizer`` says; ``None`` where it isn't enabled.
    writer
        ``None`` where nothing is to be written.
    """

    def __init__(self, settings: BoardSettings | None, writer: SummaryWriter | None) -> None:
        self._settings = settings
        self._writer = writer
        self._shown: Tensor | None = None

    @classmethod
    def open(cls, settings: BoardSettings | None, results_dir: Path, classes: tuple[str, ...]) -> TensorBoard:
        """Open the event file if the spec enables it; ``classes`` are written once, as a legend for the images."""
        if settings is None:
            return cls(settings, None)
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(results_dir / "events"))
        writer.add_text("classes", ", ".join(classes))
        return cls(settings, writer)

    def step(self, global_step: int, loss: float, learning_rate: float) -> None:
        """Record a step, counted from the training's very first one."""
        if self._writer is not None and self._settings is not None:
            if global_step % self._settings.step_interval:
                return
            self._writer.add_scalar("loss", loss, global_step)
            self._writer.add_scalar("lr", learning_rate, global_step)

    def watch(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        """Pass batches on; draw the first one of an epoch whose turn it is with its boxes, up to ``num_images``."""
        for index, batch in enumerate(batches):
            if index == 0 and self._settings is not None and self._has_images(epoch):
                count = min(self._settings.num_images, len(batch.names))
                # The memory of a batch may be used again for a later one.
                self._shown = batch.images[:count].clone() if count else None
                red_first = self._settings.red_first
                pictures = [_draw(batch, i, red_first=red_first) for i in range(count)]
                self._add("batch_imgs", pictures, epoch)
            yield batch

    def predictions(self, draw: Callable[[Tensor], Sequence[Picture]], epoch: int) -> None:
        """Show what the network says after an epoch about the images that :meth:`watch` has drawn.

        Parameters
        ----------
        draw
            Returns a picture for each image of [N, C, H, W].
        epoch
            1-based.
        """
        images, self._shown = self._shown, None
        if images is not None:
            self._add("predictions", draw(images), epoch)

    def _has_images(self, epoch: int) -> bool:
        return self._settings is not None and (epoch - 1) % self._settings.image_interval == 0

    def _add(self, tag: str, pictures: Sequence[Picture], epoch: int) -> None:
        if self._writer is None or self._writer.file_writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        for i, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            # Not by add_image: it takes ten times as long for its PNG.
            png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
            value = Summary.Value(tag=f"{tag}/{i}", image=image)
            self._writer.file_writer.add_summary(Summary(value=[value]), epoch)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an evaluated epoch."""
        if self._writer is None:
            return
        for name, value in metrics.items():
            if name.startswith("AP_") or name in {"mAP", "validation_loss"}:
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def histograms(self, model: nn.Module, epoch: int) -> None:
        """Record how the weights of each layer are distributed after an epoch whose turn it is, where asked for."""
        if self._writer is None or self._settings is None or not self._settings.weight_histograms:
            return
        if not self._has_images(epoch):
            return
        for name, parameter in model.named_parameters():
            self._writer.add_histogram(name, parameter.detach().cpu(), epoch)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _draw(batch: Batch, index: int, *, red_first: bool) -> Picture:
    """Return one image of a batch [H, W, 3] uint8 RGB with its boxes in red."""
    # The mean is not needed exactly: stretching to 0..255 shows the augmentation just as well, for colour and grey.
    planes = batch.images[index].numpy().transpose(1, 2, 0)
    low, high = float(planes.min()), float(planes.max())
    image = ((planes - low) * (255.0 / max(1.0, high - low))).astype(np.uint8)
    if image.shape[2] == 3:
        rgb = np.ascontiguousarray(image if red_first else image[..., ::-1])
    else:
        rgb = np.repeat(image, 3, axis=2)
    for box, label in zip(batch.boxes[index], batch.labels[index], strict=True):
        if int(label) > 0:
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(rgb, (x1, y1), (x2, y2), (255, 0, 0), 1)
    return np.asarray(rgb, dtype=np.uint8)
