"""Scores while people label: features of many footprints beside the bare network, and new scores after a label."""

import time
import uuid
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely

from benchmarking.labelling import Client, server

FOOTPRINTS = 10_000
_SIDE, _STEP = 20, 32  # pixels of a footprint, and from one to the next
_WINDOW = 2048
_LABELS = 120
_PRESSES = 5


def scored(pre: Path, post: Path, folder: Path) -> dict[str, float]:
    """Label a scene with 10 000 footprints by requests to a server; every fourth one is called destroyed.

    Args:
        pre: scene before.
        post: scene after, on the same grid.
        folder: for footprints and the store.
    """
    found: dict[str, float] = {}
    arguments = ["--pre", pre, "--post", post, "--footprints", _footprints(folder, pre), "--store", folder / "scored"]
    found[f"seconds of the bare encoder for the ground of {FOOTPRINTS:,} footprints"] = _bare()
    with server(arguments) as (_, port):
        found[f"seconds to features of {FOOTPRINTS:,} footprints, first time"] = _features(Client(port))
    with server(arguments) as (_, port):
        ask = Client(port)
        found["seconds to features, kept"] = _features(ask)
        ask("POST", "/api/session", {"name": "Ann"})
        first = _label(ask, range(_LABELS))
        found[f"seconds to the first scores, {_LABELS} labels"] = first
        again = [_label(ask, range(number, number + 1)) for number in range(_LABELS, _LABELS + _PRESSES)]
        found["seconds to new scores after a label (mark: at most 5)"] = float(np.median(again))
    return found


def _footprints(folder: Path, pre: Path) -> Path:
    file = folder / "scored.gpkg"
    with rasterio.open(pre) as source:
        crs, affine = source.crs, source.transform
    rows, columns = np.divmod(np.arange(FOOTPRINTS), int(FOOTPRINTS**0.5))
    west, north = affine.c + columns * _STEP * affine.a, affine.f + rows * _STEP * affine.e
    boxes = shapely.box(west, north + _SIDE * affine.e, west + _SIDE * affine.a, north)
    gpd.GeoDataFrame(geometry=boxes, crs=crs.to_wkt()).to_file(file)
    return file


def _bare() -> float:
    """Time the encoder alone on both dates of as much ground, its compilation not counted."""
    from jaxcd.active import encoders

    encoder = encoders.pretrained()
    image = np.random.default_rng(0).integers(0, 255, (1, _WINDOW, _WINDOW, 3)).astype(np.uint8)
    encoder(image)
    begun = time.monotonic()
    encoder(image)
    encoder(image)
    ground = FOOTPRINTS * _STEP**2
    return (time.monotonic() - begun) * ground / _WINDOW**2


def _features(ask: Client) -> float:
    begun = time.monotonic()
    while (state := ask("GET", "/api/scores?pair=scene"))["state"] == "features":
        time.sleep(0.2)
    assert state["state"] != "off", state
    return time.monotonic() - begun


def _label(ask: Client, numbers: range) -> float:
    """Save labels; returns the seconds until scores that know them are there."""
    number = ask("GET", "/api/scores?pair=scene")["number"]
    levels = (("destroyed" if each % 4 == 0 else "intact") for each in numbers)
    edits = [{"object": f"f{each}", "base": 0, "level": level} for each, level in zip(numbers, levels, strict=True)]
    begun = time.monotonic()
    ask("POST", "/api/pairs/scene/changes", {"id": str(uuid.uuid4()), "edits": edits})
    while True:
        state = ask("GET", f"/api/scores?pair=scene&since={number}")
        if state["number"] > number and state["state"] == "ready":
            return time.monotonic() - begun
        time.sleep(0.02)
