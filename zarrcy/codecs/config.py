"""Which C libraries the codecs are linked with."""

from __future__ import annotations

from zarrcy.codecs import blosc, checksums, deflate, lz4, zstd

__all__ = ["linked"]


def linked() -> dict[str, str]:
    """The C libraries that zarrcy was linked with, their versions, and where they came from.

    Returns
    -------
    dict of str to str
        A version for each library; ``"crc32c"`` says how the checksum is computed on this processor, and ``"from"`` is
        ``"wheels"`` (the static libraries of the build requirements) or ``"system"``.

    Examples
    --------
    >>> from zarrcy.codecs.config import linked
    >>> linked()["from"] in ("wheels", "system")
    True
    """
    libraries = {}
    for module in (zstd, deflate, blosc, lz4, checksums):
        libraries.update(module.linked())
    return {"from": zstd.LINKED_FROM, **dict(sorted(libraries.items()))}
