"""Pages of maps that are one image: sides of pixels in degrees, and what is shown where room is short."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from PIL import Image

from jaxcd.mapping.page import web_page
from jaxcd.mapping.predict.scene_pair import open_pair
from jaxcd.mapping.products import buildings, layers, rasters, summary
from jaxcd.mapping.products.thresholds import EMPTY, Ranked, at_thresholds
from jaxcd.mapping.settings import MapSettings
from tests.mapping.pages import data_of, opened
from tests.scenes.scene_files import ORIGIN, at, write


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def page_of(folder: Path, image: np.ndarray, place: Affine, crs: str, *, houses: Sequence = ()) -> dict:
    """Write the page of a map of one image, before and after; where it is bright, it is called damage."""
    pre, post = (write(folder / f"{when}.tif", image, place, crs=crs) for when in ("pre", "post"))
    pair = open_pair([str(pre)], [str(post)], MapSettings())
    write(folder / rasters.PROBABILITY, image[..., 0], place, crs=crs, nodata=rasters.EMPTY)
    rows, columns = np.indices((image.shape[0] // 100, image.shape[1] // 100)).reshape(2, -1) * 100
    squares = [
        shapely.box(*(place @ (x, y + 100)), *(place @ (x + 100, y))) for y, x in zip(rows, columns, strict=True)
    ]
    cells = gpd.GeoDataFrame(geometry=squares, crs=crs)
    bright = [int((image[y : y + 100, x : x + 100, 0] > 200).sum()) for y, x in zip(rows, columns, strict=True)]
    cells["damaged_m2"], cells["damaged_share"] = np.array(bright) / 4, np.array(bright) / 1e4
    cells["row"], cells["column"], cells["seen_m2"] = rows // 100, columns // 100, 2500.0
    polygons = gpd.GeoDataFrame(
        {"id": range(len(cells))}, geometry=[square.buffer(-square.length / 20) for square in squares], crs=crs
    )
    polygons["area_m2"], polygons["mean_probability"], polygons["max_probability"] = 9.0, 0.8, 0.9
    judged = gpd.GeoDataFrame(geometry=list(houses), crs=crs)
    judged["damaged_share"], judged["mean_probability"], judged["seen_share"] = 1.0, 0.8, 1.0
    judged["area_m2"], judged[buildings.CLASS] = 9.0, "damaged"
    found = layers.Layers(polygons, cells, judged if houses else None, {}, {})
    map_summary = summary.MapSummary(
        name="noise",
        area=summary.Area(seen_km2=1.0, damaged_m2=1.0, damaged_share=0.1),
        polygons=len(polygons),
        buildings=buildings.counts(judged) if houses else {},
        agreement={},
        worst_cells=(),
        pre=tuple(map(summary.SceneFile.of, pair.pre)),
        post=tuple(map(summary.SceneFile.of, pair.post)),
        registration=(),
        vectors={},
        network=summary.NetworkUsed(
            run="", name="none", size="small", step=0, weights_sha256="", average=False, halo=0, threshold=0.5,
            threshold_from="", window=(0, 0),
        ),
        grid=summary.MapGrid(crs=crs, transform=tuple(place)[:6], height=0, width=0, metres_per_pixel=1.0),
        settings={"min_area": 10.0},
        notes=(),
        blocks=0,
        blocks_computed=0,
        jaxcd="",
        made="",
        seconds=0.0,
    )  # fmt: skip
    ranked = Ranked.of(str(folder / rasters.PROBABILITY), 1, rasters.TOP, 0.79)
    at_all = at_thresholds(
        ranked, pair.grid, cells, found.buildings, None, MapSettings(cell=100 * min(pair.grid.sides))
    )
    web_page.write(folder, pair, found, map_summary, at_all)
    return data_of(folder / web_page.PAGE)


def test_of_degrees_both_sides_of_a_pixel_are_told_apart(browser, tmp_path):
    place = Affine(5e-6, 0, 25.0, 0, -5e-6, 60.0)
    house = shapely.box(25.0005, 59.9992, 25.0008, 59.9995)
    page_of(tmp_path, noise(300, 400), place, "EPSG:4326", houses=[house])
    with opened(browser, tmp_path / "map.html") as page:
        assert page.evaluate("data.size") == pytest.approx([400 * 0.27895, 300 * 0.55707], rel=2e-3)
        image = page.locator("img.before").first.bounding_box()
        assert image["height"] / image["width"] == pytest.approx(300 * 0.55707 / (400 * 0.27895), rel=0.01)
        west, south, east, north = page.evaluate("houses[0].getBounds().toBBoxString().split(',').map(Number)")
        (truth,) = gpd.GeoSeries([house], crs=4326).to_crs(32635).area
        assert (east - west) * (north - south) == pytest.approx(truth, rel=0.01)


def test_noise_and_many_outlines_leave_room_for_worst_places(tmp_path, monkeypatch):
    """Places too large stop none that is smaller; outlines take their share and no more."""
    image = np.full((400, 800, 3), 20, np.uint8)
    image[:200, :200] = noise(200, 200) // 4 + 190  # above all others
    image[50:60:2, 250:] = 220
    west, north = ORIGIN
    across, down = np.arange(201, 390, 4), np.arange(2, 190, 4)
    houses = [shapely.box(west + x, north - y - 2, west + x + 2, north - y) for x in across for y in down]
    monkeypatch.setattr(web_page, "MEGAPIXELS", 0.02)
    monkeypatch.setattr(web_page, "MEGABYTES", 0.08)
    data = page_of(tmp_path, image, at(), "EPSG:32637", houses=houses)
    full = [place["full"] for place in data["worst"]]
    assert full[:4].count(False) >= 2 and full[4:].count(True) >= 2, full
    shown = len(data["buildings"]["rows"])
    assert 0 < shown < len(houses) and 0 < len(data["polygons"]["rows"])
    assert f"This page shows {shown:,} of {len(houses):,} buildings: the worst ones that fit into it." in data["shown"]


def test_a_place_is_shown_in_so_many_pixels_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(web_page, "MEGAPIXELS", 0.01)
    monkeypatch.setattr(web_page, "PLACE", 40)
    whole, *details = page_of(tmp_path, noise(150, 250), at(), "EPSG:32637")["images"]
    assert details
    for detail in details:
        sides = np.subtract(detail["box"][2:], detail["box"][:2]) / 0.5
        assert (sides > 30).all() and (sides < 40.1).all()
    image = Image.open(io.BytesIO(base64.b64decode(whole["ranks"].split(",")[1])))
    assert image.mode == "L"
    # Under the first detail nothing is painted: twice it would be twice as opaque.
    left, top, right, bottom = (np.array(details[0]["box"]) / 0.5 / 2).round().astype(int)
    ranks = np.asarray(image)
    assert (ranks[top:bottom, left:right] == EMPTY).all() and (ranks < EMPTY).mean() > 0.3
