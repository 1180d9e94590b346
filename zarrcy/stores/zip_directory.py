"""The central directory of a ZIP archive: found, read and packed.

Source: PKWARE APPNOTE.TXT 6.3.10: sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (end records),
4.4.4 (flags), 4.5.3 (ZIP64).

The last end record whose numbers fit its place decides: it stands directly behind its directory, and the directory is
where the record says. An archive inside a value is shifted and never fits, so the remains of a killed writer hide
nothing. A directory that fits but cannot be read is corruption and raises: an older directory would silently lack keys.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from zarrcy.errors import StoreError
from zarrcy.stores.store import check_key

__all__ = [
    "DEFLATED",
    "EMPTY_ARCHIVE",
    "LOCAL",
    "LOCAL_SIGNATURE",
    "STORED",
    "UTF8_NAME",
    "Directory",
    "EndRecord",
    "Entry",
    "Row",
    "end_records",
    "name_bytes",
    "pack_directory",
    "pack_local_header",
    "parse_directory",
    "read_directory",
]

STORED = 0
DEFLATED = 8

UTF8_NAME = 0x800
LOCAL_SIGNATURE = b"PK\x03\x04"
CENTRAL_SIGNATURE = b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
END64_SIGNATURE = b"PK\x06\x06"
LOCATOR_SIGNATURE = b"PK\x06\x07"

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
END64 = struct.Struct("<4sQHHIIQQQQ")
LOCATOR = struct.Struct("<4sIQI")

EMPTY_ARCHIVE = END.pack(END_SIGNATURE, 0, 0, 0, 0, 0, 0, 0)

MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
VERSION, VERSION64 = 20, 45
MADE_ON_UNIX = 3 << 8
REGULAR_FILE_0644 = 0o100644 << 16
# 1980-01-01 00:00:00, the first moment that the format knows: equal contents make equal archives.
TIME, DATE = 0, (1 << 5) | 1

# A hostile file of nothing but signatures must not keep the search busy.
MAX_CANDIDATES = 1 << 14

_CENTRAL_ROW = np.dtype(
    [
        ("signature", "S4"),
        ("made_by", "<u2"),
        ("needed", "<u2"),
        ("flags", "<u2"),
        ("method", "<u2"),
        ("time", "<u2"),
        ("date", "<u2"),
        ("crc", "<u4"),
        ("stored_nbytes", "<u4"),
        ("nbytes", "<u4"),
        ("n_name", "<u2"),
        ("n_extra", "<u2"),
        ("n_comment", "<u2"),
        ("disk", "<u2"),
        ("internal", "<u2"),
        ("external", "<u4"),
        ("offset", "<u4"),
    ]
)
# In names joined by line feeds: a segment that is empty, "." or "..", or a backslash.
_MAYBE_BAD_NAME = re.compile(r"(?m)(?:^|/)\.{0,2}(?:/|$)|\\")

Read = Callable[[int, int], bytes]


class Entry(NamedTuple):
    """Where an entry lies: the offset of its local header, and what the directory says of it."""

    offset: int
    stored_nbytes: int
    nbytes: int
    crc: int
    method: int
    flags: int


# An `Entry` as a plain tuple: a large directory is read in half the time when it makes no objects of a class.
Row = tuple[int, int, int, int, int, int]


class EndRecord(NamedTuple):
    """An end record: the directory's place as it says, ``base`` bytes from where it must be, and where it stops."""

    n_entries: int
    start: int
    nbytes: int
    base: int
    stop: int


class Directory(NamedTuple):
    """A directory that was read. ``others`` are entries whose names are not keys, such as those of directories."""

    entries: dict[str, Row]
    others: list[tuple[bytes, Entry]]
    start: int
    stop: int
    base: int


def read_directory(read: Read, nbytes: int, url: str) -> Directory:
    """The directory that counts in a file of `nbytes` bytes.

    Parameters
    ----------
    read : callable
        ``read(offset, n)`` gives exactly `n` bytes.
    nbytes : int
        Length of the file in bytes.
    url : str
        The store's URL, for messages.

    Raises
    ------
    StoreError
        There is no directory, or the one that counts is corrupt.
    """
    for record in end_records(read, nbytes):
        if record.base == 0:
            return parse_directory(read, record, url)
        if record.stop == nbytes:
            directory = parse_directory(read, record, url)
            # Bytes in front of an archive (a self-extracting one) shift it; so does a value that is an archive and
            # was written last by a killed writer. The outer archive starts with an entry.
            if read(0, 4) not in (LOCAL_SIGNATURE, END_SIGNATURE):
                return directory
    raise StoreError(
        f"expected a ZIP archive, got {nbytes} bytes without a central directory that fits its place",
        store=url,
        code="not_an_archive",
        hint="The file was cut, or is not an archive.",
    )


def end_records(read: Read, nbytes: int) -> Iterator[EndRecord]:
    """Every end record whose bytes are whole, the last one first. The file is read backwards, in growing pieces."""
    n_candidates = 0
    stop, window = nbytes, 1 << 12
    tail = b""
    while stop > 0:
        start = max(stop - window, 0)
        data = read(start, stop - start) + tail
        i = data.rfind(END_SIGNATURE)
        while i >= 0:
            n_candidates += 1
            if n_candidates > MAX_CANDIDATES:
                return
            record = _end_record(partial(_near, read, start, data), start + i, nbytes)
            if record is not None:
                yield record
            i = data.rfind(END_SIGNATURE, 0, i + 3)
        stop, tail = start, data[:3]
        window = min(window * 4, 1 << 20)


def _near(read: Read, start: int, data: bytes, offset: int, n: int) -> bytes:
    """Bytes out of the piece at hand, or from the file: most of what looks like an end record is none."""
    i = offset - start
    return data[i : i + n] if 0 <= i <= len(data) - n else read(offset, n)


def _end_record(read: Read, position: int, nbytes: int) -> EndRecord | None:
    if position + END.size > nbytes:
        return None
    _, disk, first_disk, _, n_entries, dir_nbytes, offset, n_comment = END.unpack(read(position, END.size))
    stop, dir_stop = position + END.size + n_comment, position
    if stop > nbytes:
        return None
    if position >= LOCATOR.size + END64.size:
        signature, _, offset64, _ = LOCATOR.unpack(read(position - LOCATOR.size, LOCATOR.size))
        if signature == LOCATOR_SIGNATURE:
            last = position - LOCATOR.size - END64.size
            # Behind foreign bytes the locator is shifted too; then the record is directly in front of it.
            dir_stop = offset64 if offset64 <= last and read(offset64, 4) == END64_SIGNATURE else last
            fields = END64.unpack(read(dir_stop, END64.size))
            if fields[0] != END64_SIGNATURE:
                return None
            _, _, _, _, disk, first_disk, _, n_entries, dir_nbytes, offset = fields
    if disk or first_disk:
        return None
    return EndRecord(n_entries, offset, dir_nbytes, dir_stop - dir_nbytes - offset, stop)


def parse_directory(read: Read, record: EndRecord, url: str) -> Directory:
    """Read the directory that an end record names, and check it against the file.

    Raises
    ------
    StoreError
        It is corrupt or lies: entries outside the file or over one another, counts and lengths that do not fit.
    """

    def corrupt(what: str) -> StoreError:
        hint = "The file is damaged; `zarrcy repair` goes back to the last directory that can be read."
        return StoreError(f"central directory: {what}", store=url, code="corrupt_directory", hint=hint)

    start = record.start + record.base
    if record.base < 0:
        raise corrupt(
            f"expected at most {start + record.nbytes} bytes in front of it, got {record.start} + {record.nbytes}"
        )
    if record.n_entries * CENTRAL.size > record.nbytes:
        raise corrupt(f"expected room for {record.n_entries} entries, got {record.nbytes} bytes")
    if record.n_entries and read(start, 4) != CENTRAL_SIGNATURE:
        raise corrupt(f"expected an entry at {start}, got other bytes")
    data = read(start, record.nbytes)
    positions, names = _walk(data, record.n_entries)
    if positions is None:
        raise corrupt(f"expected {record.n_entries} entries in {record.nbytes} bytes, got other lengths")
    if not names:
        return Directory({}, [], start, record.stop, record.base)

    rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), CENTRAL.size)[positions].view(
        _CENTRAL_ROW
    )[:, 0]
    if (rows["signature"] != CENTRAL_SIGNATURE).any():
        raise corrupt("expected the signature of an entry, got other bytes")
    columns = {name: rows[name].astype(np.int64) for name in ("offset", "stored_nbytes", "nbytes")}
    if not _widen(data, positions, rows, columns):
        raise corrupt("expected 64-bit lengths of an entry, got an extra field without them")
    offset = columns["offset"] + record.base
    stop = offset + LOCAL.size + rows["n_name"] + columns["stored_nbytes"]
    order = np.argsort(offset, kind="stable")
    limits = np.append(offset[order][1:], start)
    if (offset < 0).any() or (columns["stored_nbytes"] > start).any() or (stop[order] > limits).any():
        raise corrupt("expected entries side by side in front of it, got some over one another or outside")
    lists = (offset, columns["stored_nbytes"], columns["nbytes"], rows["crc"], rows["method"], rows["flags"])
    keys, others = _keep_keys(names, list(zip(*(column.tolist() for column in lists), strict=True)))
    return Directory(keys, others, start, record.stop, record.base)


def _walk(data: bytes, n_entries: int) -> tuple[list[int] | None, list[bytes]]:
    """Where each entry starts, and its name; ``None`` when the lengths do not add up."""
    lengths = struct.Struct("<HHH").unpack_from
    size = CENTRAL.size
    positions, names = [], []
    position, stop = 0, len(data)
    for _ in range(n_entries):
        if position + size > stop:
            return None, []
        n_name, n_extra, n_comment = lengths(data, position + 28)
        positions.append(position)
        names.append(data[position + size : position + size + n_name])
        position += size + n_name + n_extra + n_comment
    return (positions if position == stop else None), names


def _widen(
    data: bytes, positions: list[int], rows: np.ndarray[Any, Any], columns: dict[str, np.ndarray[Any, Any]]
) -> bool:
    """Put the 64-bit numbers of extra fields into the columns; False when one is lacking or out of reason."""
    saturated = {name: column == MAX32 for name, column in columns.items()}
    for i in np.flatnonzero(saturated["offset"] | saturated["stored_nbytes"] | saturated["nbytes"]).tolist():
        extra_start = positions[i] + CENTRAL.size + int(rows["n_name"][i])
        wide = _extra64(data[extra_start : extra_start + int(rows["n_extra"][i])])
        for name in ("nbytes", "stored_nbytes", "offset"):
            if saturated[name][i]:
                if len(wide) < 8:
                    return False
                value = int.from_bytes(wide[:8], "little")
                if value >= 1 << 62:
                    return False
                columns[name][i], wide = value, wide[8:]
    return True


def _extra64(extra: bytes) -> bytes:
    while len(extra) >= 4:
        tag, n = struct.unpack_from("<HH", extra)
        if tag == 1:
            return extra[4 : 4 + n]
        extra = extra[4 + n :]
    return b""


def _keep_keys(names: list[bytes], rows: list[Row]) -> tuple[dict[str, Row], list[tuple[bytes, Entry]]]:
    joined = b"\n".join(names)
    if joined.isascii():
        text = joined.decode("ascii")
        keys = text.split("\n")
        if len(keys) == len(names) and not _MAYBE_BAD_NAME.search(text) and text.replace("\n", "").isprintable():
            return dict(zip(keys, rows, strict=True)), []
    good: dict[str, Row] = {}
    others = []
    for name, row in zip(names, rows, strict=True):
        entry = Entry._make(row)
        try:
            good[check_key(name.decode("utf-8" if entry.flags & UTF8_NAME else "cp437"))] = row
        except ValueError:
            others.append((name, entry))
    return good, others


def name_bytes(key: str, entry: Entry) -> bytes:
    """The name of a key's entry as it stands in the archive."""
    return key.encode("utf-8" if entry.flags & UTF8_NAME else "cp437")


def pack_local_header(name: bytes, entry: Entry) -> bytes:
    """What stands in front of an entry's bytes. A checksum and lengths are in it, none follow the bytes."""
    if len(name) > MAX16:
        raise ValueError(f"key {name[:40]!r}…: expected at most {MAX16} bytes for a ZIP archive, got {len(name)}")
    extra, stored_nbytes, nbytes = b"", entry.stored_nbytes, entry.nbytes
    if stored_nbytes >= MAX32 or nbytes >= MAX32:
        extra = struct.pack("<HHQQ", 1, 16, nbytes, stored_nbytes)
        stored_nbytes = nbytes = MAX32
    version = VERSION64 if extra else VERSION
    fields = (version, entry.flags, entry.method, TIME, DATE, entry.crc, stored_nbytes, nbytes, len(name), len(extra))
    return LOCAL.pack(LOCAL_SIGNATURE, *fields) + name + extra


def pack_directory(entries: Iterable[tuple[bytes, Entry]], start: int) -> bytes:
    """The directory of `entries` as it stands at the offset `start`, with its end record."""
    pieces = []
    for name, entry in entries:
        numbers, wide = [], b""
        for value in (entry.nbytes, entry.stored_nbytes, entry.offset):
            if value >= MAX32:
                wide += value.to_bytes(8, "little")
                value = MAX32
            numbers.append(value)
        nbytes, stored_nbytes, offset = numbers
        extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
        version = VERSION64 if extra else VERSION
        pieces.append(
            CENTRAL.pack(
                *(CENTRAL_SIGNATURE, MADE_ON_UNIX | version, version, entry.flags, entry.method, TIME, DATE, entry.crc),
                *(stored_nbytes, nbytes, len(name), len(extra), 0, 0, 0, REGULAR_FILE_0644, offset),
            )
        )
        pieces += (name, extra)
    n_entries = len(pieces) // 3
    nbytes = sum(map(len, pieces))
    if n_entries >= MAX16 or nbytes >= MAX32 or start >= MAX32:
        fields = (END64.size - 12, MADE_ON_UNIX | VERSION64, VERSION64, 0, 0, n_entries, n_entries, nbytes, start)
        pieces.append(END64.pack(END64_SIGNATURE, *fields))
        pieces.append(LOCATOR.pack(LOCATOR_SIGNATURE, 0, start + nbytes, 1))
    n16 = min(n_entries, MAX16)
    pieces.append(END.pack(END_SIGNATURE, 0, 0, n16, n16, min(nbytes, MAX32), min(start, MAX32), 0))
    return b"".join(pieces)
