"""Writes `map.html`, a page that shows the map in a browser; it needs no connection and no other file."""

import json
import math
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from jaxcd.base.files import write_whole
from jaxcd.base.scales import BINARY, SCALES, Scale
from jaxcd.mapping.page import images as page_images
from jaxcd.mapping.page import slider
from jaxcd.mapping.page.boxes import box, window_of
from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.mapping.products.attributes import EXPECTED, LEVEL, probability_column
from jaxcd.mapping.products.buildings import CLASS
from jaxcd.mapping.products.layers import Layers
from jaxcd.mapping.products.styles import CLASSES, OUTLINE, RAMP, of_levels, rgba
from jaxcd.mapping.products.summary import LevelTotals, MapSummary, blind_of_map, blind_of_scene
from jaxcd.mapping.products.thresholds import AtThresholds
from jaxcd.scenes.dates import told
from jaxcd.scenes.windows import Grid, Window

PAGE = "map.html"
MEGAPIXELS = 4
"""Largest size of the image of the whole map. A larger map is shown in coarser pixels, and its worst places also in
full detail. The images of a map of this size take 13 MB of the page if they are pure noise, and 5 MB if they show a
town."""
MEGABYTES = 24
"""Largest size of the data in the page; it bounds how many outlines and detailed images the page gets."""
PLACE = 1200
"""Largest side of a worst place's image, in pixels."""

_PLACES = 12
_DETAILS = 0.25  # share of MEGABYTES that is reserved for detailed images of the worst places
_OUTLINES = 0.25  # share of MEGABYTES that polygons may take; buildings may take as much again
_FEATURES = 50_000  # most polygons, and most buildings: a browser still moves so many without delay
_SPARE = 4000  # bytes that are reserved for boxes, places and notes, which are known last
_COVERED = 0.9  # an image shows a place in full if it covers at least this share of both its sides
_LEAST = 0.1  # bytes for each pixel that an image takes at least
_NAMES = ("name", "id", "uid", "osm_id", "objectid")  # attributes that can name a building, the best first


def write(out: Path, pair: ScenePair, layers: Layers, summary: MapSummary, at: AtThresholds) -> None:
    """Write the page, whole or not at all.

    Args:
        out: folder of the map, with its rasters.
        pair: the scenes that were mapped.
        layers: the map's vector layers.
        summary: summary of the map.
        at: the map at other thresholds.
    """
    grid = pair.grid
    scale = SCALES[summary.levels.scale] if summary.levels else BINARY
    data = _texts(summary) | {"size": box(grid, _whole(grid))[2:], "colours": _colours(scale, at)}
    if summary.levels:
        data |= {"levels": _levels(summary.levels, scale), "counts": summary.levels.buildings}
    factor = max(1, math.ceil(math.sqrt(grid.height * grid.width / (MEGAPIXELS * 1e6))))
    whole = page_images.of_part(out, pair, at.ranked, _whole(grid), factor, scale)
    data["at"] = slider.data_of(at, grid, layers.cells, _PLACES) | {
        "min_area": summary.settings["min_area"],
        "at_least": _at_least(summary),
        "coarse": f"{factor * grid.metres:.2g} m" if factor > 1 else "",
    }
    everything = MEGABYTES * 1e6
    room = everything - _SPARE - _size(data) - _size(whole)
    kept = _DETAILS * everything if factor > 1 else 0
    outlined = {"polygons": _polygons(layers.polygons), "buildings": _buildings(layers.buildings, scale, at)}
    totals = {"polygons": summary.polygons, "buildings": sum(summary.buildings.values())}
    notes = []
    for waiting, (name, frame) in zip((2, 1), outlined.items(), strict=True):
        data[name] = _outlined(grid, frame, min((room - kept) / waiting, _OUTLINES * everything))
        room -= _size(data[name])
        shown = len(data[name]["rows"])
        if shown < totals[name]:
            notes.append(f"This page shows {shown:,} of {totals[name]:,} {name}: the worst ones that fit into it.")
    data["worst"], details, windows = _worst(out, pair, at, layers.cells, factor, scale, room)
    full = sum(place["full"] for place in data["worst"])
    if windows:  # the detailed images cover these parts: painted twice, they would be twice as opaque
        whole |= page_images.painted(out, grid, at.ranked, _whole(grid), factor, scale, without=windows)
    if factor > 1:
        notes.insert(0, _resolution(factor * grid.metres, full, len(windows) - full, len(data["worst"])))
    data |= {"images": [{"box": box(grid, _grown(grid, factor))} | whole, *details], "shown": notes}
    _fill(out / PAGE, data)


def _fill(path: Path, data: dict[str, Any]) -> None:
    """Write the page from its template and the data."""
    files = resources.files("jaxcd.mapping") / "page"
    names = {"leaflet_css": "vendor/leaflet/leaflet.css", "leaflet_js": "vendor/leaflet/leaflet.js"}
    names |= {"map_css": "map.css", "map_js": "map.js", "slider_js": "slider.js"}
    text = {name: (files / file).read_text(encoding="utf-8") for name, file in names.items()}
    # Remove the link to a source map, which the browser would try to load: the page has no such file.
    text["leaflet_js"] = text["leaflet_js"].split("//# sourceMappingURL")[0]
    # Text in the data must not contain "<": it could close the script element that holds the data, or begin a comment.
    text["data"] = _json(data).replace("<", "\\u003c")
    write_whole(path, Template((files / "map.html").read_text(encoding="utf-8")).substitute(text))


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _size(value: Any) -> int:
    return len(_json(value))


def _texts(summary: MapSummary) -> dict[str, Any]:
    """Return the texts and figures that the page shows."""
    network = summary.network
    about = [["network", f"{network.name} {network.size}, step {network.step} of {network.run}"]]
    for name, scenes in (("before", summary.pre), ("after", summary.post)):
        about += [[name, f"{told([scene.date])}: {scene.location}"] for scene in scenes]
    about += [
        ["registered", f"{scene.location}: by {scene.rows:+.2f} rows, {scene.columns:+.2f} columns"]
        for scene in summary.registration
    ]
    return {
        "name": summary.name,
        "dates": {
            "before": told(scene.date for scene in summary.pre),
            "after": told(scene.date for scene in summary.post),
        },
        "threshold": network.threshold,
        "threshold_from": network.threshold_from,
        "counts": summary.buildings,
        "blind": {"scene": blind_of_scene(summary.blind_sample), "map": blind_of_map(summary.blind_sample)},
        "agreement": summary.agreement,
        "notes": summary.notes,
        "about": about,
    }


def _at_least(summary: MapSummary) -> str:
    return f" (at least {summary.levels.damage_from})" if summary.levels else ""


def _levels(found: LevelTotals, scale: Scale) -> dict[str, Any]:
    """Return the data of levels for the page: colours, lowest damaged level, damaged levels, agreement, classes."""
    return {
        "colours": dict(zip(scale.levels, scale.colours, strict=True)),
        "from": found.damage_from,
        "damaged": scale.levels[scale.levels.index(found.damage_from) :],
        "agreement": found.agreement,
        "classes": list(CLASSES),
    }


def _colours(scale: Scale, at: AtThresholds) -> dict[str, Any]:
    ramp = [f"rgba{(*rgba(colour, alpha)[:3], round(alpha / 255, 2))}" for _, colour, alpha in RAMP]
    return {
        "classes": of_levels(scale) if scale.buildings else CLASSES,
        "polygon": OUTLINE,
        "ramp": ramp,
        "ranks": slider.colours(at.ranked),
    }


def _resolution(metres: float, full: int, middles: int, places: int) -> str:
    """Return a note: in which pixels the page shows the whole map, and how many of the worst places in full detail."""
    text = f"The whole map is shown in pixels of {metres:.2g} m"
    parts = [
        f"{what}all {places} worst places" if count == places else f"{what}{count} of the {places} worst places"
        for what, count in (("", full), ("the middle of ", middles))
        if count
    ]
    return f"{text}; in full detail: {', '.join(parts)}." if parts else f"{text}."


def _worst(
    out: Path, pair: ScenePair, at: AtThresholds, cells: gpd.GeoDataFrame, factor: int, scale: Scale, room: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Window]]:
    """Return the places with most damage, detailed images of as many as fit into the page, and the images' windows.

    Args:
        out: folder of the map, with its rasters.
        pair: the scenes that were mapped.
        at: the map at other thresholds.
        cells: the map's layer of cells.
        factor: side of the pixels in the image of the whole map, in pixels of the map; at 1 no place needs an image of
            its own.
        scale: scale of the map.
        room: bytes left for the images.
    """
    places, details, windows = [], [], []
    for _, cell in slider.worst(cells, cells["damaged_m2"], _PLACES).iterrows():
        window = window_of(pair.grid, cell.geometry)
        place = {"box": box(pair.grid, window), "damaged": cell["damaged_m2"], "share": cell["damaged_share"]}
        places.append(place | {"full": factor == 1})
        part = _middle(pair.grid, window, factor)
        if factor == 1 or room < _LEAST * part.height * part.width or not part.height * part.width:
            continue
        detail = {"box": box(pair.grid, part)} | page_images.of_part(out, pair, at.ranked, part, 1, scale)
        if _size(detail) < room:
            room -= _size(detail)
            places[-1]["full"] = min(part.height / window.height, part.width / window.width) > _COVERED
            details.append(detail)
            windows.append(part)
    return places, details, windows


def _middle(grid: Grid, window: Window, factor: int) -> Window:
    """Return the middle part of a window, at most `PLACE` pixels a side; its edges are edges of coarse pixels."""
    sides = []
    for first, length, last in ((window.row, window.height, grid.height), (window.column, window.width, grid.width)):
        side = min(length, PLACE)
        start = first + (length - side) // 2
        end = start + side
        sides.append((start // factor * factor, end if end == last else end // factor * factor))
    (top, bottom), (left, right) = sides
    height, width = bottom - top, right - left
    return Window(0, top, left, height, width, height, width)


def _whole(grid: Grid) -> Window:
    return Window(0, 0, 0, grid.height, grid.width, grid.height, grid.width)


def _grown(grid: Grid, factor: int) -> Window:
    """Return the window of the whole map, extended to the ends of its last coarse pixels."""
    height, width = (factor * side for side in grid.coarser(factor).shape)
    return Window(0, 0, 0, height, width, height, width)


def _polygons(frame: Any) -> Any:
    """Return the outlines and figures of damage polygons that the page shows, the largest first."""
    named = {"id": "id", "area_m2": "area", "mean_probability": "mean", "max_probability": "max"}
    return frame[[*named, "geometry"]].rename(columns=named)


def _buildings(frame: Any, scale: Scale, at: AtThresholds) -> Any:
    """Return the outlines and figures of buildings, the most damaged first; in a map of levels, class is the level."""
    if frame is None:
        return pd.DataFrame({"geometry": []})
    assert at.houses is not None
    frame = frame.assign(falls=slider.falls(at.houses))
    named = {CLASS: "class", "damaged_share": "share", "mean_probability": "mean", "seen_share": "seen"}
    named |= {"area_m2": "area", "falls": "falls", "geometry": "geometry"}
    worst = ["damaged_share", "mean_probability"]
    if scale.buildings:
        del named[CLASS]
        named |= {LEVEL: "class", EXPECTED: "expected"} | {probability_column(name): name for name in scale.levels}
        frame = frame.assign(code=pd.Index(scale.levels).get_indexer(np.asarray(frame[LEVEL])))
        worst = ["code", EXPECTED, *worst]
    ordered = frame.sort_values(worst, ascending=False, kind="stable").head(_FEATURES)
    table = ordered[[*named]].rename(columns=named)
    columns = {str(name).lower(): name for name in ordered.columns}
    table["called"], table["called_by"] = None, None
    for name in reversed([columns[name] for name in _NAMES if name in columns]):
        text = ordered[name].astype(str).str.removesuffix(".0").str.strip()
        named_rows = ordered[name].notna() & (text != "")
        table.loc[named_rows, "called"] = text[named_rows]
        table.loc[named_rows, "called_by"] = str(name)
    return table


def _outlined(grid: Grid, frame: Any, room: float) -> dict[str, Any]:
    """Return polygons as rows for the page, in order; a row that does not fit into `room` bytes is left out.

    Points of an outline are (up, right), in metres from the map's top left corner: Leaflet takes them in this order.
    """
    frame = frame.head(_FEATURES)
    names = [name for name in frame.columns if name != "geometry"]
    rows: list[list] = []
    if len(frame):
        inverse, (across, down) = ~grid.transform, grid.sides
        digits = max(0, round(1 - math.log10(min(across, down))))

        def local(points: np.ndarray) -> np.ndarray:
            right = (inverse.a * points[:, 0] + inverse.c) * across
            return np.round(np.stack([-(inverse.e * points[:, 1] + inverse.f) * down, right], axis=1), digits)

        moved = shapely.transform(np.asarray(frame.geometry), local)
        middles = frame.geometry.representative_point().to_crs(4326)
        for outline, middle, *values in zip(moved, middles, *(frame[name] for name in names), strict=True):
            parts = [shapely.geometry.mapping(part)["coordinates"] for part in shapely.get_parts(outline)]
            row = [*map(_plain, values), f"{middle.y:.6f}, {middle.x:.6f}", parts]
            size = _size(row) + 1
            if size < room:
                room -= size
                rows.append(row)
    return {"columns": [*names, "at", "outline"], "rows": rows}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return None
    return int(value) if isinstance(value, np.integer) else round(float(value), 4)
