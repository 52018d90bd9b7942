"""What the engine reports while it pulls an image -> :class:`PullProgress`. Pure functions, no clock, no connection."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from taomagic.launcher.containers.api import EngineProblem

#: Seconds over which the speed is measured.
RATE_S = 10.0
_LONGEST_LINE = 1 << 20

LayerState = Literal["waiting", "downloading", "downloaded", "unpacking", "done", "here"]
PullState = Literal["asking", "pulling", "done", "failed", "stopped"]

# The engine's words for a layer -> ours (moby: distribution/xfer, distribution/pull_v2.go).
_LAYER_STATES: Mapping[str, LayerState] = {
    "Pulling fs layer": "waiting",
    "Waiting": "waiting",
    "Downloading": "downloading",
    "Verifying Checksum": "downloaded",
    "Download complete": "downloaded",
    "Extracting": "unpacking",
    "Pull complete": "done",
    "Already exists": "here",
}


@dataclass(frozen=True)
class Layer:
    """One layer of an image.

    Parameters
    ----------
    id
        The first 12 digits of its digest.
    state
        ``here``: it was here before the pull.
    done, total
        Bytes of the download; ``total`` is ``None`` while unknown.
    unpacked
        How much of it is unpacked, 0 to 1; ``None`` where the engine doesn't tell.
    """

    id: str
    state: LayerState = "waiting"
    done: int = 0
    total: int | None = None
    unpacked: float | None = None

    @property
    def fetched(self) -> bool:
        """Whether nothing of it must be downloaded any more."""
        return self.state in {"downloaded", "unpacking", "done", "here"}


@dataclass(frozen=True)
class PullProgress:
    """A pull at one moment.

    Parameters
    ----------
    image
        The image's name.
    state
        ``asking`` the registry, ``pulling``, or how it ended.
    layers
        In the image's order, from the base upwards; empty while unknown.
    done_bytes, total_bytes
        Of the download, without layers that were here before; ``total_bytes`` is what is known so far.
    complete
        Whether the size of every layer is known, so that ``total_bytes`` is the whole download.
    rate
        Bytes a second; ``None`` while unknown.
    eta_s, elapsed_s
        Seconds until the end of the download (``None``: unknown), and since the beginning.
    notes
        Sentences worth showing.
    message
        What the engine last said about the whole image or a difficulty, e.g. ``Retrying in 5 seconds``.
    """

    image: str
    state: PullState = "asking"
    layers: tuple[Layer, ...] = ()
    done_bytes: int = 0
    total_bytes: int = 0
    complete: bool = False
    rate: float | None = None
    eta_s: float | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()
    message: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.state in {"done", "failed", "stopped"}

    @property
    def fraction(self) -> float | None:
        """How much of the download is done, 0 to 1; ``None`` where its size isn't known."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.done_bytes / self.total_bytes) if self.complete and self.total_bytes else None

    @property
    def layers_done(self) -> int:
        """How many layers are ready for use."""
        return sum(layer.state in {"done", "here"} for layer in self.layers)


class PullReader:
    """Reads the engine's report, which comes as JSON lines in blocks of any size.

    Parameters
    ----------
    image
        The image's name.
    sizes
        Download size of every layer (by the first 12 digits of its digest), where the registry has told.
    notes
        Sentences that every progress carries.
    """

    def __init__(
        self, image: str, sizes: Mapping[str, int] | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        self._image = image
        self._notes = notes
        self._held = b""
        self._layers = {name: Layer(name, total=size) for name, size in (sizes or {}).items()}
        self._told = False  # whether the engine has spoken of a layer
        self._message = ""
        self._began: float | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def feed(self, block: bytes, now: float = 0.0) -> None:
        """Take a block of the report in; ``now`` is in monotonic seconds.

        Raises
        ------
        EngineProblem
            The report says that the pull has failed; its status is -1.
        """
        if self._began is None:
            self._began = now
        *lines, self._held = (self._held + block).split(b"\n")
        if len(self._held) > _LONGEST_LINE:
            self._held = b""
        for line in lines:
            self._take(line)
        self._measure(now)

    def close(self) -> None:
        """Take in a last line without its end; raises as :meth:`feed` does."""
        held, self._held = self._held, b""
        self._take(held)

    def progress(self, now: float, state: PullState | Literal[""] = "") -> PullProgress:
        """Return what is known now; ``state`` says how the pull ended, if it has."""
        layers = tuple(self._layers.values())
        wanted = [layer for layer in layers if layer.state != "here"]
        complete = bool(layers) and all(layer.total is not None for layer in wanted)
        total = sum(layer.total or layer.done for layer in wanted)
        done = self._done()
        rate = self._rate()
        left = max(0, total - done)
        return PullProgress(
            image=self._image,
            state=state or ("pulling" if self._told else "asking"),
            layers=layers,
            done_bytes=done,
            total_bytes=total,
            complete=complete,
            rate=rate,
            eta_s=left / rate if complete and rate and not state else None,
            elapsed_s=max(0.0, now - self._began) if self._began is not None else 0.0,
            notes=self._notes,
            message=self._message,
        )

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # an empty line, or what a proxy has put in between
        if not isinstance(entry, dict):
            return
        detail = entry.get("errorDetail")
        error = detail.get("message") if isinstance(detail, dict) else None
        if error or entry.get("error"):
            raise EngineProblem(str(error or entry["error"]), -1)
        status, name = str(entry.get("status") or ""), str(entry.get("id") or "")
        state = _LAYER_STATES.get(status)
        if state is None or not name:
            self._message = f"{name}: {status}" if name in self._layers else status or self._message
            return
        self._update(name, state, entry.get("progressDetail"))

    def _update(self, name: str, state: LayerState, detail: object) -> None:
        self._told = True
        if self._message.startswith(name):
            self._message = ""  # it goes on
        before = self._layers.get(name) or Layer(name)
        done, total, unpacked = before.done, before.total, before.unpacked
        current, whole = _numbers(detail)
        if state == "downloading":
            done = current if current is not None else done
            total = whole or total  # the engine knows best what it fetches
            if total is not None and done > total:
                total = None  # it told nonsense
        elif state == "unpacking":
            unpacked = min(1.0, current / whole) if current is not None and whole else unpacked
        elif state == "done":
            unpacked = 1.0
        layer = Layer(name, state, done, total, unpacked)
        if layer.fetched and state != "here":
            # A small layer may come without any progress.
            size = total if total is not None else done
            layer = Layer(name, state, size, size, unpacked)
        self._layers[name] = layer

    def _done(self) -> int:
        return sum(layer.done for layer in self._layers.values() if layer.state != "here")

    def _measure(self, now: float) -> None:
        done = self._done()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()  # a download began again
        if not self._samples or now - self._samples[-1][0] >= 0.1:
            self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_S:
            self._samples.popleft()

    def _rate(self) -> float | None:
        if len(self._samples) < 2:
            return None
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - begin) if end - begin >= 0.5 and after > before else None


def _numbers(detail: object) -> tuple[int | None, int | None]:
    """Return how much is done and the total, as far as they are there; an engine on containerd counts seconds."""
    if not isinstance(detail, dict) or detail.get("units"):
        return None, None
    return _count(detail, "current"), _count(detail, "total")


def _count(detail: Mapping[str, Any], name: str) -> int | None:
    value = detail.get(name)
    return int(value) if isinstance(value, (int, float)) and value >= 0 else None
