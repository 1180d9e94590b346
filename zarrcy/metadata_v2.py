"""``.zarray``, ``.zgroup``, ``.zattrs`` and ``.zmetadata`` ↔ the metadata of `zarrcy.metadata`.

Zarr v2 specification; ``.zmetadata`` as zarr-python writes it. This is the only module that knows the v2 documents. A
v2 array has the codecs ``transpose`` (where ``order`` is ``"F"``), the filters, ``bytes`` (with the byte order of
``dtype``) and the compressor. Attributes stay as they are: also ``_ARRAY_DIMENSIONS``, where xarray keeps the names
of the axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import zarrcy.codecs
from zarrcy import dtypes, metadata
from zarrcy.chunk_grid import ChunkKeyEncoding, RegularGrid
from zarrcy.codecs.codec import Codec
from zarrcy.codecs.layout import BytesCodec, Transpose
from zarrcy.document import decode, encode, integers, locate, mapping, show
from zarrcy.dtypes import DataType
from zarrcy.errors import ConflictError, MetadataError, NodeNotFoundError, UnknownExtensionError
from zarrcy.metadata import MAX_NDIM, ArrayMetadata, GroupMetadata
from zarrcy.registry import LazyModule
from zarrcy.remembered import Remembered, bytes_of

if TYPE_CHECKING:
    from zarrcy import consolidated as consolidation
    from zarrcy.stores.store import Buffer, Store
else:
    consolidation = LazyModule("zarrcy.consolidated")

__all__ = ["document_keys", "read", "read_consolidated", "write", "write_attributes", "write_consolidated"]

Node = TypeVar("Node", bound=ArrayMetadata | GroupMetadata)

ARRAY = ".zarray"
GROUP = ".zgroup"
ATTRIBUTES = ".zattrs"
CONSOLIDATED = ".zmetadata"

_ARRAY_FIELDS = frozenset(
    {"zarr_format", "shape", "chunks", "dtype", "order", "compressor", "filters", "fill_value", "dimension_separator"}
)
_ARRAY_REQUIRED = ("zarr_format", "shape", "chunks", "dtype", "order")
# Compiled at first use, not at import; `re` keeps it.
_DTYPE = r"([<>|])([a-zA-Z])([0-9]{0,10})(?:\[([0-9]{0,10})([a-zμ]{1,7}|[YMWD])\])?"
_ENDIANS = {"<": "little", ">": "big"}


class Format:
    """What the metadata of a format can say, for those who describe a new array."""

    key_encoding = "default"
    has_codec_chains = True
    has_shards = True
    has_dimension_names = True
    has_null_fill_value = False


class _Format2(Format):
    key_encoding = "v2"
    has_codec_chains = False
    has_shards = False
    has_dimension_names = False
    has_null_fill_value = True


_remembered = Remembered()
_remembered_arrays = Remembered()  # by the decoded .zarray, for the members in .zmetadata
_remembered_attributes = Remembered()  # of any node: as a group that has them

_FORMATS = {2: _Format2(), 3: Format()}


def format_of(zarr_format: int) -> Format:
    """What the format 2 or 3 can say.

    Examples
    --------
    >>> format_of(2).has_shards
    False
    """
    return _FORMATS[zarr_format]


def _key(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def document_keys(path: str) -> list[str]:
    """The keys that may make up the metadata of the node at `path` (empty: the root).

    Examples
    --------
    >>> document_keys("a")
    ['a/.zarray', 'a/.zgroup', 'a/.zattrs', 'a/.zmetadata']
    """
    return [_key(path, name) for name in (ARRAY, GROUP, ATTRIBUTES, CONSOLIDATED)]


def read(store: Store, path: str) -> ArrayMetadata | GroupMetadata | None:
    """The metadata of the node at `path`; ``None`` when there is no v2 node. Consolidated metadata is not looked at.

    Attributes lie in a document of their own, which is read when they are used.

    Raises
    ------
    MetadataError
        A document breaks the specification; the attributes, at their first use.
    UnknownExtensionError
        A document needs something that zarrcy does not know.
    """
    for name, parse in ((ARRAY, array_from_documents), (GROUP, group_from_documents)):
        document = store.get(_key(path, name))
        if document is None:
            continue
        # The name, because a text may be one document as .zarray and another as .zgroup.
        documents = (name.encode(), document)
        attributes = partial(_read_attributes, store, path)
        found: ArrayMetadata | GroupMetadata | None = _remembered.find(documents, attributes=attributes)
        if found is None:
            with locate(_key(path, name), store):
                found = parse(decode(document), {})
            _remembered.keep(documents, found)
            found = found.later(attributes=attributes)
        return found
    return None


def _read_attributes(store: Store, path: str) -> dict[str, Any]:
    key = _key(path, ATTRIBUTES)
    document = store.get(key)
    if document is None:
        return {}
    found: GroupMetadata | None = _remembered_attributes.find((document,))
    if found is None:
        with locate(key, store):
            found = GroupMetadata(decode(document), 2)
        _remembered_attributes.keep((document,), found)
    return found.attributes


def read_consolidated(store: Store, path: str) -> GroupMetadata | None:
    """The group at `path` with its consolidated metadata; ``None`` when it has none.

    Raises
    ------
    MetadataError
        The document breaks the specification.
    """
    key = _key(path, CONSOLIDATED)
    document = store.get(key)
    if document is None:
        return None
    found: GroupMetadata | None = _remembered.find((CONSOLIDATED.encode(), document))
    if found is None:
        with locate(key, store):
            found = consolidated_from_document(decode(document))
        _remembered.keep((CONSOLIDATED.encode(), document), found)
    return found


def write(store: Store, path: str, metadata: ArrayMetadata | GroupMetadata) -> None:
    """Store the metadata of the node at `path`, attributes first, so that the node is whole when it appears.

    Raises
    ------
    MetadataError
        The metadata holds something that Zarr v2 cannot.
    """
    for name, document in reversed(to_documents(metadata).items()):
        key = _key(path, name)
        with locate(key, store):
            value = encode(document)
        store.set(key, value)


def write_attributes(store: Store, path: str, attributes: dict[str, Any]) -> None:
    """Store the attributes of the node at `path`.

    Raises
    ------
    MetadataError
        An attribute has no JSON spelling.
    """
    key = _key(path, ATTRIBUTES)
    with locate(key, store):
        value = encode(attributes)
    store.set(key, value)


def write_consolidated(store: Store, path: str, members: Mapping[str, ArrayMetadata | GroupMetadata]) -> None:
    """Store the consolidated metadata of the group at `path`.

    Parameters
    ----------
    members : mapping
        The metadata of every node below, by path relative to the group; under the empty path the group itself, which
        is read when it is not there.

    Raises
    ------
    MetadataError
        There is no group at `path`, or the metadata holds something that Zarr v2 cannot.
    """
    store.set(_key(path, CONSOLIDATED), _consolidated_value(store, path, members))


def _consolidated_value(store: Store, path: str, members: Mapping[str, ArrayMetadata | GroupMetadata]) -> bytes:
    key = _key(path, CONSOLIDATED)
    root = members[""] if "" in members else read(store, path)
    with locate(key, store):
        if not isinstance(root, GroupMetadata):
            raise MetadataError(f"expected a group at {show(path)}, got none")
        documents = {
            _key(member, name): document
            for member, metadata in {**members, "": root}.items()
            for name, document in to_documents(metadata).items()
        }
        return encode({"zarr_consolidated_format": 1, "metadata": dict(sorted(documents.items()))})


def array_from_documents(data: dict[str, Any], attributes: dict[str, Any]) -> ArrayMetadata:
    """The array that a decoded ``.zarray`` and ``.zattrs`` describe.

    Fields that the specification does not name are kept: it tells readers to pass over them.
    """
    key = (bytes_of(data),)
    found: ArrayMetadata | None = _remembered_arrays.find(key)
    if found is None:
        found = _new_array_from_documents(data, attributes)
        _remembered_arrays.keep(key, found.with_attributes({}))
        return found
    return found.with_attributes(attributes)


def _new_array_from_documents(data: dict[str, Any], attributes: dict[str, Any]) -> ArrayMetadata:
    _check_format(data)
    for name in _ARRAY_REQUIRED:
        if name not in data:
            raise MetadataError(f"{name}: expected this field, got nothing")
    shape = integers(data["shape"], "shape")
    if len(shape) > MAX_NDIM:
        raise MetadataError(f"shape: expected at most {MAX_NDIM} axes, got {len(shape)}")
    data_type, endian = _dtype_from_json(data["dtype"], "dtype")
    separator = data.get("dimension_separator", ".")
    if separator not in ("/", "."):
        raise MetadataError(f'dimension_separator: expected "/" or ".", got {show(separator)}')
    fill_value = data.get("fill_value")
    return ArrayMetadata(
        shape=shape,
        data_type=data_type,
        chunk_grid=RegularGrid.from_list(data["chunks"], "chunks", shape),
        chunk_key_encoding=ChunkKeyEncoding("v2", separator),
        fill_value=None if fill_value is None else _fill_value_from_json(data_type, fill_value),
        codecs=_codecs_from_json(data, endian, len(shape)),
        attributes=attributes,
        zarr_format=2,
        extra_fields={name: value for name, value in data.items() if name not in _ARRAY_FIELDS},
    )


def group_from_documents(data: dict[str, Any], attributes: dict[str, Any]) -> GroupMetadata:
    """The group that a decoded ``.zgroup`` and ``.zattrs`` describe."""
    _check_format(data)
    return GroupMetadata(
        attributes, 2, extra_fields={name: value for name, value in data.items() if name != "zarr_format"}
    )


def _check_format(data: dict[str, Any]) -> None:
    zarr_format = data.get("zarr_format")
    if type(zarr_format) is not int or zarr_format != 2:
        raise MetadataError(f"zarr_format: expected 2, got {show(zarr_format)}")


def _dtype_from_json(data: object, where: str) -> tuple[DataType, str | None]:
    """The data type and the byte order that a ``dtype`` describes, in the array protocol's spelling."""
    if type(data) is list:
        raise UnknownExtensionError(
            f'{where}: data type structured: expected a simple one, such as "<f8"', code="unknown"
        )
    match = re.fullmatch(_DTYPE, data, re.ASCII) if type(data) is str else None
    if match is None:
        raise MetadataError(f'{where}: expected a data type such as "<f8", got {show(data)}')
    order, kind, _, count, unit = match.groups()
    if unit is not None:
        if kind not in "Mm":
            raise MetadataError(f'{where}: expected a data type such as "<M8[ns]", got {show(data)}')
        name = "numpy.datetime64" if kind == "M" else "numpy.timedelta64"
        configuration = {"unit": unit, "scale_factor": int(count or 1)}
        data_type = dtypes.from_json({"name": name, "configuration": configuration}, where)
    else:
        data_type = _plain_dtype(match[0], where)
    if data_type.word == 1:
        return data_type, None
    if order not in _ENDIANS:
        raise MetadataError(f'{where}: expected a byte order, "<" or ">", got {show(data)}')
    return data_type, _ENDIANS[order]


def _plain_dtype(spelling: str, where: str) -> DataType:
    try:
        return dtypes.from_numpy(spelling)
    except UnknownExtensionError as error:
        raise UnknownExtensionError(
            f"{where}: {show(spelling)}: {error.message}", code=error.code, hint=error.hint
        ) from error


def _fill_value_from_json(data_type: DataType, value: object) -> Any:
    kind = data_type.dtype.kind
    # Older versions of zarr-python wrote 0 for every data type, and 0 and 1 for booleans.
    if type(value) is int and ((value == 0 and kind in "SUVb") or (value == 1 and kind == "b")):
        return data_type.scalar(value)
    return data_type.fill_value_from_json(value, "fill_value")


def _codecs_from_json(data: dict[str, Any], endian: str | None, ndim: int) -> tuple[Codec, ...]:
    codecs: list[Codec] = []
    if data["order"] not in ("C", "F"):
        raise MetadataError(f'order: expected "C" or "F", got {show(data["order"])}')
    if data["order"] == "F":
        codecs.append(Transpose(range(ndim - 1, -1, -1)))
    filters = data.get("filters")
    if filters is not None:
        if type(filters) is not list:
            raise MetadataError(f"filters: expected null or a list, got {show(filters)}")
        codecs += [_codec_from_json(config, f"filters[{i}]") for i, config in enumerate(filters)]
    codecs.append(BytesCodec(endian))
    if data.get("compressor") is not None:
        codecs.append(_codec_from_json(data["compressor"], "compressor"))
    return tuple(codecs)


def _codec_from_json(config: object, where: str) -> Codec:
    if type(config) is not dict or type(config.get("id")) is not str:
        raise MetadataError(f"{where}: expected an object with an id, got {show(config)}")
    return zarrcy.codecs.from_v2(config, where)


def to_documents(metadata: ArrayMetadata | GroupMetadata) -> dict[str, dict[str, Any]]:
    """The documents of a node by name, attributes last, not yet encoded."""
    return {**_without_attributes(metadata), ATTRIBUTES: metadata.attributes}


def _without_attributes(metadata: ArrayMetadata | GroupMetadata) -> dict[str, dict[str, Any]]:
    if metadata.zarr_format != 2:
        raise MetadataError(f"zarr_format: expected 2 for {ARRAY} and {GROUP}, got {metadata.zarr_format}")
    if isinstance(metadata, GroupMetadata):
        return {GROUP: {"zarr_format": 2, **metadata.extra_fields}}
    if metadata.chunk_key_encoding.name != "v2":
        raise MetadataError(f"chunk_key_encoding: expected v2 in Zarr v2, got {metadata.chunk_key_encoding.name}")
    order, filters, compressor = _split_codecs(metadata)
    document = {
        "zarr_format": 2,
        "shape": list(metadata.shape),
        "chunks": list(metadata.chunk_shape),
        "dtype": _dtype_to_json(metadata),
        "order": order,
        "compressor": None if compressor is None else zarrcy.codecs.to_v2(compressor),
        "filters": [zarrcy.codecs.to_v2(codec) for codec in filters] or None,
        "fill_value": _fill_value_to_json(metadata),
        "dimension_separator": metadata.chunk_key_encoding.separator,
        **metadata.extra_fields,
    }
    return {ARRAY: document}


def _split_codecs(metadata: ArrayMetadata) -> tuple[str, list[Codec], Codec | None]:
    """The order, the filters and the compressor that say the same as the codecs."""
    codecs = list(metadata.codecs)
    if codecs and isinstance(codecs[0], Transpose) and metadata.order == "F":
        del codecs[0]
    positions = [i for i, codec in enumerate(codecs) if isinstance(codec, BytesCodec)]
    if len(positions) != 1:
        raise MetadataError(f"codecs: expected bytes once, got it {len(positions)} times")
    filters, compressors = codecs[: positions[0]], codecs[positions[0] + 1 :]
    # Filters and the compressor run one after the other: with several of the latter, all but the last may as well be
    # filters.
    return metadata.order, filters + compressors[:-1], compressors[-1] if compressors else None


def _dtype_to_json(metadata: ArrayMetadata) -> str:
    return metadata.dtype.newbyteorder("big" if metadata.endian == "big" else "little").str


def _fill_value_to_json(metadata: ArrayMetadata) -> Any:
    """As in v3, but the count for NaT, as zarr-python writes it, and the one NaN that v2 can spell for every NaN."""
    if metadata.fill_value is None:
        return None
    kind = metadata.dtype.kind
    if kind in "Mm":
        return int(np.asarray(metadata.fill_value, metadata.dtype).view("i8"))
    value = metadata.data_type.fill_value_to_json(metadata.fill_value)
    if kind == "c":
        return [_without_payload(part) for part in value]
    return _without_payload(value) if kind == "f" else value


def _without_payload(value: float | str) -> float | str:
    return "NaN" if isinstance(value, str) and value.startswith("0x") else value


def consolidated_from_document(data: dict[str, Any]) -> GroupMetadata:
    """The group that a decoded ``.zmetadata`` describes, with the nodes below it."""
    if data.get("zarr_consolidated_format") != 1 or type(data["zarr_consolidated_format"]) is not int:
        raise MetadataError(f"zarr_consolidated_format: expected 1, got {show(data.get('zarr_consolidated_format'))}")
    nodes: dict[str, Any] = {}
    for key, document in mapping(data.get("metadata"), "metadata").items():
        path, _, name = key.rpartition("/")
        if path:
            consolidation.check_member(path, "metadata")
        if name in (ARRAY, GROUP, ATTRIBUTES):
            nodes.setdefault(path, {})[name] = mapping(document, f"metadata[{show(key)}]")
    nodes = {path: documents for path, documents in nodes.items() if ARRAY in documents or GROUP in documents}
    root = nodes.pop("", {})
    if GROUP not in root:
        raise MetadataError(f"metadata: expected {GROUP}, got nothing")
    group = group_from_documents(root[GROUP], root.get(ATTRIBUTES, {}))
    return group.replace(consolidated=consolidation.Consolidated(nodes, _parse_member, 2))


def _parse_member(path: str, documents: Any) -> ArrayMetadata | GroupMetadata:
    key = (b"member", bytes_of(documents))
    found: ArrayMetadata | GroupMetadata | None = _remembered.find(key)
    if found is None:
        attributes = documents.get(ATTRIBUTES, {})
        with locate(f"{CONSOLIDATED}: {path}"):
            if ARRAY in documents:
                found = array_from_documents(documents[ARRAY], attributes)
            else:
                found = group_from_documents(documents[GROUP], attributes)
        _remembered.keep(key, found)
    return found


# The door: a node in either format.


def read_node(
    store: Store, path: str, zarr_format: int | None = None, document: Any = metadata.UNREAD
) -> ArrayMetadata | GroupMetadata | None:
    """The metadata of the node at `path`, v3 before v2; ``None`` when there is none.

    Parameters
    ----------
    store : Store
        Where the node lies.
    path : str
        Its path; empty for the root.
    zarr_format : {2, 3}, optional
        Look for this format only.
    document : bytes or None, optional
        The ``zarr.json`` of the node, for who has read it.

    Raises
    ------
    MetadataError
        A document breaks the specification.
    """
    if zarr_format not in (None, 2, 3):
        raise ValueError(f"zarr_format: expected 2, 3 or None, got {show(zarr_format)}")
    found = metadata.read(store, path, document) if zarr_format != 2 else None
    if found is None and zarr_format != 3:
        found = read(store, path)
    return found


def read_consolidated_node(store: Store, path: str, group: GroupMetadata) -> GroupMetadata:
    """The group with its consolidated metadata, where it has any; that of v2 is read when a member is asked for."""
    if group.zarr_format != 2:
        return group
    found: list[GroupMetadata] = []

    def whole() -> GroupMetadata:
        if not found:
            found.append(read_consolidated(store, path) or group)
        return found[0]

    return group.later(attributes=lambda: whole().attributes, consolidated=lambda: whole().consolidated)


def write_node(store: Store, path: str, node: ArrayMetadata | GroupMetadata) -> None:
    """Store the metadata of a node, replacing what was there."""
    (write if node.zarr_format == 2 else metadata.write)(store, path, node)


def update_consolidated(
    store: Store, path: str, group: GroupMetadata, gather: Callable[[], Mapping[str, ArrayMetadata | GroupMetadata]]
) -> None:
    """Store the metadata of every node below a group in one document, so that no concurrent change is lost.

    Parameters
    ----------
    store, path, group
        The group.
    gather : callable
        Reads the metadata of the nodes below. It is called again when another writer was faster.
    """
    if group.zarr_format == 2:
        store.update(_key(path, CONSOLIDATED), lambda _: _consolidated_value(store, path, gather()))
    else:
        update_node(store, path, group, lambda current: current.replace(consolidated=dict(gather())))


def node_keys(path: str) -> list[str]:
    """The keys that may hold the metadata of a node, in either format."""
    return [*metadata.document_keys(path), *document_keys(path)]


def array_document(path: str, zarr_format: int) -> str:
    """The key of the document that makes the node at `path` an array of that format."""
    return _key(path, ARRAY) if zarr_format == 2 else metadata.document_keys(path)[0]


def read_member(store: Store, path: str, zarr_format: int) -> ArrayMetadata | GroupMetadata | None:
    """The metadata of the node at `path` below a group of that format; a node of the other format counts too."""
    return read_node(store, path, zarr_format) or read_node(store, path, 5 - zarr_format)


def node_exists(store: Store, path: str) -> bool:
    """Whether there is a node at `path`, readable or not."""
    keys = [*metadata.document_keys(path), _key(path, ARRAY), _key(path, GROUP)]
    return any(store.exists(key) for key in keys)


def encode_node(node: ArrayMetadata | GroupMetadata) -> dict[str, bytes]:
    """The documents of a node by name, as they are stored; the first one makes it a node.

    Raises
    ------
    MetadataError
        The metadata holds something that the format, or JSON, cannot.
    """
    for name in node.attributes:
        if type(name) is not str:
            raise MetadataError(f"attributes: expected text as names, got {name!r}")  # JSON would make text of it
    if node.zarr_format == 3:
        return {metadata.document_keys("")[0]: node.to_json()}
    documents = to_documents(node)
    if not node.attributes:
        del documents[ATTRIBUTES]
    return {name: encode(document) for name, document in documents.items()}


def create_node(store: Store, path: str, documents: dict[str, bytes]) -> bool:
    """Store the documents of a node that is not there yet; False when another writer was faster."""
    (name, value), *others = documents.items()
    for other, attributes in others:
        store.set(_key(path, other), attributes)
    if not store.supports_cas:
        store.set(_key(path, name), value)
        return True
    try:
        store.set_if(_key(path, name), value, None)
    except ConflictError:
        return False
    return True


def update_node(
    store: Store, path: str, node: Node, change: Callable[[Node], Node], *, attributes_only: bool = False
) -> Node:
    """Change the metadata of a node as it is in the store now, so that no concurrent change is lost.

    Parameters
    ----------
    store, path
        Where the node lies.
    node : ArrayMetadata or GroupMetadata
        The node as it was read; it tells the format.
    change : callable
        Makes the new metadata of the current one. It may be called several times.
    attributes_only : bool
        `change` touches only the attributes.

    Returns
    -------
    ArrayMetadata or GroupMetadata
        What was stored.

    Raises
    ------
    NodeNotFoundError
        The node was deleted meanwhile.
    """
    result: Any = node
    if node.zarr_format == 2:
        key = _key(path, ATTRIBUTES if attributes_only else ARRAY)
    else:
        key = metadata.document_keys(path)[0]

    def changed(document: Buffer | None) -> bytes:
        nonlocal result
        # A v2 node may have no attributes yet; those of no node would lie in the way of new ones.
        if document is None and not (node.zarr_format == 2 and attributes_only and node_exists(store, path)):
            raise NodeNotFoundError("expected the metadata of a node, got nothing", store=store.url, key=key)
        with locate(key, store):
            if node.zarr_format == 3:
                current: Any = metadata.from_document(decode(document or b""))
                result = change(current)
                return result.to_json()  # type: ignore[no-any-return]
            data = {} if document is None else decode(document)
            if attributes_only:
                current = node.replace(attributes=data)
                result = change(current)
                return encode(result.attributes)
            current = array_from_documents(data, {}).later(attributes=partial(_read_attributes, store, path))
            result = change(current)
            return encode(_without_attributes(result)[ARRAY])

    store.update(key, changed)
    return result  # type: ignore[no-any-return]
