"""`zarrcy validate`: it finds every damage, names it, goes on, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrcy
from zarrcy.cli import main
from zarrcy.cli.validation import validate
from zarrcy.stores import MemoryStore

ITEMS = np.random.default_rng(3).integers(0, 100, (40, 40)).astype("int32")


def make(target: Any, zarr_format: int = 3, **options: Any) -> None:
    """A small hierarchy: /, /a, /a/x (an array of 4 by 4 chunks)."""
    root = zarrcy.create_group(target, zarr_format=zarr_format)
    array = root.create_group("a").create_array("x", shape=(40, 40), chunks=(10, 10), dtype="int32", **options)
    array[:] = ITEMS
    root.store.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    make(tmp_path / "h.zarr")
    return tmp_path / "h.zarr"


def checked(capsys: Any, place: Path, *arguments: str) -> dict[str, Any]:
    code = main(["validate", str(place), *arguments, "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    assert code == (1 if found["problems"] else 0)
    return found


def problems(found: dict[str, Any]) -> list[tuple[str, str]]:
    assert all(problem["reason"] for problem in found["problems"])
    return [(problem["key"], problem["code"]) for problem in found["problems"]]


@pytest.mark.parametrize("name", ["h.zarr", "h.zip"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_sound_hierarchy_has_no_problem(name: str, zarr_format: int, tmp_path: Path, capsys: Any) -> None:
    make(tmp_path / name, zarr_format)
    found = checked(capsys, tmp_path / name, "--deep")
    assert found["checked"] == {"groups": 2, "arrays": 1, "chunks": 16, "nbytes_decoded": ITEMS.nbytes}
    assert (found["problems"], found["unknown_keys"], found["deep"]) == ([], [], True)
    assert checked(capsys, tmp_path / name)["checked"]["nbytes_decoded"] == 0


def test_consolidated_metadata_that_is_true_is_no_problem(tmp_path: Path, capsys: Any) -> None:
    for zarr_format in (2, 3):
        place = tmp_path / f"h{zarr_format}.zarr"
        make(place, zarr_format)
        zarrcy.consolidate_metadata(place)
        assert checked(capsys, place, "--deep")["problems"] == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, lengthen, empty])
def test_every_broken_chunk_is_found_by_a_deep_run(damage: Callable[[Path], None], place: Path, capsys: Any) -> None:
    broken = ["a/x/c/0/0", "a/x/c/2/3", "a/x/c/3/1"]
    for key in broken:
        damage(place / key)
    found = checked(capsys, place, "--deep")
    assert problems(found) == [(key, "chunk") for key in broken]
    assert found["checked"]["chunks"] == 16
    assert checked(capsys, place)["problems"] == []


def test_a_swapped_chunk_of_an_uncompressed_array_is_found_by_its_length(tmp_path: Path, capsys: Any) -> None:
    make(tmp_path / "h.zarr", compressor=None)
    cut(tmp_path / "h.zarr/a/x/c/1/1")
    lengthen(tmp_path / "h.zarr/a/x/c/1/2")
    assert problems(checked(capsys, tmp_path / "h.zarr", "--deep")) == [("a/x/c/1/1", "chunk"), ("a/x/c/1/2", "chunk")]


def test_the_broken_inner_chunks_of_a_shard_are_named(tmp_path: Path, capsys: Any) -> None:
    place = tmp_path / "h.zarr"
    root = zarrcy.create_group(place)
    root.create_array("x", shape=(40, 40), chunks=(10, 10), shards=(20, 40), dtype="int32")[:] = ITEMS
    data = bytearray((place / "x/c/1/0").read_bytes())
    index = np.frombuffer(bytes(data[-8 * 16 - 4 : -4]), "<u8").reshape(2, 4, 2)
    for i, j in ((0, 1), (1, 3)):
        offset, nbytes = index[i, j]
        data[int(offset + nbytes // 2)] ^= 1
    (place / "x/c/1/0").write_bytes(data)
    found = checked(capsys, place, "--deep")
    assert problems(found) == [("x/c/1/0", "chunk")] * 2
    reasons = sorted(problem["reason"] for problem in found["problems"])
    assert "[20:30, 10:20]" in reasons[0] and "[30:40, 30:40]" in reasons[1]


def test_a_broken_shard_index_is_one_problem_at_least(tmp_path: Path, capsys: Any) -> None:
    place = tmp_path / "h.zarr"
    root = zarrcy.create_group(place)
    root.create_array("x", shape=(40, 40), chunks=(10, 10), shards=(20, 40), dtype="int32")[:] = ITEMS
    cut(place / "x/c/1/0")
    assert set(problems(checked(capsys, place, "--deep"))) == {("x/c/1/0", "chunk")}


def test_broken_metadata_is_named_and_the_rest_is_checked(place: Path, capsys: Any) -> None:
    zarrcy.create_array(place, "b", shape=(10,), chunks=(5,), dtype="int8")[:] = 1
    flip(place / "b/c/0")
    (place / "a/x/zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "shape": [true]}')
    (place / "a/zarr.json").write_text("{")
    found = checked(capsys, place, "--deep")
    assert problems(found) == [("a/x/zarr.json", "metadata"), ("a/zarr.json", "metadata"), ("b/c/0", "chunk")]
    assert found["checked"] == {"groups": 1, "arrays": 1, "chunks": 2, "nbytes_decoded": 5}


def edit(place: Path, **fields: Any) -> None:
    document = json.loads(place.read_text())
    place.write_text(json.dumps(document | fields))


def test_an_unknown_codec_is_named(place: Path, capsys: Any) -> None:
    edit(
        place / "a/x/zarr.json",
        codecs=[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "no_such_codec"}],
    )
    found = checked(capsys, place)
    assert problems(found) == [("a/x/zarr.json", "unknown_extension")]
    assert "no_such_codec" in found["problems"][0]["reason"]


def test_codecs_that_do_not_fit_the_chunks_are_found(place: Path, capsys: Any) -> None:
    document = json.loads((place / "a/x/zarr.json").read_text())
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [3, 3],
            "codecs": document["codecs"],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    edit(place / "a/x/zarr.json", codecs=[sharding])
    assert problems(checked(capsys, place)) == [("a/x/zarr.json", "metadata")]


def test_a_chunk_outside_the_grid_is_found(place: Path, capsys: Any) -> None:
    (place / "a/x/c/0/4").write_bytes(b"left over")
    (place / "a/x/c/99").mkdir()
    (place / "a/x/c/99/0").write_bytes(b"left over")
    assert problems(checked(capsys, place)) == [("a/x/c/0/4", "outside"), ("a/x/c/99/0", "outside")]


def test_a_node_that_its_parent_does_not_show_is_found(place: Path, capsys: Any) -> None:
    (place / "a/zarr.json").unlink()
    assert problems(checked(capsys, place)) == [("a/x", "no_parent")]


def test_a_node_below_an_array_is_found(place: Path, capsys: Any) -> None:
    (place / "a/x/y").mkdir()
    (place / "a/x/y/zarr.json").write_bytes((place / "a/zarr.json").read_bytes())
    assert problems(checked(capsys, place)) == [("a/x/y", "no_parent")]


def test_stray_keys_are_listed_and_are_no_problem(place: Path, capsys: Any) -> None:
    (place / "README.txt").write_text("notes")
    (place / "a/x/c/0/thumbs.db").write_text("")
    (place / "a/x/c/01").mkdir()
    (place / "a/x/c/01/0").write_text("")
    found = checked(capsys, place, "--deep")
    assert found["problems"] == []
    assert found["unknown_keys"] == ["README.txt", "a/x/c/0/thumbs.db", "a/x/c/01/0"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_that_lies_is_found(zarr_format: int, tmp_path: Path, capsys: Any) -> None:
    place = tmp_path / "h.zarr"
    make(place, zarr_format)
    zarrcy.consolidate_metadata(place)
    zarrcy.open(place, "a/x").resize((50, 40))
    zarrcy.create_array(place, "a/new", shape=(1,), zarr_format=zarr_format)
    found = checked(capsys, place)
    assert [problem["code"] for problem in found["problems"]] == ["consolidated", "consolidated"]
    reasons = sorted(problem["reason"] for problem in found["problems"])
    assert "'a/new' is missing" in reasons[0] and "'a/x' is described differently" in reasons[1]


def test_a_value_that_the_store_cannot_read_is_told_apart_from_a_broken_one() -> None:
    class Failing(MemoryStore):
        def get(self, key: str, part: slice | None = None) -> Any:
            if key.endswith("c/1/1"):
                raise zarrcy.StoreError("the disk is on fire", store=self.url, key=key, code="eio")
            return super().get(key, part)

    store = Failing()
    make(store)
    found = validate(store, "", deep=True, progress=lambda *_: None)
    assert problems(found) == [("a/x/c/1/1", "store")]
    assert "the disk is on fire" in found["problems"][0]["reason"]


def test_a_part_of_a_hierarchy_can_be_checked(place: Path, capsys: Any) -> None:
    zarrcy.create_array(place, "b", shape=(10,), chunks=(5,), dtype="int8")[:] = 1
    flip(place / "b/c/0")
    assert checked(capsys, place, "a", "--deep")["checked"]["chunks"] == 16
    assert problems(checked(capsys, place, "b", "--deep")) == [("b/c/0", "chunk")]


def test_a_place_without_a_node_is_a_failure_and_not_sound(place: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        [str(tmp_path / "empty")],
        [str(tmp_path / "nowhere")],
        [str(place), "a/y"],
        [str(place), "a/x/c"],
    ):
        assert main(["validate", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("zarrcy: ")


def test_nothing_is_changed(place: Path, capsys: Any) -> None:
    flip(place / "a/x/c/0/0")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    checked(capsys, place, "--deep")
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_the_text_shows_every_problem_with_its_reason(place: Path, capsys: Any) -> None:
    flip(place / "a/x/c/0/0")
    (place / "stray").write_text("")
    assert main(["validate", str(place), "--deep"]) == 1
    out = capsys.readouterr().out
    assert "checked 2 groups, 1 array, 16 stored chunks" in out
    assert "a/x/c/0/0" in out and "stray" in out and "1 problem" in out
