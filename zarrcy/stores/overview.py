"""What `zarrcy.stores.info` answers."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["StoreInfo"]


class StoreInfo(NamedTuple):
    """What a store is good for: a row of the overview of stores."""

    name: str
    type: str
    persistence: str
    scalability: str
    latency: str
    use: str
