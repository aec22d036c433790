"""The optimiser: AdamW under a schedule, after clipping."""

import optax

from jaxcd.config import OptimConfig


def create(config: OptimConfig, *, steps: int) -> optax.GradientTransformation:
    """Build the optimiser of a run.

    Args:
        config: rate, decay, schedule, clipping. Decay acts on all parameters, as torch's AdamW does.
        steps: optimiser steps of the whole run; the cosine schedule ends there at zero.
    """
    rate: optax.ScalarOrSchedule = config.learning_rate
    if config.schedule == "cosine":
        warmup = min(config.warmup_steps, steps - 1)
        rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, steps)
    elif config.warmup_steps:
        rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    adamw = optax.adamw(rate, weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw) if config.clip_norm else adamw
