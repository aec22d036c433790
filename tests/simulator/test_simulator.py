"""The simulated scene: repeatable, georeferenced, and hard for a threshold on the difference."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from scipy.ndimage import binary_erosion, gaussian_filter, uniform_filter

from jaxcd.base.errors import DatasetError, ImageError
from jaxcd.scenes.raster import read_mask, read_rgb
from jaxcd.simulator import SimulatedScene, cut_tiles, simulate

SIZE = 512
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, SimulatedScene]:
    folder = tmp_path_factory.mktemp("scenes")
    return {seed: simulate(folder / str(seed), seed=seed, size=SIZE) for seed in SEEDS}


def test_one_seed_one_scene(scenes: dict[int, SimulatedScene], tmp_path: Path) -> None:
    again = simulate(tmp_path / "again", seed=1, size=SIZE)
    for name in ("pre", "post"):
        np.testing.assert_array_equal(
            read_rgb(getattr(again, name)).pixels, read_rgb(getattr(scenes[1], name)).pixels, err_msg=name
        )
    np.testing.assert_array_equal(read_mask(again.mask), read_mask(scenes[1].mask))
    assert (read_mask(scenes[0].mask) != read_mask(scenes[1].mask)).any()


def test_one_grid(scenes: dict[int, SimulatedScene]) -> None:
    for scene in scenes.values():
        grids = []
        for path in (scene.pre, scene.post, scene.mask):
            with rasterio.open(path) as source:
                grids.append((source.crs.to_epsg(), source.transform, source.shape))
        assert grids[0] == grids[1] == grids[2]
        assert grids[0][0] == 32637 and grids[0][1].a == 0.5 and grids[0][1].e == -0.5 and grids[0][2] == (SIZE, SIZE)


def test_masks_are_binary_and_sparse(scenes: dict[int, SimulatedScene]) -> None:
    for seed, scene in scenes.items():
        mask = read_mask(scene.mask)
        assert set(np.unique(mask)) == {0, 1}
        assert 0.01 <= mask.mean() <= 0.04, f"seed {seed}: {mask.mean():.4f}"


def test_footprints_tell_the_damage(scenes: dict[int, SimulatedScene]) -> None:
    for scene in scenes.values():
        frame = geopandas.read_file(scene.footprints)
        assert frame.crs.to_epsg() == 32637
        assert len(frame) >= 40 and set(frame.damage) == {0, 1}
        assert 0.06 <= frame.damage.mean() <= 0.13
        assert frame.is_valid.all()
        with rasterio.open(scene.mask) as source:
            mask, transform = source.read(1), source.transform
        for damaged, group in frame.groupby("damage"):
            inside = rasterize(group.geometry, out_shape=mask.shape, transform=transform).astype(bool)
            share = mask[inside].mean()
            assert share > 0.99 if damaged else share < 0.01
        # Rubble lies beyond the outlines too.
        outlines = rasterize(frame[frame.damage == 1].geometry, out_shape=mask.shape, transform=transform)
        assert mask.sum() > 1.1 * (outlines & mask).sum()


def test_a_threshold_on_the_difference_fails(scenes: dict[int, SimulatedScene]) -> None:
    for seed, scene in scenes.items():
        pre, post = read_rgb(scene.pre).pixels.astype(int), read_rgb(scene.post).pixels
        difference, mask = np.abs(pre - post).sum(axis=2), read_mask(scene.mask) == 1
        # Counts at every threshold at once: all pixels, and damaged ones, at or above each difference.
        chosen = np.bincount(difference.ravel(), minlength=766)[::-1].cumsum()
        hits = np.bincount(difference[mask], minlength=766)[::-1].cumsum()
        best = (2 * hits / (chosen + mask.sum())).max()
        assert best <= 0.30, f"seed {seed}: F1 {best:.3f}"


def test_rubble_has_a_texture_of_its_own(scenes: dict[int, SimulatedScene]) -> None:
    """What a network can learn: after the event, detail of one to two pixels is stronger on rubble than elsewhere."""
    for seed, scene in scenes.items():
        grey = read_rgb(scene.post).pixels.mean(axis=2)
        detail = uniform_filter(np.abs(gaussian_filter(grey, 0.8) - gaussian_filter(grey, 2.0)), 9)
        mask = read_mask(scene.mask) == 1
        inner = binary_erosion(mask, iterations=3)
        ratio = np.median(detail[inner]) / np.median(detail[~mask])
        assert ratio > 1.4, f"seed {seed}: {ratio:.2f}"


@pytest.mark.parametrize("tile", [128, 200])
def test_tiles_are_the_scene(scenes: dict[int, SimulatedScene], tmp_path: Path, tile: int) -> None:
    scene, out = scenes[0], tmp_path / "tiles"
    cut_tiles(scene, out, tile=tile)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiles"]
    per_side = -(-SIZE // tile)
    names = sorted(f"r{r:02d}_c{c:02d}.tif" for r in range(per_side) for c in range(per_side))
    whole = {"A": read_rgb(scene.pre).pixels, "B": read_rgb(scene.post).pixels, "label": read_mask(scene.mask) * 255}
    with rasterio.open(scene.pre) as source:
        origin = source.transform
    for folder, expected in whole.items():
        assert sorted(p.name for p in (out / folder).iterdir()) == names
        covered, rebuilt = np.zeros((SIZE, SIZE), int), np.zeros_like(expected)
        for path in (out / folder).iterdir():
            with rasterio.open(path) as source:
                assert source.crs.to_epsg() == 32637
                left, top = (round(v) for v in ~origin @ (source.transform.c, source.transform.f))
                pixels = source.read().transpose(1, 2, 0)
            part = np.s_[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            rebuilt[part] = pixels if expected.ndim == 3 else pixels[..., 0]
            covered[part] += 1
        assert (covered == 1).all()
        np.testing.assert_array_equal(rebuilt, expected)


def test_tiles_don_t_overwrite(scenes: dict[int, SimulatedScene], tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    with pytest.raises(DatasetError, match="tiles: exists already"):
        cut_tiles(scenes[0], tmp_path / "tiles", tile=128)


def test_a_failed_cut_leaves_nothing(scenes: dict[int, SimulatedScene], tmp_path: Path) -> None:
    broken = tmp_path / "mask.tif"
    broken.write_bytes(scenes[0].mask.read_bytes()[:300])
    scene = SimulatedScene(pre=scenes[0].pre, post=scenes[0].post, mask=broken, footprints=scenes[0].footprints)
    with pytest.raises(ImageError, match=r"mask\.tif"):
        cut_tiles(scene, tmp_path / "tiles", tile=128)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.tif"]
