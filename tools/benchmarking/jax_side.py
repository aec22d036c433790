"""jaxcd's side: training step, inference, augmentation; and what the hardware can do at best."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarking.case import Case
from benchmarking.images import SETS, images
from jaxcd import models
from jaxcd.base.types import Batch
from jaxcd.config import AugmentConfig, Config, DataConfig, FreezeConfig, LossConfig, ModelConfig, TrainConfig
from jaxcd.learn import ordinal, steps
from jaxcd.learn.augmentation.augment import augment, normalise

_CEILINGS = ("matmul", "copy", "nothing")
_COPIED = 256 * 2**20  # bytes
_MATMUL = {"cpu": 2048}
_LARGE_MATMUL = 8192


def configuration(case: Case, **more: Any) -> Config:
    """Return the configuration that a case stands for."""
    augmented = case.variant == "augment" or case.suite in ("train", "array")
    config = Config(
        data=dataclasses.replace(more.pop("data", DataConfig(root="none")), scale=case.scale),
        model=ModelConfig(name=case.model or "fc_ef", size=case.size or "small", dtype=case.dtype),
        loss=LossConfig(dice=1.0),
        augment=AugmentConfig() if augmented else AugmentConfig.off(),
        freeze=FreezeConfig(encoder=case.variant == "frozen"),
        train=more.pop("train", TrainConfig(batch=case.batch, steps=1000, devices=1)),
        **more,
    )
    config.validate()
    return config


def prepare(case: Case) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Compile; return how to run steps, and device, versions, compile time and XLA's counts of work."""
    about: dict[str, Any] = {
        "backend": jax.default_backend(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
    }
    if case.suite in _CEILINGS:
        ceiling, more = _ceiling(case)
        return ceiling, about | more
    function, first, inputs = _function(case)
    start = time.perf_counter()
    compiled = function.lower(first, *inputs[0]).compile()
    about["compile_seconds"] = time.perf_counter() - start
    convolutions = steps.choose_convolutions(configuration(case))
    if case.suite != "augment":
        about["convolutions"] = convolutions.why
    if case.suite == "augment" or not convolutions.onednn:  # XLA does not count the work of oneDNN's calls
        costs = compiled.cost_analysis() or {}
        about["flops"], about["bytes"] = (float(costs.get(name, 0)) for name in ("flops", "bytes accessed"))
    carried = first

    def run(count: int) -> float:
        nonlocal carried
        result = None
        start = time.perf_counter()
        for k in range(count):
            result = compiled(carried, *inputs[k % SETS])
            if case.suite == "step":
                carried = result[0]
        jax.block_until_ready(result)
        return time.perf_counter() - start

    return run, about


def _function(case: Case) -> tuple[Any, Any, list[tuple]]:
    """Return a jitted function, its first argument, and the others for each set of images."""
    config = configuration(case)
    ids = np.arange(case.batch, dtype=np.int32)
    batches: list[Any] = [jax.device_put(Batch(**arrays._asdict(), ids=ids)) for arrays in images(case)]
    key = jax.random.key(0, impl="rbg")
    if case.suite == "step":
        _, state, step = steps.initial_state(config, steps=config.train.steps)
        return step, state, [(batch, key) for batch in batches]
    if case.suite == "augment":
        full = AugmentConfig()
        return jax.jit(lambda key, batch: augment(key, batch, full)), key, [(batch,) for batch in batches]
    network, params, stats = steps.build_network(config)
    return inference(network, config), (params, stats), [(batch,) for batch in batches]


def inference(network: models.Network, config: Config) -> Any:
    """Make the jitted function `((params, stats), batch) -> probability of damage`."""
    wanted = models.describe(config.model).normalisation

    def infer(weights: tuple[Any, Any], batch: Batch) -> Any:
        params, stats = weights
        pre, post = (normalise(images, wanted) for images in (batch.pre, batch.post))
        logits, _ = models.apply(network.eval, params, stats, pre, post)
        return ordinal.exceedance(logits) if logits.ndim == 4 else jax.nn.sigmoid(logits)

    return jax.jit(infer)


def _ceiling(case: Case) -> tuple[Callable[[int], float], dict[str, Any]]:
    """A large matrix product, a large copy, or nothing."""
    if case.suite == "nothing":
        return float, {}
    dtype = jnp.dtype(case.dtype)
    if case.suite == "matmul":
        n = _MATMUL.get(jax.default_backend(), _LARGE_MATMUL)
        shape, work = (n, n), {"flops": 2.0 * n**3}
        function = jax.jit(lambda a: a @ a)
    else:
        shape, work = (_COPIED // dtype.itemsize,), {"bytes": 2.0 * _COPIED}
        function = jax.jit(lambda a: a + 1)
    inputs = [jax.random.normal(jax.random.key(k), shape, dtype) for k in range(SETS)]

    def run(count: int) -> float:
        result = None
        start = time.perf_counter()
        for k in range(count):
            result = function(inputs[k % SETS])
        jax.block_until_ready(result)
        return time.perf_counter() - start

    return run, work
