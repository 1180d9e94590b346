"""Whatever goes wrong in the C API is a result and a message, and nothing is read, written or lost by it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import array_cases as cases
import numpy as np
import pytest
from embedding_cases import ARRAYS, RESULTS, SHAPE, Outcome, call, fine, made, taken, values_of

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.memory import MemoryStore

INT64 = 2**63
REGIONS = [
    ([0, 0], [1, 1], None, 2, "INVALID_ARGUMENT", "expected 3 axes, got 2"),
    ([0, 0, 0, 0], [1, 1, 1, 1], None, 4, "INVALID_ARGUMENT", "expected 3 axes, got 4"),
    ([0, 0, 0], [1, 1, 1], None, -1, "INVALID_ARGUMENT", "expected 3 axes, got -1"),
    (None, [1, 1, 1], None, 3, "INVALID_ARGUMENT", "start and shape"),
    ([0, 0, 0], None, None, 3, "INVALID_ARGUMENT", "start and shape"),
    ([0, 0, 0], [1, -1, 1], None, 3, "INVALID_ARGUMENT", "axis 1"),
    ([0, 0, 0], [1, 1, 1], [1, 1, 0], 3, "INVALID_ARGUMENT", "axis 2"),
    ([0, 0, 0], [1, 1, 1], [-INT64, 1, 1], 3, "INVALID_ARGUMENT", "axis 0"),
    (
        [0, 0, 0],
        [14, 1, 1],
        None,
        3,
        "OUT_OF_BOUNDS",
        "axis 0: expected items of 0 ... 12, got 14 from 0 on with step 1",
    ),
    ([0, 9, 0], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 1"),
    ([0, 0, -1], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 2"),
    ([0, 0, 14], [1, 1, 0], None, 3, "OUT_OF_BOUNDS", "axis 2"),
    ([0, 0, 0], [7, 1, 6], [2, 1, 3], 3, "OUT_OF_BOUNDS", "axis 2"),
    ([1, 0, 0], [3, 1, 1], [-1, 1, 1], 3, "OUT_OF_BOUNDS", "axis 0"),
    ([0, 0, 0], [1, INT64 - 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 1"),
    ([0, 0, 0], [1, INT64 - 1, 1], [1, INT64 - 1, 1], 3, "OUT_OF_BOUNDS", "axis 1"),
    ([INT64 - 1, 0, 0], [1, 1, 1], None, 3, "OUT_OF_BOUNDS", "axis 0"),
    ([-INT64, 0, 0], [2, 1, 1], [INT64 - 1, 1, 1], 3, "OUT_OF_BOUNDS", "axis 0"),
]


@pytest.mark.parametrize(("start", "shape", "step", "ndim", "name", "said"), REGIONS)
@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_region_that_is_no_region_of_the_array_is_refused_and_nothing_happens(
    kind: str, start: Any, shape: Any, step: Any, ndim: int, name: str, said: str, probe: ModuleType, tmp_path: Path
) -> None:
    array = ARRAYS[kind](tmp_path / "a.zarr")
    array[...] = 1
    with taken(probe, array) as handle:
        for writes in (False, True):
            memory = np.full(4, 9, array.dtype)
            options = {"step": step, "strides": None, "ndim": ndim}
            outcome = call(probe, handle, writes, start, shape, memory, **options)
            assert outcome.result == RESULTS[name]
            assert said in outcome.message and outcome.message.startswith(f"{array.store.url}: group/a: region: ")
            assert (memory == 9).all()
            without = call(probe, handle, writes, start, shape, memory, with_error=False, **options)
            assert without.result == outcome.result
    assert (array[...] == 1).all()


def test_null_is_refused_wherever_something_is_needed(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    fine(probe.close_array(0))
    assert probe.info(0) is None
    refused = [
        Outcome(*probe.open_array(None, "", "r", None)),
        Outcome(*probe.open_array(str(tmp_path), "", None, None)),
        Outcome(*probe.from_object(None, None)),
        Outcome(*probe.set_threads(0, 1)),
        call(probe, 0, False, [0, 0, 0], [1, 1, 1], np.zeros((1, 1, 1))),
        call(probe, 0, True, [0, 0, 0], [1, 1, 1], np.zeros((1, 1, 1))),
    ]
    with taken(probe, array) as handle:
        refused += [call(probe, handle, writes, [0, 0, 0], [1, 1, 1], None) for writes in (False, True)]
        refused += [Outcome(*probe.set_threads(handle, 0))]
    assert {outcome.result for outcome in refused} == {RESULTS["INVALID_ARGUMENT"]}
    assert all("expected" in outcome.message for outcome in refused)
    assert all(outcome.handle == 0 for outcome in refused)


def test_what_cannot_be_opened_is_a_result_and_no_handle(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    place = str(tmp_path / "a.zarr")
    cases_ = [
        (probe.open_array(str(tmp_path / "none"), "", "r", None), "NOT_FOUND", "none"),
        (probe.open_array(place, "group", "r", None), "NOT_FOUND", "expected an array, got a group"),
        (probe.open_array(place, "group/b", "r", None), "NOT_FOUND", "group/b"),
        (probe.open_array(place, "group/a", "w", None), "INVALID_ARGUMENT", 'mode: expected "r" or "r+", got \'w\''),
        (probe.open_array(place, "group/a", "r", "f4"), "WRONG_DTYPE", "group/a: expected items of float32, got int32"),
        (probe.open_array(place, "group/a", "r", ">i4"), "WRONG_DTYPE", "expected items of >i4, got int32"),
        (probe.open_array(place, "group/a", "r", "(,"), "WRONG_DTYPE", "expected a data type of NumPy"),
        (probe.open_array(str(broken), "", "r", None), "BAD_METADATA", "zarr.json"),
        (probe.from_object({}, None), "INVALID_ARGUMENT", "expected a zarrcy.Array, got dict"),
        (probe.from_object(array, "f4"), "WRONG_DTYPE", "expected items of float32"),
    ]
    for outcome, name, said in cases_:
        assert (outcome[0], outcome[3]) == (RESULTS[name], 0), outcome
        assert said in outcome[2]


@pytest.mark.parametrize("opened_by", ["path", "object"])
def test_an_array_for_reading_is_not_written_to(opened_by: str, probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    array[...] = 1
    if opened_by == "path":
        opened = probe.open_array(str(tmp_path / "a.zarr"), "group/a", "r", None)
    else:
        opened = probe.from_object(zarrcy.open_array(array.store, "group/a", mode="r"), None)
    outcome = call(probe, opened[3], True, [0, 0, 0], SHAPE, np.zeros(SHAPE, "int32"))
    assert outcome.result == RESULTS["READ_ONLY"]
    assert outcome.message.startswith(f"{array.store.url}: group/a: the array is read-only")
    fine(probe.close_array(opened[3]))
    assert (array[...] == 1).all()


def python_says(function: Callable[[], Any]) -> str:
    """The message of an exception and its notes."""
    with pytest.raises(zarrcy.ZarrcyError) as caught:
        function()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


@pytest.mark.parametrize("store", [FilesystemStore, cases.SubclassedStore])
def test_the_message_of_a_failure_is_that_of_pythons_exception(
    store: type[FilesystemStore], probe: ModuleType, tmp_path: Path
) -> None:
    array = made(store(tmp_path / "a.zarr"))
    array[...] = values_of(array.dtype, SHAPE, 1)
    memory = np.zeros(SHAPE, array.dtype)
    chunk = tmp_path / "a.zarr" / array.chunk_key((1, 1, 1))
    whole = chunk.read_bytes()
    with taken(probe, array) as handle:
        chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, memory)
        assert outcome.result == RESULTS["CODEC_FAILED"]
        assert outcome.message == python_says(lambda: array[...])
        assert array.chunk_key((1, 1, 1)) in outcome.message
        assert call(probe, handle, False, [0, 0, 0], SHAPE, memory, with_error=False).result == outcome.result
        chunk.unlink()
        chunk.mkdir()
        for writes in (False, True):
            outcome = call(probe, handle, writes, [4, 3, 5], [1, 1, 1], memory[:1, :1, :1])
            assert outcome.result == RESULTS["STORE_FAILED"] and outcome.os_error > 0
            assert array.chunk_key((1, 1, 1)) in outcome.message
        chunk.rmdir()
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, memory))
    strict = zarrcy.open_array(array.store, "group/a", missing="raise")
    with taken(probe, strict) as handle:
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, memory)
        assert outcome.result == RESULTS["MISSING_CHUNK"]
        assert outcome.message == python_says(lambda: strict[...])


def test_a_store_that_is_gone_is_an_error_and_no_fill_value(probe: ModuleType, tmp_path: Path) -> None:
    array = ARRAYS["files"](tmp_path / "a.zarr")
    memory = np.zeros(SHAPE, array.dtype)
    with taken(probe, array) as handle:
        shutil.move(tmp_path / "a.zarr", tmp_path / "b.zarr")
        for writes in (False, True):
            outcome = call(probe, handle, writes, [0, 0, 0], SHAPE, memory)
            assert outcome.result == RESULTS["STORE_FAILED"]
            assert "a.zarr" in outcome.message
        shutil.move(tmp_path / "b.zarr", tmp_path / "a.zarr")
        fine(call(probe, handle, False, [0, 0, 0], SHAPE, memory))
    assert (memory == -1).all()


@pytest.mark.parametrize(
    ("raised", "name", "said"),
    [
        (ValueError("no\0good " + "é" * 3000 + " at all"), "FAILED", r"^ValueError: no\\0good é+…é+ at all$"),
        (MemoryError(), "NO_MEMORY", "^MemoryError$"),
        (zarrcy.PermissionDeniedError("no", key="k"), "PERMISSION_DENIED", "^k: no$"),
        (zarrcy.ConflictError("busy"), "CONFLICT", "^busy$"),
        (zarrcy.ReadOnlyError("no"), "READ_ONLY", "^no$"),
        (KeyboardInterrupt(), "INTERRUPTED", "^KeyboardInterrupt$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_store_raises_is_a_result(raised: BaseException, name: str, said: str, probe: ModuleType) -> None:
    class Failing(MemoryStore):
        def get(self, key: str, part: slice | None = None) -> Any:
            if key.startswith("group/a/c/"):
                raise raised
            return super().get(key, part)

    with taken(probe, made(Failing())) as handle:
        outcome = call(probe, handle, False, [0, 0, 0], SHAPE, np.zeros(SHAPE, "int32"))
        assert outcome.result == RESULTS[name]
        assert re.search(said, outcome.message)
