"""Stores by name, URL, path and dict; the read-only wrapper."""

import importlib.metadata
import os
import pickle
import subprocess
import sys
import types

import pytest

import zarrcy.stores
from zarrcy.errors import PermissionDeniedError, ReadOnlyError, StoreError, UnknownExtensionError
from zarrcy.stores import catalogue
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore
from zarrcy.stores.readonly import ReadOnlyStore
from zarrcy.stores.zip import ZipStore


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(catalogue.registry, "_classes", dict(catalogue.registry._classes))


class FakeDirectory(MemoryStore):
    """Stands where a path leads, so that these tests say which options arrive."""

    def __init__(self, path, *, read_only=False, durable=False):
        super().__init__()
        self.path, self.read_only, self.durable = os.fspath(path), read_only, durable

    for_mode = classmethod(FilesystemStore.for_mode.__func__)


@pytest.fixture
def fake_directory(monkeypatch):
    monkeypatch.setitem(catalogue.registry._classes, "filesystem", FakeDirectory)


# Names


def test_the_built_in_names_are_known():
    assert {"filesystem", "memory", "mock", "zip"} <= set(zarrcy.stores.names())


def test_info_tells_what_the_overview_shows():
    info = zarrcy.stores.info("zip")
    assert info == ("zip", "Archive", "Yes", "Single file", "Low", "Distribution, archival, reducing file count")
    assert info.type == "Archive" and info.persistence == "Yes" and info.scalability == "Single file"
    assert zarrcy.stores.info("memory").use == "Testing, temporary arrays"


def test_an_unknown_name_is_an_error_that_names_the_known_ones():
    for call in (zarrcy.stores.info, zarrcy.stores.by_name):
        with pytest.raises(UnknownExtensionError, match=r"filesystem, .*memory, .*zip"):
            call("s4")


@pytest.mark.parametrize("name", catalogue.WRAPPERS)
def test_the_name_of_a_wrapper_is_an_error_that_says_how_to_build_it(name):
    cls = getattr(zarrcy.stores, catalogue.WRAPPERS[name])
    assert issubclass(cls, zarrcy.stores.Store)
    for call in (zarrcy.stores.info, zarrcy.stores.by_name, lambda name: zarrcy.open(storage=name, path="a")):
        with pytest.raises(UnknownExtensionError, match=f"'{name}': expected the name of a store") as caught:
            call(name)
        assert f"zarrcy.open(zarrcy.stores.{cls.__name__}(store" in caught.value.__notes__[-1]
    assert name not in zarrcy.stores.names()
    zarrcy.stores.register(name, MemoryStore)  # a package may take the name
    assert type(zarrcy.stores.by_name(name)) is MemoryStore


def test_a_store_is_registered_under_a_name_once():
    class Own(MemoryStore):
        pass

    class Other(MemoryStore):
        pass

    zarrcy.stores.register("own", Own)
    zarrcy.stores.register("own", Own)
    with pytest.raises(ValueError, match="own"):
        zarrcy.stores.register("own", Other)
    with pytest.raises(TypeError, match="subclass"):
        zarrcy.stores.register("dict", dict)
    assert "own" in zarrcy.stores.names()
    assert type(zarrcy.stores.by_name("own")) is Own
    assert isinstance(zarrcy.stores.open("own://"), Own)


def test_by_name_gives_the_options_to_the_store(tmp_path):
    store = zarrcy.stores.by_name("zip", path=tmp_path / "a.zip", durable=True)
    assert isinstance(store, ZipStore) and store.durable
    with pytest.raises(TypeError, match="compression"):
        zarrcy.stores.by_name("zip", path=tmp_path / "a.zip", compression=9)
    with pytest.raises(TypeError, match="path"):
        zarrcy.stores.by_name("zip")


# What `open` takes


def test_a_store_is_returned_as_it_is():
    store = MemoryStore()
    assert zarrcy.stores.open(store) is store
    assert zarrcy.stores.open(store, mode="r") is store
    with pytest.raises(TypeError, match="path"):
        zarrcy.stores.open(store, path="x")


def test_a_dict_holds_the_values():
    data = {}
    store = zarrcy.stores.open(data)
    store.set("zarr.json", b"{}")
    assert data == {"zarr.json": b"{}"}
    assert zarrcy.stores.open(data) is store
    with pytest.raises(TypeError, match="durable"):
        zarrcy.stores.open(data, durable=True)


@pytest.mark.parametrize("target", [5, None, b"a.zip", ["a"], object()])
def test_anything_else_is_a_type_error(target):
    with pytest.raises(TypeError, match="Store, URL, path or dict"):
        zarrcy.stores.open(target)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("data/a", "data/a"),
        ("/data/a", "/data/a"),
        ("file:///data/a%20b", "/data/a b"),
        ("FILE:///data/a", "/data/a"),
        ("file://localhost/data/a", "/data/a"),
        ("a:b", "a:b"),
        ("C:/data", "C:/data"),
    ],
)
def test_a_path_or_file_url_is_a_directory(target, path, fake_directory):
    store = zarrcy.stores.open(target, durable=True)
    assert isinstance(store, FakeDirectory)
    assert (store.path, store.read_only, store.durable) == (path, False, True)
    assert zarrcy.stores.open(target, mode="r").read_only
    assert not zarrcy.stores.open(target, mode="r+").read_only


def test_a_directory_may_be_called_zip(tmp_path, fake_directory):
    (tmp_path / "a.zip").mkdir()
    assert isinstance(zarrcy.stores.open(tmp_path / "a.zip"), FakeDirectory)


@pytest.mark.parametrize("target", ["a.zip", "a.ZIP", "zip://a.zip", "zip://{}/a.zip", "file://{}/a.zip", "{}/a.zip"])
def test_a_zip_path_or_url_is_an_archive(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = zarrcy.stores.open(target.format(tmp_path))
    assert isinstance(store, ZipStore)
    store.set("zarr.json", b"{}")
    store.close()
    again = zarrcy.stores.open(store.url)
    assert again.get("zarr.json") == b"{}" and again.read_only


def test_the_url_of_an_archive_opens_it_whatever_its_name(tmp_path):
    with ZipStore(tmp_path / "größe a%20b?c#d.zip") as store:
        store.set("zarr.json", b"{}")
    assert zarrcy.stores.open(store.url).get("zarr.json") == b"{}"


def test_the_mode_of_a_node_is_not_that_of_the_archive(tmp_path):
    path = tmp_path / "a.zip"
    for mode in ("r", "r+"):
        with pytest.raises(StoreError) as caught:
            zarrcy.stores.open(path, mode=mode)
        assert caught.value.code == "enoent"
    for mode in ("w-", "a", "w", "r+", None):
        with zarrcy.stores.open(path, mode=mode) as store:
            assert store.read_only == (mode is None)
            if mode:
                store.set(mode, b"1")
    assert set(ZipStore(path).list_prefix()) == {"w-", "a", "w", "r+"}


def test_a_memory_url_is_the_store_of_that_name():
    store = zarrcy.stores.open("memory://results")
    store.set("zarr.json", b"{}")
    assert zarrcy.stores.open("memory://results") is store
    assert zarrcy.stores.open(store.url) is store
    assert zarrcy.stores.open("memory://") is not zarrcy.stores.open("memory://")
    readonly = zarrcy.stores.open("memory://results", mode="r")
    assert readonly.get("zarr.json") == b"{}"
    with pytest.raises(ReadOnlyError):
        readonly.set("zarr.json", b"")


def test_an_unknown_scheme_is_an_error_that_names_the_known_ones():
    with pytest.raises(UnknownExtensionError, match=r"'s4'.*file, .*memory, .*zip"):
        zarrcy.stores.open("s4://bucket/a")


def test_a_file_url_of_another_host_is_an_error():
    for url in ("file://server/share", "file://relative", "file://"):
        with pytest.raises(StoreError, match="absolute path"):
            zarrcy.stores.open(url)


def test_an_unknown_mode_is_an_error():
    for call in (lambda: zarrcy.stores.open("memory://", mode="rw"), lambda: catalogue.by_name("memory", mode="x")):
        with pytest.raises(ValueError, match="mode"):
            call()


def test_a_path_that_cannot_be_looked_at_is_a_store_error(tmp_path):
    path = tmp_path / ("n" * 300 + ".zip")
    with pytest.raises(StoreError) as caught:
        zarrcy.stores.open(path)
    assert caught.value.code == "enametoolong"
    assert not isinstance(caught.value, PermissionDeniedError)


# Stores of other packages


class Cloud(MemoryStore):
    schemes = ("cloud", "cl")

    def __init__(self, bucket="", **options):
        super().__init__()
        self.bucket = bucket

    @classmethod
    def from_url(cls, url, *, mode=None, **options):
        return cls(bucket=url.partition("://")[2], **options)


def test_a_store_of_another_package_is_opened_by_its_schemes(monkeypatch):
    point = types.SimpleNamespace(name="cloud_storage", load=lambda: Cloud)
    monkeypatch.setattr(catalogue.registry, "_entry_points", None)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == "zarrcy.stores" else [])
    assert "cloud_storage" in zarrcy.stores.names()
    for scheme in ("cloud", "cl", "CL"):
        store = zarrcy.stores.open(f"{scheme}://bucket")
        assert isinstance(store, Cloud) and store.bucket == "bucket"
    assert isinstance(zarrcy.stores.open("cl://bucket", mode="r"), ReadOnlyStore)
    assert zarrcy.stores.by_name("cloud_storage", bucket="b").bucket == "b"
    with pytest.raises(UnknownExtensionError, match=r"cl, cloud, file, .*memory, .*zip"):
        zarrcy.stores.open("s4://bucket")


def test_a_store_without_urls_says_so(monkeypatch):
    class Own(ReadOnlyStore):
        pass

    zarrcy.stores.register("own", Own)
    with pytest.raises(StoreError, match="expected options, got a URL"):
        zarrcy.stores.open("own://x")


def broken_module(monkeypatch, tmp_path, package):
    (tmp_path / "cloudy_store.py").write_text(f"import {package}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(catalogue.registry._built_in, "cloudy", "cloudy_store:CloudyStore")


def test_a_missing_package_is_named_with_what_pip_installs(monkeypatch, tmp_path):
    broken_module(monkeypatch, tmp_path, "package_that_is_missing")
    monkeypatch.setitem(catalogue.EXTRAS, "cloudy", "cloud")
    for call in (
        lambda: zarrcy.stores.by_name("cloudy", bucket="b"),
        lambda: zarrcy.stores.info("cloudy"),
        lambda: zarrcy.stores.open("cloudy://b"),
    ):
        with pytest.raises(StoreError, match="'package_that_is_missing', which is not installed") as caught:
            call()
        assert caught.value.hint == 'pip install "zarrcy[cloud]"'
        assert caught.value.code == "missing_package"
    with pytest.raises(UnknownExtensionError, match="'s4'"):
        zarrcy.stores.open("s4://x")


def test_a_store_requires_its_package_at_first_use():
    with pytest.raises(StoreError, match="'package_that_is_missing'") as caught:
        zarrcy.stores.require("package_that_is_missing", "zarrcy[cloud]")
    assert caught.value.hint == 'pip install "zarrcy[cloud]"'
    assert zarrcy.stores.require("json", "zarrcy").dumps([1]) == "[1]"


# Read-only


def test_a_read_only_store_forwards_reading_and_is_pickled_with_its_store(tmp_path):
    with ZipStore(tmp_path / "a.zip") as writer:
        writer.set("c/0", b"abc")
    store = ReadOnlyStore(ZipStore(tmp_path / "a.zip"))
    assert store.supports_cas and store.url == writer.url
    value, version = store.get_with_version("c/0", slice(-1, None))
    assert bytes(value) == b"c" and version is not None
    assert list(store.list_dir()) == ["c/"] and list(store.list_prefix("c/")) == ["c/0"]
    assert dict(store.get_many([("c/0", None)])) == {0: b"abc"}
    again = pickle.loads(pickle.dumps(store))
    assert again == store and hash(again) == hash(store) and again.get("c/0") == b"abc"
    assert repr(store) == f"ReadOnlyStore(store={store.store!r})"
    with pytest.raises(ReadOnlyError):
        store.repair()
    with pytest.raises(StoreError, match="memory of this one"):
        pickle.dumps(ReadOnlyStore(MemoryStore()))


def test_a_read_only_store_forwards_the_native_reader():
    class Native(MemoryStore):
        concurrency = 7
        coalesce_gap = 8

        def native_reader(self):
            return "reader"

    store = ReadOnlyStore(Native())
    assert (store.native_reader(), store.concurrency, store.coalesce_gap) == ("reader", 7, 8)


# Transactions


def test_a_store_without_transactions_says_so():
    with pytest.raises(StoreError, match="store that has transactions") as caught:
        MemoryStore().transaction()
    assert caught.value.code == "no_transaction"
    with pytest.raises(ReadOnlyError):
        ReadOnlyStore(MemoryStore()).transaction()


# Import


def test_importing_the_catalogue_loads_no_store():
    script = """
import sys, numpy, zarrcy.stores
heavy = ("zipfile", "fcntl", "importlib.metadata", "concurrent.futures")
print([name for name in sys.modules if name.startswith("zarrcy.stores.") or name in heavy])
"""
    call = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=os.getcwd())
    assert sorted(eval(call.stdout)) == ["zarrcy.stores.catalogue", "zarrcy.stores.store"]
