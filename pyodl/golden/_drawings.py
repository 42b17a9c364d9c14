"""Drawings of a comparison as SVG: text of ours, which needs no library and no network."""

from collections.abc import Iterable, Mapping
from html import escape

import numpy as np
from numpy import ndarray

__all__ = ["difference_map", "histogram"]

_ROW_AXES, _COLUMN_AXES = ("h", "kh"), ("w", "kw")
_MOST_CELLS = 192  # along a side of a map; more elements share cells
_SIDE = 576  # of a map, in pixels
_WRAP = 64  # elements in a row of a tensor that has one axis
_BAR, _ROOM = 34, 130  # width of a bar; height of the tallest


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle">{escape(text)}</text>'


def histogram(counts: Mapping[str, int], label: str) -> str:
    """Draw a bar for each bin, as high as the logarithm of its count.

    Parameters
    ----------
    counts : mapping of str to int
        At least 1 each.
    label : str
        What the drawing shows, for those who do not see it.

    Returns
    -------
    str
        An ``svg`` element.
    """
    step = _BAR + max((len(name) for name in counts), default=0) * 5 + 6
    most = max((np.log2(count) for count in counts.values()), default=0.0) + 1
    parts = []
    for i, (name, count) in enumerate(counts.items()):
        height = float((np.log2(count) + 1) / most * _ROOM)
        middle = (i + 0.5) * step
        x, y = middle - _BAR / 2, 16 + _ROOM - height
        parts.append(
            f'<rect class="bar" x="{x:g}" y="{y:.1f}" width="{_BAR}" height="{height:.1f}"/>'
        )
        parts += [_text(middle, y - 4, str(count)), _text(middle, 32 + _ROOM, name)]
    return _svg(max(1, len(counts)) * step, 40 + _ROOM, label, parts)


def difference_map(
    differs: ndarray, axes: tuple[str, ...], first: tuple[int, ...], label: str
) -> str:
    """Draw which elements of a tensor differ.

    Rows and columns of the image are those of the tensor, a panel for each entry along its other
    axes. Where there are more elements than cells, a cell is the darker the more of its elements
    differ.

    Parameters
    ----------
    differs : ndarray of bool
    axes : tuple of str
        Names of the axes.
    first : tuple of int
        The element to mark.
    label : str
        What the drawing shows, for those who do not see it.

    Returns
    -------
    str
        An ``svg`` element.
    """
    marks = np.zeros(differs.shape, bool)
    marks[first] = True
    image, mark = (_spread(array, axes) for array in (np.where(differs, 1, 0), marks.astype(int)))
    factor = -(-max(image.shape) // _MOST_CELLS)
    present, shares = _coarse(image >= 0, factor), _coarse(image > 0, factor)
    cell = min(16.0, _SIDE / max(present.shape))
    parts = [*_runs(present > 0, cell, "same")]
    levels = np.ceil(4 * shares / np.maximum(present, 1)).astype(int)
    for level in range(1, 5):
        parts += _runs(levels == level, cell, f"differs d{level}")
    row, column = (int(i) for i in np.argwhere(_coarse(mark > 0, factor))[0])
    parts.append(
        f'<rect class="first" x="{column * cell:g}" y="{row * cell:g}" width="{cell:g}" '
        f'height="{cell:g}"/>'
    )
    return _svg(present.shape[1] * cell, present.shape[0] * cell, label, parts)


def _spread(array: ndarray, axes: tuple[str, ...]) -> ndarray:
    """Lay a tensor out in two dimensions; -1 is where nothing is."""
    if array.ndim == 1:
        rows = -(-array.size // _WRAP)
        image = np.full(rows * _WRAP if rows > 1 else array.size, -1)
        image[: array.size] = array
        return image.reshape(rows, -1)
    if array.ndim == 2:
        return array
    last = [i for name in (_ROW_AXES, _COLUMN_AXES) for i, a in enumerate(axes) if a in name]
    if len(last) != 2:
        last = [array.ndim - 2, array.ndim - 1]
    panels = np.moveaxis(array, last, (-2, -1))
    panels = panels.reshape(-1, *panels.shape[-2:])
    count, height, width = panels.shape
    across = max(1, min(count, round(np.sqrt(count * (height + 1) / (width + 1)))))
    down = -(-count // across)
    image = np.full((down, height + 1, across, width + 1), -1)
    for i, panel in enumerate(panels):
        image[i // across, :-1, i % across, :-1] = panel
    return image.reshape(down * (height + 1), across * (width + 1))[:-1, :-1]


def _coarse(image: ndarray, factor: int) -> ndarray:
    """Count the set elements in squares of a side of ``factor``."""
    padded = np.pad(image, [(0, -size % factor) for size in image.shape])
    rows, columns = (size // factor for size in padded.shape)
    counts: ndarray = padded.reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    return counts


def _runs(cells: ndarray, size: float, kind: str) -> Iterable[str]:
    """Draw the set cells, neighbours in a row as one, in a path whose unit is a cell."""
    steps = []
    for y, row in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        for start, stop in edges.reshape(-1, 2).tolist():
            steps.append(f"M{start} {y}h{stop - start}v1h{start - stop}z")
    if steps:
        yield f'<path class="{kind}" transform="scale({size:g})" d="{"".join(steps)}"/>'
