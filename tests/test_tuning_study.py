"""The study of fine-tuning: who is labelled, and the pixels that count."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import tuning_study
from affine import Affine
from rasterio.crs import CRS

from jaxcd.labelling.store import Store
from jaxcd.mapping.products.rasters import DECISION, EMPTY, PROBABILITY, TOP
from jaxcd.scenes.raster import write_geotiff
from tests.labelling.learned import BUILDINGS, DAMAGED, write_town

UTM = 32637
WEST, NORTH = 433_000, 4_180_000


def test_buildings_are_labelled_with_their_true_levels_once(tmp_path):
    write_town(tmp_path)
    frame = gpd.read_file(tmp_path / "footprints.gpkg")
    unknown = {0, 1}
    frame["subtype"] = [
        "un-classified" if i in unknown else "destroyed" if i in DAMAGED else "no-damage" for i in range(BUILDINGS)
    ]
    (tmp_path / "list.csv").write_text("name,pre,post,footprints\ntown,pre.tif,post.tif,footprints.gpkg\n")
    for _ in range(2):  # gone on with, it labels the same
        found = tuning_study._label(tmp_path / "store", tmp_path / "list.csv", {"town": frame}, 40, seed=1)
    store = Store.open(tmp_path / "store")
    levels = {label.object: label.level for label in store.labels("town", viewer=None) if label.level}
    store.close()
    assert levels == {each.object: each.level for each in found} and len(levels) == 40
    assert levels == {key: "destroyed" if int(key[1:]) in DAMAGED else "intact" for key in levels}
    assert not {"f0", "f1"} & levels.keys()


def test_pixels_of_labelled_and_unknown_buildings_do_not_count(tmp_path):
    def square(left: int) -> shapely.Polygon:
        return shapely.box(WEST + left, NORTH - 10, WEST + left + 10, NORTH)

    # From left to right, 10 x 10 pixels each: destroyed, intact, destroyed and labelled, unknown, major, ground.
    subtypes = ["destroyed", "no-damage", "destroyed", "un-classified", "major-damage"]
    frame = gpd.GeoDataFrame({"subtype": subtypes}, geometry=[square(10 * i) for i in range(5)], crs=UTM)
    probability = np.repeat(np.array([0.9, 0.6, 0.1, 0.8, 0.3, 0.2]) * TOP, 10)
    values = np.rint(np.tile(probability, (10, 1))).astype(np.uint8)
    values[:5, 50:] = EMPTY
    decision = np.where(values == EMPTY, EMPTY, values >= 0.5 * TOP).astype(np.uint8)
    (tmp_path / "town").mkdir()
    for name, content in ((PROBABILITY, values), (DECISION, decision)):
        place = {"transform": Affine(1, 0, WEST, 0, -1, NORTH), "crs": CRS.from_epsg(UTM)}
        write_geotiff(tmp_path / "town" / name, content, nodata=EMPTY, **place)
    labelled = [tuning_study.Building("town", "f2", "destroyed"), tuning_study.Building("other", "f0", "destroyed")]
    found = tuning_study.scores(tmp_path, {"town": frame.to_crs(4326)}, labelled)
    # Called: the first (right) and the second (wrong); the fifth is missed; half of the ground has no data.
    assert (found["pixels"], found["damaged pixels"]) == (350, 200)
    assert (found["precision"], found["recall"], found["F1"]) == (0.5, 0.5, 0.5)
    assert found["best F1"] == pytest.approx(2 * 200 / (2 * 200 + 100))  # the first, the second and the fifth
    assert found["average precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
