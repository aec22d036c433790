"""Maps of real scenes: two reference systems, borders without data, footprints, true classes."""

import collections
import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xbd_scenes
from rasterio.features import geometry_mask

from jaxcd.mapping import scene_map
from jaxcd.mapping.products import buildings, rasters
from jaxcd.mapping.settings import MapSettings
from jaxcd.sources.layouts import discover
from tests.mapping.map_runs import config, write_run


def mapped(tmp_path, pre, post, **settings):
    """Map with random weights: what is tested is where things lie, and what is counted."""
    wanted = MapSettings(threshold=0.5, min_area=200.0, **settings)
    mapper = scene_map.load(write_run(tmp_path / "run", config("fc_siam_diff", "small")), wanted)
    return scene_map.make(mapper, list(map(str, pre)), list(map(str, post)), tmp_path / "map", wanted)


@pytest.mark.slow
def test_scenes_of_two_reference_systems_are_one_map_with_its_buildings(shared_data, tmp_path):
    folder = shared_data / "joplin_2011"
    pre, post = (sorted((folder / when).glob("*.tif")) for when in ("pre", "post"))
    pre.pop()  # nothing shows what was there before: a corner of the map without data, with most of the buildings
    map_summary = mapped(tmp_path, pre, post, footprints=folder / "footprints.gpkg")
    assert (len(map_summary.pre), len(map_summary.post)) == (3, 6)
    with rasterio.open(tmp_path / "map" / rasters.PROBABILITY) as made:
        assert made.crs.to_epsg() == 26915
        seen, transform = made.read(1) != rasters.EMPTY, made.transform
        boxes = [shapely.box(*source.bounds) for source in map(rasterio.open, pre)]
        assert shapely.box(*made.bounds).contains(shapely.union_all(boxes).buffer(-made.res[0]))
    assert 0.1 < seen.mean() < 0.9
    houses = gpd.read_file(tmp_path / "map" / "buildings.gpkg")
    assert sum(map_summary.buildings.values()) == len(houses) > 50
    assert {"intact", "not seen"} <= {name for name, count in map_summary.buildings.items() if count}
    for house in houses.itertuples():
        inside = ~geometry_mask([house.geometry], seen.shape, transform)
        share = np.mean(seen[inside]) if inside.any() else 0.0
        if abs(share - 0.5) > 0.1:
            assert (house.damage_class == "not seen") == (share < 0.5), house


def test_true_classes_of_a_labelled_tile_are_all_counted(shared_data, tmp_path):
    root, name = shared_data / "xbd_santa_rosa", "santa-rosa-wildfire_00000089"
    place = next(place for place in discover("xbd", root).places if place.id == name)
    assert xbd_scenes.write(place, tmp_path)
    found = json.loads(place.post[0].label.read_text())["features"]["lng_lat"]
    truth = collections.Counter(each["properties"]["subtype"] for each in found)
    # Footprints are placed as their tile is, which may be turned against north by a metre at its rim.
    frame = gpd.read_file(tmp_path / "buildings.geojson").to_crs(32610)
    said = gpd.GeoSeries([shapely.from_wkt(each["wkt"]) for each in found], crs=4326).to_crs(32610)
    assert gpd.GeoSeries(frame.geometry).centroid.distance(said.centroid).max() < 1.5
    map_summary = mapped(
        tmp_path,
        [tmp_path / "pre.tif"],
        [tmp_path / "post.tif"],
        footprints=tmp_path / "buildings.geojson",
        label_attribute="subtype",
        label_values=("destroyed", "major-damage"),
        label_unknown=("un-classified",),
    )
    rows = map_summary.agreement["confusion"]
    damaged = truth["destroyed"] + truth["major-damage"]
    assert sum(rows["damaged"].values()) == damaged > 100
    assert sum(rows["intact"].values()) == len(found) - damaged - truth["un-classified"]
    judged = gpd.read_file(tmp_path / "map" / "buildings.gpkg")
    assert judged.crs.to_epsg() == 4326
    # Square metres, though the map is in degrees.
    assert judged.area_m2.to_numpy() == pytest.approx(frame.area.to_numpy(), rel=2e-3, abs=0.1)
    assert set(judged[buildings.CLASS]) <= set(buildings.CLASSES)
