from typing import Any

from zarrcy.codecs.codec import Codec

class CodecPipeline:
    codecs: tuple[Codec, ...]
    inner: CodecPipeline | None
    needs_gil: bool
    decodes_parts: bool
    nbytes: int
    max_encoded_nbytes: int
    n_inner: int
    index_nbytes: int
    index_at_start: bool
    def __init__(
        self,
        codecs: tuple[Codec, ...],
        shape: tuple[int, ...],
        dtype: Any,
        word: int,
        fill: bytes | None,
        keeps_empty: bool = False,
        axes: tuple[int, ...] | None = None,
        level: int = 0,
    ) -> None: ...
