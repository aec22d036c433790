"""Where both images of a pair have data: a footprint elsewhere cannot be judged, and is not offered."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxcd.labelling.workspace import OpenPair
from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.scenes.reader import mosaic
from jaxcd.scenes.window_cache import read_window

_SIDE = 2048  # pixels of the decimated image that says where data are

Seen = Callable[[Float[np.ndarray, "n"], Float[np.ndarray, "n"]], Bool[np.ndarray, "n"]]


def seen_of(opened: OpenPair) -> Seen:
    """Return what says of places of a pair, by their coordinates, whether both images have data there or close by.

    The images are read, decimated, when it is first asked.
    """

    def seen(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        assert opened.scenes is not None
        coarse = math.ceil(max(opened.scenes.grid.shape) / _SIDE)
        data = _with_data(opened.scenes, coarse)
        inverse = ~opened.scenes.grid.coarser(coarse).transform
        columns = inverse.a * x + inverse.b * y + inverse.c
        rows = inverse.d * x + inverse.e * y + inverse.f
        height, width = data.shape
        row, column = np.floor(rows).astype(int), np.floor(columns).astype(int)
        found = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        found[found] = data[row[found], column[found]]
        if not found.all():
            print(f"NOTE: {np.count_nonzero(~found)} footprints of {opened.pair.id} lie where an image has no data: "
                  "left out", flush=True)  # fmt: skip
        return found

    return seen


def _with_data(scenes: ScenePair, coarse: int) -> Bool[np.ndarray, "h w"]:
    data = np.ones(scenes.grid.coarser(coarse).shape, bool)
    for sources in (scenes.pre, scenes.post):
        how = {"scaling": scenes.scaling, "folder": scenes.windows, "coarse": coarse}
        found = mosaic(read_window((each.location,), scenes.grid.moved(*each.shift), **how) for each in sources)
        data &= found.valid
    return ndimage.binary_dilation(data, np.ones((3, 3), bool))  # what lies at the border may be seen
