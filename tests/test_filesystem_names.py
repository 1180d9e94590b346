"""`FilesystemStore`: nothing leaves the directory; what is listed, and what is tidied up."""

import os
import random
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import zarrcy
from zarrcy.errors import StoreError
from zarrcy.stores.files import is_plain_path, path_of
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.store import check_key


@pytest.fixture
def store(tmp_path):
    (tmp_path / "root").mkdir()
    return FilesystemStore(tmp_path / "root")


def everything(path):
    """All that lies below a directory, temporary files included."""
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*"))


def test_a_path_and_a_key_may_be_any_text(tmp_path):
    """Such as a name in an array of NumPy."""

    class Name(str):
        pass

    zarrcy.create_array(np.str_(tmp_path / "a"), shape=2)
    store = zarrcy.open(np.str_(tmp_path / "a"), mode=np.str_("r+")).store
    assert type(store.path) is str
    assert store == FilesystemStore(tmp_path / "a")
    for key in (np.str_("group/key"), Name("group/key")):
        store.set(key, b"1")
        assert store.get(key) == b"1"
        assert list(store.list_prefix(np.str_("group/"))) == list(store.list_prefix("group/")) == ["group/key"]
        store.delete(key)


# ---- nothing leaves the root

SEGMENTS = ["..", ".", "", "~", "a", "b", "c:", "link", "back", "...", " ", "-", "a\\b", "a\0b", "%2e%2e", "NUL"]
SEGMENT = st.one_of(st.sampled_from(SEGMENTS), st.text(max_size=6), st.text(alphabet="./\\a", max_size=6))
KEYS = st.builds("/".join, st.lists(SEGMENT, min_size=1, max_size=5))


def guard(place):
    """A store with links that lead out of it, beside a directory that nothing may touch."""
    if not (place / "root").exists():
        (place / "root").mkdir()
        (place / "outside").mkdir()
        (place / "outside" / "a").write_bytes(b"outside")
    for name, target in (("link", "../outside"), ("back", "..")):
        link = f"{place}/root/{name}"
        if not os.path.islink(link):
            if os.path.exists(link):
                os.unlink(link)
            os.symlink(target, link)
    return FilesystemStore(place / "root")


@pytest.fixture(scope="module")
def place():
    # In memory where there is such a place: thousands of files are made.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield Path(path)


@settings(max_examples=1000, deadline=None)
@given(KEYS)
@example(".zarray")
@example("a/.zarrcy-partial")
@example("a/.x.zarrcy-partial")
@example("...")
def test_a_key_has_a_path_exactly_where_it_is_a_good_one(key):
    """Most keys are looked at in compiled code, which may not be of another mind."""
    try:
        check_key(key)
    except ValueError:
        with pytest.raises(ValueError):
            path_of(key)
        return
    is_left_out = any(name.startswith(".") and name.endswith(".zarrcy-partial") for name in key.split("/"))
    assert path_of(key) == (None if is_left_out else key.encode())


@settings(max_examples=1000, deadline=None)
@given(KEYS.map("/{}".format))
@example("/")
@example("/a/")
@example("//a")
@example("/a/.")
@example("/a/..b")
def test_a_path_that_is_taken_as_it_is_is_an_absolute_one(path):
    assert not is_plain_path(path) or os.path.abspath(path) == path


def test_a_store_that_is_made_with_a_value_is_that_of_the_constructor(store):
    store.set("k", b"1")
    for read_only in (False, True):
        made, value = FilesystemStore.with_value(store.path, b"k", read_only)
        expected = FilesystemStore(store.path, read_only=read_only)
        assert made == expected and value == b"1"
        fields, other_fields = vars(made).copy(), vars(expected).copy()
        files, other_files = fields.pop("_files"), other_fields.pop("_files")
        assert fields == other_fields
        assert files.directory.path == other_files.directory.path
        assert files.directory.durable == other_files.directory.durable
    assert FilesystemStore.with_value(store.path, b"absent", True)[1] is None
    for path in ("relative", f"{store.path}/", f"{store.path}.ZIP", f"{store.path}/../x"):
        assert FilesystemStore.with_value(path, b"k", True) is None

    class Other(FilesystemStore):
        """May have a constructor of its own."""

    assert Other.with_value(store.path, b"k", True) is None


def check_stays_inside(place, key):
    store = guard(place)
    try:
        store.set(key, b"inside")
        assert store.get(key) == b"inside"
        found = os.path.realpath(f"{store.path}/{key}")
        assert found.startswith(store.path + "/")
        store.delete(key)
    except (ValueError, StoreError):
        pass
    with suppress(ValueError, StoreError):
        assert store.get(key) != b"outside"
    assert os.listdir(place / "outside") == ["a"]
    assert os.path.getsize(place / "outside" / "a") == len(b"outside")
    assert sorted(os.listdir(place)) == ["outside", "root"]


@settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(key=KEYS)
@example(key="link/a")
@example(key="link/new")
@example(key="back/outside/a")
@example(key="/etc/hostname")
@example(key="../outside/a")
def test_no_generated_key_leaves_the_root(place, key):
    check_stays_inside(place, key)


def test_no_random_key_leaves_the_root(place):
    choice = random.Random(11)
    for _ in range(4000):
        segments = choice.choices(
            [*SEGMENTS, *map(chr, range(1, 128)), "é", "\udcff", "n" * 300], k=choice.randrange(1, 6)
        )
        check_stays_inside(place, "/".join(segments))


def test_a_link_that_leads_out_of_the_root_is_refused_and_not_listed(tmp_path):
    store = guard(tmp_path)
    for key in ("link/a", "back/outside/a"):
        for call in (store.get, store.exists, lambda key: store.set(key, b"2"), store.delete):
            with pytest.raises(StoreError, match="cross-device") as caught:
                call(key)
            assert "out of the store" in caught.value.hint
    assert list(store.list_prefix()) == []
    assert list(store.list_dir()) == []


def test_links_inside_the_root_are_followed(store):
    store.set("real/x", b"1")
    os.symlink("real", f"{store.path}/alias")
    os.symlink("real/x", f"{store.path}/x")
    os.symlink("nowhere", f"{store.path}/dangling")
    os.symlink(".", f"{store.path}/real/loop")
    assert store.get("alias/x") == store.get("x") == b"1"
    assert store.get("dangling") is None
    keys = list(store.list_prefix())
    assert len(keys) == len(set(keys))
    assert {"real/x", "alias/x", "x"} <= set(keys)
    assert all(store.get(key) == b"1" for key in keys)
    assert sorted(store.list_dir()) == ["alias/", "real/", "x"]


def test_a_write_replaces_a_link_and_not_what_it_leads_to(store):
    store.set("real", b"1")
    os.symlink("real", f"{store.path}/alias")
    store.set("alias", b"2")
    assert store.get("real") == b"1"
    assert store.get("alias") == b"2"


def test_deleting_a_prefix_removes_links_and_not_what_they_lead_to(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"1")
    store = FilesystemStore(tmp_path / "root")
    store.set("kept/a", b"1")
    store.set("group/x", b"1")
    os.symlink("../../outside", f"{store.path}/group/out")
    os.symlink("../kept", f"{store.path}/group/in")
    store.delete_prefix("group/")
    assert everything(store.path) == ["kept", "kept/a"]
    assert (outside / "a").read_bytes() == b"1"


def test_a_link_that_is_exchanged_during_the_call_does_not_lead_out(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"outside")
    store = FilesystemStore(tmp_path / "root")
    store.set("real/x", b"inside")
    root = Path(store.path)
    done = threading.Event()

    def exchange():
        while not done.is_set():
            for target in ("real", "../outside"):
                os.symlink(target, root / "next")
                os.rename(root / "next", root / "a")

    os.symlink("real", root / "a")
    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(store.get("a/x"))
                store.set("a/x", b"inside")
            except StoreError as error:
                seen.add(error.code)
    finally:
        done.set()
        thread.join()
    assert seen == {b"inside", "exdev"}
    assert everything(outside) == ["x"]
    assert (outside / "x").read_bytes() == b"outside"


# ---- listing and tidying up


def test_listing_gives_keys_and_nothing_else(store):
    keys = ["zarr.json", "a/zarr.json", "a/c/0/0", "a/c/0/1", "ab/x", "b"]
    for key in keys:
        store.set(key, b"1")
    os.makedirs(f"{store.path}/empty/inner")
    Path(store.path, ".b.zarrcy-partial").write_bytes(b"left")
    Path(store.path, "a", ".q.0123456789abcdef.zarrcy-partial").write_bytes(b"left")
    Path(store.path, "back\\slash").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(store.path) + b"/\xff\xfe")).write_bytes(b"")
    assert sorted(store.list_prefix()) == sorted(keys)
    assert sorted(store.list_prefix("a/")) == ["a/c/0/0", "a/c/0/1", "a/zarr.json"]
    assert list(store.list_prefix("missing/")) == list(store.list_prefix("b/")) == []
    assert sorted(store.list_dir()) == ["a/", "ab/", "b", "zarr.json"]
    assert sorted(store.list_dir("a/")) == ["c/", "zarr.json"]
    assert list(store.list_dir("empty/")) == []


@pytest.mark.parametrize("prefix", ["a", "/", "a//", "../", "a/../b/"])
def test_a_prefix_ends_in_a_slash_and_stays_inside(store, prefix):
    for call in (store.list_prefix, store.list_dir, store.delete_prefix):
        with pytest.raises(ValueError, match=r"^(prefix|key)"):
            call(prefix)


def test_temporary_files_are_no_keys(store):
    for key in (".k.zarrcy-partial", "a/.k.zarrcy-partial", ".d.zarrcy-partial/k"):
        path = Path(store.path, key)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left")
        assert store.get(key) is None
        assert not store.exists(key)
        assert list(store.list_prefix()) == []
        for call in (store.delete, lambda key: store.set(key, b"2"), store.lock):
            with pytest.raises(ValueError, match="temporary"):
                call(key)
    assert list(store.list_prefix(".d.zarrcy-partial/")) == list(store.list_dir(".d.zarrcy-partial/")) == []


def test_repair_collects_what_crashed_writers_left_and_nothing_else(store):
    store.set("a/k", b"1")
    os.makedirs(f"{store.path}/empty/inner")
    Path(store.path, "a", ".k.zarrcy-partial").write_bytes(b"left")
    Path(store.path, ".q.0123456789abcdef.zarrcy-partial").write_bytes(b"left")
    with store.lock("living"):
        assert sorted(store.repair()) == [
            "removed the empty directory empty",
            "removed the empty directory empty/inner",
            "removed the unfinished write .q.0123456789abcdef.zarrcy-partial",
            "removed the unfinished write a/.k.zarrcy-partial",
        ]
        assert everything(store.path) == [".living.zarrcy-partial", "a", "a/k"]
    assert store.repair() == []


def test_deleting_a_prefix_leaves_no_directory(store):
    for key in ("a/b/0", "a/b/1", "a/c", "ab/0"):
        store.set(key, b"1")
    store.delete_prefix("a/")
    assert everything(store.path) == ["ab", "ab/0"]
    store.delete_prefix("a/")
    store.delete_prefix("")
    assert everything(store.path) == []
