"""Maps of a network, measured on the blind sample of a store of labels."""

import math
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.labelling.learning import leaks
from jaxcd.labelling.learning.buildings import outlines
from jaxcd.labelling.learning.figures import Said, figures
from jaxcd.labelling.learning.scoring import missing
from jaxcd.labelling.store import Store, blind
from jaxcd.mapping.products import buildings
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.windows import Grid

PARTIAL = "this map is one of several: the blind sample is told with the summary of all of them"


class Measured:
    """Collects what maps say of a store's buildings, and compares it with the store's blind sample."""

    def __init__(self, folder: Path, run: Path, *, maps: int = 1):
        """Open the store.

        Args:
            folder: of the store.
            run: whose maps are measured.
            maps: how many there will be.

        Raises:
            LabelError: no store, one of cells, or the packages that figures need are not installed.
        """
        lacking = missing()
        if lacking:
            raise LabelError(f"--labels needs {', '.join(lacking)}: pip install 'jaxcd[active]'")
        self._store, self._run, self._maps = Store.open(folder), run, maps
        if self._store.cells:
            self._store.close()
            raise LabelError(
                f"--labels {folder}: its blind sample is of cells, and maps are measured on footprints; the labelling "
                "page says what the sample says of its scores"
            )
        self._buildings = [each for each in blind.units(self._store) if each.first]
        self._said: dict[str, tuple[float, bool]] = {}

    def __call__(self, out: Path, grid: Grid, settings: MapSettings) -> dict[str, Any]:
        """Take in a map whose rasters are written; returns its figures, or that these are told elsewhere."""
        for epsg in sorted({pair.epsg for pair in self._store.pairs.values() if pair.epsg is not None}):
            self._add(out, grid, settings, epsg)
        return self.result() if self._maps == 1 else {"reason": PARTIAL}

    def result(self) -> dict[str, Any]:
        """Return the figures of all maps together, as `jaxcd.labelling.learning.figures.figures` does."""
        probability = {key: value for key, (value, _) in self._said.items()}
        called = {key for key, (_, damaged) in self._said.items() if damaged}
        found = figures(self._store, Said(probability, called))
        members = blind.members(self._store)
        beside = sum(key not in self._said for key in members)
        why = leaks.seen_by(self._run, self._store) if members else None
        if beside and why is None:
            why = f"{beside} of the {len(members)} buildings of the blind sample lie beside what is mapped: no figures"
        if why is not None:
            found["estimates"] |= dict.fromkeys(("precision", "recall", "f1"))
            found |= {"reason": why, "calibration": None}
        return found

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _add(self, out: Path, grid: Grid, settings: MapSettings, epsg: int) -> None:
        """Judge the buildings of the pairs of one reference system that lie on the map, as a map's own are."""
        known = [each for each in self._buildings if self._store.pairs[each.pair].epsg == epsg]
        if not known:
            return
        shapes = outlines(self._store, [each.fid for each in known])
        frame: Any = gpd.GeoDataFrame(geometry=shapes, index=pd.Index([each.id for each in known]), crs=epsg)
        frame = frame.to_crs(grid.crs.to_wkt())
        frame = frame[shapely.intersects(frame.geometry.to_numpy(), shapely.box(*grid.bounds))]
        if not len(frame):
            return
        judged = buildings.judge(frame, out, grid, settings)
        unseen = judged[buildings.CLASS].isin((buildings.NOT_SEEN, buildings.TOO_SMALL)).to_numpy()
        values = np.where(unseen, np.nan, judged["mean_probability"].to_numpy(float))
        damaged = (judged[buildings.CLASS] == buildings.DAMAGED).to_numpy()
        for key, value, is_called in zip(judged.index, values, damaged, strict=True):
            if key not in self._said or math.isnan(self._said[key][0]):
                self._said[key] = float(value), bool(is_called)


def of_run(run: Path, labels: Path, out: Path) -> dict[str, Any]:
    """Map all pairs of a store with a run, and return what the store's blind sample says of these maps.

    Args:
        run: folder of the run.
        labels: folder of the store.
        out: folder of the maps; they go on where an earlier call was ended.

    Raises:
        ConfigError: the pairs have no place.
        JaxcdError: see `jaxcd.mapping.scene_map.make`.
    """
    from jaxcd.mapping import scene_map

    store = Store.open(labels)
    pairs = list(store.pairs.values())
    store.close()
    if any(pair.epsg is None for pair in pairs):
        raise ConfigError(
            f"--labels {labels}: its pairs are tiles without a place, and a blind sample is of footprints"
        )
    settings = MapSettings()
    mapper, measured = scene_map.load(run, settings), Measured(labels, run, maps=len(pairs))
    try:
        for pair in pairs:
            scene_map.make(mapper, pair.pre, pair.post, out / pair.id, settings, measure=measured)
        return measured.result()
    finally:
        measured.close()
