"""What is in an archive: interchange with other ZIP software, the directory, values, dead bytes."""

import io
import os
import zipfile
import zlib

import pytest
from zip_files import ITEMS, contents, filled

from zarrcy.errors import ChecksumError, ConflictError, StoreError
from zarrcy.stores import zip_archive
from zarrcy.stores.zip import ZipStore
from zarrcy.stores.zip_directory import Entry


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zip"


# Other ZIP software


def test_zipfile_reads_what_was_written(path):
    with zipfile.ZipFile(filled(path)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == ITEMS
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.external_attr >> 16 == 0o100644
            assert entry.create_system == 3
            assert entry.flag_bits == 0x800


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_zipfile_wrote_is_read_and_appended_to(path, method, streamed):
    class Stream(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            out.write(data)
            return len(data)

    with open(path, "wb") as out, zipfile.ZipFile(Stream() if streamed else out, "w", method) as archive:
        for key, value in ITEMS.items():
            archive.writestr(key, value)
        archive.writestr("folder/", b"")
    store = ZipStore(path)
    assert contents(store) == ITEMS
    for part in (slice(0, 10), slice(-7, None), slice(5, -5), slice(2000, None)):
        assert bytes(store.get("c/0/0", part)) == ITEMS["c/0/0"][part]
    store.close()
    new = {"c/0/0": b"new", "c/9": b"9" * 5000}
    filled(path, new)
    assert contents(ZipStore(path)) == ITEMS | new
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist() if name != "folder/"} == ITEMS | new
        assert "folder/" in archive.namelist()
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("c/10", b"by zipfile")
    store = ZipStore(path, mode="r+")
    assert contents(store) == ITEMS | new | {"c/10": b"by zipfile"}
    store.compact()
    store.close()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == ITEMS | new | {"c/10": b"by zipfile"}


def test_a_name_without_the_utf8_flag_is_cp437(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("grXsse", b"1")
    path.write_bytes(path.read_bytes().replace(b"grXsse", "größe".encode("cp437") + b"x"))
    assert contents(ZipStore(path)) == {"größex": b"1"}
    filled(path)
    assert zipfile.ZipFile(path).read("größex") == b"1"


def test_bytes_in_front_of_an_archive_are_read_over(path):
    filled(path)
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert contents(ZipStore(path)) == ITEMS
    with pytest.raises(StoreError, match="in front"):
        ZipStore(path, mode="a")


def test_a_comment_at_the_end_is_read_over(path):
    with zipfile.ZipFile(filled(path), "a") as archive:
        archive.comment = b"PK\x05\x06 climate" * 100
    assert contents(ZipStore(path)) == ITEMS
    filled(path, {"new": b"1"})
    assert contents(ZipStore(path)) == ITEMS | {"new": b"1"}


def test_equal_contents_make_equal_archives(tmp_path):
    assert filled(tmp_path / "a.zip").read_bytes() == filled(tmp_path / "b.zip", durable=True).read_bytes()


def test_the_umask_and_the_permissions_of_a_replaced_archive_are_kept(path):
    old = os.umask(0o027)
    try:
        filled(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    with ZipStore(path, mode="w") as store:
        store.set("a", b"1")
        store.compact()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_one(tmp_path):
    target = filled(tmp_path / "target.zip")
    link = tmp_path / "a.zip"
    link.symlink_to("target.zip")
    with ZipStore(link, mode="w") as store:
        store.set("a", b"1")
    assert link.is_symlink()
    assert contents(ZipStore(target)) == {"a": b"1"}


# Directory, values, dead bytes


def test_open_reads_the_central_directory_alone(path, monkeypatch):
    filled(path, {f"c/{i}": bytes(20_000) for i in range(1000)})
    n_read = []

    def counted(fd, n, offset):
        n_read.append(n)
        return real(fd, n, offset)

    real = os.pread
    monkeypatch.setattr(zip_archive.os, "pread", counted)
    store = ZipStore(path)
    assert len(list(store.list_prefix())) == 1000
    directory = 1000 * (46 + 5)
    assert sum(n_read) < directory + 10_000
    n_read.clear()
    assert bytes(store.get("c/5", slice(100, 200))) == bytes(100)
    assert sum(n_read) < 200
    n_read.clear()
    store.get("c/5", slice(100, 200))
    assert n_read == [100]


def test_a_flipped_bit_is_noticed_on_a_whole_read(path):
    data = bytearray(filled(path).read_bytes())
    data[data.index(b"aaaa") + 500] ^= 1
    path.write_bytes(data)
    store = ZipStore(path)
    with pytest.raises(ChecksumError, match="CRC-32") as caught:
        store.get("c/0/0")
    assert caught.value.key == "c/0/0"
    with pytest.raises(ChecksumError):
        store.get("c/0/0", slice(0, None))


def test_compact_removes_dead_bytes_only(path):
    store = ZipStore(path)
    for i in range(50):
        store.set("a", bytes([i]) * 10_000)
        store.set(f"c/{i}", bytes([i]))
        store.sync()
    store.delete_prefix("c/")
    reader = ZipStore(path)
    before = contents(reader)
    version = store.get_with_version("a")[1]
    saved = store.compact()
    assert contents(store) == contents(ZipStore(path)) == {"a": bytes([49]) * 10_000}
    assert saved > 500_000
    assert path.stat().st_size < 10_200
    assert contents(reader) == before
    with pytest.raises(ConflictError):
        store.set_if("a", b"1", version)
    with pytest.raises(StoreError, match="elsewhere"):
        ZipStore(path, mode="a")
    store.set("b", b"2")
    store.close()
    assert sorted(contents(ZipStore(path))) == ["a", "b"]
    assert os.listdir(path.parent) == ["a.zip"]


def test_a_compacted_archive_equals_one_written_at_once(tmp_path):
    store = ZipStore(tmp_path / "a.zip")
    store.set("zarr.json", b"old")
    for key, value in ITEMS.items():
        store.set(key, value)
        store.sync()
    store.compact()
    store.close()
    assert contents(ZipStore(tmp_path / "a.zip")) == ITEMS
    again = filled(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").stat().st_size == again.stat().st_size


def test_more_entries_than_16_bits_count(path):
    with ZipStore(path) as store:
        for i in range(66_000):
            store.set(f"c/{i}", b"")
    store = ZipStore(path)
    assert len(list(store.list_prefix("c/"))) == 66_000
    assert store.size("c/65999") == 0
    assert len(zipfile.ZipFile(path).namelist()) == 66_000


def test_offsets_and_lengths_beyond_4_gib(path):
    store = ZipStore(path)
    store.set("first", b"1")
    writer = store._archive
    n = (1 << 32) + 5
    entry = Entry(writer._stop, n, n, 0, 0, 0x800)
    # A value of holes: nothing but its header is written, and the file is sparse.
    writer._append(b"large", entry, [], "large")
    writer.entries["large"] = entry
    store.set("last", b"2")
    store.close()
    store = ZipStore(path)
    assert store.size("large") == n
    assert bytes(store.get("large", slice(-3, None))) == b"\0\0\0"
    assert bytes(store.get("first")) == b"1" and bytes(store.get("last")) == b"2"
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("large").file_size == n
        assert archive.getinfo("last").header_offset > 1 << 32
        assert archive.read("last") == b"2"
    filled(path, {"more": b"3"})
    assert bytes(ZipStore(path).get("more")) == b"3"
    path.unlink()


def test_zip64_records_of_zipfile_are_read(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("c/0", "w", force_zip64=True) as file:
        file.write(b"abc")
    assert contents(ZipStore(path)) == {"c/0": b"abc"}


def test_a_key_longer_than_zip_allows_is_refused(path):
    store = ZipStore(path)
    with pytest.raises(ValueError, match="65535"):
        store.set("k" * 70_000, b"1")
    store.set("k" * 65_535, b"1")
    store.close()
    assert list(ZipStore(path).list_prefix()) == ["k" * 65_535]


def test_the_newest_of_two_entries_of_a_name_counts(path):
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"old")
        archive.writestr("a", b"new")
    assert contents(ZipStore(path)) == {"a": b"new"}


def test_crc_of_a_large_value_is_that_of_its_bytes(path):
    value = bytes(range(256)) * 40_000
    filled(path, {"a": memoryview(value)})
    assert zlib.crc32(value) == zipfile.ZipFile(path).getinfo("a").CRC
