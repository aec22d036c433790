"""Answers computed window by window equal those of the whole image at once."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import rasterio
from jax.nn import sigmoid

from jaxcd import models
from jaxcd.learn import ordinal
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.mapping.predict import blocks, scene_pair, tiling
from jaxcd.mapping.predict.network import STEPS, WindowNetwork
from jaxcd.mapping.settings import MapSettings
from jaxcd.runs.inference import Trained
from tests.mapping.map_runs import config, lively, write_scenes


def whole(network, params, stats, pre, post, described, answer=sigmoid):
    """The network's answer for the whole image at once, padded with black at the bottom and right."""
    (height, width, _), stride = pre.shape, described.stride
    padding = ((0, -height % stride), (0, -width % stride), (0, 0))
    padded = (jnp.asarray(np.pad(image, padding)[None]) for image in (pre, post))
    pre_input, post_input = (normalise(image, described.normalisation) for image in padded)
    logits, _ = models.apply(network.eval, params, stats, pre_input, post_input)
    return np.asarray(answer(logits))[0, :height, :width]


def pieces(pair, wanted, trained, folder, *, window, average=False, bands=1):
    network = WindowNetwork(wanted, trained, average=average)
    described = models.describe(wanted.model)
    down, across = (tiling.cover(n, described, most=window) for n in pair.grid.shape)
    folder.mkdir()
    planned = blocks.plan(pair, down, across, folder, weights="w", average=average, bands=bands)
    blocks.compute(pair, planned, down, across, network, blocks.Written(planned))
    return blocks.read_rows(planned, 0, pair.grid.height, pair.grid.width), len(planned)


@pytest.mark.parametrize(
    ("name", "size", "height", "width", "window"),
    [
        ("fc_siam_diff", "small", 203, 331, 96),
        ("fc_siam_diff", "small", 61, 9, 96),
        *(pytest.param(name, "small", 203, 331, 96, marks=pytest.mark.slow) for name in ("fc_ef", "fc_siam_conc")),
        pytest.param("siam_lite0", "small", 715, 41, 448, marks=pytest.mark.slow),
        *(
            pytest.param(name, *sizes, marks=pytest.mark.slow)
            for sizes in (("medium", 301, 473, 256), ("large", 517, 700, 544))
            for name in ("fc_ef", "fc_siam_conc", "fc_siam_diff")
        ),
        *(
            pytest.param(name, size, 715, 41, window, marks=pytest.mark.slow)
            for name, size, window in (
                ("siam_resnet18", "small", 304),
                ("siam_resnet34", "medium", 640),
                ("siam_resnet50", "large", 384),
            )
        ),
    ],
)
def test_pieces_equal_the_whole(tmp_path, name, size, height, width, window):
    wanted = config(name, size)
    network, params, stats = lively(wanted)
    pre, post = write_scenes(tmp_path, height, width)
    pair = scene_pair.open_pair([str(pre)], [str(post)], MapSettings())
    found, count = pieces(pair, wanted, Trained(network, params, stats, 1, None), tmp_path / "b", window=window)
    with rasterio.open(pre) as pre_scene, rasterio.open(post) as post_scene:
        images = [source.read().transpose(1, 2, 0) for source in (pre_scene, post_scene)]
    expected = whole(network, params, stats, *images, models.describe(wanted.model))
    assert count > 1 or width < 10
    assert np.ptp(expected) > 0.2  # else anything would be equal
    assert np.abs(found / STEPS - expected).max() <= 1e-4


@pytest.mark.slow
def test_pieces_of_levels_equal_the_whole_in_every_band(tmp_path):
    """As a mean over views, which holds what is true of one."""
    wanted = config("fc_siam_diff", "small", scale="xbd")
    network, params, stats = lively(wanted)
    pre, post = write_scenes(tmp_path, 136, 208)
    pair = scene_pair.open_pair([str(pre)], [str(post)], MapSettings())
    trained = Trained(network, params, stats, 1, None)
    found, count = pieces(pair, wanted, trained, tmp_path / "b", window=96, average=True, bands=4)
    with rasterio.open(pre) as pre_scene, rasterio.open(post) as post_scene:
        images = [source.read().transpose(1, 2, 0) for source in (pre_scene, post_scene)]
    views = []
    for turns, flip in itertools.product(range(4), (False, True)):
        seen = [np.rot90(image[::-1] if flip else image, turns) for image in images]
        back = whole(network, params, stats, *seen, models.describe(wanted.model), ordinal.exceedance)
        back = np.rot90(back, -turns)
        views.append(back[::-1] if flip else back)
    expected = np.mean(views, axis=0).transpose(2, 0, 1)
    assert count > 1 and found.shape == expected.shape == (4, 136, 208)
    assert (np.ptp(expected, axis=(1, 2)) > 0.05).all()
    assert np.abs(found / STEPS - expected).max() <= 1e-4
    assert (np.diff(found.astype(int), axis=0) <= 0).all()
    # Of another number of outputs, no block may be taken for one of these.
    down, across = (tiling.cover(n, models.describe(wanted.model), most=96) for n in pair.grid.shape)
    names = [
        {block.file for block in blocks.plan(pair, down, across, tmp_path, weights="w", average=True, bands=bands)}
        for bands in (1, 2, 4)
    ]
    assert len(set.union(*names)) == 3 * count


def test_two_devices_give_what_one_gives(tmp_path):
    pre, post = write_scenes(tmp_path, 150, 150)
    pair = scene_pair.open_pair([str(pre)], [str(post)], MapSettings())
    found = []
    for devices in (1, 2):
        wanted = config("fc_siam_diff", "small", devices=devices)
        trained = Trained(*lively(wanted), 1, None)
        values, count = pieces(pair, wanted, trained, tmp_path / f"b{devices}", window=96)
        found.append(values.astype(int))
    assert count % 2 == 1  # the last batch is not full
    assert np.abs(found[0] - found[1]).max() <= 2


@pytest.mark.slow
def test_average_over_views_equals_that_of_the_whole(tmp_path):
    wanted = config("fc_siam_diff", "small")
    network, params, stats = lively(wanted)
    pre, post = write_scenes(tmp_path, 200, 304)
    pair = scene_pair.open_pair([str(pre)], [str(post)], MapSettings())
    found, _ = pieces(pair, wanted, Trained(network, params, stats, 1, None), tmp_path / "b", window=96, average=True)
    with rasterio.open(pre) as pre_scene, rasterio.open(post) as post_scene:
        images = [source.read().transpose(1, 2, 0) for source in (pre_scene, post_scene)]
    views = []
    for turns in range(4):
        for flip in (False, True):
            seen = [np.rot90(image[::-1] if flip else image, turns) for image in images]
            back = np.rot90(whole(network, params, stats, *seen, models.describe(wanted.model)), -turns)
            views.append(back[::-1] if flip else back)
    expected = np.mean(views, axis=0)
    assert np.abs(found / STEPS - expected).max() <= 1e-4
    assert np.abs(views[0] - expected).max() > 0.01
