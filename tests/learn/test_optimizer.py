import jax.numpy as jnp
import numpy as np
import pytest
import torch

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


def torch_rates(highest: float, steps: int, share: float) -> list[float]:
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, highest, total_steps=steps, pct_start=share)
    rates = []
    for _ in range(steps):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        if len(rates) < steps:
            schedule.step()
    return rates


@pytest.mark.parametrize(("steps", "warmup"), [(40, 0), (37, 0), (3, 0), (40, 8), (40, 1), (40, 99)])
def test_one_cycle_has_the_rates_of_pytorch(steps, warmup):
    """Rates of every step; a warm-up of given steps is a share of them. PyTorch divides by zero at the ends."""
    config = OptimConfig(learning_rate=2e-3, schedule="onecycle", warmup_steps=warmup)
    rate = optimizer._rate(config, steps)
    assert callable(rate)
    ours = [float(rate(count)) for count in range(steps)]
    if warmup in (0, 8):
        expected = torch_rates(2e-3, steps, warmup / steps or 0.3)
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-10)
    assert max(ours) <= 2e-3 * (1 + 1e-6)
    if warmup == 1:
        assert (
            ours[0] == pytest.approx(2e-3) and ours[-1] == pytest.approx(8e-9, rel=1e-5) and ours == sorted(ours)[::-1]
        )
    if warmup == 99:
        assert ours[0] == pytest.approx(8e-5, rel=1e-5) and ours[-1] == pytest.approx(2e-3) and ours == sorted(ours)


def test_one_cycle_is_what_adam_steps_by_and_the_encoder_in_its_share():
    config = OptimConfig(learning_rate=0.1, weight_decay=0.0, schedule="onecycle", encoder_lr_scale=0.3)
    tx = optimizer.create(config, steps=10)
    params = {name: {"w": jnp.zeros(1)} for name in ("encoder", "decoder")}
    gradient = {name: {"w": jnp.ones(1)} for name in params}
    state, seen = tx.init(params), []
    for _ in range(10):
        update, state = tx.update(gradient, state, params)  # Adam's step under a constant gradient is the rate
        seen.append([-float(update[name]["w"][0]) for name in ("decoder", "encoder")])
    expected = np.array(torch_rates(0.1, 10, 0.3))
    np.testing.assert_allclose(np.array(seen), np.stack([expected, 0.3 * expected], axis=1), rtol=1e-4, atol=1e-9)
