"""One set of BatchNorm statistics for a whole map, fitted to its scenes and kept in its folder."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcd import models
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.config import Config
from jaxcd.mapping.predict import adaptation
from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.runs.inference import Trained
from jaxcd.scenes.windows import Window

FILE = ".adapted.npz"
_FORMAT = 1


def fitted(config: Config, trained: Trained, weights: str, pair: ScenePair, out: Path) -> Any:
    """Return statistics for all windows of a map: those of its folder if they are of these scenes, else new ones.

    Args:
        config: of the run.
        trained: its network.
        weights: digest of its weights.
        pair: scenes of the map.
        out: folder of the map.

    Raises:
        SceneError: nothing is seen before and after.
        ImageError: a scene is damaged.
        DiskFullError: the disk is full.
    """
    key = digest([_FORMAT, weights, pair.identity(pair.grid), adaptation.MOST, adaptation.SIDE, adaptation.SEEN])
    leaves, shape = jax.tree.flatten(trained.stats)
    kept = _read(out / FILE, key, leaves)
    if kept is not None:
        return jax.tree.unflatten(shape, kept)
    stride = models.describe(config.model).stride
    stats = adaptation.estimator(config)(trained.params, trained.stats, _samples(pair, stride))
    content = io.BytesIO()
    arrays: dict[str, Any] = {f"leaf{i}": leaf for i, leaf in enumerate(jax.tree.leaves(stats))}
    np.savez(content, key=np.array(key), **arrays)
    write_whole(out / FILE, content.getvalue())
    return stats


def _read(file: Path, key: str, like: list[Any]) -> list[np.ndarray] | None:
    try:
        with np.load(file) as kept:
            if str(kept["key"]) != key:
                return None
            found = [kept[f"leaf{i}"] for i in range(len(like))]
    except (OSError, ValueError, KeyError, EOFError):
        return None  # none there, or of another version: they are computed anew
    return found if [leaf.shape for leaf in found] == [leaf.shape for leaf in like] else None


def _samples(pair: ScenePair, stride: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read parts of the map, spread evenly: those seen nearly in full or, if there are none, the best seen one."""
    side = min(adaptation.SIDE, *(max(length // stride * stride, stride) for length in pair.grid.shape))
    down, across = ([int(at) for at in _along(length, side)] for length in pair.grid.shape)
    corners = [(row, column) for row in down for column in across]
    best: tuple[float, Any] = (0.0, None)
    count = 0
    for place in _spread(len(corners)):
        row, column = corners[place]
        part = pair.grid.part(Window(0, row, column, side, side, side, side))
        view, wanted = pair.read(part), pair.wanted(part)
        seen = float((view.valid if wanted is None else view.valid & wanted).mean())
        found = view.pre[None], view.post[None]
        if seen >= adaptation.SEEN:
            count += 1
            yield found
        elif not count and seen > best[0]:
            best = seen, found
        if count == adaptation.MOST:
            return
    if not count and best[1] is not None:
        yield best[1]


def _along(length: int, side: int) -> np.ndarray:
    count = max(1, min(2 * adaptation.MOST, length // side))
    return np.linspace(0, max(0, length - side), count).round()


def _spread(count: int) -> list[int]:
    """Return 0 to `count` - 1 in an order whose beginning is spread evenly over all of them."""
    return sorted(range(count), key=lambda i: (i * 0.6180339887498949) % 1)
