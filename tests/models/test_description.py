"""What networks say of themselves holds; a network that lies outside of jaxcd does all that jaxcd's own do."""

import math

import jax
import numpy as np
import pytest

from jaxcd import models
from jaxcd.base.errors import ConfigError
from jaxcd.config import ModelConfig


def test_radius_of_the_large_network():
    large = models.describe(ModelConfig(size="large"))
    assert (large.receptive_radius, large.stride) == (211, 32)  # paper's network, counted by hand


@pytest.mark.parametrize("size", ("small", pytest.param("medium", marks=pytest.mark.slow)))
def test_radius_is_that_of_gradients(size):
    """The radius is reached by the gradient of some output pixel, and passed by none."""
    network, params, stats = models.build(lambda rngs: models.create("fc_siam_conc", size=size, rngs=rngs), seed=0)
    described = models.describe(ModelConfig(name="fc_siam_conc", size=size))
    radius, stride = described.receptive_radius, described.stride
    side = (2 * radius // stride + 3) * stride
    # Without ReLU's zeros and the maximum's choice every path would count: positive weights keep all of them open.
    params = jax.tree.map(lambda x: abs(x) + 0.01, params)
    images = np.random.default_rng(0).random((1, side, side, 3)).astype(np.float32)

    @jax.jit
    def reach(row):
        return jax.grad(lambda x: models.apply(network.eval, params, stats, x, x)[0][0, row, side // 2])(images)

    found = []
    for row in range(side // 2, side // 2 + stride):
        touched = np.flatnonzero(np.abs(np.asarray(reach(row))[0]).sum(axis=(1, 2)))
        found.append(max(row - touched[0], touched[-1] - row))
    # Max pooling passes the gradient to one of two pixels, so that the last one may be missing.
    assert radius - 2 * math.log2(stride) <= max(found) <= radius


def test_an_unknown_network_or_size_is_named():
    for name, size, message in (
        (
            "unet",
            "large",
            "config.model.name: expected one of fc_ef, fc_siam_conc, fc_siam_diff, siam_lite0, .*, or module:Class",
        ),
        ("fc_ef", "huge", "config.model.size: expected one of small, medium, large, got 'huge'"),
        ("no_such_module:Net", "large", "config.model.name: no_such_module:Net cannot be imported"),
        ("jaxcd.models.unet:Nothing", "large", "cannot be imported .*; put its folder on PYTHONPATH"),
        ("pathlib:Path", "large", "pathlib:Path is no subclass of jaxcd.models.DamageNetwork"),
    ):
        with pytest.raises(ConfigError, match=message):
            models.check(ModelConfig(name=name, size=size))
