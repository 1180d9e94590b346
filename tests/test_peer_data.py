"""What zarr-python, tensorstore, zarrs and ExZarr wrote is read bit for bit.

The files are decoded, never compared with our encoding.
"""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import formulas
import numpy as np
import pytest

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.zip import ZipStore

DATA = Path(__file__).parent / "data"

TREES = sorted(
    path.relative_to(DATA).with_suffix("").with_suffix("").as_posix() for path in DATA.glob("*/*.expected.json")
)


def nodes(tree: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    document = json.loads((DATA / f"{tree}.expected.json").read_text())
    return ((path, about) for path, about in document.items() if about["kind"] == kind)


@pytest.fixture(params=["filesystem", "zip"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A function from the name of a tree to a store that holds it.

    The archive itself, or a directory it was unpacked to.
    """

    def open_tree(tree: str) -> zarrcy.stores.Store:
        archive = DATA / f"{tree}.zip"
        if request.param == "zip":
            return ZipStore(archive, mode="r")
        with zipfile.ZipFile(archive) as file:
            file.extractall(tmp_path)
        return FilesystemStore(tmp_path)

    return open_tree


def difference(got: np.ndarray, about: dict[str, Any]) -> str:
    """Empty when `got` is what was written, to the last bit of every item; else what differs."""
    want = formulas.expected(about)
    if got.shape != want.shape or got.dtype.newbyteorder("=") != want.dtype.newbyteorder("="):
        return f"expected {want.shape} {want.dtype}, got {got.shape} {got.dtype}"
    if np.ascontiguousarray(got.astype(want.dtype)).tobytes() != want.tobytes():
        return f"expected {want!r}, got {got!r}"
    return ""


@pytest.mark.parametrize("tree", TREES)
def test_every_array_a_peer_wrote_decodes_to_what_it_wrote(tree: str, opened: Any) -> None:
    wrong, count = {}, 0
    with opened(tree) as store:
        for path, about in nodes(tree, "array"):
            if path.startswith("refused/"):
                continue
            array = zarrcy.open_array(store, path=path, mode="r")
            count += 1
            if problem := difference(np.asarray(array[...]), about):
                wrong[path] = problem
    assert not wrong
    assert count == sum(not path.startswith("refused/") for path, _ in nodes(tree, "array")) > 0


@pytest.mark.parametrize("tree", TREES)
def test_a_part_of_every_array_a_peer_wrote_is_the_part_of_the_whole(tree: str, opened: Any) -> None:
    """The last item, a strided reverse and one column: through the partial paths of shards and blosc blocks."""
    wrong = {}
    with opened(tree) as store:
        for path, about in nodes(tree, "array"):
            if path.startswith("refused/") or 0 in about["shape"] or not about["shape"]:
                continue
            array = zarrcy.open_array(store, path=path, mode="r")
            whole = formulas.expected(about)
            for selection in ((-1,) * whole.ndim, np.s_[::-2], np.s_[..., 1:2], np.s_[1:4]):
                got, want = np.asarray(array[selection]), np.asarray(whole[selection])
                if got.shape != want.shape or got.astype(want.dtype).tobytes() != want.tobytes():
                    wrong[path, str(selection)] = got, want
    assert not wrong


@pytest.mark.parametrize("tree", TREES)
def test_attributes_and_dimension_names_of_peers_are_read(tree: str, opened: Any) -> None:
    with opened(tree) as store:
        for path, about in nodes(tree, "array"):
            if path.startswith("refused/"):
                continue
            array = zarrcy.open_array(store, path=path, mode="r")
            if "attributes" in about:
                got, want = (json.dumps(each, sort_keys=True) for each in (dict(array.attrs), about["attributes"]))
                assert got == want  # as text: NaN has no equal, but a spelling
            assert array.metadata.dimension_names == (
                tuple(about["dimension_names"]) if "dimension_names" in about else None
            ), path
        for path, about in nodes(tree, "group"):
            group = zarrcy.open_group(store, path=path, mode="r")
            assert dict(group.attrs) == about["attributes"], path


@pytest.mark.parametrize("tree", [tree for tree in TREES if any(path == "" for path, _ in nodes(tree, "group"))])
def test_a_peers_hierarchy_is_walked_as_a_mapping(tree: str, opened: Any) -> None:
    found: set[str] = set()

    def walk(group: zarrcy.Group, prefix: str) -> None:
        for name, node in group.items():
            found.add(prefix + name)
            if isinstance(node, zarrcy.Group):
                walk(node, f"{prefix}{name}/")

    with opened(tree) as store:
        walk(zarrcy.open_group(store, mode="r"), "")
    assert found == {path for kind in ("array", "group") for path, _ in nodes(tree, kind) if path}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_of_zarr_python_is_enough_to_read(zarr_format: int, tmp_path: Path) -> None:
    """With the documents of the nodes below deleted, only the copy in the root names the arrays."""
    tree = f"zarr_python/consolidated_v{zarr_format}"
    with zipfile.ZipFile(DATA / f"{tree}.zip") as file:
        file.extractall(tmp_path)
    names = (".zarray", ".zattrs", ".zgroup") if zarr_format == 2 else ("zarr.json",)
    for path in [path for path in tmp_path.rglob("*") if path.name in names and path.parent != tmp_path]:
        path.unlink()
    root = zarrcy.open_group(tmp_path, mode="r")
    for path, about in nodes(tree, "array"):
        array = root[path]
        assert not difference(np.asarray(array[...]), about), path
        assert dict(array.attrs) == about.get("attributes", {})
    with pytest.raises(zarrcy.NodeNotFoundError):
        zarrcy.open_group(tmp_path, mode="r+")["a/b/temperature"]


def test_a_codec_that_was_not_built_in_is_refused_by_name(tmp_path: Path) -> None:
    """tensorstore's blosc knows snappy; C-Blosc of the wheels does not, and nor do numcodecs' and zarr-python's."""
    store = ZipStore(DATA / "tensorstore" / "v3.zip", mode="r")
    with store, pytest.raises((zarrcy.MetadataError, zarrcy.UnknownExtensionError), match="snappy"):
        zarrcy.open_array(store, path="refused/blosc_snappy", mode="r")[...]


EXZARR = {"f64": (np.float64, lambda i: i * 0.5), "i16": (np.int16, lambda i: i - 600)}


@pytest.mark.parametrize("name", ["f64_none", "f64_zlib", "i16_none", "i16_zlib"])
def test_an_array_of_exzarr_is_read_in_spite_of_its_lock_files(name: str, tmp_path: Path) -> None:
    root = shutil.copytree(DATA / "exzarr" / name, tmp_path / name)
    dtype, formula = EXZARR[name[:3]]
    array = zarrcy.open_array(root, mode="r")
    assert (array.shape, array.chunks, array.dtype, array.metadata.zarr_format) == ((30, 40), (7, 16), dtype, 2)
    assert np.array_equal(array[...], formula(np.arange(1200)).astype(dtype).reshape(30, 40))
    assert array.nchunks_initialized == math.prod((5, 3))
    assert (root / "0.0.lock.read").exists()
