"""An open ZIP archive: values read from their places."""

from __future__ import annotations

import itertools
import os
import zlib
from bisect import bisect_left
from pathlib import Path

from zarrcy.errors import ChecksumError, CodecError, PermissionDeniedError, StoreError
from zarrcy.stores.store import Buffer, resolve_part
from zarrcy.stores.zip_directory import (
    DEFLATED,
    LOCAL,
    LOCAL_SIGNATURE,
    STORED,
    Directory,
    Entry,
    name_bytes,
    read_directory,
)

__all__ = ["ENCRYPTED", "Archive", "File", "after_slash", "bytes_view", "open_archive", "storage_error"]

ENCRYPTED = 1
# No stream of deflate is shorter than a 1032nd of what it stands for (RFC 1951: 258 bytes in two bits).
MAX_DEFLATE_RATIO = 1032

_generations = itertools.count(1)


def storage_error(error: OSError, url: str, key: str | None = None) -> StoreError:
    """The typed error for what the operating system said."""
    import errno

    code = errno.errorcode.get(error.errno or 0, "eio").lower()
    message = f"{error.strerror or error} ({error.filename})" if error.filename else str(error.strerror or error)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PermissionDeniedError(
            message, store=url, key=key, code=code, hint="Check the permissions of the file and its directory."
        )
    return StoreError(message, store=url, key=key, code=code)


def bytes_view(value: Buffer) -> memoryview:
    """The bytes of a value in C order: a view where they are contiguous, else a copy."""
    view = memoryview(value)
    try:
        return view.cast("B")
    except (TypeError, ValueError, NotImplementedError):
        return memoryview(view.tobytes())


class File:
    """A descriptor that is closed when its last user lets go of it: a store may be closed while a thread reads."""

    def __init__(self, fd: int, url: str) -> None:
        self.fd = fd
        self.url = url

    def __del__(self) -> None:
        os.close(self.fd)

    def nbytes(self) -> int:
        return os.fstat(self.fd).st_size

    def read(self, offset: int, n: int) -> bytes:
        """Exactly `n` bytes from `offset`."""
        try:
            data = os.pread(self.fd, n, offset)
            while len(data) < n:
                more = os.pread(self.fd, n - len(data), offset + len(data))
                if not more:
                    raise StoreError(
                        f"expected {n} bytes at {offset}, got {len(data)}: the file was cut", store=self.url, code="cut"
                    )
                data += more
        except StoreError:
            raise
        except OSError as error:
            raise storage_error(error, self.url) from error
        return data

    def write(self, offset: int, pieces: list[bytes | memoryview]) -> None:
        """Write all the pieces, one behind the other, from `offset`."""
        nbytes = sum(map(len, pieces))
        written = os.pwritev(self.fd, pieces, offset)
        while written < nbytes:
            skip, rest = written, []
            for piece in pieces:
                rest.append(memoryview(piece)[skip:])
                skip = max(skip - len(piece), 0)
            written += os.pwritev(self.fd, rest, offset + written)


class Archive:
    """An archive that is open for reading, as its last directory says."""

    def __init__(self, file: File, directory: Directory) -> None:
        self.file = file
        self.url = file.url
        self.entries = directory.entries
        self.others = directory.others
        self.generation = next(_generations)
        self._stop = directory.start
        self._value_offsets: dict[int, int] = {}
        self._n_changes = 0
        self._sorted: tuple[int, list[str]] = (-1, [])

    def entry(self, key: str) -> Entry | None:
        row = self.entries.get(key)
        return None if row is None else Entry._make(row)

    def named_entries(self) -> list[tuple[str, Entry]]:
        return [(key, Entry._make(row)) for key, row in self.entries.items()]

    def version(self, entry: Entry) -> tuple[int, int]:
        """An archive only grows, so an offset is never used again."""
        return self.generation, entry.offset

    def keys(self) -> list[str]:
        """Every key, sorted."""
        n_changes = self._n_changes
        if self._sorted[0] != n_changes:
            # A copy first, in one step: another thread may be writing.
            self._sorted = n_changes, sorted(self.entries.copy())
        return self._sorted[1]

    def below(self, prefix: str) -> tuple[list[str], int, int]:
        """The sorted keys, and the range of those that start with `prefix`."""
        keys = self.keys()
        if not prefix:
            return keys, 0, len(keys)
        return keys, bisect_left(keys, prefix), bisect_left(keys, after_slash(prefix))

    def get(self, key: str, entry: Entry, part: slice | None) -> Buffer:
        """The value of an entry, or a part of it. The checksum is compared when the whole value is read."""
        if entry.flags & ENCRYPTED or entry.method not in (STORED, DEFLATED):
            what = "an encrypted one" if entry.flags & ENCRYPTED else f"compression method {entry.method}"
            raise StoreError(
                f"expected a stored or deflated entry, got {what}", store=self.url, key=key, code="unsupported"
            )
        start, n = (0, entry.nbytes) if part is None else resolve_part(part, entry.nbytes)
        whole = n == entry.nbytes
        if n == 0 and not whole:
            return b""
        offset = self.value_offset(key, entry)
        value: Buffer
        if entry.method == STORED:
            if entry.stored_nbytes != entry.nbytes:
                lengths = f"{entry.nbytes} bytes, got {entry.stored_nbytes}"
                raise StoreError(f"expected a stored entry of {lengths}", store=self.url, key=key, code="corrupt_entry")
            value = self.file.read(offset + start, n)
        else:
            value = self._inflate(key, entry, offset, start + n, whole)[start:]
        if whole and zlib.crc32(value) != entry.crc:
            raise ChecksumError(
                f"expected CRC-32 {entry.crc:08x}, got {zlib.crc32(value):08x}",
                store=self.url,
                key=key,
                code="checksum",
            )
        return value

    def value_offset(self, key: str, entry: Entry) -> int:
        """Where the bytes of an entry start: behind its local header, whose length only it knows."""
        offset = self._value_offsets.get(entry.offset)
        if offset is None:
            name = name_bytes(key, entry)
            header = self.file.read(entry.offset, LOCAL.size + len(name))
            fields = LOCAL.unpack_from(header)
            offset = entry.offset + LOCAL.size + fields[-2] + fields[-1]
            if (
                fields[0] != LOCAL_SIGNATURE
                or header[LOCAL.size :] != name
                or offset + entry.stored_nbytes > self._stop
            ):
                raise StoreError(
                    f"expected the local header of this key at {entry.offset}, got other bytes",
                    store=self.url,
                    key=key,
                    code="corrupt_entry",
                )
            self._value_offsets[entry.offset] = offset
        return offset

    def _inflate(self, key: str, entry: Entry, offset: int, stop: int, whole: bool) -> bytes:
        """The first `stop` bytes of a deflated entry; never more than the directory promises."""
        if entry.nbytes > (entry.stored_nbytes + 1) * MAX_DEFLATE_RATIO:
            lengths = f"{entry.nbytes} bytes out of {entry.stored_nbytes}"
            raise StoreError(
                f"expected a length that deflate can reach, got {lengths}", store=self.url, key=key, code="bomb"
            )
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                self.file.read(offset, entry.stored_nbytes), stop + whole
            )
        except zlib.error as error:
            raise CodecError(
                f"expected a deflate stream, got {error}", store=self.url, key=key, codec="deflate"
            ) from error
        if len(data) != stop:
            got = f"expected {entry.nbytes} bytes, got {'more' if len(data) > stop else len(data)}"
            raise CodecError(got, store=self.url, key=key, codec="deflate")
        return data


def after_slash(prefix: str) -> str:
    """The first text behind everything that starts with `prefix`, which ends in ``"/"``."""
    return prefix[:-1] + chr(ord("/") + 1)


def open_archive(path: Path, url: str) -> Archive:
    """Open an archive for reading."""
    try:
        file = File(os.open(path, os.O_RDONLY | os.O_CLOEXEC), url)
    except OSError as error:
        raise storage_error(error, url) from error
    return Archive(file, read_directory(file.read, file.nbytes(), url))
