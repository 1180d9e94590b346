"""Arrays and groups over every store of the table: selections, growing, attributes, consolidated metadata, copies."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import array_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from store_makers import EVERY, ON_SERVERS
from test_arrays_model import Modelled, arrays, steps

import zarrcy
from zarrcy.stores.memory import MemoryStore

cases.register_codec()

LAYOUTS = [
    {"zarr_format": 2, "compressor": "zlib"},
    {"chunks": (4, 3), "compressor": "zstd"},
    {"chunks": (2, 3), "shards": (4, 6), "compressor": "gzip"},
]


@pytest.mark.parametrize("name", EVERY)
def test_an_array_on_any_store_answers_like_numpy(name: str) -> None:
    with cases.directory_in_memory() as place:

        @settings(max_examples=20 if name in ON_SERVERS else 100)
        @given(options=arrays(), steps=steps)
        def check(options: Any, steps: Any) -> None:
            own = Path(tempfile.mkdtemp(dir=place))
            with EVERY[name](own) as store:
                modelled = Modelled(zarrcy.create_array(store, **options))
                for step in steps:
                    modelled.step(*step)
                modelled.check(modelled.array)
                modelled.check(zarrcy.open_array(store))
            shutil.rmtree(own)

        check()


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("name", EVERY)
def test_an_array_on_any_store_grows_and_shrinks(name: str, tmp_path: Path, options: Any) -> None:
    options = {"chunks": (4, 3), **options}
    model = np.arange(60, dtype="int32").reshape(10, 6)
    with EVERY[name](tmp_path) as store:
        array = zarrcy.create_array(store, "deep/a", shape=(10, 6), dtype="int32", fill_value=-1, **options)
        array[...] = model
        array.append(model[:5] * 10)
        array.append(np.full((15, 2), 7), axis=1)
        model = np.hstack([np.vstack([model, model[:5] * 10]), np.full((15, 2), 7)])
        assert (array[...] == model).all()
        array.resize((7, 5))
        array.resize((9, 6))
        grown = np.full((9, 6), -1)
        grown[:7, :5] = model[:7, :5]
        for each in (array, zarrcy.open_array(store, "deep/a")):
            assert each.shape == (9, 6)
            assert (each[...] == grown).all()
        array[3:5, 1:] = 100
        grown[3:5, 1:] = 100
        assert (zarrcy.open(store)["deep/a"][...] == grown).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", EVERY)
def test_a_hierarchy_on_any_store_is_found_again(name: str, tmp_path: Path, zarr_format: int) -> None:
    with EVERY[name](tmp_path) as store:
        root = zarrcy.create_group(store, attributes={"title": "größe"}, zarr_format=zarr_format)
        root.create_array("ocean/temp", shape=4, chunks=2, dtype="int16")[:] = [1, 2, 3, 4]
        root.create_array("ocean/temp2", shape=2, dtype="int8")
        root.create_group("empty").attrs["n"] = 1
        root["ocean/temp"].attrs.update(unit="K", scale=0.5)

        def check(group: zarrcy.Group) -> None:
            assert dict(group.attrs) == {"title": "größe"} and group.metadata.zarr_format == zarr_format
            assert sorted(group) == ["empty", "ocean"] and sorted(group["ocean"]) == ["temp", "temp2"]
            assert dict(group["ocean/temp"].attrs) == {"unit": "K", "scale": 0.5}
            assert group["ocean/temp"][:].tolist() == [1, 2, 3, 4]

        check(zarrcy.open_group(store))
        zarrcy.consolidate_metadata(store)
        check(zarrcy.open_group(store, mode="r"))
        with pytest.raises(zarrcy.ReadOnlyError):
            zarrcy.open_group(store, mode="r").create_group("new")
        with pytest.raises(zarrcy.NodeExistsError):
            zarrcy.create_array(store, "ocean/temp", shape=1)
        zarrcy.create_array(store, "ocean/temp", shape=1, overwrite=True, zarr_format=zarr_format)
        assert zarrcy.open_array(store, "ocean/temp").shape == (1,)
        del root["ocean"]
        assert sorted(zarrcy.open_group(store, mode="r+")) == ["empty"]
        assert not [key for key in store.list_prefix() if key.startswith("ocean")]


@pytest.mark.parametrize("name", EVERY)
def test_a_hierarchy_is_copied_to_any_store_and_back(name: str, tmp_path: Path) -> None:
    source = zarrcy.create_group(MemoryStore(), attributes={"title": "ocean"})
    source["a"] = np.arange(100)
    source["deep/er/b"] = np.arange(6.0).reshape(2, 3)
    with EVERY[name](tmp_path) as store:
        zarrcy.copy(source, store, "here")
        back = zarrcy.copy(zarrcy.open_group(store, "here"), MemoryStore())
    assert str(back.tree()) == str(source.tree()) and dict(back.attrs) == {"title": "ocean"}
    for path in ("a", "deep/er/b"):
        assert back[path].metadata == source[path].metadata
        assert (back[path][...] == source[path][...]).all()


@pytest.mark.parametrize("name", EVERY)
def test_an_array_on_any_store_is_pickled_or_says_why_not(name: str, tmp_path: Path) -> None:
    with EVERY[name](tmp_path) as store:
        array = zarrcy.create_array(store, "deep/a", shape=10, chunks=3, dtype="int16", attributes={"unit": "K"})
        array[:] = range(10)
        store.sync()
        try:
            data = pickle.dumps(array)
        except zarrcy.StoreError as error:
            assert "memory of this one" in str(error) and error.hint
            return
        again = pickle.loads(data)
        assert again[:].tolist() == list(range(10))
        assert (again.path, again.metadata, again.attrs["unit"]) == (array.path, array.metadata, "K")
        again.store.close()
