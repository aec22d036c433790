"""Training step and inference as they would run, with shapes in place of arrays."""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarking.case import Case
from benchmarking.jax_side import configuration, inference
from jaxcd.base.types import Batch
from jaxcd.config import TrainConfig
from jaxcd.learn import objectives, optimizer, steps


def program(case: Case, *, accumulation: int = 1, remat: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """Return a jitted function and the shapes that it takes.

    Args:
        case: of suite step (variant plain or augment) or infer.
        accumulation: micro-batches of a step.
        remat: let the step keep only what convolutions and products give, and compute the rest again for its
            gradients (`jax.checkpoint`). jaxcd has no such setting: it is tried here only.
    """
    train = TrainConfig(batch=case.batch, steps=1000, devices=1, accumulation=accumulation)
    config = configuration(case, train=train)
    config.model.onednn = "off"  # as on a machine with the card; this one may have no accelerator
    network, params, stats = steps.build_network(config, weights=False)
    batch = _batch(case)
    if case.suite == "infer":
        return inference(network, config), ((params, stats), batch)
    tx = optimizer.create(config.optim, steps=config.train.steps)
    begun: Any = jax.ShapeDtypeStruct((), np.int32)
    state = steps.TrainState(begun, params, stats, jax.eval_shape(tx.init, params))
    key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    given = objectives.OBJECTIVES[config.task]

    def recomputed(*of: Any) -> Any:
        return jax.checkpoint(given.loss(*of), policy=jax.checkpoint_policies.dots_saveable)

    if remat:
        objectives.OBJECTIVES[config.task] = dataclasses.replace(given, loss=recomputed)
    try:
        return steps.train_step(network, tx, config), (state, batch, key)
    finally:
        objectives.OBJECTIVES[config.task] = given


def _batch(case: Case) -> Batch:
    shape = (case.batch, case.tile, case.tile)
    image, mask = jax.ShapeDtypeStruct((*shape, 3), np.uint8), jax.ShapeDtypeStruct(shape, np.uint8)
    return Batch(image, image, mask, mask, ids=jax.ShapeDtypeStruct((case.batch,), np.int32))  # type: ignore[arg-type]
