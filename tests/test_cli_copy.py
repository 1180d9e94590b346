"""`zarrcy copy`: between stores, formats, chunk shapes and codecs, and what happens when it cannot."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy.cli import main

CUBE = np.random.default_rng(7).integers(0, 1000, (20, 30, 40)).astype("int16")
TIME = np.arange(20, dtype="float64") / 3


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy with a cube, a time axis, an array with absent chunks and an empty group."""
    monkeypatch.chdir(tmp_path)
    root = zarrcy.create_group("source.zarr", attributes={"title": "source", "n": [1, None]})
    cube = root.create_array(
        "data/cube", shape=CUBE.shape, chunks=(5, 10, 40), dtype="int16", dimension_names=["t", "y", "x"]
    )
    cube[:] = CUBE
    cube.attrs["units"] = "K"
    root.create_array("time", shape=TIME.shape, chunks=(7,), dtype="float64", compressor="zlib")[:] = TIME
    root.create_array("sparse", shape=(100,), chunks=(10,), dtype="int8", fill_value=-1)[30:35] = 3
    root.create_group("nothing")
    return tmp_path / "source.zarr"


def copied(capsys: Any, *arguments: str) -> dict[str, Any]:
    code = main(["copy", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def refused(capsys: Any, *arguments: str) -> tuple[int, str]:
    code = main(["copy", *arguments])
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("zarrcy: ") and "Traceback" not in err
    return code, err


def check(target: str, path: str = "") -> zarrcy.Group:
    """The hierarchy at a path says what the source says."""
    root: zarrcy.Group = zarrcy.open(target, path)
    assert sorted(name for name, _ in root.members(None)) == ["data", "data/cube", "nothing", "sparse", "time"]
    assert dict(root.attrs) == {"title": "source", "n": [1, None]}
    assert np.array_equal(root["data/cube"][:], CUBE)
    assert root["data/cube"].attrs["units"] == "K"
    assert np.array_equal(root["time"][:], TIME)
    assert root["sparse"].fill_value == -1
    assert root["sparse"].nchunks_initialized == 1
    assert root["sparse"][29:36].tolist() == [-1, 3, 3, 3, 3, 3, -1]
    return root


@pytest.mark.parametrize(
    ("through", "formats"),
    list(itertools.product(("a.zarr", "a.zip"), ((None, None), ("2", "3"), ("3", "2"), ("2", None)))),
)
def test_a_hierarchy_survives_two_copies_between_stores_and_formats(through: str, formats: Any, capsys: Any) -> None:
    place = "source.zarr"
    for target, zarr_format in zip((through, "b.zarr"), formats):
        option = [] if zarr_format is None else ["--zarr-format", zarr_format]
        found = copied(capsys, place, target, *option)
        assert (found["arrays"], found["groups"]) == (3, 3)
        assert found["nbytes"] == CUBE.nbytes + TIME.nbytes + 100
        if zarr_format is not None:
            assert zarrcy.open(target).metadata.zarr_format == int(zarr_format)
            assert zarrcy.open(target)["time"].metadata.zarr_format == int(zarr_format)
        place = target
    check("b.zarr")


def test_the_document_of_a_copy_tells_what_went_where(source: Path, capsys: Any) -> None:
    found = copied(capsys, "source.zarr", "a.zip", "--source-path", "data", "--target-path", "/deep/down/")
    assert found.pop("seconds") >= 0
    array = zarrcy.open("a.zip", "deep/down/cube")
    assert found == {
        "source": source.as_uri(),
        "source_path": "data",
        "target": array.store.url,
        "target_path": "deep/down",
        "arrays": 1,
        "groups": 1,
        "nbytes": CUBE.nbytes,
        "nbytes_stored": array.nbytes_stored,
    }
    assert np.array_equal(array[:], CUBE)


def test_one_array_can_be_copied_to_the_root_of_a_store(capsys: Any) -> None:
    copied(capsys, "source.zarr", "t.zarr", "--source-path", "time")
    assert np.array_equal(zarrcy.open("t.zarr")[:], TIME)


def test_a_finished_archive_is_whole_for_other_readers(capsys: Any) -> None:
    import zipfile

    copied(capsys, "source.zarr", "a.zip")
    with zipfile.ZipFile("a.zip") as archive:
        assert archive.testzip() is None
        assert "data/cube/zarr.json" in archive.namelist()


def test_chunks_and_shards_hold_for_arrays_with_as_many_axes(capsys: Any) -> None:
    copied(capsys, "source.zarr", "a.zarr", "--chunks", "2,10,20", "--shards", "10,30,40")
    root = check("a.zarr")
    assert (root["data/cube"].chunks, root["data/cube"].shards) == ((2, 10, 20), (10, 30, 40))
    assert root["time"].chunks == (7,)
    copied(capsys, "a.zarr", "b.zarr", "--shards", "none", "--chunks", "auto")
    root = check("b.zarr")
    assert root["data/cube"].shards is None and root["data/cube"].chunks == CUBE.shape


def test_the_compressor_can_be_changed_and_left_out(capsys: Any) -> None:
    copied(capsys, "source.zarr", "raw.zarr", "--compressor", "none")
    assert [codec.name for codec in check("raw.zarr")["data/cube"].codecs] == ["bytes"]
    copied(capsys, "raw.zarr", "gz.zarr", "--compressor", "gzip")
    assert [codec.name for codec in check("gz.zarr")["data/cube"].codecs] == ["bytes", "gzip"]


@pytest.mark.parametrize("option", ["--chunks", "--shards"])
@pytest.mark.parametrize("shape", ["0,1,1", "a", "1,,2", "-3", "10,10"])
def test_a_shape_that_fits_nothing_is_wrong_usage_and_writes_nothing(option: str, shape: str, capsys: Any) -> None:
    code, err = refused(capsys, "source.zarr", "a.zarr", option, shape)
    assert code == 2 and option in err
    assert not Path("a.zarr").exists()


def test_what_is_in_the_way_stays_unless_overwrite_is_given(capsys: Any) -> None:
    zarrcy.save("a.zarr", np.arange(3))
    code, err = refused(capsys, "source.zarr", "a.zarr")
    assert code == 1 and "a.zarr" in err
    assert zarrcy.load("a.zarr").tolist() == [0, 1, 2]
    copied(capsys, "source.zarr", "a.zarr", "--overwrite")
    check("a.zarr")


def test_files_that_are_no_zarr_are_never_overwritten(capsys: Any) -> None:
    Path("a.zarr").mkdir()
    Path("a.zarr/notes.txt").write_text("mine")
    code, _ = refused(capsys, "source.zarr", "a.zarr", "--overwrite")
    assert code == 1
    assert Path("a.zarr/notes.txt").read_text() == "mine"


def test_a_source_is_not_overwritten_by_itself(capsys: Any) -> None:
    for arguments in (["source.zarr", "source.zarr"], ["source.zarr", "source.zarr", "--target-path", "data/copy"]):
        code, err = refused(capsys, *arguments, "--overwrite")
        assert code == 1 and "source" in err
    check("source.zarr")


def test_a_copy_inside_one_store_works_where_it_does_not_meet_itself(capsys: Any) -> None:
    copied(capsys, "source.zarr", "source.zarr", "--source-path", "data", "--target-path", "copy")
    assert np.array_equal(zarrcy.open("source.zarr", "copy/cube")[:], CUBE)


def test_a_broken_chunk_stops_a_copy_that_decodes_and_is_named(source: Path, capsys: Any) -> None:
    chunk = source / "data/cube/c/1/2/0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    code, err = refused(capsys, "source.zarr", "a.zarr", "--compressor", "gzip")
    assert code == 1 and "data/cube/c/1/2/0" in err


def test_the_default_codecs_become_those_of_the_other_format(capsys: Any) -> None:
    zarrcy.save("three.zarr", CUBE)
    copied(capsys, "three.zarr", "two.zarr", "--zarr-format", "2")
    assert [codec.name for codec in zarrcy.open("two.zarr").codecs] == ["bytes", "zstd"]
    copied(capsys, "two.zarr", "again.zarr", "--zarr-format", "3")
    assert zarrcy.open("again.zarr").codecs == zarrcy.open("three.zarr").codecs


def test_filters_of_v2_become_codecs_of_v3(capsys: Any) -> None:
    filters = [{"id": "delta", "dtype": "<i2"}, {"id": "gzip", "level": 1}]
    chain = {"filters": filters, "compressor": "zlib"}
    zarrcy.create_array("two.zarr", shape=(50,), dtype="int16", zarr_format=2, **chain)[:] = 7
    copied(capsys, "two.zarr", "three.zarr", "--zarr-format", "3")
    found = zarrcy.open("three.zarr")
    assert [codec.name for codec in found.codecs] == ["numcodecs.delta", "bytes", "gzip", "numcodecs.zlib"]
    assert (found[:] == 7).all()


# sync


def test_sync_brings_several_stores_up_to_date(capsys: Any) -> None:
    def sync(*arguments: str) -> dict[str, Any]:
        assert main(["sync", "source.zarr", *arguments, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    done = sync("a.zarr", "b.zip")
    n = len(list(zarrcy.stores.open("source.zarr").list_prefix()))
    assert (done["copied"], done["unchanged"], done["deleted"], len(done["targets"])) == (2 * n, 0, 0, 2)
    check("a.zarr")
    check("b.zip")
    zarrcy.open("source.zarr", mode="r+")["time"][0] = 5
    zarrcy.create_array("a.zarr", "new", shape=1)
    done = sync("a.zarr", "b.zip", "--delete", "--no-verify")
    assert (done["copied"], done["unchanged"], done["deleted"]) == (2, 2 * n - 2, 1)
    assert zarrcy.open("b.zip")["time"][0] == 5 and "new" not in zarrcy.open("a.zarr")
    assert sync("a.zarr", "--prefix", "data/")["copied"] == 0
    assert main(["sync", "source.zarr", "a.zarr"]) == 0
    assert "copied 0 values" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["source.zarr", "source.zarr/data", "."])
def test_sync_refuses_the_source_as_its_target(target: str, source: Path, capsys: Any) -> None:
    before = sorted(source.rglob("*"))
    assert main(["sync", "source.zarr", target, "--delete"]) == 2
    assert "apart from" in capsys.readouterr().err
    assert sorted(source.rglob("*")) == before
