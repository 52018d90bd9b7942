"""How long several things take, measured so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

#: All are measured in so many rounds, so that what else the machine does hits all alike.
ROUNDS: Final = 5
#: Runs in a row, at least and at most; in between, as many as fit into the time.
RUNS: Final = (3, 12)
_SECONDS: Final = 0.3
#: Threads of the one that ran before wait busily for more work, and would keep the processor from the next one.
_REST_S: Final = 0.25


def in_turn(things: Sequence[Callable[[], Any]], *, rounds: int = ROUNDS) -> list[list[float]]:
    """Return the seconds that each run of each thing took.

    Parameters
    ----------
    things
        Called without arguments. The first run of each round isn't counted.
    rounds
        How often all of them have their turn.
    """
    taken: list[list[float]] = [[] for _ in things]
    for _ in range(rounds):
        for thing, seconds in zip(things, taken, strict=True):
            time.sleep(_REST_S)
            thing()
            least, most = RUNS
            start = time.perf_counter()
            for count in range(most):
                begin = time.perf_counter()
                if count >= least and begin - start > _SECONDS:
                    break
                thing()
                seconds.append(time.perf_counter() - begin)
    return taken
