"""How long the calls of a `zarrcy.stores.mock.MockStore` take: a number of seconds, or a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

__all__ = ["Distribution", "Exponential", "LogNormal", "Uniform", "seconds_of"]


class Distribution(Protocol):
    """How long calls take: any object with this method."""

    def sample(self, random: Random) -> float:
        """Seconds, drawn with `random`."""


@dataclass(frozen=True)
class Uniform:
    """From `low` to `high` seconds, each as likely.

    Examples
    --------
    >>> from random import Random
    >>> 0.1 <= Uniform(0.1, 0.2).sample(Random(1)) <= 0.2
    True
    """

    low: float
    high: float

    def sample(self, random: Random) -> float:
        """Seconds, drawn with `random`."""
        return random.uniform(self.low, self.high)


@dataclass(frozen=True)
class Exponential:
    """`mean` seconds on average, often less and sometimes much more.

    Examples
    --------
    >>> from random import Random
    >>> Exponential(0.1).sample(Random(1)) > 0
    True
    """

    mean: float

    def sample(self, random: Random) -> float:
        """Seconds, drawn with `random`."""
        return random.expovariate(1 / self.mean)


@dataclass(frozen=True)
class LogNormal:
    """Half of the calls take less than `median` seconds; the larger `sigma`, the longer the tail, as over networks.

    Examples
    --------
    >>> from random import Random
    >>> LogNormal(0.05, sigma=0).sample(Random(1))
    0.05
    """

    median: float
    sigma: float = 0.5

    def sample(self, random: Random) -> float:
        """Seconds, drawn with `random`."""
        return self.median * random.lognormvariate(0, self.sigma)


def seconds_of(latency: float | Distribution, random: Random) -> float:
    """The seconds that one call takes."""
    return float(latency) if isinstance(latency, (int, float)) else latency.sample(random)
