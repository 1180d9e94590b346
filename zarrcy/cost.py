"""What an array costs in a month in a cloud service, by list prices.

The prices are those of one region, in US dollars, before tax and without the discounts and allowances of an account:
good enough to see which part of the bill is large, and what larger chunks would save. Prices of your own go in by
`Prices`.

A GB is 10**9 bytes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

__all__ = ["PRICES", "PRICES_DATE", "Estimate", "Prices", "advise", "estimate"]

GB = 10**9
TB = 1000 * GB

# When the prices below were written down; docs/costs.md says what they were compared with.
PRICES_DATE = "2026-11-25"

# The bytes of a stored chunk for which neither requests nor what is read in vain cost much, and the bounds outside of
# which a warning is worth its line.
GOOD_NBYTES = 1_000_000, 10_000_000
ODD_NBYTES = 250_000, 100_000_000
# What is worth less, in US dollars, is not worth a line.
LEAST_COST = 0.01


class Tier(NamedTuple):
    """Bytes of a month from `begin` on cost `price` for each GB."""

    begin: int
    price: float


@dataclass(frozen=True)
class Prices:
    """The list prices of a service, in US dollars.

    Parameters
    ----------
    region : str
        The region, and the storage class.
    storage : float
        Of one GB for a month.
    put, get, list : float
        Of 1,000 requests.
    egress : sequence of Tier
        Of what leaves the service for the internet, by the bytes of a month.
    free_egress : int
        Bytes that cost nothing in each month of an account, beside the tiers.
    """

    region: str
    storage: float
    put: float
    get: float
    list: float
    egress: Sequence[Tier]
    free_egress: int = 0

    def egress_cost(self, nbytes: float) -> float:
        """What it costs to read so many bytes in a month from outside."""
        total = 0.0
        for tier, following in pairwise([*self.egress, None]):
            if tier is not None and nbytes > tier.begin:
                end = nbytes if following is None else min(nbytes, following.begin)
                total += (end - tier.begin) / GB * tier.price
        return total


PRICES: dict[str, Prices] = {
    "s3": Prices(
        region="us-west-2, Standard",
        storage=0.023,
        put=0.005,
        get=0.0004,
        list=0.005,
        egress=(Tier(0, 0.09), Tier(10 * TB, 0.085), Tier(50 * TB, 0.07), Tier(150 * TB, 0.05)),
        free_egress=100 * GB,
    ),
    "gcs": Prices(
        region="us-west1, Standard",
        storage=0.020,
        put=0.005,
        get=0.0004,
        list=0.005,
        egress=(Tier(0, 0.12), Tier(1 * TB, 0.11), Tier(10 * TB, 0.08)),
    ),
    "azure_blob": Prices(
        region="East US, Hot, LRS",
        storage=0.018,
        put=0.0055,
        get=0.00044,
        list=0.0055,
        egress=(Tier(0, 0.087), Tier(10 * TB, 0.083), Tier(50 * TB, 0.07), Tier(150 * TB, 0.05)),
        free_egress=100 * GB,
    ),
}


@dataclass(frozen=True)
class Estimate:
    """What an array costs in a month, in US dollars; ``str()`` shows it line by line.

    Attributes
    ----------
    service : str
    prices_of : str
        The region and the date of the prices.
    storage, put, get, list, egress : float
    """

    service: str
    prices_of: str
    storage: float
    put: float
    get: float
    list: float
    egress: float

    @property
    def total(self) -> float:
        """The sum of all."""
        return self.storage + self.put + self.get + self.list + self.egress

    def __str__(self) -> str:
        names = ("storage", "put", "get", "list", "egress", "total")
        lines = [f"{name:8}{getattr(self, name):12.3f}" for name in names]
        return "\n".join([f"US$ a month, {self.service}, {self.prices_of}", *lines])


def estimate(
    service: str,
    *,
    nbytes: float,
    n_objects: float,
    writes: float = 1.0,
    reads: float = 0.0,
    listings: float = 0.0,
    free_egress: bool = False,
    prices: Prices | None = None,
) -> Estimate:
    """What an array costs in a month.

    Parameters
    ----------
    service : {"s3", "gcs", "azure_blob"} or str
        The service; another one with `prices`.
    nbytes : float
        Stored bytes, compressed.
    n_objects : float
        Stored chunks, or shards.
    writes : float, default 1.0
        How often all of it is written in the month.
    reads : float, default 0.0
        How often all of it is read in the month, from outside of the service's network.
    listings : float, default 0.0
        How often all keys are listed; 1,000 come in one request.
    free_egress : bool, default False
        Whether the bytes that an account reads for nothing in a month are left for this array.
    prices : Prices, optional
        Others than the list prices.

    Returns
    -------
    Estimate
        In US dollars.

    Raises
    ------
    ValueError
        A service without prices, or a number below zero.

    Examples
    --------
    100 GB, of which compression leaves 40, in 5,000 chunks of 8 MB, written once and read ten times:

    >>> import zarrcy.cost
    >>> print(zarrcy.cost.estimate("s3", nbytes=40e9, n_objects=5000, reads=10))
    US$ a month, s3, us-west-2, Standard, list prices of 2026-11-25
    storage        0.920
    put            0.025
    get            0.020
    list           0.000
    egress        36.000
    total         36.965
    """
    if service not in PRICES and prices is None:
        raise ValueError(f"service: expected one of {', '.join(PRICES)}, got {service!r}")
    numbers = {"nbytes": nbytes, "n_objects": n_objects, "writes": writes, "reads": reads, "listings": listings}
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")
    prices_of = f"{PRICES[service].region}, list prices of {PRICES_DATE}" if prices is None else prices.region
    prices = PRICES[service] if prices is None else prices
    allowed = prices.free_egress if free_egress else 0
    return Estimate(
        service=service,
        prices_of=prices_of,
        storage=nbytes / GB * prices.storage,
        put=n_objects * writes / 1000 * prices.put,
        get=n_objects * reads / 1000 * prices.get,
        list=-(-n_objects // 1000) * listings / 1000 * prices.list,
        egress=prices.egress_cost(max(nbytes * reads - allowed, 0)),
    )


def advise(service: str, *, chunk_nbytes: float, n_objects: float) -> str | None:
    """What is to be said of the size of chunks in a service; ``None`` when it is fine.

    Parameters
    ----------
    service : {"s3", "gcs", "azure_blob"}
        The service.
    chunk_nbytes : float
        Bytes of one object.
    n_objects : float
        How many there are.

    Examples
    --------
    >>> import zarrcy.cost
    >>> print(zarrcy.cost.advise("s3", chunk_nbytes=80_000, n_objects=150_000))
    150,000 chunks of 0.08 MB: writing all costs US$ 0.75 and reading all US$ 0.06 in requests; at 8 MB, 1 % of that
    """
    small, large = ODD_NBYTES
    if chunk_nbytes > large:
        price = estimate(service, nbytes=chunk_nbytes, n_objects=1, reads=1).egress
        return (
            f"chunks of {chunk_nbytes / 1e6:.0f} MB: one item read from outside costs US$ {price:.2f}, for all of its "
            "chunk; 1 to 10 MB fit better, or shards"
        )
    once = estimate(service, nbytes=0, n_objects=n_objects, reads=1)
    if chunk_nbytes >= small or once.put < LEAST_COST:
        return None
    return (
        f"{n_objects:,.0f} chunks of {chunk_nbytes / 1e6:.2g} MB: writing all costs US$ {once.put:.2f} and reading all "
        f"US$ {once.get:.2f} in requests; at 8 MB, {chunk_nbytes / 8e6:.0%} of that".replace("%", " %")
    )
