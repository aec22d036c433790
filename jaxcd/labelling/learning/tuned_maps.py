"""What the maps of a fine-tuned network say: a probability for each footprint, polygons where there are none."""

import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely

from jaxcd.base.files import write_whole
from jaxcd.base.scales import Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import Store
from jaxcd.labelling.store.objects import FOOTPRINT
from jaxcd.mapping.products.layers import DAMAGE
from jaxcd.mapping.products.outlines import statistics_under_polygons
from jaxcd.mapping.products.rasters import PROBABILITY

_DIGITS = 4
_ALMOST = 1e-4  # probabilities of 0 and 1 have no log-odds
_MOST = 20_000  # polygons of a pair


def write_found(path: Path, store: Store, maps: Mapping[str, Path], number: int) -> None:
    """Read the maps of a store's pairs, and write what `jaxcd.labelling.learning.tuning` tells of them.

    Args:
        path: the file.
        store: the labels that were learned from.
        maps: folders of the maps by pair.
        number: of the fine-tuning.
    """
    scores: dict[str, dict[str, float]] = {}
    polygons: dict[str, list[dict[str, Any]]] = {}
    for key, folder in maps.items():
        pair, threshold = store.pairs[key], _threshold(folder)
        if pair.footprints:
            scores[key] = _of_footprints(store, pair, folder, threshold)
        else:
            polygons[key] = _polygons(store, pair, folder, number)
    write_whole(path, json.dumps({"scores": scores, "suggestions": polygons}))


def shifted(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Shift the log-odds of probabilities so that the threshold becomes 0.5."""
    clipped = np.clip(probabilities, _ALMOST, 1 - _ALMOST)
    odds = np.log(clipped / (1 - clipped)) - math.log(threshold / (1 - threshold))
    return 1 / (1 + np.exp(-odds))


def _threshold(folder: Path) -> float:
    return float(json.loads((folder / "summary.json").read_text())["network"]["threshold"])


def _of_footprints(store: Store, pair: Pair, folder: Path, threshold: float) -> dict[str, float]:
    labels, _ = store.objects(pair.id, pair.bounds, viewer=None, limit=2**31)
    footprints = [label for label in labels if label.origin == FOOTPRINT]
    with rasterio.open(folder / PROBABILITY) as source:
        crs = source.crs
    outlines: Any = [label.geometry for label in footprints]
    frame: Any = gpd.GeoDataFrame(geometry=outlines, crs=pair.epsg).to_crs(crs)
    means = statistics_under_polygons(folder / PROBABILITY, frame, ["mean"])["mean"].to_numpy(float)
    values = shifted(means, threshold)
    return {
        label.object: round(float(value), _DIGITS)
        for label, value in zip(footprints, values, strict=True)
        if math.isfinite(value)
    }


def _polygons(store: Store, pair: Pair, folder: Path, number: int) -> list[dict[str, Any]]:
    layers = {str(name) for name, _ in gpd.list_layers(folder / DAMAGE).itertuples(index=False)}
    frame: Any = gpd.read_file(folder / DAMAGE, layer="levels" if "levels" in layers else "damage")
    frame = frame.iloc[:_MOST]
    means = statistics_under_polygons(folder / PROBABILITY, frame, ["mean"])["mean"].to_numpy(float)
    names = frame["level"] if "level" in frame else [""] * len(frame)
    outlines = np.asarray(frame.geometry.to_crs(pair.epsg))
    return [
        {
            "id": f"d-{uuid.uuid5(uuid.NAMESPACE_OID, f'{store.id}/{number}/{pair.id}/{i}')}",
            "level": level_of(str(name), store.scale),
            "probability": round(float(mean), _DIGITS) if math.isfinite(mean) else None,
            "outline": shapely.to_wkb(_single(outline), hex=True),
        }
        for i, (name, mean, outline) in enumerate(zip(names, means, outlines, strict=True))
    ]


def level_of(name: str, scale: Scale) -> str:
    """Return the level of a scale that a map's level means: of a coarser map, the lowest that counts as damage."""
    return name if name in scale.levels else scale.levels[scale.damaged - 1]


def _single(outline: shapely.geometry.base.BaseGeometry) -> shapely.geometry.base.BaseGeometry:
    parts = shapely.get_parts(outline)
    return parts[0] if len(parts) == 1 else outline
