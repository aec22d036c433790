"""The optimiser: gradient clipping, then AdamW with a schedule; the encoder may have its own rate and first step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxcd.config import OptimConfig
from jaxcd.models import ENCODER

# PyTorch's defaults for a one-cycle schedule: the share of steps in which the rate rises; the highest rate divided by
# the first one; the first rate divided by the last one.
_RISING, _FIRST, _LAST = 0.3, 25.0, 1e4


def create(
    config: OptimConfig, *, steps: int, grouped: bool = False, thawed_at: int = 0
) -> optax.GradientTransformation:
    """Build the optimiser of a run.

    Args:
        config: rate, decay, schedule, clipping. Weight decay acts on all parameters, as in PyTorch's AdamW.
        steps: optimiser steps of the whole run, at the end of which cosine and one-cycle schedules end.
        grouped: whether to keep the state of the encoder apart from the rest, so that it may be missing or added later.
        thawed_at: step from which the encoder is trained; its rate in a step is still that of the whole run's schedule.
    """
    if not grouped and config.encoder_lr_scale == 1:
        tx = _adamw(config, steps)
    else:
        groups: dict[Any, optax.GradientTransformation] = {
            ENCODER: _adamw(config, steps, config.encoder_lr_scale, thawed_at),
            "rest": _adamw(config, steps),
        }
        tx = optax.partition(groups, _labels)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), tx) if config.clip_norm else tx


def thaw(tx: optax.GradientTransformation, params: Any, opt_state: Any) -> Any:
    """Extend the optimiser state of a run whose encoder was frozen: add a new state for the encoder, keep the rest.

    Args:
        tx: the grouped optimiser.
        params: all parameters.
        opt_state: state of the optimiser for all parameters but the encoder's.
    """
    before = dict(jax.tree_util.tree_flatten_with_path(opt_state)[0])

    def carried(path: tuple, new: Any) -> Any:
        # The encoder's group starts anew: its old state only counts steps in which the encoder was frozen.
        own = jax.tree_util.DictKey(ENCODER) in path
        return new if own else before[path]

    return jax.tree_util.tree_map_with_path(carried, tx.init(params))


def _labels(params: dict) -> dict:
    return {name: ENCODER if name == ENCODER else "rest" for name in params}  # a label holds for the whole subtree


def _adamw(config: OptimConfig, steps: int, scale: float = 1.0, start: int = 0) -> optax.GradientTransformation:
    rate = _rate(config, steps)
    if scale != 1 or start:
        whole = rate if callable(rate) else optax.constant_schedule(rate)
        return optax.adamw(lambda count: scale * whole(count + start), weight_decay=config.weight_decay)
    return optax.adamw(rate, weight_decay=config.weight_decay)


def one_cycle(highest: float, *, steps: int, rising: float) -> optax.Schedule:
    """Return the schedule of PyTorch's OneCycleLR: one rise and one fall, both half a cosine.

    optax.cosine_onecycle_schedule differs: it reaches its highest rate and its end one step later, and truncates
    `rising` to whole steps. OneCycleLR also lowers Adam's momentum while the rate rises; here momentum stays constant.

    Source: L. N. Smith and N. Topin, Super-Convergence, 2018, in the form of torch.optim.lr_scheduler.OneCycleLR.

    Args:
        highest: rate in step `rising`, counted from 1.
        steps: optimiser steps of the whole run; the last one has the lowest rate.
        rising: number of steps of the rise; need not be an integer.
    """
    first = highest / _FIRST
    top, end = rising - 1, steps - 1  # counted from 0

    def between(start: float, stop: float, share: Float[Array, ""]) -> Float[Array, ""]:
        return stop + (start - stop) / 2 * (1 + jnp.cos(jnp.pi * share))

    def rate(count: ArrayLike) -> Float[Array, ""]:
        count = jnp.asarray(count)
        # A part of length 0 would divide by 0; only its first rate is used, so length 1 gives the same.
        up = between(first, highest, count / (top or 1))
        down = between(highest, first / _LAST, jnp.minimum(count - top, end - top) / ((end - top) or 1))
        return jnp.where(count < top, up, down)

    return rate


def _rate(config: OptimConfig, steps: int) -> optax.ScalarOrSchedule:
    if config.schedule == "onecycle":
        rising = float(min(config.warmup_steps, steps) or _RISING * steps)
        return one_cycle(config.learning_rate, steps=steps, rising=rising)
    if config.schedule == "cosine":
        warmup = min(config.warmup_steps, steps - 1)
        return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
    if config.warmup_steps:
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return config.learning_rate
