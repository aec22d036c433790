"""A network fitted to the scenes of a map: one set of statistics, so that nothing shows where windows meet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rasterio
import torch

from jaxcd import models
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.mapping import scene_map
from jaxcd.mapping.predict import adaptation, adapted
from jaxcd.mapping.predict.scene_pair import open_pair
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, write_run, write_scenes

SETTINGS = MapSettings(window=120, min_area=1.0, adapt="bn")


@pytest.fixture(scope="module")
def mapper(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("map") / "run", config("fc_siam_diff", "small"))
    return scene_map.load(run, SETTINGS)


def values(out) -> np.ndarray:
    with rasterio.open(out / "damage_probability.tif") as source:
        return source.read(1)


@pytest.mark.slow
def test_no_seams_and_a_killed_map_goes_on_with_the_same_statistics(tmp_path, mapper, monkeypatch):
    pre, post = write_scenes(tmp_path, 280, 300)
    made = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", SETTINGS)
    assert any("BatchNorm statistics were computed anew" in note for note in made.notes)
    whole = values(tmp_path / "out")
    # The whole image at once, with the map's statistics.
    with np.load(tmp_path / "out" / adapted.FILE) as kept:
        leaves = [kept[f"leaf{i}"] for i in range(len(kept.files) - 1)]
    stats = jax.tree.unflatten(jax.tree.structure(mapper.trained.stats), leaves)
    images = []
    for path in (pre, post):
        with rasterio.open(path) as source:
            pixels = np.pad(source.read().transpose(1, 2, 0), ((0, 0), (0, 4), (0, 0)))[None]
        images.append(normalise(jnp.asarray(pixels), models.describe(mapper.config.model).normalisation))
    logits, _ = models.apply(mapper.trained.network.eval, mapper.trained.params, stats, *images)
    at_once = np.asarray(jax.nn.sigmoid(logits))[0, :280, :300]
    assert np.abs(whole / 254 - at_once).max() < 0.5 / 254 + 1e-3
    # Other than without.
    plain = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "plain", dataclasses.replace(SETTINGS, adapt=""))
    assert plain.network.weights_sha256 != made.network.weights_sha256
    assert np.abs(values(tmp_path / "plain").astype(int) - whole).max() > 10
    # Killed halfway: the kept statistics are read, none are computed.
    for file in sorted((tmp_path / "out" / ".blocks").iterdir())[::2]:
        file.unlink()
    monkeypatch.setattr(adapted.adaptation, "estimator", lambda _: pytest.fail("computed again"))
    again = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", SETTINGS)
    assert 0 < again.blocks_computed < again.blocks and (values(tmp_path / "out") == whole).all()
    monkeypatch.undo()
    (tmp_path / "out" / adapted.FILE).write_bytes(b"half of it")  # a broken file is no reason to stop
    third = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", SETTINGS)
    assert third.blocks_computed == 0 and (values(tmp_path / "out") == whole).all()


def test_other_scenes_give_other_statistics(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 140, 140)
    fitted = []
    for first, second in ((pre, post), (post, pre), (pre, pre)):
        pair = open_pair([str(first)], [str(second)], SETTINGS)
        how = (mapper.config, mapper.trained, mapper.weights, pair, tmp_path)
        fitted.append(jax.tree.leaves(adapted.fitted(*how)))
    assert all(any((a != b).any() for a, b in zip(fitted[0], other, strict=True)) for other in fitted[1:])


def test_the_first_layers_statistics_are_those_of_its_images():
    """By PyTorch: the first convolution's outputs on both dates, over all pixels of all pairs."""
    from jaxcd.learn import steps

    wanted = config("fc_ef", "small")
    _, params, stats = steps.build_network(wanted)
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.integers(0, 255 // k, (1, 64, 64, 3), dtype=np.uint8) for _ in range(2)) for k in (1, 2, 3)]
    found = adaptation.estimator(wanted)(params, stats, pairs)
    layer = params["encoder"]["blocks"][0][0]["conv"]
    kernel = torch.tensor(np.asarray(layer["kernel"])).permute(3, 2, 0, 1)
    outputs = []
    for pair in pairs:
        normalised = [normalise(jnp.asarray(image), models.describe(wanted.model).normalisation) for image in pair]
        images = np.concatenate([np.asarray(image) for image in normalised], axis=-1)
        given = torch.tensor(images).permute(0, 3, 1, 2)
        outputs.append(torch.nn.functional.conv2d(given, kernel, torch.tensor(np.asarray(layer["bias"])), padding=1))
    together = torch.cat(outputs).double()
    own = found["encoder"]["blocks"][0][0]["norm"]
    np.testing.assert_allclose(own["mean"], together.mean((0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(own["var"], together.var((0, 2, 3)), rtol=2e-3)
