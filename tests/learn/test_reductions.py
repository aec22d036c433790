"""No program of ours has what crashes jaxlib 0.10.2 and 0.11.0 on a CPU (jax-ml/jax issues 39257 and 40412).

Their YNNPACK fusions of a product and a sum over arrays of seven or more axes end the process. The networks run two
streams under vmap over batches of images, and the augmentation pairs of images under vmap: six axes are not far.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxcd.config import AugmentConfig
from jaxcd.learn import steps
from jaxcd.learn.objectives import OBJECTIVES
from jaxcd.mapping.predict.network import WindowNetwork
from jaxcd.runs.inference import Trained
from tests.learn.batches import random_batch, small_config

MOST_AXES = 6


def axes_reduced(lowered: jax.stages.Lowered) -> int:
    """Return the most axes of an array that a reduction or a contraction of a program takes."""
    reduced = re.findall(r"stablehlo\.(?:reduce|dot_general)\b.*?: \((.*?)\) ->", lowered.as_text())
    return max(shape.count("x") for operands in reduced for shape in re.findall(r"tensor<([^>]*)>", operands))


def test_a_reduction_over_seven_axes_is_seen():
    lowered = jax.jit(lambda a, b: jnp.sum(a * b, axis=3)).lower(*[jnp.ones((3, 1, 2, 2, 8, 8, 8))] * 2)
    assert axes_reduced(lowered) == 7


@pytest.mark.parametrize("task", ["segmentation", "contrastive"])
@pytest.mark.parametrize(
    "name",
    ["fc_siam_diff", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fc_ef", "fc_siam_conc", "siam_lite0"))],
)
def test_training_and_evaluation_reduce_few_axes(name, task):
    config = small_config(batch=8, accumulation=2, dropout=0.1)
    config.task, config.model.name, config.augment, config.loss.iou = task, name, AugmentConfig(), 1.0
    network, params, stats = steps.build_network(config, weights=False)
    tx = steps.optimizer.create(config.optim, steps=10)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    state = steps.TrainState(count, params, stats, jax.eval_shape(tx.init, params))
    key = jax.random.key(0, impl="rbg")
    batch = random_batch(16)
    assert axes_reduced(steps.train_step(network, tx, config).lower(state, batch, key)) <= MOST_AXES
    if OBJECTIVES[task].maps:
        evaluation = steps.evaluation_step(network, config)
        assert axes_reduced(evaluation.lower(params, stats, batch)) <= MOST_AXES


@pytest.mark.parametrize("average", [False, True])
def test_maps_reduce_few_axes(average):
    config = small_config()
    network, params, stats = steps.build_network(config)
    windows = WindowNetwork(config, Trained(network, params, stats, 1, None), average=average)
    images = jnp.zeros((windows.batch, 32, 32, 3), jnp.uint8)
    assert axes_reduced(windows._predict.lower(params, stats, images, images)) <= MOST_AXES
