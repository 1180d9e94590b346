from typing import Any

import numpy.typing as npt

from zarrcy.codecs.pipeline import CodecPipeline
from zarrcy.metadata import ArrayMetadata
from zarrcy.selection import Selection
from zarrcy.stores.store import Store

class Transfer:
    store: Store
    dtype: Any
    shape: tuple[int, ...]
    pipeline: CodecPipeline
    raises_missing: bool
    def __init__(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        raises_missing: bool = False,
        keeps_empty: bool = False,
    ) -> None: ...
    @property
    def cell_shape(self) -> tuple[int, ...]: ...
    def key(self, index: tuple[int, ...]) -> str: ...
    def read(self, selection: Selection, buffer: npt.NDArray[Any] | None) -> npt.NDArray[Any]: ...
    def write(self, selection: Selection, buffer: npt.NDArray[Any]) -> None: ...

class ArrayBase:
    _store: Store
    _path: str
    _metadata: ArrayMetadata
    _read_only: bool
    _missing: str
    _write_empty_chunks: bool
    _transfer: Transfer
    def _begin(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        read_only: bool,
        missing: str,
        write_empty_chunks: bool,
    ) -> None: ...
    def _set_metadata(self, metadata: ArrayMetadata) -> None: ...
    def __getitem__(self, key: Any) -> Any: ...
    def _get(self, selection: Selection) -> Any: ...
