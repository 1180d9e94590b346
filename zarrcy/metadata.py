"""The metadata of arrays and groups: the one form in memory, and ``zarr.json`` in and out.

Zarr v3 core specification, "Array metadata", "Group metadata" and "Consolidated metadata". The v2 documents become
the same two classes in `zarrcy.metadata_v2`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrcy import dtypes
from zarrcy.chunk_grid import ChunkKeyEncoding, RegularGrid
from zarrcy.codecs.chain import are_shareable, check_order, codecs_from_json, codecs_to_json
from zarrcy.codecs.codec import Codec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.document import MAX_INTEGER, decode, encode, integers, locate, mapping, show
from zarrcy.dtypes import DataType
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.frozen import Frozen
from zarrcy.registry import LazyModule
from zarrcy.remembered import Remembered, bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from zarrcy import consolidated as consolidation
    from zarrcy.consolidated import Consolidated
    from zarrcy.stores.store import Store
else:
    consolidation = LazyModule("zarrcy.consolidated")

__all__ = [
    "MAX_NDIM",
    "UNREAD",
    "ArrayMetadata",
    "GroupMetadata",
    "document_keys",
    "from_json",
    "read",
    "write",
]

# NumPy's own limit, without which an array could not be read at once.
MAX_NDIM = 64 if int(np.__version__.split(".")[0]) >= 2 else 32


class ArrayMetadata(Frozen):
    """What an array is, in either format.

    Immutable; `replace` makes a changed copy. The dictionaries are not copied: whoever changes one changes the
    metadata.

    Parameters
    ----------
    shape : sequence of int
        The items along each axis; at most 64 axes.
    data_type : DataType
        What an item is.
    chunk_grid : RegularGrid
        How the array is cut.
    chunk_key_encoding : ChunkKeyEncoding
        Under which keys the chunks lie.
    fill_value : numpy.generic or None
        The item that stands where no chunk is; ``None`` (nothing in particular) in v2 only.
    codecs : sequence of Codec
        What turns a chunk into bytes: array → array, one array → bytes, bytes → bytes. In v2 the filters stand before
        the ``bytes`` codec and the compressor after it; filters see the items in the byte order of that codec.
    attributes : dict
        What the user noted. Of a v2 array that was opened, they are read when they are first used.
    dimension_names : sequence of (str or None), optional
        A name for each axis; v3 only.
    zarr_format : {2, 3}
        The format of the documents.
    extra_fields : dict, optional
        Fields of the document that zarrcy does not know and need not understand; they are written back as they were
        read.

    Raises
    ------
    MetadataError
        The fields do not fit together.

    Examples
    --------
    >>> from zarrcy.codecs.layout import BytesCodec
    >>> from zarrcy.dtypes import from_numpy
    >>> data_type = from_numpy("float32")
    >>> metadata = ArrayMetadata(
    ...     shape=(100, 50), data_type=data_type, chunk_grid=RegularGrid((10, 50)),
    ...     chunk_key_encoding=ChunkKeyEncoding(), fill_value=data_type.zero(), codecs=[BytesCodec("little")],
    ... )
    >>> metadata.chunk_shape, metadata.order, metadata.endian
    ((10, 50), 'C', 'little')
    """

    _names = (
        "attributes",
        "chunk_grid",
        "chunk_key_encoding",
        "codecs",
        "data_type",
        "dimension_names",
        "extra_fields",
        "fill_value",
        "shape",
        "zarr_format",
    )

    shape: tuple[int, ...]
    data_type: DataType
    chunk_grid: RegularGrid
    chunk_key_encoding: ChunkKeyEncoding
    fill_value: Any
    codecs: tuple[Codec, ...]
    attributes: dict[str, Any]
    dimension_names: tuple[str | None, ...] | None
    zarr_format: int
    extra_fields: dict[str, Any]

    def __init__(
        self,
        *,
        shape: Sequence[int],
        data_type: DataType,
        chunk_grid: RegularGrid,
        chunk_key_encoding: ChunkKeyEncoding,
        fill_value: Any,
        codecs: Sequence[Codec],
        attributes: dict[str, Any] | None = None,
        dimension_names: Sequence[str | None] | None = None,
        zarr_format: int = 3,
        extra_fields: dict[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "shape", tuple(shape))
        put(self, "data_type", data_type)
        put(self, "chunk_grid", chunk_grid)
        put(self, "chunk_key_encoding", chunk_key_encoding)
        put(self, "fill_value", fill_value)
        put(self, "codecs", tuple(codecs))
        put(self, "attributes", {} if attributes is None else attributes)
        put(self, "dimension_names", None if dimension_names is None else tuple(dimension_names))
        put(self, "zarr_format", zarr_format)
        put(self, "extra_fields", {} if extra_fields is None else extra_fields)
        put(self, "_late", {})
        put(self, "pipelines", {})
        _check(self)

    @property
    def is_shareable(self) -> bool:
        """Whether all that is not `loose` is immutable."""
        return are_shareable(self.codecs)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type in memory, in native byte order."""
        return self.data_type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of a chunk of the grid (of a shard, where the array is sharded)."""
        return self.chunk_grid.chunk_shape

    @property
    def order(self) -> str:
        """``"F"`` when the chunks store their axes in reverse, else ``"C"``."""
        reverse = tuple(range(self.ndim))[::-1]
        return "F" if any(isinstance(codec, Transpose) and codec.order == reverse for codec in self.codecs) else "C"

    @property
    def endian(self) -> str | None:
        """``"little"`` or ``"big"``, the byte order of the stored items; ``None`` for single bytes."""
        return _endian(self.codecs)

    def with_attributes(self, attributes: dict[str, Any]) -> ArrayMetadata:
        """The same array with other attributes; it shares the other fields, and is not checked again."""
        return self.twin({"attributes": attributes})

    def to_json(self) -> bytes:
        """The ``zarr.json`` of the array.

        Raises
        ------
        MetadataError
            An attribute has no JSON spelling, or the array is a v2 one.
        """
        return encode(to_document(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArrayMetadata):
            return NotImplemented
        mine, theirs = self._fields(), other._fields()
        mine["fill_value"], theirs["fill_value"] = _bits(self), _bits(other)
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]


class GroupMetadata(Frozen):
    """What a group is, in either format.

    Immutable; `replace` makes a changed copy.

    Parameters
    ----------
    attributes : dict, optional
        What the user noted.
    zarr_format : {2, 3}
        The format of the documents.
    consolidated : mapping of str to ArrayMetadata or GroupMetadata, optional
        The metadata of every node below, by path relative to the group; ``None`` when it is not consolidated.
    extra_fields : dict, optional
        Fields of the document that zarrcy does not know and need not understand; they are written back as they were
        read.

    Examples
    --------
    >>> GroupMetadata({"title": "ocean"}).replace(attributes={}).attributes
    {}
    """

    _names = ("attributes", "consolidated", "extra_fields", "zarr_format")

    attributes: dict[str, Any]
    zarr_format: int
    consolidated: Mapping[str, ArrayMetadata | GroupMetadata] | None
    extra_fields: dict[str, Any]

    def __init__(
        self,
        attributes: dict[str, Any] | None = None,
        zarr_format: int = 3,
        consolidated: Mapping[str, ArrayMetadata | GroupMetadata] | None = None,
        extra_fields: dict[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "attributes", {} if attributes is None else attributes)
        put(self, "zarr_format", zarr_format)
        put(self, "consolidated", consolidated)
        put(self, "extra_fields", {} if extra_fields is None else extra_fields)
        put(self, "_late", {})
        put(self, "pipelines", {})
        if zarr_format not in (2, 3):
            raise MetadataError(f"zarr_format: expected 2 or 3, got {show(zarr_format)}")
        if zarr_format == 3:
            _check_extra_fields(self.extra_fields)

    @property
    def is_shareable(self) -> bool:
        """Whether all that is not `loose` is immutable."""
        return self.consolidated is None or isinstance(self.consolidated, consolidation.Consolidated)

    def loose(self) -> dict[str, Any]:
        """What of the fields can be changed in place, as JSON values."""
        members = self.consolidated
        if members is None or not isinstance(members, consolidation.Consolidated):
            return super().loose()
        return {**super().loose(), "consolidated": members.documents}

    def twin(self, loose: dict[str, Any], **reads: Callable[[], Any]) -> Self:
        """The same node with loose fields of its own; it shares what is immutable, and is not checked again."""
        if "consolidated" in loose and isinstance(self.consolidated, consolidation.Consolidated):
            loose["consolidated"] = self.consolidated.over(loose["consolidated"])
        return super().twin(loose, **reads)

    def to_json(self) -> bytes:
        """The ``zarr.json`` of the group, consolidated metadata included.

        Raises
        ------
        MetadataError
            An attribute has no JSON spelling, or the group is a v2 one.
        """
        return encode(to_document(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupMetadata):
            return NotImplemented
        return self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]


def _bits(metadata: ArrayMetadata) -> bytes | str | None:
    fill_value = metadata.fill_value
    if fill_value is None or metadata.dtype.kind in "SU":
        return fill_value  # type: ignore[no-any-return]
    return np.asarray(fill_value, metadata.dtype).tobytes()


def _endian(codecs: Sequence[Codec]) -> str | None:
    for codec in codecs:
        if isinstance(codec, BytesCodec):
            return codec.endian
        inner = getattr(codec, "codecs", None)
        if inner is not None:
            return _endian(inner)
    return None


def _check(metadata: ArrayMetadata) -> None:
    """The rules that hold however the metadata came about; those of single fields were checked where they were made."""
    shape, data_type = metadata.shape, metadata.data_type
    integers(list(shape), "shape")
    ndim = len(shape)
    if ndim > MAX_NDIM:
        raise MetadataError(f"shape: expected at most {MAX_NDIM} axes, got {ndim}")
    chunk_shape = metadata.chunk_grid.chunk_shape
    if len(chunk_shape) != ndim:
        raise MetadataError(
            f"chunk_grid: expected {ndim} extents, one for each axis of the shape, got {len(chunk_shape)}"
        )
    if math.prod(chunk_shape) * data_type.itemsize > MAX_INTEGER:
        size = f"{show(chunk_shape)} items of {data_type.itemsize} bytes"
        raise MetadataError(f"chunk_grid: expected chunks of less than 2**63 bytes, got {size}")
    names = metadata.dimension_names
    if names is not None:
        if len(names) != ndim:
            raise MetadataError(f"dimension_names: expected {ndim} names, one for each axis, got {len(names)}")
        for i, name in enumerate(names):
            if name is not None and type(name) is not str:
                raise MetadataError(f"dimension_names[{i}]: expected text or null, got {show(name)}")
    if metadata.zarr_format not in (2, 3):
        raise MetadataError(f"zarr_format: expected 2 or 3, got {show(metadata.zarr_format)}")
    if metadata.zarr_format == 3:
        if metadata.fill_value is None:
            raise MetadataError(f"fill_value: expected one for {data_type.name}, got null")
        check_order(metadata.codecs, "codecs")
        _check_extra_fields(metadata.extra_fields)
    elif names is not None:
        raise MetadataError(
            "dimension_names: expected none in Zarr v2",
            hint="Zarr v2 has no field for them; xarray keeps them in the attribute _ARRAY_DIMENSIONS.",
        )
    _check_layout(metadata.codecs, data_type, ndim, "codecs")


def _check_layout(codecs: Sequence[Codec], data_type: DataType, ndim: int, where: str) -> None:
    for i, codec in enumerate(codecs):
        inner = getattr(codec, "codecs", None)
        if inner is not None:
            _check_layout(inner, data_type, ndim, f"{where}[{i}].configuration.codecs")
        if isinstance(codec, Transpose) and len(codec.order) != ndim:
            got = show(codec.order)
            raise MetadataError(f"{where}[{i}].configuration.order: expected {ndim} axes, got {got}")
        if isinstance(codec, BytesCodec) and codec.endian is None and data_type.word > 1:
            wanted = f'"little" or "big" for {data_type.name}'
            raise MetadataError(f"{where}[{i}].configuration.endian: expected {wanted}, got nothing")


_ARRAY_FIELDS = frozenset(
    {
        *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
        *("attributes", "dimension_names", "storage_transformers"),
    }
)
_ARRAY_REQUIRED = _ARRAY_FIELDS - {"attributes", "dimension_names", "storage_transformers"}
_GROUP_FIELDS = frozenset({"zarr_format", "node_type", "attributes", "consolidated_metadata"})


def from_json(document: bytes | bytearray | memoryview, where: str = "zarr.json") -> ArrayMetadata | GroupMetadata:
    """The metadata that a ``zarr.json`` describes.

    Parameters
    ----------
    document : bytes-like
        The document.
    where : str
        Its key, for error messages.

    Raises
    ------
    MetadataError
        The document breaks the specification; the message names the JSON path.
    UnknownExtensionError
        The document needs something that zarrcy does not know.

    Examples
    --------
    >>> from_json(b'{"zarr_format": 3, "node_type": "group", "attributes": {"title": "ocean"}}').attributes
    {'title': 'ocean'}
    >>> from_json(b'{"zarr_format": 3, "node_type": "graph"}', "a/zarr.json")
    Traceback (most recent call last):
        ...
    zarrcy.errors.MetadataError: a/zarr.json: node_type: expected "array" or "group", got "graph"
    """
    with locate(where):
        return from_document(decode(document))


def from_document(data: object) -> ArrayMetadata | GroupMetadata:
    """The metadata that a decoded ``zarr.json`` describes."""
    data = mapping(data, "document")
    zarr_format, node_type = data.get("zarr_format"), data.get("node_type")
    if type(zarr_format) is not int or zarr_format != 3:
        raise MetadataError(f"zarr_format: expected 3, got {show(zarr_format)}")
    if node_type == "array":
        return _array_from_document(data)
    if node_type == "group":
        return _group_from_document(data)
    raise MetadataError(f'node_type: expected "array" or "group", got {show(node_type)}')


UNREAD = object()  # in the place of a document

_remembered = Remembered()
_remembered_arrays = Remembered()  # without their attributes: those are what the variables of a data set differ in


def _array_from_document(data: dict[str, Any]) -> ArrayMetadata:
    key = (bytes_of({name: value for name, value in data.items() if name != "attributes"}),)
    found: ArrayMetadata | None = _remembered_arrays.find(key)
    if found is None:
        found = _new_array_from_document(data)
        _remembered_arrays.keep(key, found.with_attributes({}))
        return found
    return found.with_attributes(mapping(data.get("attributes", {}), "attributes"))


def _new_array_from_document(data: dict[str, Any]) -> ArrayMetadata:
    if not data.keys() >= _ARRAY_REQUIRED:
        missing = sorted(_ARRAY_REQUIRED - data.keys())[0]
        raise MetadataError(f"{missing}: expected this field, got nothing")
    _refuse_transformers(data.get("storage_transformers"))
    shape = integers(data["shape"], "shape")
    if len(shape) > MAX_NDIM:
        raise MetadataError(f"shape: expected at most {MAX_NDIM} axes, got {len(shape)}")
    data_type = dtypes.from_json(data["data_type"], "data_type")
    names = data.get("dimension_names")
    if names is not None and type(names) is not list:
        raise MetadataError(f"dimension_names: expected a list of names, got {show(names)}")
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=RegularGrid.from_json(data["chunk_grid"], "chunk_grid", shape),
        chunk_key_encoding=ChunkKeyEncoding.from_json(data["chunk_key_encoding"], "chunk_key_encoding"),
        fill_value=data_type.fill_value_from_json(data["fill_value"], "fill_value"),
        codecs=codecs_from_json(data["codecs"], "codecs"),
        attributes=mapping(data.get("attributes", {}), "attributes"),
        dimension_names=names,
        extra_fields={name: value for name, value in data.items() if name not in _ARRAY_FIELDS},
    )


def _group_from_document(data: dict[str, Any]) -> GroupMetadata:
    consolidated = data.get("consolidated_metadata")
    return GroupMetadata(
        attributes=mapping(data.get("attributes", {}), "attributes"),
        consolidated=None if consolidated is None else _consolidated(consolidated),
        extra_fields={name: value for name, value in data.items() if name not in _GROUP_FIELDS},
    )


def _check_extra_fields(extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if type(value) is not dict or value.get("must_understand") is not False:
            raise UnknownExtensionError(
                f"{show(name)[1:-1]}: expected a field that zarrcy knows or need not understand, got {show(value)}",
                code="unknown",
            )


def _refuse_transformers(transformers: object) -> None:
    if transformers is None or transformers == []:
        return
    if type(transformers) is not list:
        raise MetadataError(f"storage_transformers: expected a list, got {show(transformers)}")
    name = transformers[0].get("name") if type(transformers[0]) is dict else transformers[0]
    raise UnknownExtensionError(
        f"storage_transformers[0]: {show(name)}: expected no storage transformer", code="unknown"
    )


def _consolidated(data: object) -> Consolidated:
    documents = consolidation.inline_documents(data, "consolidated_metadata")
    return consolidation.Consolidated(documents, _parse_member, 3)


def _parse_member(path: str, document: Any) -> ArrayMetadata | GroupMetadata:
    key = (b"member", bytes_of(document))
    found: ArrayMetadata | GroupMetadata | None = _remembered.find(key)
    if found is None:
        with locate(f"zarr.json: consolidated_metadata.metadata[{show(path)}]"):
            found = from_document(document)
        _remembered.keep(key, found)
    return found


def to_document(metadata: ArrayMetadata | GroupMetadata) -> dict[str, Any]:
    """The ``zarr.json`` of a node, not yet encoded."""
    if metadata.zarr_format != 3:
        raise MetadataError(f"zarr_format: expected 3 for zarr.json, got {metadata.zarr_format}")
    if isinstance(metadata, GroupMetadata):
        return _group_to_document(metadata)
    document: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(metadata.shape),
        "data_type": metadata.data_type.to_json(),
        "chunk_grid": metadata.chunk_grid.to_json(),
        "chunk_key_encoding": metadata.chunk_key_encoding.to_json(),
        "fill_value": metadata.data_type.fill_value_to_json(metadata.fill_value),
        "codecs": codecs_to_json(metadata.codecs),
    }
    if metadata.dimension_names is not None:
        document["dimension_names"] = list(metadata.dimension_names)
    return {**document, "attributes": metadata.attributes, **metadata.extra_fields}


def _group_to_document(metadata: GroupMetadata) -> dict[str, Any]:
    document = {"zarr_format": 3, "node_type": "group", "attributes": metadata.attributes}
    members = metadata.consolidated
    if members is not None:
        documents = {path: _member_to_document(members, path) for path in members}
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": documents}
    return {**document, **metadata.extra_fields}


def _member_to_document(members: Mapping[str, ArrayMetadata | GroupMetadata], path: str) -> dict[str, Any]:
    if isinstance(members, consolidation.Consolidated) and members.zarr_format == 3:
        return members.documents[path]  # type: ignore[no-any-return]
    metadata = members[path]
    return to_document(metadata.replace(consolidated=None) if isinstance(metadata, GroupMetadata) else metadata)


def document_keys(path: str) -> list[str]:
    """The keys that make up the metadata of the node at `path` (empty: the root).

    Examples
    --------
    >>> document_keys("a/b")
    ['a/b/zarr.json']
    """
    return [f"{path}/zarr.json" if path else "zarr.json"]


def read(store: Store, path: str, document: Any = UNREAD) -> ArrayMetadata | GroupMetadata | None:
    """The metadata of the node at `path`; ``None`` when there is no v3 node.

    Parameters
    ----------
    store : Store
        Where the node lies.
    path : str
        Its path; empty for the root.
    document : bytes or None, optional
        Its ``zarr.json``, for who has read it.

    Raises
    ------
    MetadataError
        The document breaks the specification.
    UnknownExtensionError
        The document needs something that zarrcy does not know.
    """
    key = f"{path}/zarr.json" if path else "zarr.json"
    if document is UNREAD:
        document = store.get(key)
    if document is None:
        return None
    found: ArrayMetadata | GroupMetadata | None = _remembered.find((document,))
    if found is None:
        with locate(key, store):
            found = from_document(decode(document))
        _remembered.keep((document,), found)
    return found


def write(store: Store, path: str, metadata: ArrayMetadata | GroupMetadata) -> None:
    """Store the metadata of the node at `path`, replacing what was there.

    Raises
    ------
    MetadataError
        An attribute has no JSON spelling.
    """
    key = document_keys(path)[0]
    with locate(key, store):
        document = metadata.to_json()
    store.set(key, document)
