"""What is scored: the footprints or cells of all served pairs together, one row each, with features of both dates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from jaxcd.active import features
from jaxcd.active.encoders import Encoder
from jaxcd.labelling.store import Store, blind
from jaxcd.labelling.store.geometry import unpacked
from jaxcd.labelling.workspace import OpenPair

FEATURES = "features"
"""Folder of the store that keeps features by their content."""


@dataclass(frozen=True, kw_only=True)
class Buildings:
    """Footprints or cells of the served pairs, in rows.

    Attributes:
        known: row by row, as the store had them when they were read.
        rows: of each pair, its rows by id of the object.
        at: row by the object's row in the store.
    """

    known: tuple[blind.Unit, ...]
    rows: dict[str, dict[str, int]]
    at: dict[int, int]

    @classmethod
    def of(cls, store: Store, pairs: Sequence[str]) -> "Buildings":
        """List the footprints or cells of some pairs of a store."""
        served = set(pairs)
        known = tuple(each for each in blind.units(store) if each.pair in served)
        rows: dict[str, dict[str, int]] = {pair: {} for pair in pairs}
        for row, each in enumerate(known):
            rows[each.pair][each.object] = row
        return cls(known=known, rows=rows, at={each.fid: row for row, each in enumerate(known)})

    def __len__(self) -> int:
        return len(self.known)


def compute(
    store: Store, opened: Sequence[OpenPair], buildings: Buildings, encoder: Encoder, tell: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the features of all buildings, or read those that are kept.

    Args:
        store: in whose folder they are kept.
        opened: the pairs.
        buildings: of these pairs.
        encoder: of `jaxcd.active.encoders`.
        tell: is told how many are done.

    Returns:
        Features row by row, and the share of each building that is seen.

    Raises:
        ImageError: a scene is damaged.
        DiskFullError: no space left for what is kept.
    """
    values, seen, done = [], [], 0
    for each in opened:
        fids = [buildings.known[row].fid for row in buildings.rows[each.pair.id].values()]
        if not fids or each.scenes is None:
            continue
        frame = gpd.GeoDataFrame(geometry=outlines(store, fids), crs=each.pair.epsg)
        folder: Path = store.path.parent / FEATURES
        found = features.compute(
            each.scenes,
            frame,
            encoder,
            folder,
            title=each.pair.id,
            tell=lambda count, before=done: tell(before + count),
        )
        values.append(found.values)
        seen.append(found.seen)
        done += len(fids)
        tell(done)
    return np.concatenate(values), np.concatenate(seen)


def outlines(store: Store, fids: Sequence[int]) -> list[Any]:
    """Return the outlines of objects by their rows in the store, in their pairs' coordinates."""
    with store.reading() as db:
        rows = db.execute(
            "SELECT fid, geom FROM object WHERE fid BETWEEN ? AND ? AND geom IS NOT NULL", (min(fids), max(fids))
        )
        shapes = {fid: unpacked(blob) for fid, blob in rows}
    return [shapes[fid] for fid in fids]
