"""The optimiser: AdamW under a schedule, after clipping; the encoder may have its own rate and first step."""

from typing import Any

import jax
import optax

from jaxcd.config import OptimConfig
from jaxcd.models import ENCODER


def create(
    config: OptimConfig, *, steps: int, grouped: bool = False, thawed_at: int = 0
) -> optax.GradientTransformation:
    """Build the optimiser of a run.

    Args:
        config: rate, decay, schedule, clipping. Decay acts on all parameters, as torch's AdamW does.
        steps: optimiser steps of the whole run; the cosine schedule ends there at zero.
        grouped: keep the state of the encoder apart from the rest, so that it may be missing or added later.
        thawed_at: step from which the encoder learns; its schedule is that of the whole run.
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
    """Extend the state of a run whose encoder was frozen: new for the encoder, as it was for the rest.

    Args:
        tx: the grouped optimiser.
        params: all parameters.
        opt_state: state over the parameters without the encoder.
    """
    before = dict(jax.tree_util.tree_flatten_with_path(opt_state)[0])

    def carried(path: tuple, new: Any) -> Any:
        # The encoder's own group has counted steps in which it had nothing to learn.
        own = jax.tree_util.DictKey(ENCODER) in path
        return new if own else before[path]

    return jax.tree_util.tree_map_with_path(carried, tx.init(params))


def _labels(params: dict) -> dict:
    return {name: ENCODER if name == ENCODER else "rest" for name in params}  # a label stands for its whole subtree


def _adamw(config: OptimConfig, steps: int, scale: float = 1.0, start: int = 0) -> optax.GradientTransformation:
    rate = _rate(config, steps)
    if scale != 1 or start:
        whole = rate if callable(rate) else optax.constant_schedule(rate)
        return optax.adamw(lambda count: scale * whole(count + start), weight_decay=config.weight_decay)
    return optax.adamw(rate, weight_decay=config.weight_decay)


def _rate(config: OptimConfig, steps: int) -> optax.ScalarOrSchedule:
    if config.schedule == "cosine":
        warmup = min(config.warmup_steps, steps - 1)
        return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
    if config.warmup_steps:
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return config.learning_rate
