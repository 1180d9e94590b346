"""How arrays and groups show themselves: one line, a table, a tree, a picture of the chunk grid.

Everything here takes plain values. Names, attributes and paths come from files that anybody may have written, so
control characters (and the invisible ones that turn text around) are shown escaped, long values are cut, and HTML is
escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from zarrcy.grid_svg import chunk_grid_svg

__all__ = [
    "Info",
    "Tree",
    "array_html",
    "array_info",
    "array_repr",
    "chunk_grid_svg",
    "format_nbytes",
    "tree_html",
    "tree_text",
]

Shape: TypeAlias = tuple[int, ...]
Row: TypeAlias = tuple[str, str]
Node: TypeAlias = tuple[str, str, str]  # path, "group" or "array", summary

MAX_VALUE = 300  # longest value shown, in characters
_MAX_NODES = 500

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def printable(text: str, limit: int = MAX_VALUE) -> str:
    r"""The text on one line: unprintable characters escaped, cut at `limit` characters.

    Examples
    --------
    >>> print(printable("a\nb\u202ec"))
    a\nb\u202ec
    """
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return cut + "…" if len(text) > limit else cut


def escaped(text: str, limit: int = MAX_VALUE) -> str:
    """The text for HTML, in an element or an attribute."""
    return printable(text, limit).translate(_ESCAPES)


def format_nbytes(nbytes: int) -> str:
    """A number of bytes for people.

    Parameters
    ----------
    nbytes : int
        Number of bytes.

    Returns
    -------
    str
        With a binary unit and one decimal; exact below 1 KiB.

    Examples
    --------
    >>> format_nbytes(8_000_000), format_nbytes(1023), format_nbytes(1)
    ('7.6 MiB', '1023 bytes', '1 byte')
    """
    if abs(nbytes) < 1024:
        return f"{nbytes} byte" + ("" if abs(nbytes) == 1 else "s")
    exponent = min((abs(nbytes).bit_length() - 1) // 10, 8)
    # 1023.97 KiB would be shown as 1024.0 KiB
    if exponent < 8 and round(nbytes / 1024**exponent, 1) >= 1024:
        exponent += 1
    return f"{nbytes / 1024**exponent:.1f} {' KMGTPEZY'[exponent]}iB"


def _exact_nbytes(nbytes: int) -> str:
    short = format_nbytes(nbytes)
    return f"{short} ({nbytes:,} bytes)" if nbytes >= 1024 else short


def _shape_text(shape: Sequence[int]) -> str:
    return str(tuple(int(length) for length in shape))


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and all(hasattr(part, "__index__") for part in value):
        return _shape_text(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


class Info:
    """A table of labels and values, as text and as HTML.

    Parameters
    ----------
    rows : mapping or iterable of (str, object)
        Labels and values. A value of None leaves its row out.
    picture : str, default ""
        Markup (already escaped) that stands beside the HTML table.

    Examples
    --------
    >>> Info({"Shape": (10, 20), "Fill value": None, "Read-only": True})
    Shape      (10, 20)
    Read-only  yes
    """

    def __init__(self, rows: Mapping[str, Any] | Iterable[tuple[str, Any]], picture: str = "") -> None:
        pairs = rows.items() if isinstance(rows, Mapping) else rows
        self.rows: list[Row] = [(label, _value_text(value)) for label, value in pairs if value is not None]
        self._picture = picture

    def __str__(self) -> str:
        width = max((len(printable(label)) for label, _ in self.rows), default=0)
        return "\n".join(f"{printable(label):<{width}}  {printable(value)}" for label, value in self.rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _beside(_table(self.rows), self._picture)


def array_info(
    *,
    shape: Shape,
    dtype: str,
    chunk_shape: Shape,
    shard_shape: Shape | None = None,
    type_name: str = "zarrcy.Array",
    zarr_format: int | None = None,
    fill_value: Any = None,
    order: str | None = None,
    dimension_names: Sequence[str | None] | None = None,
    codecs: Any = None,
    filters: Any = None,
    compressor: Any = None,
    store: str | None = None,
    path: str | None = None,
    read_only: bool | None = None,
    nbytes: int | None = None,
    nbytes_stored: int | None = None,
    n_chunks: int | None = None,
    n_chunks_initialized: int | None = None,
) -> Info:
    """All that an array is, as a table. What is None is left out.

    Parameters
    ----------
    shape, chunk_shape, shard_shape : tuple of int
        Shapes of the array, of the (inner) chunks, and of the shards if there are any.
    dtype : str
        Name of the data type.
    type_name, store, path, order : str, optional
        Shown as they are. The store's URL must hold no secret.
    zarr_format : int, optional
        2 or 3.
    fill_value, codecs, filters, compressor : object, optional
        Shown by ``str``; lists with commas.
    dimension_names : sequence of (str or None), optional
        One per axis.
    read_only : bool, optional
        Whether writing is refused.
    nbytes, nbytes_stored : int, optional
        Bytes in memory and in the store. With both the ratio is shown.
    n_chunks, n_chunks_initialized : int, optional
        Chunks (or shards) of the grid, and how many of them exist.

    Returns
    -------
    Info

    Examples
    --------
    >>> sizes = {"nbytes": 8_000_000, "nbytes_stored": 1_000_000}
    >>> print(array_info(shape=(1000, 1000), dtype="float64", chunk_shape=(100, 100), **sizes))
    Type           zarrcy.Array
    Shape          (1000, 1000)
    Chunk shape    (100, 100)
    Data type      float64
    Bytes          7.6 MiB (8,000,000 bytes)
    Bytes stored   976.6 KiB (1,000,000 bytes)
    Storage ratio  8.00
    """
    names = None
    if dimension_names is not None:
        names = ", ".join("-" if name is None else repr(name) for name in dimension_names)
    rows: list[tuple[str, Any]] = [
        ("Type", type_name),
        ("Zarr format", zarr_format),
        ("Path", path),
        ("Store", store),
        ("Read-only", read_only),
        ("Shape", _shape_text(shape)),
        ("Dimension names", names),
        ("Chunk shape", _shape_text(chunk_shape)),
        ("Shard shape", None if shard_shape is None else _shape_text(shard_shape)),
        ("Data type", dtype),
        ("Fill value", fill_value),
        ("Order", order),
        ("Codecs", codecs),
        ("Filters", filters),
        ("Compressor", compressor),
        ("Bytes", None if nbytes is None else _exact_nbytes(nbytes)),
        ("Bytes stored", None if nbytes_stored is None else _exact_nbytes(nbytes_stored)),
        ("Storage ratio", f"{nbytes / nbytes_stored:.2f}" if nbytes is not None and nbytes_stored else None),
        ("Chunks initialized", _part_text(n_chunks_initialized, n_chunks)),
    ]
    return Info(rows, chunk_grid_svg(shape, chunk_shape, shard_shape))


def _part_text(n: int | None, total: int | None) -> str | None:
    if n is None or total is None:
        return None
    # Rounded down, so that 100 % means all of them.
    percent = f" ({n * 1000 // total / 10:g} %)" if total else ""
    return f"{n:,} of {total:,}{percent}"


def array_repr(
    *,
    shape: Shape,
    dtype: str,
    chunk_shape: Shape,
    path: str,
    shard_shape: Shape | None = None,
    nbytes: int | None = None,
    type_name: str = "zarrcy.Array",
) -> str:
    """An array on one line.

    Parameters
    ----------
    shape, chunk_shape, shard_shape : tuple of int
        Shapes of the array, of the (inner) chunks, and of the shards if there are any.
    dtype, path, type_name : str
        Shown as they are.
    nbytes : int, optional
        Bytes in memory.

    Returns
    -------
    str

    Examples
    --------
    >>> print(array_repr(shape=(100, 200), dtype="float32", chunk_shape=(10, 20), path="/climate/t", nbytes=80_000))
    <zarrcy.Array /climate/t float32 (100, 200), chunks (10, 20), 78.1 KiB>
    """
    parts = [
        f"{type_name} {printable(path)} {printable(dtype)} {_shape_text(shape)}",
        f"chunks {_shape_text(chunk_shape)}" + (f" in shards {_shape_text(shard_shape)}" if shard_shape else ""),
    ]
    if nbytes is not None:
        parts.append(format_nbytes(nbytes))
    return f"<{', '.join(parts)}>"


def array_html(
    *,
    shape: Shape,
    dtype: str,
    chunk_shape: Shape,
    path: str,
    shard_shape: Shape | None = None,
    nbytes: int | None = None,
    dimension_names: Sequence[str | None] | None = None,
    zarr_format: int | None = None,
    type_name: str = "zarrcy.Array",
) -> str:
    """An array in a notebook: a short table and a picture of its chunk grid. Takes no look at the store.

    Parameters
    ----------
    shape, chunk_shape, shard_shape : tuple of int
        Shapes of the array, of the (inner) chunks, and of the shards if there are any.
    dtype, path, type_name : str
        Shown as they are, escaped.
    nbytes : int, optional
        Bytes in memory.
    dimension_names : sequence of (str or None), optional
        One per axis.
    zarr_format : int, optional
        2 or 3.

    Returns
    -------
    str
        HTML without scripts, in the colours of the page.
    """
    info = array_info(
        shape=shape,
        dtype=dtype,
        chunk_shape=chunk_shape,
        shard_shape=shard_shape,
        dimension_names=dimension_names,
        zarr_format=zarr_format,
        type_name=type_name,
        path=path,
        nbytes=nbytes,
    )
    return info._repr_html_()


def _table(rows: Iterable[Row]) -> str:
    cell = "text-align:left;vertical-align:top;padding:.1em .8em .1em 0"
    lines = "".join(
        f'<tr><th scope="row" style="{cell};white-space:nowrap">{escaped(label)}</th>'
        f'<td style="{cell};overflow-wrap:anywhere">{escaped(value)}</td></tr>'
        for label, value in rows
    )
    return f'<table style="margin:0;border-collapse:collapse"><tbody>{lines}</tbody></table>'


def _beside(table: str, picture: str) -> str:
    if not picture:
        return f"<div>{table}</div>"
    style = "display:flex;flex-wrap:wrap;align-items:center;gap:1em 2em"
    return f'<div style="{style}"><div>{table}</div><div>{picture}</div></div>'


# The tree -----------------------------------------------------------------------------------------------------------


class _Branch:
    def __init__(self) -> None:
        self.kind = "group"  # also that of a parent that nobody has named
        self.summary = ""
        self.children: dict[str, _Branch] = {}


def _grown(nodes: Iterable[Node], max_nodes: int) -> tuple[_Branch, bool]:
    """The nodes as a tree, and whether there were more than `max_nodes`. Reads one node more than it takes."""
    root = _Branch()
    taken = list(islice(nodes, max_nodes + 1))
    for path, kind, summary in taken[:max_nodes]:
        branch = root
        for name in filter(None, path.split("/")):
            branch = branch.children.setdefault(name, _Branch())
        branch.kind, branch.summary = kind, summary
    return root, len(taken) > max_nodes


def tree_text(nodes: Iterable[Node], *, max_nodes: int = _MAX_NODES) -> str:
    """A hierarchy as a tree of lines.

    Parameters
    ----------
    nodes : iterable of (path, kind, summary)
        Path from the root of the tree, ``"group"`` or ``"array"``, and what is said behind the name. In any order;
        parents that are not among them are shown as groups.
    max_nodes : int, default 500
        How many nodes are read and shown at most.

    Returns
    -------
    str
        Names in alphabetical order below their parents; groups end in ``/``.

    Examples
    --------
    >>> nodes = [("", "group", ""), ("sea", "group", ""), ("sea/t", "array", "(10,) float32"), ("lat", "array", "(5,)")]
    >>> print(tree_text(nodes))
    /
    ├── lat (5,)
    └── sea/
        └── t (10,) float32
    """
    root, more = _grown(nodes, max_nodes)
    lines = [f"/ {printable(root.summary)}".rstrip()]
    stack = [(name, branch, "", i == 0) for i, (name, branch) in enumerate(_last_first(root))]
    while stack:
        name, branch, indent, last = stack.pop()
        label = printable(name) + ("/" if branch.kind == "group" else "")
        lines.append(f"{indent}{'└── ' if last else '├── '}{label} {printable(branch.summary)}".rstrip())
        below = indent + ("    " if last else "│   ")
        stack += [(name, child, below, i == 0) for i, (name, child) in enumerate(_last_first(branch))]
    if more:
        lines.append(f"… only {max_nodes:,} nodes are shown")
    return "\n".join(lines)


def _last_first(branch: _Branch) -> list[tuple[str, _Branch]]:
    return sorted(branch.children.items(), reverse=True)


def tree_html(nodes: Iterable[Node], *, max_nodes: int = _MAX_NODES) -> str:
    """A hierarchy as nested lists that fold, for notebooks.

    Parameters
    ----------
    nodes : iterable of (path, kind, summary)
        As for :func:`tree_text`.
    max_nodes : int, default 500
        How many nodes are read and shown at most.

    Returns
    -------
    str
        HTML without scripts, in the colours of the page.
    """
    root, more = _grown(nodes, max_nodes)
    parts: list[str] = []
    stack: list[tuple[str, _Branch] | str] = [("", root)]
    while stack:
        entry = stack.pop()
        if isinstance(entry, str):
            parts.append(entry)
            continue
        name, branch = entry
        label = f"<b>{escaped(name)}{'/' if branch.kind == 'group' else ''}</b> {escaped(branch.summary)}".rstrip()
        if not branch.children:
            parts.append(f"<li>{label}</li>")
            continue
        parts.append(f'<li><details open=""><summary style="cursor:pointer">{label}</summary><ul style="{_LIST}">')
        stack.append("</ul></details></li>")
        stack.extend(_last_first(branch))
    if more:
        parts.append(f"<li>… only {max_nodes:,} nodes are shown</li>")
    return f'<ul style="{_LIST};padding-left:0">{"".join(parts)}</ul>'


_LIST = "list-style:none;margin:0;padding-left:1.2em"


class Tree:
    """A hierarchy as it shows itself in a terminal and in a notebook.

    Parameters
    ----------
    nodes : list of (path, kind, summary)
        As for `tree_text`.

    Examples
    --------
    >>> Tree([("", "group", ""), ("lat", "array", "(5,)")])
    /
    └── lat (5,)
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def __repr__(self) -> str:
        return tree_text(self.nodes)

    def _repr_html_(self) -> str:
        return tree_html(self.nodes)
