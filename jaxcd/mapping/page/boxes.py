"""Where parts of a map lie on its page."""

from typing import Any

from jaxcd.scenes.windows import Grid, Window


def box(grid: Grid, window: Window) -> list[float]:
    """Return left, top, right and bottom of a part of the map, in metres from the map's top left corner."""
    across, down = grid.sides
    left, top = window.column * across, window.row * down
    return [round(edge, 3) for edge in (left, top, left + window.width * across, top + window.height * down)]


def window_of(grid: Grid, square: Any) -> Window:
    """Return the part of the map under a square whose edges are edges of pixels."""
    west, south, east, north = square.bounds
    (left, top), (right, bottom) = (~grid.transform @ at for at in ((west, north), (east, south)))
    row, column, height, width = round(top), round(left), round(bottom - top), round(right - left)
    return Window(0, row, column, height, width, height, width)
