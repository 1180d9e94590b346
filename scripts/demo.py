"""Turn netCDF files into Zarr and back, and compare every variable bit for bit.

Run by scripts/demo, which makes the environment.

The files are those of iris-sample-data: climate and ocean model output, satellite and buoy data, netCDF-3 and netCDF-4,
with masks, time axes, scalars, big-endian numbers and text. Values are taken as stored: not unpacked, not masked. Each
file becomes a group in each of six forms, each variable an array with its dimension names, attributes and fill value.
Exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import iris_sample_data
import netCDF4
import numpy as np

import zarrcy
from zarrcy.stores.filesystem import FilesystemStore
from zarrcy.stores.zip import ZipStore

QUICK = ("atlantic_profiles.nc", "hybrid_height.nc", "space_weather.nc", "vlstr_type.nc")
FORMS = ("v3", "v3 sharded", "v2")


class Variable(NamedTuple):
    """A variable as the netCDF file stores it."""

    name: str
    values: np.ndarray
    dimensions: tuple[str, ...]
    attributes: dict[str, Any]
    fill_value: Any  # what the file says, or None


class Dataset(NamedTuple):
    """A netCDF file in memory."""

    name: str
    attributes: dict[str, Any]
    variables: list[Variable]


def plain(value: Any) -> Any:
    """An attribute as JSON has it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def stored(variable: netCDF4.Variable, big_endian: bool) -> np.ndarray:
    """The values as stored.

    Packed integers stay packed, masked items keep their fill value, netCDF-3 keeps its byte order.
    """
    values = np.asarray(variable[...])
    if values.dtype == object:  # strings of any length; zarrcy has those of one length
        text = values.astype(np.bytes_)
        if text.astype(str).tolist() != values.tolist():
            raise ValueError(f"{variable.name}: expected ASCII strings without a final NUL")
        return text
    return values.astype(values.dtype.newbyteorder(">")) if big_endian else values


def read_netcdf(path: Path) -> Dataset:
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        big_endian = file.data_model.startswith("NETCDF3")  # the classic formats are big-endian by definition
        variables = []
        for name, variable in file.variables.items():
            attributes = {key: plain(variable.getncattr(key)) for key in variable.ncattrs()}
            fill_value = variable.getncattr("_FillValue") if "_FillValue" in attributes else None
            variables.append(Variable(name, stored(variable, big_endian), variable.dimensions, attributes, fill_value))
        return Dataset(path.stem, {key: plain(file.getncattr(key)) for key in file.ncattrs()}, variables)


def create(group: zarrcy.Group, variable: Variable, form: str) -> zarrcy.Array:
    values = variable.values
    options: dict[str, Any] = {"dimension_names": variable.dimensions}
    attributes = variable.attributes
    if form == "v2":  # where the dimension names are an attribute, as xarray has it
        options, attributes = {}, {**attributes, "_ARRAY_DIMENSIONS": list(variable.dimensions)}
    if form == "v3 sharded" and values.ndim:
        inner = tuple(min(n, 32) for n in values.shape)
        options |= {"chunks": inner, "shards": tuple(-(-n // m) * m for n, m in zip(values.shape, inner))}
    if variable.fill_value is not None:
        options["fill_value"] = variable.fill_value
    return group.create_array(variable.name, shape=values.shape, dtype=values.dtype, attributes=attributes, **options)


def write(store: Any, datasets: list[Dataset], form: str) -> None:
    root = zarrcy.create_group(store, zarr_format=2 if form == "v2" else 3)
    for dataset in datasets:
        group = root.create_group(dataset.name, attributes=dataset.attributes)
        for variable in dataset.variables:
            create(group, variable, form)[...] = variable.values


def differences(root: zarrcy.Group, datasets: list[Dataset], form: str, arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """A line for everything that is not as in the source. `arrays` are the values read, by path."""
    for dataset in datasets:
        if dict(root[dataset.name].attrs) != dataset.attributes:
            yield f"{dataset.name}: attributes"
        for variable in dataset.variables:
            path = f"{dataset.name}/{variable.name}"
            array, got = root[path], arrays[path]
            want = variable.values.astype(variable.values.dtype.newbyteorder("="))  # the byte order of what is read
            attributes = dict(array.attrs)
            names = attributes.pop("_ARRAY_DIMENSIONS", None) if form == "v2" else array.metadata.dimension_names
            if tuple(names) != variable.dimensions:
                yield f"{path}: dimension names: expected {variable.dimensions}, got {names}"
            if attributes != variable.attributes:
                yield f"{path}: attributes: expected {variable.attributes}, got {attributes}"
            if (got.shape, got.dtype) != (want.shape, want.dtype):
                yield f"{path}: expected {want.shape} {want.dtype}, got {got.shape} {got.dtype}"
            elif got.tobytes() != want.tobytes():
                yield f"{path}: {(got != want).sum()} of {want.size} values"
            fill = variable.fill_value
            if fill is not None and np.asarray(array.fill_value).tobytes() != np.asarray(fill, want.dtype).tobytes():
                yield f"{path}: fill value: expected {fill!r}, got {array.fill_value!r}"


def nbytes_of(place: Path) -> tuple[int, int]:
    """Bytes and files at a place on disk."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


def run(place: Path, datasets: list[Dataset], form: str) -> list[str]:
    """Write, read back and compare one form; prints its line."""
    zipped = place.suffix == ".zip"
    start = time.perf_counter()
    with ZipStore(place, mode="w") if zipped else FilesystemStore(place) as store:
        write(store, datasets, form)
    written = time.perf_counter()
    root = zarrcy.open_group(place, mode="r")
    arrays = {f"{d.name}/{v.name}": np.asarray(root[d.name][v.name][...]) for d in datasets for v in d.variables}
    read = time.perf_counter()
    wrong = list(differences(root, datasets, form, arrays))
    nbytes = sum(variable.values.nbytes for dataset in datasets for variable in dataset.variables)
    stored_nbytes, files = nbytes_of(place)
    print(
        f"{form + (', zip' if zipped else ''):16} {stored_nbytes / 1e6:7.2f} MB {files:6} files"
        f"   ratio {nbytes / stored_nbytes:5.2f}"
        f"   write {nbytes / 1e6 / (written - start):6.0f} MB/s   read {nbytes / 1e6 / (read - written):6.0f} MB/s"
        f"   {'identical' if not wrong else f'{len(wrong)} DIFFERENCES'}"
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few of the files only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the Zarr hierarchies in this new directory")
    options = parser.parse_args()
    paths = sorted(Path(iris_sample_data.path).rglob("*.nc"))
    datasets = [read_netcdf(path) for path in paths if not options.quick or path.name in QUICK]
    n = sum(len(dataset.variables) for dataset in datasets)
    nbytes = sum(variable.values.nbytes for dataset in datasets for variable in dataset.variables)
    print(f"{len(datasets)} netCDF files, {n} variables, {nbytes / 1e6:.2f} MB of values\n")
    if not n:
        print("no variables found", file=sys.stderr)
        return 1

    if options.keep:
        options.keep.mkdir(parents=True)
    target = options.keep or Path(tempfile.mkdtemp(prefix="zarrcy-demo-"))
    wrong = []
    try:
        for form in FORMS:
            for suffix in (".zarr", ".zarr.zip"):
                place = target / (form.replace(" ", "-") + suffix)
                wrong += [f"{place.name}: {line}" for line in run(place, datasets, form)]
        print()
        print(zarrcy.open_group(target / "v3.zarr", mode="r").tree())
    finally:
        if not options.keep:
            shutil.rmtree(target)
    for line in wrong:
        print(f"DIFFERENT: {line}", file=sys.stderr)
    verdict = f"{len(wrong)} differences" if wrong else "all identical to the source, bit for bit"
    print(f"\n{len(FORMS) * 2} forms x {n} variables: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())
