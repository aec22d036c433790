"""Labels as polygons: GeoPackage and GeoJSON."""

import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
from pyogrio.errors import DataSourceError, FeatureError

from jaxcd.base.files import not_written, replacing, write_whole
from jaxcd.labelling.store import PAIR, Label, Store, blind
from jaxcd.labelling.store.schema import layer_of

_PIXELS = 'ENGCRS["Undefined Cartesian SRS with unknown unit",EDATUM["Unknown engineering datum"],CS[Cartesian,2],'
_PIXELS += 'AXIS["x",unspecified],AXIS["y",unspecified],LENGTHUNIT["unknown",0]]'
_COLUMNS = ("pair", "object", "level", "comment", "version", "author", "at", "origin")
_BLIND = "blind_sample"
_DIGITS = 9  # decimals of degrees: a tenth of a millimetre


def write_geopackage(store: Store, path: Path, pairs: tuple[str, ...]) -> None:
    """Write one layer of labels for each reference system, and a table of the pairs with their verdicts."""
    frames = frames_of(store, pairs)
    with replacing(path) as partial:
        partial.unlink(missing_ok=True)
        try:
            for epsg, frame in frames.items():
                name = layer_of(epsg, len(frames) == 1)
                frame.to_file(partial, layer=name, driver="GPKG", geometry_type="Unknown")
            pyogrio.write_dataframe(_verdicts(store, pairs), partial, layer="pairs", driver="GPKG")
        except (DataSourceError, FeatureError) as error:
            raise not_written(path, error) from error


def write_geojson(store: Store, path: Path, pairs: tuple[str, ...]) -> None:
    """Write all labels in degrees; those of pairs without a place in pixels."""
    parts = [frame if epsg is None else frame.to_crs(4326) for epsg, frame in frames_of(store, pairs).items()]
    merged = gpd.GeoDataFrame(pd.concat([part.set_crs(4326, allow_override=True) for part in parts]), crs=4326)
    content = io.BytesIO()  # written by Python, which reports a full disk; GDAL may not
    merged.to_file(
        content,
        layer="labels",
        driver="GeoJSON",
        RFC7946="NO" if None in {store.pairs[key].epsg for key in pairs} else "YES",
        COORDINATE_PRECISION=_DIGITS,
        geometry_type="Unknown",
    )
    write_whole(path, content.getvalue())


def frames_of(store: Store, pairs: Iterable[str]) -> dict[int | None, gpd.GeoDataFrame]:
    """Return the saved objects of pairs, by the EPSG code of their coordinates (None: pixels).

    `blind_sample` is true of those that nothing may be learned from.
    """
    rows: dict[int | None, list[tuple[str, Label]]] = {}
    for key in pairs:
        labels = store.labels(key, viewer=None)
        rows.setdefault(store.pairs[key].epsg, []).extend((key, each) for each in labels if each.object != PAIR)
    held = blind.held_by_pair(store)
    return {epsg: _frame(epsg, found, held) for epsg, found in rows.items()}


def _frame(epsg: int | None, rows: list[tuple[str, Label]], held: Mapping[str, Collection[str]]) -> gpd.GeoDataFrame:
    values = [(key, *(getattr(label, name) for name in _COLUMNS[1:])) for key, label in rows]
    frame = pd.DataFrame(values, columns=list(_COLUMNS)).astype(
        {name: "int64" if name == "version" else object for name in _COLUMNS}
    )
    frame[_BLIND] = np.array([label.object in held.get(key, ()) for key, label in rows], bool)
    crs: Any = _PIXELS if epsg is None else epsg
    return gpd.GeoDataFrame(frame, geometry=np.array([label.geometry for _, label in rows], object), crs=crs)


def _verdicts(store: Store, pairs: Iterable[str]) -> pd.DataFrame:
    rows = []
    for key in pairs:
        (verdict,) = store.labels(key, viewer=None, ids=[PAIR])
        rows.append((key, store.pairs[key].title, verdict.level, verdict.comment, verdict.author, verdict.at))
    return pd.DataFrame(rows, columns=["id", "title", "verdict", "comment", "author", "at"])
