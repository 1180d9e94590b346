"""What the arrays under tests/data hold.

The values are a formula of position and data type, so that no expected values need keeping.

`make_*.py` write these values with a peer; `tests/test_peer_data.py` computes them again. `pack` turns a finished
directory into one archive of stored (not compressed) members and writes down what is in it.
"""

from __future__ import annotations

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def values(shape: tuple[int, ...], dtype: Any, finite: bool = False) -> np.ndarray:
    """The array of that shape whose item at C-order position i is a function of i and the data type alone.

    `finite` leaves out NaN and the infinities.
    """
    dtype = np.dtype(dtype)
    i = np.arange(math.prod(shape), dtype=np.int64)
    match dtype.kind:
        case "b":
            flat = i % 3 == 0
        case "i" | "u":
            flat = (i * 7 - 3).astype(dtype.newbyteorder("="))
        case "f":
            flat = _floats(i, dtype, finite)
        case "c":
            flat = (i * 0.5 - 3).astype(dtype.newbyteorder("="))
            flat.imag = 2 - i
        case "M" | "m":
            flat = np.where(i % 11 == 3, np.iinfo(np.int64).min, i * 1000 - 5000).view(dtype.newbyteorder("="))
        case "S":
            flat = np.array([str(n).encode()[: dtype.itemsize] for n in i * 13], dtype)
        case "U":
            flat = np.array(["é漢𝄞"[n % 3] + str(n) for n in i], dtype)
        case _:
            flat = (i[:, None] * 31 + np.arange(dtype.itemsize)).astype(np.uint8).reshape(-1).view(dtype)
    return flat.astype(dtype).reshape(shape)


def _floats(i: np.ndarray, dtype: np.dtype, finite: bool) -> np.ndarray:
    flat = (i * 0.25 - 8).astype(dtype.newbyteorder("="))
    for at, special in enumerate(() if finite else (np.nan, np.inf, -np.inf, -0.0)):
        flat[at + 1 :: 97] = special
    return flat


def expected(about: dict[str, Any]) -> np.ndarray:
    """What an array described in an ``expected.json`` holds: the fill value, and the formula where it was written."""
    shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
    fill = np.frombuffer(bytes.fromhex(about["fill"]), dtype)[0] if about["fill"] else np.zeros((), dtype)[()]
    result = np.empty(shape, dtype)
    result[...] = fill
    whole = values(shape, dtype, "finite" in about)
    for region in about["written"]:
        at = tuple(slice(start, stop) for start, stop in region)
        result[at] = whole[at]
    return result


def describe(
    shape: tuple[int, ...], dtype: Any, *, fill: Any = None, written: list[Any] | None = None, **facts: Any
) -> dict[str, Any]:
    """The entry of one array in ``expected.json``.

    `written` defaults to the whole array; `fill` is kept as the bytes of one item.
    """
    dtype = np.dtype(dtype)
    item = np.zeros((), dtype) if fill is None else np.array(fill, dtype)
    whole = [[[0, n] for n in shape]]
    return {
        "kind": "array",
        "shape": list(shape),
        "dtype": dtype.str,
        "fill": item.tobytes().hex(),
        "written": whole if written is None else written,
        **facts,
    }


def pack(root: Path, archive: Path, about: dict[str, Any], versions: dict[str, Any]) -> None:
    """Put every file below `root` into `archive`, and `about` and `versions` beside it."""
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            file.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix()), path.read_bytes())
    write_json(archive.with_suffix(".expected.json"), about)
    write_json(
        archive.parent / "versions.json", {"python": sys.version.split()[0], "numpy": np.__version__, **versions}
    )


def write_json(path: Path, document: dict[str, Any]) -> None:
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    path.write_text("{\n" + lines + "\n}\n")
