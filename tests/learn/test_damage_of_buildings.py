"""Where a scale knows buildings, damage is P(building) P(damaged | building), in evaluation and in maps alike."""

import jax.numpy as jnp
import numpy as np

from jaxcd import models
from jaxcd.learn import steps
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.mapping.predict.network import STEPS, WindowNetwork
from jaxcd.runs.inference import Trained
from tests.learn.batches import random_batch, small_config


def test_damage_is_the_product_of_building_and_damage_given_a_building():
    config = small_config()
    config.data.scale = "buildings"
    network, state, _ = steps.initial_state(config, steps=1)
    batch = random_batch(2)
    wanted = models.describe(config.model).normalisation
    images = (normalise(jnp.asarray(images), wanted) for images in (batch.pre, batch.post))
    logits, _ = models.apply(network.eval, state.params, state.stats, *images)
    building, damaged = np.moveaxis(1 / (1 + np.exp(-np.asarray(logits, np.float64))), -1, 0)
    assert np.ptp(building) > 0.01
    evaluated = steps.evaluation_step(network, config)(state.params, state.stats, batch)
    np.testing.assert_allclose(evaluated.probability, building * damaged, atol=1e-5)
    trained = Trained(network=network, params=state.params, stats=state.stats, step=0, threshold=None)
    mapper = WindowNetwork(config, trained, average=False)
    mapped = mapper.fetch(mapper(batch.pre, batch.post)) / STEPS
    np.testing.assert_allclose(mapped[..., 0], building, atol=1e-4)
    np.testing.assert_allclose(mapped[..., 1], building * damaged, atol=1e-4)
