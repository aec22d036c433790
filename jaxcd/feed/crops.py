"""Cuts crops out of a place's images, flips and turns them, and puts them into batches."""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from jaxcd.base.errors import DatasetError
from jaxcd.base.scales import DAMAGE, INVALID
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.store.dataset import TileDataset

Codes = UInt8[np.ndarray, "h w"]
Corner = Callable[[Codes, tuple[int, int], np.random.Generator], tuple[int, int]]
"""A function that draws the top left corner of a crop: from codes of the dataset's scale, crop size and generator."""

_COLUMNS = 32  # `_copy` copies so many columns at a time, so that source and target fit into the processor's cache
_LEAST_VALID = 0.5  # least share of valid pixels in an intact crop: the unknown pixels might be damaged


class Draw(NamedTuple):
    """One crop to cut: row of the place, post images to choose from, function for the corner, and generator."""

    row: int
    posts: Sequence[int]
    corner: Corner
    rng: np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Cuts crops of one size out of a dataset's tiles.

    Attributes:
        dataset: the tiles.
        size: height and width in pixels; smaller tiles are padded with `INVALID`.
        flips: whether crops are flipped and turned at random.
    """

    dataset: TileDataset
    size: tuple[int, int]
    flips: bool

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Cut one crop for each draw, out of one pre image and one labelled post image of the place."""
        pre, post = (np.zeros((len(draws), *self.size, 3), np.uint8) for _ in range(2))
        codes = np.full((len(draws), *self.size), INVALID, np.uint8)
        for draw, *out in zip(draws, pre, post, codes, strict=True):
            self._cut(draw, out)
        return as_batch(pre, post, codes, [draw.row for draw in draws])

    def _cut(self, draw: Draw, out: Sequence[np.ndarray]) -> None:
        row, posts, corner, rng = draw
        record = self.dataset.read(row)
        pre = record.pre[int(rng.integers(len(record.pre)))]
        chosen = posts[int(rng.integers(len(posts)))]
        read = self.dataset.image
        images = read(row, pre), read(row, record.post[chosen]), self.dataset.codes(row, record.label[chosen])
        top, left = corner(images[2], self.size, rng)
        height, width = self.size
        vertical, horizontal, turns = rng.integers((2, 2, 4)).tolist() if self.flips else (0, 0, 0)
        for image, into in zip(images, out, strict=True):
            crop = image[top : top + height, left : left + width]
            _copy(_turned(crop, flips=(vertical, horizontal), turns=turns), into)


def as_batch(
    pre: UInt8[np.ndarray, "b h w 3"],
    post: UInt8[np.ndarray, "b h w 3"],
    codes: UInt8[np.ndarray, "b h w"],
    ids: Sequence[int],
) -> Batch:
    """Make a batch of images and codes of a scale."""
    known = codes != INVALID
    labels, valid = np.where(known, codes, np.uint8(0)), known.view(np.uint8)
    return Batch(pre=pre, post=post, labels=labels, valid=valid, ids=np.array(ids, np.int32))


def crop_size(dataset: TileDataset, rows: Sequence[int], config: Config, stride: int) -> tuple[int, int]:
    """Return height and width of training crops: `data.crop`; if that is 0, the tile size rounded up to the stride.

    Raises:
        DatasetError: `data.crop` is 0 and the tiles differ in size.
    """
    if config.data.crop:
        return config.data.crop, config.data.crop
    sizes = collections.Counter((dataset.samples[row].height, dataset.samples[row].width) for row in rows)
    if len(sizes) > 1:
        given = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes.most_common(4))
        raise DatasetError(
            f"{dataset.where}: tiles have {len(sizes)} sizes ({given}), but a batch of whole tiles needs one size; "
            "set config.data.crop"
        )
    return rounded_up(*next(iter(sizes)), stride)


def rounded_up(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return the smallest multiples of the stride that are at least height and width."""
    return -(-height // stride) * stride, -(-width // stride) * stride


def any_corner(tile: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Draw the corner of a crop anywhere in the tile."""
    top, left = rng.integers(_room(tile, size) + 1)
    return int(top), int(left)


def damaged_corner(
    codes: Codes, size: tuple[int, int], rng: np.random.Generator, jitter: float = 0.0
) -> tuple[int, int]:
    """Draw the corner of a crop around damage; `codes` are of the scale `binary`, and the tile must have damage."""
    return marked_corner(codes == DAMAGE, size, rng, jitter)


def marked_corner(
    mask: Bool[np.ndarray, "h w"], size: tuple[int, int], rng: np.random.Generator, jitter: float = 0.0
) -> tuple[int, int]:
    """Draw the corner of a crop around a marked pixel, as far as the tile allows; anywhere if none is marked.

    Args:
        mask: of the tile.
        size: height and width of the crop.
        rng: generator.
        jitter: how far from the crop's middle the pixel may lie, as a share of half a side; 1: anywhere in the crop.
    """
    room = _room(mask, size)
    if not room.any():
        return 0, 0
    marked = np.flatnonzero(mask)
    if not marked.size:  # lost where a tile was resampled
        return any_corner(mask, size, rng)
    pixel = np.array(divmod(int(marked[rng.integers(len(marked))]), mask.shape[1]))
    place = np.array(size) // 2
    if jitter:
        place = place + np.trunc(rng.uniform(-jitter, jitter, 2) * place).astype(int)
    top, left = np.clip(pixel - place, 0, room)
    return int(top), int(left)


def showing_corner(
    tile: np.ndarray, size: tuple[int, int], rng: np.random.Generator, pixel: tuple[int, int]
) -> tuple[int, int]:
    """Draw the corner of a crop whose middle half shows a pixel, as far as the tile allows."""
    quarter = np.array(size) // 4
    top, left = np.clip(np.array(pixel) - rng.integers(quarter, 3 * quarter + 1), 0, _room(tile, size))
    return int(top), int(left)


def intact_corner(codes: Codes, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Draw one of the corners that `intact_corners` marks, of codes of the scale `binary`; it must mark one."""
    corners = intact_corners(codes, size)
    fitting = np.flatnonzero(corners)
    top, left = divmod(int(fitting[rng.integers(len(fitting))]), corners.shape[1])
    return top, left


def intact_corners(codes: Codes, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Mark the corners of crops that have no damaged pixel and at least half of their pixels valid."""
    height, width = (min(crop, side) for crop, side in zip(size, codes.shape, strict=True))

    def within(mask: Bool[np.ndarray, "h w"]) -> np.ndarray:
        total = np.pad(mask.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))
        rows = total[height:] - total[:-height]
        return rows[:, width:] - rows[:, :-width]

    return (within(codes == DAMAGE) == 0) & (within(codes != INVALID) >= _LEAST_VALID * height * width)


def _room(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.maximum(np.array(tile.shape) - size, 0)


def _turned(image: np.ndarray, *, flips: tuple[int, int], turns: int) -> np.ndarray:
    """Flip (vertically, horizontally), then turn by quarters; oblong images keep their shape: half turns only."""
    flipped = image[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    return np.rot90(flipped, turns if image.shape[0] == image.shape[1] else turns - turns % 2)


def _copy(view: np.ndarray, out: np.ndarray) -> None:
    """Copy an image, whatever its order in memory, to the top left of another."""
    height, width = view.shape[:2]
    out = out[:height, :width]
    if view.ndim == 2 or view.strides[1] == view.shape[2]:
        out[...] = view
        return
    # If columns are reversed or have become rows, copying band by band takes a third of the time in numpy. If they have
    # become rows, copying a few columns at a time halves that again.
    columns = _COLUMNS if abs(view.strides[0]) < abs(view.strides[1]) else width
    for left in range(0, width, columns):
        for band in range(view.shape[2]):
            out[:, left : left + columns, band] = view[:, left : left + columns, band]
