"""JSON metadata documents: decoding, encoding, and checked access to their fields.

Every function that checks a value takes `where`, the JSON path of the value in its document (``"chunk_grid.name"``,
``"shape[1]"``), and names it in the error. `locate` adds the key of the document once, at the boundary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy.errors import MetadataError, UnknownExtensionError

__all__ = ["MAX_INTEGER", "decode", "encode", "extension", "integer", "integers", "locate", "mapping", "show", "text"]

if TYPE_CHECKING:
    from typing import Protocol

    class Located(Protocol):
        """What has a URL: a store, of which this module knows nothing else."""

        @property
        def url(self) -> str: ...


# Shapes and sizes are counted in signed 64-bit integers, as NumPy does.
MAX_INTEGER = 2**63 - 1


def decode(document: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The JSON object in a document.

    ``NaN``, ``Infinity`` and ``-Infinity`` are read as numbers: zarr-python writes them so.

    Raises
    ------
    MetadataError
        The document is not one JSON object in UTF-8, names a field twice, or nests too deeply.
    """
    # Imported at first use: json costs a millisecond of `import zarrcy`.
    import json

    try:
        data = json.loads(str(document, "utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise MetadataError(f"expected UTF-8, got byte {error.object[error.start]:#04x} at {error.start}") from error
    except json.JSONDecodeError as error:
        raise MetadataError(f"expected JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise MetadataError("expected fewer nested values") from error
    except ValueError as error:
        raise MetadataError(f"expected JSON with numbers that can be read: {error}") from error
    if type(data) is not dict:
        raise MetadataError(f"expected an object, got {show(data)}")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise MetadataError(f"expected each field once, got {show(twice)} twice")
    return found


def encode(data: dict[str, Any]) -> bytes:
    """A document, indented by two spaces, in the order of `data`.

    Numbers that are not finite are written as ``NaN``, ``Infinity`` and ``-Infinity``. zarr-python writes and reads
    them so; strict JSON has no spelling for them. Only attributes can hold them: fill values are spelled as the
    specification says. NumPy scalars and arrays are written as numbers and lists.

    Raises
    ------
    MetadataError
        A value has no JSON spelling.
    """
    import json

    try:
        return json.dumps(data, indent=2, default=_from_numpy).encode("ascii")
    except RecursionError as error:
        raise MetadataError("expected fewer nested values") from error
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f"expected values that JSON can hold: {error}",
            hint="JSON holds text, numbers, true, false, null, lists and objects with text as names.",
        ) from error


def _from_numpy(value: object) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(f"got {show(value)}")


@contextmanager
def locate(key: str, store: Located | None = None) -> Iterator[None]:
    """Adds the key (and the URL of the store) of a document to an error about what stands in it."""
    try:
        yield
    except RecursionError as error:
        url = None if store is None else store.url
        raise MetadataError("expected fewer nested values", key=key, store=url) from error
    except (MetadataError, UnknownExtensionError) as error:
        error.key = error.key or key
        error.store = error.store or (None if store is None else store.url)
        raise


def show(value: object) -> str:
    """A value as an error message shows it: JSON where it is short, a description where it is not."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        if len(value) <= 8 and all(isinstance(item, (str, int, float, type(None))) for item in value):
            return "[" + ", ".join(show(item) for item in value) + "]"
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        name = value.get("name")
        return f"an object named {show(name)}" if isinstance(name, str) else f"an object of {len(value)}"
    if isinstance(value, str):
        import json

        return json.dumps(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 200 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    return f"{type(value).__name__} object"


def integer(value: object, where: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """`value` when it is a whole number from `low` to `high`; ``true`` and ``1.0`` are none."""
    if type(value) is int and low <= value <= high:
        return value
    limit = f"a whole number ≥ {low}" if high == MAX_INTEGER else f"a whole number from {low} to {high}"
    if type(value) is int and value > high == MAX_INTEGER:
        limit = "a whole number below 2**63"
    raise MetadataError(f"{where}: expected {limit}, got {show(value)}")


def integers(value: object, where: str, low: int = 0) -> tuple[int, ...]:
    """`value` as a tuple when it is a list of whole numbers ≥ `low`."""
    if type(value) is not list:
        raise MetadataError(f"{where}: expected a list of whole numbers, got {show(value)}")
    for i, item in enumerate(value):
        if type(item) is not int or not low <= item <= MAX_INTEGER:
            integer(item, f"{where}[{i}]", low)
    return tuple(value)


def text(value: object, where: str) -> str:
    """`value` when it is text."""
    if type(value) is not str:
        raise MetadataError(f"{where}: expected text, got {show(value)}")
    return value


def mapping(value: object, where: str) -> dict[str, Any]:
    """`value` when it is a JSON object."""
    if type(value) is not dict:
        raise MetadataError(f"{where}: expected an object, got {show(value)}")
    return value


_EXTENSION_FIELDS = frozenset({"name", "configuration", "must_understand"})


def extension(value: object, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the configuration of an extension: an object with a ``name``, or the name alone.

    Zarr v3 core specification, "Extension definition".
    """
    if type(value) is str:
        return value, {}
    if type(value) is not dict:
        raise MetadataError(f"{where}: expected an object with a name, got {show(value)}")
    if "name" not in value:
        raise MetadataError(f"{where}.name: expected text, got nothing")
    if not value.keys() <= _EXTENSION_FIELDS:
        unknown = sorted(value.keys() - _EXTENSION_FIELDS)[0]
        raise MetadataError(f"{where}: expected name and configuration, got {show(unknown)}")
    if type(value.get("must_understand", True)) is not bool:
        raise MetadataError(f"{where}.must_understand: expected true or false, got {show(value['must_understand'])}")
    configuration = value.get("configuration", {})
    if type(configuration) is not dict:
        raise MetadataError(f"{where}.configuration: expected an object, got {show(configuration)}")
    return text(value["name"], f"{where}.name"), configuration
