"""Features of footprints: equal to a direct computation, whatever the blocks; kept, and computed anew when due."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from jaxcd.active import encoders, features
from jaxcd.active.coverage import cells
from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.mapping.predict.scene_pair import ScenePair, open_pair
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.raster import write_geotiff
from tests.mapping.map_runs import config, write_run

SIDE, METRES = 600, 0.5
ORIGIN = (500_000.0, 4_200_000.0)
UTM = CRS.from_epsg(32610)


def image(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 226, (SIDE // 5, SIDE // 5, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 5, 0), 5, 1)


def scenes(folder: Path, *, post: np.ndarray | None = None) -> ScenePair:
    where = Affine(METRES, 0, ORIGIN[0], 0, -METRES, ORIGIN[1])
    for name, pixels in (("pre", image(1)), ("post", image(2) if post is None else post)):
        write_geotiff(folder / f"{name}.tif", pixels, transform=where, crs=UTM)
    return open_pair([str(folder / "pre.tif")], [str(folder / "post.tif")], MapSettings())


def on_ground(*pixels: shapely.Polygon) -> gpd.GeoDataFrame:
    """Footprints of outlines in pixels."""
    moved = [shapely.transform(each, lambda p: p * [METRES, -METRES] + ORIGIN) for each in pixels]
    return gpd.GeoDataFrame(geometry=moved, crs=UTM.to_wkt())


BUILDINGS = (
    shapely.box(100, 40, 131, 77),
    shapely.affinity.rotate(shapely.box(280, 290, 330, 318), 33),
    shapely.box(200.1, 200.1, 200.3, 200.3),  # no pixel's centre lies in it
    shapely.box(585, 500, 640, 520),  # reaches beyond the scene
    shapely.box(20, 330, 560, 420),  # larger than a block
)


def directly(encoder: encoders.Encoder, pair: ScenePair, polygon: shapely.Polygon) -> np.ndarray:
    """Average what the encoder sees of the whole scene over the pixels whose centres lie in a polygon."""
    padded = [np.pad(image(seed), ((0, 8), (0, 8), (0, 0)))[None] for seed in (1, 2)]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = shapely.contains_xy(polygon, columns + 0.5, rows + 0.5)
    found = []
    for before, after in zip(*map(encoder, padded), strict=True):
        stride = 608 // before.shape[1]
        for level in (before, after, np.abs(after - before)):
            full = np.repeat(np.repeat(level[0], stride, 0), stride, 1)[:SIDE, :SIDE]
            found.append(full[mask].mean(0))
    return np.concatenate(found)


@pytest.mark.parametrize("kind", ["run", pytest.param("pretrained", marks=pytest.mark.slow)])
def test_features_equal_a_direct_computation_and_do_not_depend_on_blocks(kind: str, tmp_path: Path) -> None:
    if kind == "run":
        run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
        encoder, window = encoders.of_run(run), 256
    else:
        encoder, window = encoders.pretrained(), 432
    pair, frame = scenes(tmp_path), on_ground(*BUILDINGS)
    whole = features.compute(pair, frame, encoder, tmp_path / "kept")
    assert whole.computed == 1
    half = whole.values.shape[1] // 2  # then come the rings
    for number in (0, 1, 3, 4):
        np.testing.assert_allclose(
            whole.values[number, :half], directly(encoder, pair, BUILDINGS[number]), rtol=1e-3, atol=1e-4
        )
    ring = shapely.difference(BUILDINGS[0].buffer(features.RING / METRES), BUILDINGS[0])
    np.testing.assert_allclose(whole.values[0, half:], directly(encoder, pair, ring), rtol=1e-3, atol=1e-4)
    assert whole.seen[[0, 1, 2, 4]].tolist() == [1, 1, 1, 1]
    assert whole.seen[3] == pytest.approx(15 / 55)

    cut = features.compute(pair, frame, encoder, tmp_path / "kept", window=window)
    assert cut.computed > 4
    np.testing.assert_allclose(cut.values, whole.values, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(cut.seen, whole.seen)


def test_a_network_that_sees_both_dates_at_once_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config("fc_ef", "small"))
    with pytest.raises(ConfigError, match="the encoder of fc_ef sees both dates at once, expected a network that"):
        encoders.of_run(run)


def test_kept_features_are_read_again_until_the_scene_the_footprints_or_the_weights_change(tmp_path: Path) -> None:
    colours, kept, frame = encoders.colours(), tmp_path / "kept", on_ground(*BUILDINGS[:3])
    first = features.compute(scenes(tmp_path), frame, colours, kept)
    again = features.compute(scenes(tmp_path), frame, colours, kept)
    assert (first.computed, again.computed) == (1, 0)
    np.testing.assert_array_equal(first.values, again.values)

    changed = image(2)
    changed[40:77, 100:131] = 255
    other = features.compute(scenes(tmp_path, post=changed), frame, colours, kept)
    assert other.computed == 1
    assert np.abs(other.values[0] - first.values[0]).max() > 0.2
    np.testing.assert_array_equal(other.values[1], first.values[1])

    moved = on_ground(shapely.box(101, 40, 131, 77), *BUILDINGS[1:3])
    assert features.compute(scenes(tmp_path, post=changed), moved, colours, kept).computed == 1


def test_each_order_of_footprints_gives_the_same_features(tmp_path: Path) -> None:
    pair, colours = scenes(tmp_path), encoders.colours()
    forth = features.compute(pair, on_ground(*BUILDINGS), colours, tmp_path / "a", window=128)
    back = features.compute(pair, on_ground(*BUILDINGS[::-1]), colours, tmp_path / "b")
    np.testing.assert_allclose(forth.values, back.values[::-1], rtol=1e-4, atol=1e-5)


def test_footprints_outside_are_refused_in_one_line(tmp_path: Path) -> None:
    pair, colours = scenes(tmp_path), encoders.colours()
    far = on_ground(shapely.box(9000, 9000, 9020, 9020))
    with pytest.raises(LabelError, match=r"^none of the 1 footprints lies in the scene \(.* north\); give footprints"):
        features.compute(pair, far, colours, tmp_path / "kept")
    with pytest.raises(LabelError, match="^no footprints: "):
        features.compute(pair, far[:0], colours, tmp_path / "kept")
    both = features.compute(pair, on_ground(BUILDINGS[0], shapely.box(9000, 9000, 9020, 9020)), colours, tmp_path / "k")
    assert both.seen.tolist() == [1, 0]
    assert not both.values[1].any()


def test_cells_stand_in_for_footprints(tmp_path: Path) -> None:
    pair = scenes(tmp_path)
    frame = cells(pair.grid, 50)
    assert len(frame) == 36
    assert frame.union_all().area == pytest.approx((SIDE * METRES) ** 2)
    found = features.compute(pair, frame, encoders.colours(), tmp_path / "kept", ring=0)
    assert found.values.shape == (36, 18)
    np.testing.assert_allclose(found.values[7, :3], image(1)[100:200, 100:200].mean((0, 1)) / 255, atol=1e-5)
    with pytest.raises(ConfigError, match="give a larger side"):
        cells(pair.grid, 0.5)
