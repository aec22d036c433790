"""Features of buildings: what a frozen encoder sees before and after the event, averaged over each footprint."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import geopandas as gpd
import numpy as np
import shapely
from jaxtyping import Float

from jaxcd.active.coverage import Drawn, draw, in_pixels, weights, within
from jaxcd.active.encoders import STRIDE, Encoder
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.base.progress import bar
from jaxcd.mapping.predict.tiling import Axis, Span, cover, least_window
from jaxcd.models import Description
from jaxcd.scenes.registration import View
from jaxcd.scenes.windows import Grid, Window

RING = 8.0
"""Metres around a footprint in which its surroundings are averaged."""

_FORMAT = 1
_WINDOW = 2048


class Pair(Protocol):
    """Two dates on one grid, as `jaxcd.mapping.predict.scene_pair.ScenePair` has them."""

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""
        ...

    def read(self, grid: Grid) -> View:
        """Read a part of the grid, black beyond the scenes."""
        ...

    def identity(self, grid: Grid) -> list:
        """Return all that affects what `read` gives."""
        ...


class Features(NamedTuple):
    """Features of buildings, in the order of their footprints.

    Attributes:
        values: one row a building; 0 where nothing of it is seen.
        seen: share of the footprint that is seen before and after the event.
        computed: blocks of the scene that the encoder looked at; 0 where all were kept.
    """

    values: Float[np.ndarray, "n d"]
    seen: Float[np.ndarray, "n"]
    computed: int


class _Block(NamedTuple):
    """A window of the scene along its rows and columns, and which footprints (or their rings) reach into its core."""

    down: Span
    across: Span
    window: tuple[int, int]
    rows: np.ndarray

    @property
    def core(self) -> tuple[slice, slice]:
        """What the window answers for, in its own pixels."""
        down, across = (slice(span.first - span.start, span.last - span.start) for span in (self.down, self.across))
        return down, across

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it answers for."""
        return self.down.last - self.down.first, self.across.last - self.across.first


def compute(
    pair: Pair,
    frame: gpd.GeoDataFrame,
    encoder: Encoder,
    folder: Path,
    *,
    ring: float = RING,
    window: int = _WINDOW,
    title: str = "features",
    tell: Callable[[int], None] | None = None,
) -> Features:
    """Compute the features of all buildings of a scene, or read those that are kept.

    A building has, at each level of the encoder, the mean over its footprint of what is seen before, after, and of the
    absolute difference of both; and the same of a ring around it.

    Args:
        pair: the scenes.
        frame: footprints or cells, in any reference system.
        encoder: of `jaxcd.active.encoders`.
        folder: keeps features by their content: a block of the scene has a file named by a digest of what the scenes
            show there, of its footprints and of the weights; made where missing.
        ring: its width in metres; 0 for none.
        window: largest side in pixels of what the encoder sees at once; it changes no feature.
        title: before the progress bar.
        tell: is told how many buildings are done, after each block; what it raises ends the work, and what is done is
            kept.

    Raises:
        LabelError: there are no footprints, or none lies in the scene.
        ImageError: a scene is damaged.
        DiskFullError: no space left for what is kept.
    """
    outlines = in_pixels(frame, pair.grid)
    polygons = [outlines]
    if ring:
        wide = shapely.buffer(outlines, ring / pair.grid.metres)
        polygons.append(shapely.difference(wide, outlines))
    folder.mkdir(parents=True, exist_ok=True)
    sums, counts, computed = None, np.zeros((len(polygons), len(outlines))), 0
    whole = np.ones(len(outlines))
    with bar(len(outlines), unit="building", title=title) as progress:
        done: set[int] = set()
        for block in _blocks(polygons, pair.grid, encoder, window):
            here = [group[block.rows] for group in polygons]
            found, fresh = _kept(pair, block, here, encoder, folder)
            computed += fresh
            if sums is None:
                sums = np.zeros((len(polygons), len(outlines), found["sums"].shape[-1]))
            sums[:, block.rows] += found["sums"]
            counts[:, block.rows] += found["counts"]
            whole[block.rows] = found["whole"]
            progress.update(len(set(block.rows.tolist()) - done))
            done |= set(block.rows.tolist())
            if tell is not None:
                tell(len(done))
        progress.update(len(outlines) - len(done))  # those beside the scene
    assert sums is not None  # `in_pixels` saw that one lies in the scene
    means = sums / np.maximum(counts, 1)[..., None]
    values = np.concatenate(list(means), axis=1).astype(np.float32)
    return Features(values, counts[0] / whole, computed)


def _blocks(polygons: Sequence[np.ndarray], grid: Grid, encoder: Encoder, window: int) -> Iterator[_Block]:
    """Cover the scene with blocks; those without buildings are left out."""
    looks = Description(stride=STRIDE, receptive_radius=encoder.radius, pairs_compared=1)
    down, across = (cover(length, looks, most=max(window, least_window(looks))) for length in grid.shape)
    left, top, right, bottom = shapely.bounds(polygons[-1]).T  # a ring's bounds hold its footprint's
    for rows in _whole(down):
        for columns in _whole(across):
            # A pixel more: a small polygon is drawn as all pixels that it touches.
            near = (left - 1 < columns.last) & (right + 1 > columns.first)
            near &= (top - 1 < rows.last) & (bottom + 1 > rows.first)
            if near.any():
                yield _Block(rows, columns, (down.window, across.window), np.flatnonzero(near))


def _whole(axis: Axis) -> list[Span]:
    """Let the last block answer for the padding, too: cores begin and end at multiples of the stride."""
    return [*axis.spans[:-1], axis.spans[-1]._replace(last=axis.padded)]


def _kept(
    pair: Pair, block: _Block, polygons: list[np.ndarray], encoder: Encoder, folder: Path
) -> tuple[dict[str, np.ndarray], bool]:
    """Read a block's sums, or compute and keep them; says also whether they had to be computed."""
    grid = pair.grid.part(Window(0, block.down.start, block.across.start, *block.window, *block.window))
    shapes = hashlib.sha256(b"".join(shapely.to_wkb(np.concatenate(polygons)).tolist())).hexdigest()
    key = digest([_FORMAT, encoder.digest, pair.identity(grid), *block.down, *block.across, shapes, len(polygons)])
    file = folder / f"{key}.npz"
    if file.is_file():
        with np.load(file) as kept:
            return dict(kept), False
    view = pair.read(grid)
    found = _pooled(view, block, [[draw(each) for each in group] for group in polygons], encoder)
    content = io.BytesIO()
    np.savez(content, **found)  # type: ignore[arg-type]
    write_whole(file, content.getbuffer())
    return found, True


def _pooled(view: View, block: _Block, groups: list[list[Drawn]], encoder: Encoder) -> dict[str, np.ndarray]:
    """Sum the features of a block over the seen pixels of its footprints."""
    both = [encoder(image[None]) for image in (view.pre, view.post)]
    valid = view.valid[block.core]
    sums, counts = [], []
    for group in groups:
        parts = [within(each, block.down.first, block.across.first, block.size) for each in group]
        seen = [_seen(part, valid) for part in parts]
        counts.append([np.count_nonzero(part.mask) for part in seen])
        sums.append(np.concatenate(_level_sums(both, block, seen), axis=1))
    whole = np.array([np.count_nonzero(each.mask) for each in groups[0]])
    return {"sums": np.stack(sums).astype(np.float32), "counts": np.array(counts), "whole": whole}


def _level_sums(both: list[Any], block: _Block, parts: list[Drawn]) -> list[np.ndarray]:
    found = []
    for before, after in zip(*both, strict=True):
        stride = block.window[0] // before.shape[1]
        rows, columns = (slice(each.start // stride, each.stop // stride) for each in block.core)
        pre, post = (level[0, rows, columns].reshape(-1, level.shape[-1]) for level in (before, after))
        table = weights(parts, block.size, stride)
        found += [table @ pre, table @ post, table @ np.abs(post - pre)]
    return found


def _seen(part: Drawn | None, valid: np.ndarray) -> Drawn:
    if part is None:
        return Drawn(0, 0, np.zeros((STRIDE, STRIDE), bool))
    height, width = part.mask.shape
    here = valid[part.row : part.row + height, part.column : part.column + width]
    return Drawn(part.row, part.column, part.mask & here)
