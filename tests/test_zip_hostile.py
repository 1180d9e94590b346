"""Archives that lie: a clear error, and no more memory or time than the file is worth."""

import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from zip_files import archive, contents, end_record

from zarrcy.errors import CodecError, StoreError
from zarrcy.stores.zip import ZipStore
from zarrcy.stores.zip_directory import Entry, pack_directory, pack_local_header

VALUE = b"v" * 100
GOOD = archive([(b"a", VALUE), (b"b/c", VALUE)])
START = GOOD.index(b"PK\x01\x02")


def changed(**fields):
    """GOOD with other numbers in the directory's first entry."""
    return archive(
        [(b"a", VALUE), (b"b/c", VALUE)],
        directory=lambda entries: [(b"a", entries[0][1]._replace(**fields)), entries[1]],
    )


def patched(offset, data):
    return GOOD[:offset] + data + GOOD[offset + len(data) :]


END = len(GOOD) - 22
HOSTILE_DIRECTORIES = {
    "an empty file": b"",
    "no archive": b"\x89HDF\r\n\x1a\n" * 100,
    "a directory larger than the file": patched(END + 12, struct.pack("<I", 1 << 30)),
    "a directory behind the file": patched(END + 16, struct.pack("<I", 1 << 30)),
    "more entries than fit": patched(END + 8, struct.pack("<HH", 60_000, 60_000)),
    "one entry too many": patched(END + 8, struct.pack("<HH", 3, 3)),
    "one entry too few": patched(END + 8, struct.pack("<HH", 1, 1)),
    "a comment longer than the file": patched(END + 20, struct.pack("<H", 500)),
    "a name longer than the directory": patched(START + 28, struct.pack("<H", 60_000)),
    "an extra field longer than the directory": patched(START + 30, struct.pack("<H", 60_000)),
    "an entry without a signature": patched(START, b"PK\x01\x03"),
    "a second entry without a signature": patched(START + 47, b"PK\x01\x03"),
    "an entry behind the directory": changed(offset=len(GOOD)),
    "an entry that reaches into the directory": changed(stored_nbytes=1000, nbytes=1000),
    "an entry over another": changed(stored_nbytes=150, nbytes=150),
    "two entries in one place": archive(
        [(b"a", VALUE), (b"b", VALUE)], directory=lambda entries: [(b"a", entries[0][1]), (b"b", entries[0][1])]
    ),
    "a 64-bit length without a field": patched(START + 20, struct.pack("<I", 0xFFFFFFFF)),
    "a 64-bit length beyond reason": changed(stored_nbytes=1 << 63, nbytes=1 << 63),
    "a 64-bit offset beyond the file": changed(offset=1 << 40),
    "nothing but end records": b"PK\x05\x06" * 100_000,
    "end records that name one directory": b"".join(end_record(100, 4600, 0) for _ in range(1000)),
    "64-bit end record with lying counts": (
        GOOD[:END]
        + struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1 << 60, 1 << 60, 98, START)
        + struct.pack("<4sIQI", b"PK\x06\x07", 0, END, 1)
        + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    ),
    "a locator that leads nowhere": GOOD[:END]
    + bytes(56)
    + struct.pack("<4sIQI", b"PK\x06\x07", 0, 1 << 60, 1)
    + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
}


@pytest.mark.parametrize("what", HOSTILE_DIRECTORIES)
def test_a_directory_that_lies_is_an_error(tmp_path, what):
    path = tmp_path / "hostile.zip"
    path.write_bytes(HOSTILE_DIRECTORIES[what])
    for call in (
        lambda: ZipStore(path).get("a"),
        lambda: list(ZipStore(path).list_prefix()),
        lambda: ZipStore(path, mode="r+"),
    ):
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(StoreError, match=r"hostile\.zip"):
            call()
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 4 * len(HOSTILE_DIRECTORIES[what]) + (1 << 21)
        tracemalloc.stop()


BAD_NAMES = [
    b"../x",
    b"a/../../x",
    b"/etc/passwd",
    b"a//b",
    b"a/",
    b".",
    b"",
    b"a\0b",
    b"a\nb",
    b"a\\b",
    b"C:\\a",
    b"./a",
    b"\xff\xfe",
    b"a/./b",
]


def test_entries_with_bad_names_are_not_keys(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(
        archive([(name, b"bad") for name in BAD_NAMES] + [(b"good/0", b"1"), (b"a..b", b"2"), (b"...", b"3")])
    )
    store = ZipStore(path)
    assert contents(store) == {"good/0": b"1", "a..b": b"2", "...": b"3"}
    assert sorted(store.list_dir()) == ["...", "a..b", "good/"]
    for name in BAD_NAMES[:-2]:
        with pytest.raises(ValueError):
            store.get(name.decode("latin-1"))
    with ZipStore(path, mode="a") as writer:
        writer.set("new", b"4")
        assert len(writer._archive.others) == len(BAD_NAMES)
        writer.sync()
        assert len(ZipStore(path)._reading().others) == len(BAD_NAMES)
        writer.compact()
    assert len(ZipStore(path)._reading().others) == 0
    assert contents(ZipStore(path)) == {"good/0": b"1", "a..b": b"2", "...": b"3", "new": b"4"}


def deflated(path, value, *, nbytes=None, crc=None):
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = squeezer.compress(value) + squeezer.flush()
    entry = Entry(
        0, len(data), len(value) if nbytes is None else nbytes, zlib.crc32(value) if crc is None else crc, 8, 0
    )
    header = pack_local_header(b"a", entry)
    path.write_bytes(header + data + pack_directory([(b"a", entry)], len(header) + len(data)))
    return ZipStore(path)


def test_a_deflated_entry_never_gives_more_than_it_promises(tmp_path):
    bomb = bytes(64 << 20)
    store = deflated(tmp_path / "a.zip", bomb, nbytes=1000)
    tracemalloc.start()
    for part in (None, slice(0, 1000)):
        with pytest.raises(CodecError, match="more"):
            store.get("a", part)
    assert bytes(store.get("a", slice(0, 10))) == bytes(10)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_a_deflated_entry_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path):
    for nbytes in (1 << 31, 1 << 40, 1 << 61):
        store = deflated(tmp_path / "a.zip", b"abc", nbytes=nbytes)
        tracemalloc.start()
        with pytest.raises(StoreError, match="deflate can reach"):
            store.get("a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_a_deflated_entry_that_is_short_or_broken_is_an_error(tmp_path):
    value = np.random.default_rng(1).bytes(5000) * 2
    with pytest.raises(CodecError, match="10001 bytes, got 10000"):
        deflated(tmp_path / "a.zip", value, nbytes=10_001).get("a")
    with pytest.raises(CodecError, match="CRC-32"):
        deflated(tmp_path / "a.zip", value, crc=7).get("a")
    path = tmp_path / "a.zip"
    deflated(path, value)
    data = bytearray(path.read_bytes())
    for i in range(31, 4000, 53):
        damaged = data.copy()
        damaged[i] ^= 4
        path.write_bytes(damaged)
        with pytest.raises((CodecError, StoreError)):
            ZipStore(path).get("a")


def test_what_zarrcy_cannot_read_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a", VALUE)
    with pytest.raises(StoreError, match="compression method 12"):
        ZipStore(path).get("a")
    path.write_bytes(changed(flags=0x801))
    with pytest.raises(StoreError, match="encrypted"):
        ZipStore(path).get("a")
    assert bytes(ZipStore(path).get("b/c")) == VALUE
    path.write_bytes(changed(nbytes=99))
    with pytest.raises(StoreError, match="99 bytes, got 100"):
        ZipStore(path).get("a")


def test_a_local_header_that_disagrees_is_an_error(tmp_path):
    path = tmp_path / "a.zip"
    for offset, data in ((0, b"PK\x03\x05"), (30, b"z"), (28, struct.pack("<H", 60_000)), (26, struct.pack("<H", 2))):
        path.write_bytes(patched(offset, data))
        with pytest.raises((StoreError, CodecError), match=r"a\.zip: a"):
            ZipStore(path).get("a")


def test_random_damage_is_an_error_or_a_good_value(tmp_path):
    path = tmp_path / "a.zip"
    random = np.random.default_rng(5)
    for _ in range(600):
        data = bytearray(GOOD)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        path.write_bytes(data[: random.integers(1, len(data) + 1)] if random.integers(2) else data)
        try:
            found = contents(ZipStore(path))
        except (StoreError, CodecError):
            continue
        assert set(found.values()) <= {VALUE}
