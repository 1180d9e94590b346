"""Data type names ↔ NumPy dtypes, and fill values ↔ JSON.

Zarr v3, "Data types" and "Permitted fill values"; the zarr-extensions registry for ``numpy.datetime64``,
``numpy.timedelta64`` and ``fixed_length_utf32``; zarr-python for ``null_terminated_bytes`` and ``raw_bytes``, which
are in no registry.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy.document import extension, integer, show
from zarrcy.errors import MetadataError, UnknownExtensionError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DataType", "from_json", "from_numpy"]

# The longest fixed-length item. NumPy counts the bytes of an item in a C int.
MAX_ITEMSIZE = 2**31 - 1

_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic")
_TIME_NAMES = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}
_LENGTH_NAMES = {"S": "null_terminated_bytes", "U": "fixed_length_utf32", "V": "raw_bytes"}
_NOT_A_TIME = -(2**63)


class DataType:
    """What an item of an array is.

    Made by `from_json` and `from_numpy`; immutable, equal when name and dtype are.

    Attributes
    ----------
    name : str
        The identifier in ``zarr.json``, such as ``"float32"`` or ``"numpy.datetime64"``.
    dtype : numpy.dtype
        The data type in memory, in native byte order.
    itemsize : int
        The bytes of one item.
    word : int
        The bytes that swap together when the byte order changes: 1 for single bytes and byte strings, 4 for text,
        half an item for complex numbers, else an item.

    Examples
    --------
    >>> from zarrcy.dtypes import from_numpy
    >>> data_type = from_numpy("complex64")
    >>> data_type.name, data_type.itemsize, data_type.word
    ('complex64', 8, 4)
    >>> data_type.fill_value_to_json(data_type.fill_value_from_json([1, "NaN"], "fill_value"))
    [1.0, 'NaN']
    """

    __slots__ = ("_configuration", "dtype", "itemsize", "name", "word")

    name: str
    dtype: np.dtype[Any]
    itemsize: int
    word: int
    _configuration: dict[str, Any]

    def __init__(self, name: str, dtype: np.dtype[Any], configuration: dict[str, Any] | None = None) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "dtype", dtype)
        put(self, "itemsize", dtype.itemsize)
        put(self, "word", {"c": dtype.itemsize // 2, "U": 4, "S": 1, "V": 1}.get(dtype.kind, dtype.itemsize))
        put(self, "_configuration", configuration or {})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"DataType.{name}: a data type does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"DataType.{name}: a data type does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return (from_json, (self.to_json(), "data_type"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataType):
            return NotImplemented
        return self.name == other.name and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((self.name, self.dtype))

    def __repr__(self) -> str:
        return f"DataType({self.name!r}, {self.dtype.str!r})"

    def to_json(self) -> str | dict[str, Any]:
        """The ``data_type`` of ``zarr.json``: a name, or an object with a name and a configuration."""
        if not self._configuration:
            return self.name
        return {"name": self.name, "configuration": dict(self._configuration)}

    def zero(self) -> Any:
        """The item of which every byte is zero: 0, ``False``, an empty text, the epoch."""
        # Not by way of an array for texts: one item may be long.
        if self.dtype.kind in "SU":
            return self.dtype.type()
        return np.zeros((), self.dtype)[()]

    def scalar(self, value: object, where: str = "fill_value") -> Any:
        """`value` as an item of this data type.

        Parameters
        ----------
        value : scalar
            A Python or NumPy scalar; also what stands in JSON, such as ``"NaN"``.
        where : str
            What the value is, for error messages.

        Returns
        -------
        numpy.generic
            The item. The bits of a NaN of the same data type are kept.

        Raises
        ------
        MetadataError
            The data type has no such item: 300 for ``uint8``, 1.5 for ``int32``, text that is too long.
        """
        kind = self.dtype.kind
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, np.generic) and value.dtype.names is None:
            if value.dtype.kind == kind and value.dtype.itemsize == self.itemsize and kind not in "Mm":
                return np.asarray(value).astype(self.dtype)[()]
            if value.dtype.kind not in "Mm":
                value = value.item()
        if type(value) is int and value == 0:
            return self.zero()
        if kind in "SV" and isinstance(value, (bytes, bytearray, memoryview)):
            return self._from_bytes(bytes(value), where)
        if kind == "S" and isinstance(value, str) and value.isascii():
            return self._from_bytes(value.encode("ascii"), where)
        if kind == "c" and type(value) in (complex, float, int):
            parts = (value.real, value.imag)  # type: ignore[attr-defined]
            return _join_complex(self.dtype, [self._float(part, self.word, where) for part in parts])
        if kind in "Mm" and type(value) is not int and not (isinstance(value, str) and value == "NaT"):
            return self._time(value, where)
        if kind == "b" and type(value) is int and value == 1:
            value = True
        if kind in "iuf" and type(value) is bool:
            value = int(value)
        if kind == "V":
            raise self._unexpected(value, where, f"{self.itemsize} bytes")
        return self.fill_value_from_json(value, where)

    def fill_value_from_json(self, value: object, where: str) -> Any:
        """The item that a ``fill_value`` describes.

        Parameters
        ----------
        value
            The value as it stands in the document.
        where : str
            Its JSON path, for error messages.

        Returns
        -------
        numpy.generic
            The item; the bits of a NaN written in hexadecimal are kept.

        Raises
        ------
        MetadataError
            The data type has no such item.
        """
        kind = self.dtype.kind
        if kind in "iu":
            return self._integer(value, where)
        if kind == "f":
            return self._float(value, self.itemsize, where)
        if kind == "b":
            if type(value) is not bool:
                raise self._unexpected(value, where, "true or false")
            return np.bool_(value)
        if kind == "c":
            if type(value) is not list or len(value) != 2:
                raise self._unexpected(value, where, "a list of two numbers")
            return _join_complex(
                self.dtype, [self._float(part, self.word, f"{where}[{i}]") for i, part in enumerate(value)]
            )
        if kind == "U":
            return self._text(value, where)
        if kind in "Mm":
            count = _NOT_A_TIME if value == "NaT" else integer(value, where, -(2**63))
            return np.array(count, "i8").view(self.dtype)[()]
        if isinstance(value, (str, list)) and len(value) > 4 * self.itemsize + 4:
            raise self._unexpected(value, where, f"at most {self.itemsize} bytes")
        return self._from_bytes(_bytes_from_json(value, where), where)

    def fill_value_to_json(self, scalar: Any) -> Any:
        """The ``fill_value`` of ``zarr.json`` that describes an item: the inverse of `fill_value_from_json`."""
        kind = self.dtype.kind
        if kind in "SV":
            # Imported at first use, as it is a library of its own.
            import binascii

            return binascii.b2a_base64(bytes(scalar), newline=False).decode("ascii")
        if kind == "U":
            return str(scalar)
        item = np.asarray(scalar, self.dtype)
        if kind in "Mm":
            count = int(item.view("i8")[()])
            return "NaT" if count == _NOT_A_TIME else count
        if kind == "f":
            return _float_to_json(item)
        if kind == "c":
            return [_float_to_json(part) for part in item.reshape(1).view(f"f{self.word}")]
        return item[()].item()

    def _unexpected(self, value: object, where: str, expected: str) -> MetadataError:
        return MetadataError(f"{where}: expected {expected} for {self.name}, got {show(value)}")

    def _integer(self, value: object, where: str) -> Any:
        # 1.0 is let through: JSON has one kind of number, and writers in JavaScript print it so.
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise self._unexpected(value, where, "a whole number")
        limits = np.iinfo(self.dtype)
        if not limits.min <= value <= limits.max:
            raise self._unexpected(value, where, f"a whole number from {limits.min} to {limits.max}")
        return self.dtype.type(value)

    def _float(self, value: object, itemsize: int, where: str) -> Any:
        if type(value) is str:
            bits = _float_bits(value, itemsize)
            if bits is None:
                raise self._unexpected(
                    value, where, f'a number, "NaN", "Infinity", "-Infinity" or {2 * itemsize} digits after "0x"'
                )
            return np.array(bits, f"u{itemsize}").view(f"f{itemsize}")[()]
        if type(value) is not float and type(value) is not int:
            raise self._unexpected(value, where, "a number")
        try:
            number = float(value)
        except OverflowError:
            raise self._unexpected(value, where, "a number within its range") from None
        with np.errstate(over="ignore"):
            item = np.array(number, f"f{itemsize}")[()]
        if np.isinf(item) and not math.isinf(number):
            raise self._unexpected(value, where, "a number within its range")
        return item

    def _text(self, value: object, where: str) -> Any:
        limit = self.itemsize // 4
        if type(value) is not str or len(value) > limit:
            raise self._unexpected(value, where, f"text of at most {limit} characters")
        return np.str_(value.rstrip("\0"))

    def _time(self, value: object, where: str) -> Any:
        kind = self.dtype.kind
        try:
            if value is None or isinstance(value, (bool, float, list, tuple, np.ndarray)):
                raise TypeError("no time")
            item = value if isinstance(value, np.generic) else np.array(value, f"{kind}8")[()]
            # "same_kind": a finer unit is rounded; "unsafe" would take any number for a time.
            converted = np.asarray(item).astype(self.dtype, casting="same_kind")[()]
        except (TypeError, ValueError, OverflowError) as error:
            raise self._unexpected(value, where, "a time") from error
        # NumPy wraps around where the count of a finer unit does not fit.
        wrapped = np.can_cast(item.dtype, self.dtype, "safe") and converted.astype(item.dtype) != item
        if item.dtype.kind != kind or (wrapped and not np.isnat(item)):
            raise self._unexpected(value, where, "a time within its range")
        return converted

    def _from_bytes(self, value: bytes, where: str) -> Any:
        if self.dtype.kind == "S":
            if len(value) > self.itemsize:
                raise MetadataError(
                    f"{where}: expected at most {self.itemsize} bytes for {self.name}, got {len(value)}"
                )
            return np.bytes_(value.rstrip(b"\0"))
        if len(value) != self.itemsize:
            raise MetadataError(f"{where}: expected {self.itemsize} bytes for {self.name}, got {len(value)}")
        return np.frombuffer(value, self.dtype)[0]


def _join_complex(dtype: np.dtype[Any], parts: list[Any]) -> Any:
    # Arithmetic would make a NaN of the other part.
    return np.array(parts, f"f{dtype.itemsize // 2}").view(dtype)[0]


# Bits of the one NaN that has a name, and of the infinities; IEEE 754 binary16, binary32, binary64.
_NAMED_BITS = {
    2: {"NaN": 0x7E00, "Infinity": 0x7C00, "-Infinity": 0xFC00},
    4: {"NaN": 0x7FC00000, "Infinity": 0x7F800000, "-Infinity": 0xFF800000},
    8: {"NaN": 0x7FF8000000000000, "Infinity": 0x7FF0000000000000, "-Infinity": 0xFFF0000000000000},
}
# Patterns are compiled at first use, not at import; `re` keeps them.
_HEXADECIMAL = r"0x([0-9a-fA-F]+)"


def _float_bits(spelling: str, itemsize: int) -> int | None:
    named = _NAMED_BITS[itemsize].get(spelling)
    if named is not None:
        return named
    match = re.fullmatch(_HEXADECIMAL, spelling, re.ASCII)
    return int(match[1], 16) if match and len(match[1]) == 2 * itemsize else None


def _float_to_json(item: Any) -> float | str:
    number = float(item)
    if math.isfinite(number):
        return number
    itemsize = item.dtype.itemsize
    bits = int(np.asarray(item).view(f"u{itemsize}"))
    for spelling, named in _NAMED_BITS[itemsize].items():
        if bits == named:
            return spelling
    return f"0x{bits:0{2 * itemsize}x}"


def _bytes_from_json(value: object, where: str) -> bytes:
    if type(value) is list:
        for i, item in enumerate(value):
            integer(item, f"{where}[{i}]", 0, 255)
        return bytes(value)
    if type(value) is not str:
        raise MetadataError(f"{where}: expected base64 or a list of bytes, got {show(value)}")
    import binascii

    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:  # binascii.Error is one; text beyond ASCII is a plain one
        raise MetadataError(f"{where}: expected base64, got {show(value)}: {error}") from error


_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_SIMPLE = {name: DataType(name, np.dtype(name)) for name in _NUMBERS}
_ALIASES = {"complex_float32": "complex64", "complex_float64": "complex128"}
_RAW_BITS = r"r([1-9][0-9]{0,18})"


def from_json(data: object, where: str) -> DataType:
    """The data type that a ``data_type`` of ``zarr.json`` describes.

    Parameters
    ----------
    data : str or dict
        The value as it stands in the document.
    where : str
        Its JSON path, for error messages.

    Raises
    ------
    UnknownExtensionError
        A data type that zarrcy does not know.
    MetadataError
        The value breaks the specification.

    Examples
    --------
    >>> from_json({"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 10}}, "data_type").dtype
    dtype('<M8[10s]')
    """
    simple = _SIMPLE.get(data) if type(data) is str else None
    if simple is not None:
        return simple
    name, configuration = extension(data, where)
    if name in _TIME_NAMES.values():
        return _time_from_json(name, configuration, f"{where}.configuration")
    if name in _LENGTH_NAMES.values():
        return _length_from_json(name, configuration, f"{where}.configuration")
    simple = _SIMPLE.get(_ALIASES.get(name, name))
    # An alias keeps its name, so that it is written as it was read.
    found = _raw_bits(name, where) if simple is None else DataType(name, simple.dtype)
    if configuration:
        raise MetadataError(f"{where}.configuration: expected nothing for {name}, got {show(sorted(configuration)[0])}")
    return found


def _raw_bits(name: str, where: str) -> DataType:
    bits = re.fullmatch(_RAW_BITS, name, re.ASCII)
    if bits is None:
        raise _unknown(name, where)
    n_bits = int(bits[1])
    if n_bits % 8 or n_bits // 8 > MAX_ITEMSIZE:
        raise MetadataError(f"{where}: expected a multiple of 8 bits, at most {8 * MAX_ITEMSIZE}, got {show(name)}")
    return DataType(name, np.dtype(f"V{n_bits // 8}"))


def _unknown(name: str, where: str) -> UnknownExtensionError:
    known = [*_SIMPLE, *_TIME_NAMES.values(), *_LENGTH_NAMES.values()]
    return UnknownExtensionError(f"{where}: data type {show(name)}: expected one of {', '.join(known)}", code="unknown")


def _time_from_json(name: str, configuration: dict[str, Any], where: str) -> DataType:
    if configuration.keys() != {"unit", "scale_factor"}:
        raise MetadataError(f"{where}: expected unit and scale_factor, got {show(sorted(configuration))}")
    unit, scale_factor = configuration["unit"], configuration["scale_factor"]
    integer(scale_factor, f"{where}.scale_factor", 1, 2**31 - 1)
    if unit not in _UNITS:
        raise MetadataError(f"{where}.unit: expected one of {', '.join(_UNITS)}, got {show(unit)}")
    kind = "M8" if name == "numpy.datetime64" else "m8"
    if unit == "generic":
        if scale_factor != 1:
            raise MetadataError(f"{where}.scale_factor: expected 1 for the unit generic, got {scale_factor}")
        return DataType(name, np.dtype(kind), configuration)
    return DataType(name, np.dtype(f"{kind}[{scale_factor}{'us' if unit == 'μs' else unit}]"), configuration)


def _length_from_json(name: str, configuration: dict[str, Any], where: str) -> DataType:
    if configuration.keys() != {"length_bytes"}:
        raise MetadataError(f"{where}: expected length_bytes, got {show(sorted(configuration))}")
    nbytes = integer(configuration["length_bytes"], f"{where}.length_bytes", 1, MAX_ITEMSIZE)
    kind = next(kind for kind, named in _LENGTH_NAMES.items() if named == name)
    if kind != "U":
        return DataType(name, np.dtype(f"{kind}{nbytes}"), configuration)
    if nbytes % 4:
        raise MetadataError(f"{where}.length_bytes: expected a multiple of 4, got {nbytes}")
    return DataType(name, np.dtype(f"U{nbytes // 4}"), configuration)


def from_numpy(dtype: npt.DTypeLike) -> DataType:
    """The data type of a NumPy dtype. Its byte order does not matter: that is the ``bytes`` codec's.

    Parameters
    ----------
    dtype : dtype-like
        What `numpy.dtype` takes: a dtype, a name such as ``"float64"``, a type such as ``int``.

    Raises
    ------
    UnknownExtensionError
        Zarr, or zarrcy, has no such data type: structured, object, long double, text without a length.

    Examples
    --------
    >>> from_numpy(">M8[ns]").to_json()
    {'name': 'numpy.datetime64', 'configuration': {'unit': 'ns', 'scale_factor': 1}}
    """
    if isinstance(dtype, DataType):
        return dtype
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError, OverflowError, SyntaxError) as error:
        raise UnknownExtensionError(f"dtype: expected one that NumPy knows, got {dtype!r}", code="unknown") from error
    kind = found.kind
    simple = _SIMPLE.get(found.name) if kind in "biufc" else None
    if simple is not None:
        return simple
    if kind in _TIME_NAMES:
        unit, scale_factor = np.datetime_data(found)
        return _time_from_json(_TIME_NAMES[kind], {"unit": unit, "scale_factor": scale_factor}, "dtype")
    if kind in _LENGTH_NAMES and found.names is None and found.subdtype is None:
        if not found.itemsize:
            raise UnknownExtensionError(
                f"dtype: expected a length, such as {kind}10, got {found.str!r}", code="unknown"
            )
        return _length_from_json(_LENGTH_NAMES[kind], {"length_bytes": found.itemsize}, "dtype")
    name = "structured" if found.names else {"O": "object", "T": "string"}.get(kind, found.name)
    raise _unknown(name, "dtype")
