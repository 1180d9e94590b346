"""The entries of a cache: where they lie in a store, what is in them, and how their bytes stay within a bound."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from zarrcy.errors import StoreError
from zarrcy.stores.store import Buffer, Store

__all__ = ["Entries", "Entry"]

# What an entry begins with: these letters, a CRC-32 of what follows, the time, the length of the version.
HEADER = struct.Struct("<4sIdI")
LETTERS = b"zc1\n"

# The key that holds a number of passes and an upper bound of the bytes: ``b"7 123456"``.
RECORD = "nbytes"

# When it is full, entries are dropped until this share is left; so much more is for values that are on their way.
KEPT, SLACK = 3 / 4, 1 / 8
# The largest value that is kept, as a share of the bound.
LARGEST = 1 / 64


class Entry(NamedTuple):
    """A value that was read, the `repr` of its version, and when that was, in seconds since 1970."""

    value: Buffer
    version: str | None
    time: float


class NoRoomError(Exception):
    """There is no room."""


class Entries:
    """The entries in one store.

    Bytes are reserved, in the record, before an entry is written, so that they stay within the bound between processes
    and a killed one can only leave too much reserved. The process that finds no room lists the entries, drops those
    that were used longest ago, and writes down what is left.
    """

    def __init__(self, cache: Store, max_nbytes: int) -> None:
        self.cache = cache
        self.max_nbytes = max_nbytes
        self.n_evicted = self.n_failed = 0
        # The places this process knows, that which was used last at the end.
        self._used: dict[str, None] = {}
        self._is_prepared = False
        self.lock = threading.Lock()
        self.pass_lock = threading.Lock()

    def place(self, space: bytes, key: str, part: slice | None) -> str:
        """Where the entry of a value, or of a part of it, lies."""
        if part is None:
            return self._folder(space, key) + "all"
        start, stop = ("" if bound is None else f"{bound:d}" for bound in (part.start, part.stop))
        return f"{self._folder(space, key)}{start}_{stop}"

    def _folder(self, space: bytes, key: str) -> str:
        digest = blake2b(b"%d %b%b" % (len(space), space, key.encode()), digest_size=20).hexdigest()
        return f"{digest[:2]}/{digest[2:]}/"

    def read(self, place: str) -> Entry | None:
        """The entry, if there is one, and it is whole."""
        try:
            self._prepare()
            data = self.cache.get(place)
        except StoreError:
            self.n_failed += 1
            return None
        if data is None:
            return None
        with self.lock:
            self._used.pop(place, None)
            self._used[place] = None
        return decode(data)

    def write(self, place: str, entry: Entry) -> None:
        """Keep an entry, if there is room for one of its size."""
        data = encode(entry)
        if len(data) > self.max_nbytes * LARGEST:
            return
        try:
            self._prepare()
            if self._reserve(len(data)):
                self.cache.set(place, data)
        except StoreError:
            # A full disk, say: reading goes on without.
            self.n_failed += 1
            return
        with self.lock:
            self._used.pop(place, None)
            self._used[place] = None

    def drop(self, place: str) -> None:
        """Delete an entry."""
        self._prepare()
        self.cache.delete(place)

    def forget(self, space: bytes, key: str) -> None:
        """Delete every entry of a key."""
        self._prepare()
        self.cache.delete_prefix(self._folder(space, key))

    def clear(self) -> None:
        """Delete all entries."""
        self._prepare()
        for place in list(self._places()):
            self.cache.delete(place)

    def nbytes(self) -> int:
        """The bytes of all entries."""
        self._prepare()
        return sum(self.cache.size(place) or 0 for place in self._places())

    def _places(self) -> Iterator[str]:
        return (place for place in self.cache.list_prefix() if place != RECORD)

    def _prepare(self) -> None:
        if not self._is_prepared:
            self.cache.prepare()
        self._is_prepared = True

    def _reserve(self, n: int) -> bool:
        def add(record: Buffer | None) -> bytes:
            n_passes, nbytes = parse(record)
            if nbytes + n > self.max_nbytes:
                raise NoRoomError
            return b"%d %d" % (n_passes, nbytes + n)

        for _ in range(3):
            try:
                self.cache.update(RECORD, add)
                return True
            except NoRoomError:
                self._make_room()
        return False

    def _make_room(self) -> None:
        with self.pass_lock:
            n_passes, reserved = parse(self.cache.get(RECORD))
            if reserved <= (KEPT + SLACK) * self.max_nbytes:
                return  # another thread or process has just made it
            sizes = {place: self.cache.size(place) or 0 for place in self._places()}
            with self.lock:
                self._used = {place: None for place in self._used if place in sizes}
                self._used.update(dict.fromkeys(sizes))
                places = list(self._used)
            nbytes = sum(sizes.values())
            for place in places:
                if nbytes <= KEPT * self.max_nbytes:
                    break
                self.cache.delete(place)
                nbytes -= sizes.get(place, 0)
                self.n_evicted += 1

            def write_down(record: Buffer | None) -> bytes:
                n_now, reserved_now = parse(record)
                if n_now != n_passes:
                    return b"%d %d" % (n_now, reserved_now)  # another process has done the same meanwhile
                left = nbytes + int(SLACK * self.max_nbytes) + reserved_now - reserved
                return b"%d %d" % (n_passes + 1, left)

            self.cache.update(RECORD, write_down)


def parse(record: Buffer | None) -> tuple[int, int]:
    """The passes and the bytes that the record holds; of one that is damaged, so many that they are counted anew."""
    if record is None:
        return 0, 0
    numbers = bytes(record).split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return 0, 1 << 62
    return int(numbers[0]), int(numbers[1])


def encode(entry: Entry) -> bytes:
    version = b"" if entry.version is None else entry.version.encode()
    rest = b"".join([struct.pack("<dI", entry.time, len(version)), version, memoryview(entry.value).cast("B")])
    return b"".join([LETTERS, struct.pack("<I", zlib.crc32(rest)), rest])


def decode(data: Buffer) -> Entry | None:
    """The entry, or `None` for what is none, or damaged."""
    view = memoryview(data)
    if len(view) < HEADER.size:
        return None
    letters, checksum, time, n = HEADER.unpack_from(view)
    if letters != LETTERS or zlib.crc32(view[8:]) != checksum:
        return None
    version = bytes(view[HEADER.size : HEADER.size + n]).decode()
    return Entry(view[HEADER.size + n :], version or None, time)
