"""Consolidated metadata: the documents of all nodes below a group, kept in one.

Zarr v3 core specification, "Consolidated metadata"; v2 as zarr-python writes ``.zmetadata``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zarrcy.document import mapping, show
from zarrcy.errors import MetadataError, UnknownExtensionError
from zarrcy.stores.store import check_key

__all__ = ["Consolidated", "below", "check_member", "inline_documents"]


# How deep a document may hold documents that hold documents; writers hold them all in one, by path.
MAX_DEPTH = 32


class Consolidated(Mapping[str, Any]):
    """The metadata of the nodes below a group, by path; each document is parsed when it is asked for.

    So a hierarchy opens at once, and an array that zarrcy cannot read fails when it is opened, not its neighbours.

    Parameters
    ----------
    documents : dict
        The documents by path, as they were read.
    parse : callable
        Makes metadata of a path and its document.
    zarr_format : {2, 3}
        The format of the documents.
    """

    __slots__ = ("_parse", "_parsed", "documents", "zarr_format")

    def __init__(self, documents: dict[str, Any], parse: Callable[[str, Any], Any], zarr_format: int) -> None:
        self.documents = documents
        self.zarr_format = zarr_format
        self._parse = parse
        self._parsed: dict[str, Any] = {}

    def __getitem__(self, path: str) -> Any:
        if path not in self._parsed:
            self._parsed[path] = self._parse(path, self.documents[path])
        return self._parsed[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __contains__(self, path: object) -> bool:
        return path in self.documents

    def over(self, documents: dict[str, Any]) -> Consolidated:
        """The same for other documents."""
        return Consolidated(documents, self._parse, self.zarr_format)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Consolidated, (self.documents, self._parse, self.zarr_format))

    def __repr__(self) -> str:
        return f"Consolidated({len(self)} nodes)"


def below(nodes: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """The nodes below a group among them, by path relative to that group; none is parsed for it."""
    prefix = f"{group}/"
    if not isinstance(nodes, Consolidated):
        return {path[len(prefix) :]: nodes[path] for path in nodes if path.startswith(prefix)}
    documents = {path[len(prefix) :]: nodes.documents[path] for path in nodes if path.startswith(prefix)}
    return nodes.over(documents)


def inline_documents(data: object, where: str) -> dict[str, Any]:
    """The documents by path that a ``consolidated_metadata`` of ``zarr.json`` holds."""
    data = mapping(data, where)
    if data.get("kind") != "inline":
        raise UnknownExtensionError(f"{where}.kind: expected inline, got {show(data.get('kind'))}", code="unknown")
    documents: dict[str, Any] = {}
    _gather(data.get("metadata"), "", f"{where}.metadata", documents)
    return documents


def _gather(members: object, prefix: str, where: str, documents: dict[str, Any]) -> None:
    """Adds every document by its path, also those that a member group holds itself; the topmost one counts."""
    if prefix.count("/") > MAX_DEPTH:
        raise MetadataError(f"consolidated_metadata: expected at most {MAX_DEPTH} groups within each other")
    for name, document in mapping(members, where).items():
        path = prefix + name
        check_member(path, where)
        document = mapping(document, f"{where}[{show(name)}]")
        nested = document.get("consolidated_metadata")
        documents.setdefault(path, {key: value for key, value in document.items() if key != "consolidated_metadata"})
        if type(nested) is dict and nested.get("metadata"):
            inner = f"{where}[{show(name)}].consolidated_metadata.metadata"
            _gather(nested["metadata"], f"{path}/", inner, documents)


def check_member(path: str, where: str) -> None:
    """Refuse the path of a consolidated node that is none."""
    try:
        check_key(path)
    except ValueError as error:
        raise MetadataError(f"{where}: expected paths of nodes: {error}") from error
