"""A small picture of a chunk grid, as SVG in the colours of the page, with a title that says the same in words."""

from __future__ import annotations

import math
from typing import TypeAlias

__all__ = ["chunk_grid_svg"]

Shape: TypeAlias = tuple[int, ...]

_LONGEST, _SHORTEST, _BAR = 150.0, 18.0, 28.0  # sides in pixels: the longest, the least, the height of a 1-D array
_GAP = 8.0  # least distance between two lines
_DEPTH = (0.5, 0.35)  # how far one pixel of the third axis goes to the right, and up
_MARGIN, _FONT_SIZE = 4.0, 11


def chunk_grid_svg(shape: Shape, chunk_shape: Shape, shard_shape: Shape | None = None) -> str:
    """A small picture of the chunk grid: a bar, a rectangle or a box; of more than three axes the last three.

    The chunk at the origin is tinted, the borders of shards are drawn strongly. Where lines would stand too close, only
    every n-th is drawn.

    Parameters
    ----------
    shape, chunk_shape, shard_shape : tuple of int
        Shapes of the array, of the (inner) chunks, and of the shards if there are any.

    Returns
    -------
    str
        An SVG element in the colours of the page; empty when there is nothing to draw (no axes, or one of length 0).
    """
    if not shape or 0 in shape or 0 in chunk_shape:
        return ""
    box = _Box(shape[-3:])
    title = _title(shape, chunk_shape, shard_shape)
    shards = "" if shard_shape is None else f'<path d="{box.lines(shard_shape[-3:])}" stroke-width="1.4"/>'
    width, height = box.left + box.right, box.bottom + _MARGIN
    size = f'width="{_px(width)}" height="{_px(height)}"'
    view = f'viewBox="{_px(-box.left)} {_px(-_MARGIN)} {_px(width)} {_px(height)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" {size} {view} '
        f'fill="none" stroke="currentColor"><title>{title}</title>'
        f'<g fill="currentColor" stroke="none"><path d="{box.outline()}" fill-opacity=".07"/>'
        f'<path d="{box.first_chunk(chunk_shape[-3:])}" fill-opacity=".3"/></g>'
        f'<path d="{box.lines(chunk_shape[-3:])}" stroke-width=".6" stroke-opacity=".6"/>{shards}'
        f'<path d="{box.lines(shape[-3:])}" stroke-width="1.4"/>'
        f'<g fill="currentColor" stroke="none" font-family="sans-serif" font-size="{_FONT_SIZE}">'
        f"{box.labels()}</g></svg>"
    )


def _title(shape: Shape, chunk_shape: Shape, shard_shape: Shape | None) -> str:
    n_chunks = math.prod(-(-length // chunk) for length, chunk in zip(shape, chunk_shape))
    title = f"{_count(n_chunks)} chunk{'' if n_chunks == 1 else 's'} of shape {_text(chunk_shape)}"
    if shard_shape is not None:
        title += f" in shards of shape {_text(shard_shape)}"
    title += f" in an array of shape {_text(shape)}"
    return title if len(shape) <= 3 else f"{title}; its last three axes are drawn"


class _Box:
    """An array of one to three axes in an oblique projection: x to the right, y down, z to the right and up."""

    def __init__(self, lengths: Shape) -> None:
        longest = max(lengths)
        sides = [max(_LONGEST * length / longest, _SHORTEST) for length in lengths]
        depth = max(sides[-3], 2 * _SHORTEST) if len(sides) > 2 else 0.0
        self.lengths = lengths
        self.x = sides[-1]
        self.y = sides[-2] if len(sides) > 1 else _BAR
        self.z = (depth * _DEPTH[0], depth * _DEPTH[1])
        texts = [_count(length) for length in lengths]
        widths = [0.6 * _FONT_SIZE * len(text) for text in texts]
        self.texts = texts
        self.left = max(_MARGIN, (widths[-1] - self.x) / 2, widths[-3] + 2 * _MARGIN - self.z[0] / 2 if depth else 0)
        label = widths[-2] + 2 * _MARGIN if len(sides) > 1 else _MARGIN
        self.right = max(self.x + self.z[0] + label, (self.x + widths[-1]) / 2)
        self.bottom = self.y + self.z[1] + _FONT_SIZE + _MARGIN

    def lines(self, steps: Shape) -> str:
        """The borders of blocks of this shape, on the front and on the sides that are seen."""
        (right, up), x, y = self.z, self.x, self.y
        edge = f"l{_px(right)} {_px(-up)}" if up else ""
        path = [f"M{_px(t * x)} {_px(up + y)}v{_px(-y)}{edge}" for t in _borders(self.lengths[-1], steps[-1], x)]
        ys = _borders(self.lengths[-2], steps[-2], y) if len(steps) > 1 else [0.0, 1.0]
        path += [f"M0 {_px(up + t * y)}h{_px(x)}{edge}" for t in ys]
        zs = _borders(self.lengths[-3], steps[-3], right) if up else []
        path += [f"M{_px(t * right)} {_px(up - t * up)}h{_px(x)}v{_px(y)}" for t in zs]
        return "".join(path)

    def outline(self) -> str:
        return self.first_chunk(self.lengths) + f"M{_px(self.x)} {_px(self.z[1] + self.y)}" + self._side()

    def first_chunk(self, chunk: Shape) -> str:
        """The front and the top of the chunk at the origin."""
        parts = [min(step / length, 1.0) for step, length in zip(chunk, self.lengths)]
        x, y = parts[-1] * self.x, (parts[-2] if len(parts) > 1 else 1.0) * self.y
        right, up = (part * (parts[-3] if len(parts) > 2 else 0.0) for part in self.z)
        return f"M0 {_px(self.z[1] + y)}v{_px(-y)}l{_px(right)} {_px(-up)}h{_px(x)}l{_px(-right)} {_px(up)}v{_px(y)}z"

    def _side(self) -> str:
        right, up = self.z
        return f"v{_px(-self.y)}l{_px(right)} {_px(-up)}v{_px(self.y)}z"

    def labels(self) -> str:
        """The lengths of the axes: below, to the right of, and on the slant of the box."""
        (right, up), x, y = self.z, self.x, self.y
        label = _label(x / 2, up + y + _FONT_SIZE + 1, "middle", self.texts[-1])
        if len(self.texts) > 1:
            label += _label(x + right + _MARGIN, y / 2 + 4, "start", self.texts[-2])
        if len(self.texts) > 2:
            label += _label(right / 2 - 2 * _MARGIN, up / 2 + 3, "end", self.texts[-3])
        return label


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}">{text}</text>'


def _borders(length: int, step: int, side: float) -> list[float]:
    """Where blocks of `step` items end on a side of this many pixels, as fractions; every n-th where too close."""
    n_blocks = -(-length // step)
    every = math.ceil(n_blocks * _GAP / side) if n_blocks * _GAP > side and n_blocks > 1 else 1
    return [i * step / length for i in range(0, n_blocks, every)] + [1.0]


def _px(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**10 else f"{n:.2e}"


def _text(shape: Shape) -> str:
    return str(tuple(int(length) for length in shape))
