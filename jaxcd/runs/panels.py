"""Pictures of predictions: `pre | post | truth | probability | TP green, FN red, FP blue`."""

import heapq
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxcd.base.files import replacing
from jaxcd.base.scales import BINARY, UNKNOWN, Scale
from jaxcd.base.types import Tile
from jaxcd.learn.metrics import Counts

_SIDE = 384  # pixels a column, at most
_CAPTION = 18
_GAP = 4
_GREEN, _RED, _BLUE = (40, 200, 70), (235, 45, 45), (60, 110, 255)
_UNKNOWN = (190, 190, 190)


class Prediction(NamedTuple):
    """One evaluated tile on the host, without its padding."""

    tile: Tile
    counts: Counts
    pre: UInt8[np.ndarray, "h w 3"]
    post: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]
    valid: UInt8[np.ndarray, "h w"]
    probability: Float[np.ndarray, "h w"]
    levels: UInt8[np.ndarray, "h w"] | None = None


class Keeper:
    """Keeps the `n` predictions of highest score among those it is given."""

    def __init__(self, n: int, score: Callable[[Counts], float | None]):
        """Keep `n` by `score` of a tile's counts; a tile of score None is passed over."""
        self._n, self._score, self._order = n, score, 0
        self._heap: list[tuple[float, int, Prediction]] = []

    def wants(self, counts: Counts) -> bool:
        """Whether a tile of these counts would be kept: only then its pixels are fetched."""
        score = self._score(counts)
        return score is not None and (len(self._heap) < self._n or score > self._heap[0][0])

    def add(self, prediction: Prediction) -> None:
        """Keep a wanted prediction and drop the least if there are more than `n`."""
        score = self._score(prediction.counts)
        if score is None:
            return
        self._order -= 1  # among equals the earlier stays, and predictions are never compared
        heapq.heappush(self._heap, (score, self._order, prediction))
        if len(self._heap) > self._n:
            heapq.heappop(self._heap)

    def would_keep(self, counts: Sequence[Counts]) -> list[int]:
        """Return the positions of the tiles of these counts that this keeper would keep, given all in this order."""
        scores = [(self._score(own), -k) for k, own in enumerate(counts)]
        kept = heapq.nlargest(self._n, [(score, order) for score, order in scores if score is not None])
        return [-order for _, order in kept]

    def kept(self) -> list[Prediction]:
        """The kept predictions, highest score first."""
        return [prediction for _, _, prediction in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


def save_panels(
    predictions: list[Prediction],
    path: Path,
    *,
    threshold: float,
    positive_unlabelled: bool = False,
    scale: Scale = BINARY,
) -> None:
    """Write one PNG with a row for each prediction.

    Args:
        predictions: tiles of any size.
        path: the PNG; written whole or not at all.
        threshold: probability from which a pixel is called damage.
        positive_unlabelled: much damage has no label: show recall and flagged share, but no precision.
        scale: of the labels; with levels, the true and the predicted ones are shown in their colours.
    """
    from PIL import Image, ImageDraw

    columns = ["pre", "post", "truth", "probability", "TP green  FN red  FP blue"]
    if scale.buildings:
        columns[2:3] = ["true levels", "predicted levels"]
    rows = [[_fit(image) for image in _columns(prediction, threshold, scale)] for prediction in predictions]
    width = len(columns) * (_SIDE + _GAP) - _GAP
    heights = [max(image.shape[0] for image in row) + 2 * _CAPTION for row in rows]
    top = _CAPTION if scale.buildings else 0
    canvas = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    if scale.buildings:
        _draw_legend(draw, scale)
    for prediction, row, height in zip(predictions, rows, heights, strict=True):
        scores = prediction.counts.at(threshold)
        scores_text = f"precision {scores.precision:.2f}  recall {scores.recall:.2f}  F1 {scores.f1:.2f}"
        if positive_unlabelled:
            scores_text = f"recall {scores.recall:.2f}  flagged {prediction.counts.flagged(threshold):.2f}"
        heading = f"{prediction.tile.place}  {prediction.tile.post}   {scores_text}   threshold {threshold:.2f}"
        draw.text((2, top + 3), heading, fill="black")
        for i, (caption, image) in enumerate(zip(columns, row, strict=True)):
            left = i * (_SIDE + _GAP)
            draw.text((left + 2, top + _CAPTION + 2), caption, fill="dimgray")
            canvas.paste(Image.fromarray(image), (left, top + 2 * _CAPTION))
        top += height
    with replacing(path) as partial:
        canvas.save(partial)


def _draw_legend(draw: Any, scale: Scale) -> None:
    """Name the colours of the levels, with an `ImageDraw` of Pillow."""
    left = 2
    for name, colour in (*zip(scale.levels, scale.colours, strict=True), ("unknown level", _UNKNOWN)):
        draw.rectangle((left, 4, left + 10, 14), fill=colour)
        draw.text((left + 14, 3), name, fill="black")
        left += 14 + int(draw.textlength(name)) + 16


def _painted(codes: UInt8[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"], scale: Scale) -> np.ndarray:
    """Paint codes in their colours; ground is black, what is not valid grey."""
    table = np.zeros((256, 3), np.uint8)
    table[UNKNOWN] = _UNKNOWN
    for code, colour in enumerate(scale.colours, start=1):
        table[code] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.where(valid[..., None], table[codes], np.uint8(110))


def _columns(prediction: Prediction, threshold: float, scale: Scale) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    from matplotlib import colormaps

    damaged, valid = scale.is_damaged(prediction.labels), prediction.valid > 0
    called = prediction.probability >= threshold
    if prediction.levels is None:
        truth = [np.where(valid, np.where(damaged, 255, 0), 110).astype(np.uint8)[..., None].repeat(3, axis=2)]
    else:
        truth = [_painted(codes, valid, scale) for codes in (prediction.labels, prediction.levels)]
        valid = valid & (prediction.labels != UNKNOWN)
    probability = (colormaps["magma"](prediction.probability)[..., :3] * 255).astype(np.uint8)
    outcome = prediction.post // 3 + 40
    for colour, where in ((_GREEN, called & damaged), (_RED, ~called & damaged), (_BLUE, called & ~damaged)):
        outcome[where & valid] = colour
    return prediction.pre, prediction.post, *truth, probability, outcome


def _fit(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h_ w_ 3"]:
    from PIL import Image

    scale = _SIDE / max(image.shape[:2])
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(
        Image.fromarray(image).resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    )
