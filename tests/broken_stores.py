"""Stores that break a promise, to see that the tests over every store notice it."""

import os
import time
from pathlib import Path

from zarrcy.stores.filesystem import FilesystemStore


class TornStore(FilesystemStore):
    """It writes into the file that readers see, half by half."""

    def set(self, key, value):
        path = Path(self.path, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = memoryview(value).tobytes()
        with path.open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            time.sleep(0.002)
            file.write(data[len(data) // 2 :])


class LateStore(FilesystemStore):
    """It acknowledges a value and writes it with the next one."""

    def set(self, key, value):
        waiting, self.waiting = getattr(self, "waiting", None), (key, bytes(value))
        if waiting is not None:
            super().set(*waiting)


class LitteringStore(FilesystemStore):
    """It lists the temporary files of killed writers."""

    def list_prefix(self, prefix=""):
        for folder, _, names in os.walk(self.path):
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self.path)


class LossyStore(FilesystemStore):
    """It says that it compares, and only swaps."""

    def set_if(self, key, value, version):
        self.set(key, value)
        return self.get_with_version(key)[1]
