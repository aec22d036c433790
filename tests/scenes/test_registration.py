"""Shifts: those that were put in are found, on simulated and on real pairs; what is not there is refused."""

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from jaxcd.scenes.raster import read_rgb
from jaxcd.scenes.registration import believed, estimate
from jaxcd.simulator import simulate
from tests.scenes.scene_files import ground

FULL = np.ones((640, 640), bool)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    scene = simulate(tmp_path_factory.mktemp("pair"), seed=3, size=768)
    return read_rgb(scene.pre).pixels, read_rgb(scene.post).pixels


@pytest.fixture(scope="module")
def still(pair):
    """What the simulator has moved the pair by itself."""
    return estimate(moved(pair[0], 0, 0), moved(pair[1], 0, 0), FULL)


def moved(image: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Content moved down and right, cut to 640 x 640 pixels without a border."""
    if not rows and not columns:
        return image[64:704, 64:704].copy()
    shifted = ndimage.shift(image.astype(np.float32), (rows, columns, 0), order=3, mode="nearest")
    return np.clip(shifted, 0, 255).astype(np.uint8)[64:704, 64:704]


@pytest.mark.parametrize("shift", [(0, 0), (3.4, -2.7), (-11.25, 6.5), (21, 14)])
def test_a_known_shift_between_summer_and_winter_is_found(pair, still, shift):
    """Other light, other season, collapsed houses, and what the simulator has moved them by itself."""
    pre, post = pair
    found = estimate(moved(pre, 0, 0), moved(post, *shift), FULL)
    assert believed(found)
    assert abs(found.rows - still.rows - shift[0]) <= 0.5 and abs(found.columns - still.columns - shift[1]) <= 0.5
    assert np.hypot(still.rows, still.columns) < 3


def test_a_watermark_does_not_hold_the_images_still(pair, still):
    pre, post = moved(pair[0], 0, 0), moved(pair[1], 9, -7)
    mark = ground(5, 160, 320)
    for image in (pre, post):
        image[200:360, 100:420] = mark
    found = estimate(pre, post, FULL)
    assert believed(found) and abs(found.rows - still.rows - 9) <= 0.5
    assert abs(found.columns - still.columns + 7) <= 0.5


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_grid_of_jpeg_does_not_hold_the_images_still(pair, still, tmp_path):
    images = []
    for name, image in (("pre", moved(pair[0], 0, 0)), ("post", moved(pair[1], 5, 6))):
        path = tmp_path / f"{name}.jpg"
        with rasterio.open(
            path, "w", driver="JPEG", width=640, height=640, count=3, dtype="uint8", quality=30
        ) as target:
            target.write(image.transpose(2, 0, 1))
        images.append(read_rgb(path).pixels)
    found = estimate(*images, FULL)
    assert believed(found) and abs(found.rows - still.rows - 5) <= 0.5
    assert abs(found.columns - still.columns - 6) <= 0.5


def test_other_ground_is_not_believed(pair):
    others = [estimate(moved(pair[0], 0, 0), ground(seed, 640, 640), FULL) for seed in range(6)]
    assert not any(believed(shift) for shift in others)
    assert not believed(estimate(pair[0][:640, :640], np.zeros((640, 640, 3), np.uint8), FULL))
    assert estimate(moved(pair[0], 0, 0), moved(pair[1], 3, 3), ~FULL).confidence == 0


# Rows and columns by which roofs and streets of each scene can be seen to be apart (shared/data/README.md: 2 to 4, 11).
@pytest.mark.parametrize(("place", "least", "most"), [("Adiyaman_Merkez_6", 2, 5), ("Kahramanmaras_Turkoglu_1", 9, 13)])
def test_real_pairs_are_as_far_apart_as_was_measured(shared_data, place, least, most):
    pre, post = (read_rgb(shared_data / "turkey_2023" / place / f"{name}.tif").pixels for name in ("pre", "post"))
    found = estimate(pre, post, np.ones(pre.shape[:2], bool))
    assert believed(found)
    assert least < np.hypot(found.rows, found.columns) < most
