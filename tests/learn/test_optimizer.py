import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.config import OptimConfig
from jaxcd.learn import optimizer


@pytest.mark.parametrize(("scale", "encoder"), [(1.0, 1 - 0.1 * 0.5), (0.1, 1 - 0.01 * 0.5)])
def test_where_no_gradient_pulls_weights_decay_by_rate_times_decay(scale, encoder):
    """AdamW: w <- w - rate * decay * w, of an encoder with a rate of its own by that rate."""
    config = OptimConfig(learning_rate=0.1, weight_decay=0.5, encoder_lr_scale=scale)
    tx = optimizer.create(config, steps=10)
    params = {"encoder": {"w": jnp.array([2.0, -4.0])}, "decoder": {"w": jnp.array([3.0])}}
    nothing = {name: {"w": jnp.zeros_like(tree["w"])} for name, tree in params.items()}
    updates, _ = tx.update(nothing, tx.init(params), params)
    for name, left in (("encoder", encoder), ("decoder", 0.95)):
        weights = params[name]["w"]
        np.testing.assert_allclose(weights + updates[name]["w"], left * weights, rtol=1e-6)
