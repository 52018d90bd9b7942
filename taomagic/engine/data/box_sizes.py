"""An even sample of the sizes of the boxes in a data set, small enough to be recorded and drawn."""

from __future__ import annotations

#: The most sizes kept, of all classes together.
LIMIT = 600


class BoxSizes:
    """Keeps every n-th box of each class; n doubles as often as the room is used up.

    The sample is even over the data set, the same at every conversion, and needs no second look at the data.

    Parameters
    ----------
    classes
        How many classes share the room; each has at least 20 places.
    """

    def __init__(self, classes: int) -> None:
        self._room = max(20, LIMIT // max(classes, 1))
        self._kept: dict[str, list[tuple[float, float]]] = {}
        self._seen: dict[str, int] = {}
        self._step: dict[str, int] = {}

    def add(self, name: str, width: float, height: float) -> None:
        """Take the next box of a class, in pixels of its image."""
        seen, step = self._seen.get(name, 0), self._step.get(name, 1)
        self._seen[name] = seen + 1
        if seen % step:
            return
        kept = self._kept.setdefault(name, [])
        if len(kept) == self._room:
            del kept[1::2]
            self._step[name] = step = 2 * step
            if seen % step:
                return
        kept.append((round(width, 1), round(height, 1)))

    def sample(self) -> dict[str, list[tuple[float, float]]]:
        """Return ``(width, height)`` in pixels by class, classes in the order of their first box."""
        return {name: list(kept) for name, kept in self._kept.items()}
