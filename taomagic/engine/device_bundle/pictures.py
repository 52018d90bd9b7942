"""Pictures: of files, folders and cameras, as the network sees them, and with boxes.

Lies in the folder beside ``run.py``. Needs NumPy and Pillow; a camera needs OpenCV. Python 3.6 or newer.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Found = list[tuple[str, tuple[int, int, int], list[float], float]]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
LANCZOS = 1  # Image.LANCZOS or Image.Resampling.LANCZOS, as Pillow's releases call it


def prepare(picture: Image.Image, config: "dict[str, Any]") -> "Images":
    """Return what the network sees of a picture, [N, C, H, W] float32; its shape isn't kept."""
    wanted = config["input"]
    small = picture.resize((wanted["width"], wanted["height"]), LANCZOS)
    levels = np.asarray(small.convert("L") if wanted["colours"] == "grey" else small, np.float32)
    levels = levels.reshape(wanted["height"], wanted["width"], -1)
    if wanted["colours"] == "BGR":
        levels = levels[:, :, ::-1]
    seen = (levels - np.array(wanted["mean"], np.float32)) * np.float32(wanted["scale"])
    return np.repeat(np.ascontiguousarray(seen.transpose(2, 0, 1))[None], wanted["batch"], axis=0)


def read_picture(path: Path) -> Image.Image:
    """Return a picture in colour; of one with 16 bits the upper eight count."""
    with Image.open(str(path)) as picture:
        if picture.mode.startswith("I"):
            return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
        return picture.convert("RGB")


def take(source: str, frames: int) -> "Iterator[tuple[str, Image.Image]]":
    """Yield names and pictures, of an image, a folder, or a camera (camera:0, or any address that OpenCV opens)."""
    if source.startswith("camera:"):
        yield from camera(source[len("camera:") :], frames)
        return
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [each for each in files if each.suffix.lower() in SUFFIXES and each.is_file()]
    if not files:
        raise SystemExit(
            f"{source}: there is no such picture, or folder with pictures ({', '.join(SUFFIXES)})"
        )
    if len({each.stem for each in files}) < len(files):
        raise SystemExit(f"{source}: two pictures differ in their ending only, and would share a label file")
    for each in files:
        try:
            picture = read_picture(each)
        except (OSError, ValueError) as error:
            print(f"{each.name}: skipped, it can't be read ({error})", file=sys.stderr)
        else:
            yield each.name, picture


def camera(address: str, frames: int) -> "Iterator[tuple[str, Image.Image]]":
    """Yield pictures of a camera until there are enough (0: until Ctrl-C)."""
    try:
        import cv2
    except ImportError:
        raise SystemExit(
            "A camera needs OpenCV: sudo apt install python3-opencv. Pictures do without it."
        ) from None
    device = cv2.VideoCapture(int(address) if address.isdigit() else address)
    if not device.isOpened():
        raise SystemExit(f"camera:{address} can't be opened: is it connected, and used by nobody else?")
    number = 0
    try:
        while frames == 0 or number < frames:
            there, frame = device.read()
            if not there:
                raise SystemExit(f"camera:{address} gives no more pictures")
            number += 1
            yield f"frame_{number:06d}.jpg", Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1]))
    finally:
        device.release()


def draw(picture: Image.Image, found: "Found") -> None:
    """Draw boxes and names into a picture."""
    canvas = ImageDraw.Draw(picture)
    for name, colour, (x1, y1, x2, y2), score in found:
        text, base = f"{name} {score:.2f}", max(y1 - 12, 0)
        canvas.rectangle([x1, y1, x2, y2], outline=colour)
        canvas.rectangle([x1, base, x1 + 6 * len(text) + 4, base + 12], fill=colour)
        canvas.text((x1 + 2, base), text, fill=(0, 0, 0) if sum(colour) > 400 else (255, 255, 255))
