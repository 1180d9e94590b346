"""What a call costs beside another one, in processor time, on a machine that does other work too."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["ratio"]


def ratio(ours: Callable[[int], object], theirs: Callable[[int], object], bar: float, n_calls: int = 50) -> float:
    """The least of many rounds of one over that of the other, in turn, as other work can only add to one.

    Parameters
    ----------
    ours, theirs : callable
        Take a number below 8.
    bar : float
        Stop when the ratio is not above it.
    n_calls : int, default 50
        Calls in a round.
    """
    least = [float("inf"), float("inf")]
    for n_rounds in range(200):
        for number, call in enumerate((ours, theirs)):
            begin = time.process_time()
            for i in range(n_calls):
                call(i % 8)
            least[number] = min(least[number], time.process_time() - begin)
        if least[0] <= bar * least[1] and n_rounds > 10:
            break
    return least[0] / least[1]
