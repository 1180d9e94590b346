"""What the stores of one container share: its client, and what they learn about the service together."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from zarrcy.stores.clock import Clock
from zarrcy.stores.object_client import ObjectClient
from zarrcy.stores.retry import Pace
from zarrcy.stores.shared_clients import SharedClient

__all__ = ["ObjectService"]

TURN_SECONDS = 10.0


class ObjectService(SharedClient[ObjectClient]):
    """The client of a container.

    Attributes
    ----------
    conditions : dict
        By what a `Condition` asks for (``"absent"``, ``"version"``): whether the service obeys it.
    """

    def __init__(self, key: Hashable, client: ObjectClient) -> None:
        super().__init__(key, client, TURN_SECONDS)
        self.conditions: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, int], Pace] = {}

    def pace(self, prefix: str, clock: Clock) -> Pace:
        """How fast requests below a prefix are sent: services count them by prefix."""
        with self._lock:
            return self._paces.setdefault((prefix, id(clock)), Pace(clock))
