"""`map.html`: one page to look at a map with, that needs no network and no other file."""

import base64
import json
import math
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
import rasterio
import shapely
from jaxtyping import UInt8
from rasterio.windows import Window as RasterWindow

from jaxcd.files import write_whole
from jaxcd.mapping.buildings import CLASS
from jaxcd.mapping.layers import Layers
from jaxcd.mapping.rasters import EMPTY, PROBABILITY, TOP
from jaxcd.mapping.scene_pair import ScenePair
from jaxcd.mapping.styles import CLASSES, OUTLINE, RAMP, rgba
from jaxcd.scenes.windows import Grid, Window

PAGE = "map.html"
MEGAPIXELS = 4
"""Of the image of the whole map; larger maps are shown in coarser pixels, their worst places beside that in full."""
MEGABYTES = 24
"""Of the page without its own parts: images of worst places are added as long as there is room."""

_QUALITY = 82
_PLACES = 12
_OUTLINES = 0.25  # share of the page's bytes that polygons, and buildings, may take


def write(out: Path, pair: ScenePair, layers: Layers, told: dict[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        out: folder of the map, with its rasters.
        pair: what was mapped.
        layers: over it.
        told: what the map's summary tells.
    """
    grid, (polygons, cells, buildings, _) = pair.grid, layers
    area = told["area"]
    notes = []
    factor = max(1, math.ceil(math.sqrt(grid.height * grid.width / (MEGAPIXELS * 1e6))))
    everything = Window(0, 0, 0, grid.height, grid.width, grid.height, grid.width)
    images = [_images(out, pair, everything, factor)]
    if factor > 1:
        notes.append(f"The whole is shown in pixels of {factor * grid.metres:.2g} m, the worst places in full detail.")
    named = {"id": "id", "area": "area_m2", "mean": "mean_probability", "max": "max_probability"}
    damage = _features(grid, polygons, named)
    houses: list[dict] = []
    if buildings is not None:
        named = {"class": CLASS, "share": "damaged_share", "mean": "mean_probability", "seen": "seen_share"}
        ordered = buildings.sort_values(by="damaged_share", ascending=False, kind="stable")
        houses = _features(grid, ordered, named | {"area": "area_m2"})
    for what, found, all_of_them in (("damage polygons", damage, polygons), ("buildings", houses, buildings)):
        if all_of_them is not None and len(found) < len(all_of_them):
            notes.append(f"Of {len(all_of_them):,} {what} the {len(found):,} with most damage are shown.")
    worst: Any = cells[cells["damaged_m2"] > 0]
    worst = worst.sort_values(by="damaged_m2", ascending=False, kind="stable").head(_PLACES)
    data: dict[str, Any] = {
        "name": told["name"],
        "numbers": f"{area['damaged_m2']:,.0f} m² ({area['damaged_share']:.2%}) of what was seen before and after are "
        f"called damage, in {len(polygons):,} polygons.",
        "size": [grid.width * grid.metres, grid.height * grid.metres],
        "threshold": told["network"]["threshold"],
        "colours": {"classes": CLASSES, "polygon": OUTLINE, "ramp": [_css(*stop[1:]) for stop in RAMP]},
        "polygons": {"type": "FeatureCollection", "features": damage},
        "buildings": {"type": "FeatureCollection", "features": houses},
        "worst": [],
    }
    size = len(json.dumps(data)) + sum(map(len, images[0].values()))
    for _, cell in worst.iterrows():
        window = _window_of(grid, cell.geometry)
        data["worst"].append({"box": _box(grid, window), "damaged": cell["damaged_m2"], "share": cell["damaged_share"]})
        detail = _images(out, pair, window, 1) if factor > 1 else {}
        size += sum(map(len, detail.values()))
        if detail and size < MEGABYTES * 1e6:
            images.append(detail)
    data |= {"images": images, "notes": notes}
    files = resources.files("jaxcd.mapping") / "page"
    text = {
        name: (files / path).read_text()
        for name, path in (
            ("leaflet_css", "vendor/leaflet/leaflet.css"),
            ("leaflet_js", "vendor/leaflet/leaflet.js"),
            ("map_css", "map.css"),
        )
    }
    # Of a map of files the browser would ask for: there are none, and nobody is there to ask.
    text["leaflet_js"] = text["leaflet_js"].split("//# sourceMappingURL")[0]
    text["map_js"] = (files / "map.js").read_text()
    text["data"] = json.dumps(data, allow_nan=False).replace("</", "<\\/")
    write_whole(out / PAGE, Template((files / "map.html").read_text()).substitute(text))


def _images(out: Path, pair: ScenePair, window: Window, factor: int) -> dict[str, Any]:
    """Make the images of a part of the map, before, after, and the probability, as data URIs."""
    before, after = pair.images(pair.grid.part(window), coarse=factor)
    height, width = before.shape[:2]
    with rasterio.open(out / PROBABILITY) as source:
        part: Any = RasterWindow(window.column, window.row, window.width, window.height)  # type: ignore[call-arg]
        values = source.read(1, window=part, out_shape=(height, width))
    return {
        "box": _box(pair.grid, window),
        "before": _jpeg(before),
        "after": _jpeg(after),
        "likely": _png(_painted(values)),
    }


def _painted(values: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Colour probabilities; where there is no data nothing is painted."""
    stops = [stop[0] * TOP for stop in RAMP]
    table = np.zeros((256, 4), np.uint8)
    for band in range(4):
        levels = [rgba(*stop[1:])[band] for stop in RAMP]
        table[: TOP + 1, band] = np.rint(np.interp(np.arange(TOP + 1), stops, levels))
    table[EMPTY] = 0
    return table[values]


def _css(colour: str, alpha: int) -> str:
    return f"rgba{(*rgba(colour, alpha)[:3], round(alpha / 255, 2))}"


def _jpeg(image: UInt8[np.ndarray, "h w 3"]) -> str:
    done = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(done.tobytes()).decode()}"


def _png(image: UInt8[np.ndarray, "h w 4"]) -> str:
    done = cv2.imencode(".png", np.ascontiguousarray(image[..., [2, 1, 0, 3]]))[1]
    return f"data:image/png;base64,{base64.b64encode(done.tobytes()).decode()}"


def _box(grid: Grid, window: Window) -> list[float]:
    """Return left, top, right, bottom of a part of the map, in metres from its top left corner."""
    edges = (window.column, window.row, window.column + window.width, window.row + window.height)
    return [edge * grid.metres for edge in edges]


def _window_of(grid: Grid, square: Any) -> Window:
    west, south, east, north = square.bounds
    (left, top), (right, bottom) = (~grid.transform @ at for at in ((west, north), (east, south)))
    row, column, height, width = round(top), round(left), round(bottom - top), round(right - left)
    return Window(0, row, column, height, width, height, width)


def _features(grid: Grid, frame: Any, names: dict[str, str]) -> list[dict]:
    """Return outlines, in metres from the map's top left corner, with what pop-ups show; as many as have room."""
    if not len(frame):
        return []
    inverse = ~grid.transform

    def local(points: np.ndarray) -> np.ndarray:
        columns = inverse.a * points[:, 0] + inverse.c
        rows = inverse.e * points[:, 1] + inverse.f
        return np.round(np.stack([columns, -rows], axis=1) * grid.metres, 2)

    moved: Any = shapely.transform(np.asarray(frame.geometry), local)
    middles = frame.geometry.representative_point().to_crs(4326)
    features, size = [], 0
    columns = [frame[column] for column in names.values()]
    for outline, middle, *values in zip(moved, middles, *columns, strict=True):
        properties = dict(zip(names, map(_plain, values), strict=True)) | {"at": f"{middle.y:.6f}, {middle.x:.6f}"}
        feature = {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(outline)}
        size += len(json.dumps(feature))
        if size > _OUTLINES * MEGABYTES * 1e6:
            break
        features.append(feature)
    return features


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if not math.isfinite(value) else int(value) if isinstance(value, np.integer) else float(value)
