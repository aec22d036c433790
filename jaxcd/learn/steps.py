"""The jitted steps: one training step and one evaluation step, each compiled once per batch shape."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32, Key, UInt8

from jaxcd import models
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES, Scale
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.learn import losses, metrics, optimizer, ordinal, sharding
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.learn.averaging import averaged
from jaxcd.learn.objectives import objective_of, pairs_an_element

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check_network(config: Config) -> None:
    """Check that the network exists, and that it can take the training crops and batches.

    Raises:
        ConfigError: the network, its size or the task is unknown, the crop is no multiple of the network's stride, or
            the task refuses the configuration.
    """
    crop, multiple = config.data.crop, models.describe(config.model).stride
    if crop % multiple:
        below, above = crop // multiple * multiple, -(-crop // multiple) * multiple
        raise ConfigError(
            f"config.data.crop: the {config.model.size} network takes multiples of {multiple} pixels, got {crop}; "
            f"set {f'{below} or ' if below >= 32 else ''}{above}, or 0 for whole tiles"
        )
    objective_of(config).check(config)


class TrainState(NamedTuple):
    """What a training step replaces; the step reuses its memory (donation).

    Attributes:
        step: optimiser steps done.
        params: parameters.
        stats: BatchNorm statistics.
        opt_state: the optimiser's.
        averaged: moving averages of `params` and `stats`, under these names; None without `config.optim.ema`.
    """

    step: Int32[Array, ""]
    params: Any
    stats: Any
    opt_state: Any
    averaged: Any = None

    def begun_with(self, params: Any, stats: Any) -> "TrainState":
        """Return the state before the first step with other weights; their averages begin there, too."""
        return self._replace(params=params, stats=stats, averaged=self.averaged and _averages(params, stats))

    def weights_in_use(self) -> tuple[Any, Any]:
        """Return the parameters and statistics that are validated: the averages, where there are any."""
        return (self.averaged["params"], self.averaged["stats"]) if self.averaged else (self.params, self.stats)


class Evaluated(NamedTuple):
    """What the evaluation step gives for a batch.

    Attributes:
        bins: pixel counts by class and probability bin, see `metrics.histogram`.
        sums: of each pair, what the training loss is made of.
        probability: probability of damage; on a scale with several levels, of one that counts as damage.
        grades: counts by true and predicted code (`ordinal.confusion`); None with the scale `binary`.
        levels: code of the predicted level; None with the scale `binary`.
        difference: counts of |pre - post| (mean over the bands, 0..255 mapped to 0..1), the baseline without
            learning.
        patches: counts of patches, by the probability and by |pre - post|; None where they are not asked for.
    """

    bins: Int32[Array, "b 2 1024"]
    sums: losses.Sums
    probability: Float[Array, "b h w"]
    difference: Int32[Array, "b 2 1024"]
    grades: Int32[Array, "b t p"] | None = None
    levels: UInt8[Array, "b h w"] | None = None
    patches: Int32[Array, "b 2 2 1024"] | None = None


class Progress(NamedTuple):
    """What a training step reports.

    Attributes:
        loss: before the update.
        gradient_norm: of the gradient before clipping.
        state_norm: of parameters and statistics after the update; where it is not finite, they must not be saved.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    state_norm: Float[Array, ""]


TrainStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Progress]]
EvaluationStep = Callable[[Any, Any, Batch], Evaluated]


def build_network(config: Config, *, weights: bool = True) -> tuple[models.Network, Any, Any]:
    """Create the network of the configured task and split it: static graphs, parameters, statistics.

    With `weights` False these two hold shapes and types only, for weights that come from a checkpoint.
    """
    m = config.model
    make, onednn = objective_of(config).network, choose_convolutions(config).onednn
    dtype = DTYPES[m.dtype]
    outputs = {"outputs": len(SCALES[config.data.scale].levels)} if objective_of(config).maps else {}

    def made(rngs: nnx.Rngs) -> nnx.Module:
        how = {"size": m.size, "fusion": m.fusion, "dropout": m.dropout, "dtype": dtype, "onednn": onednn}
        return make(m.name, **how, **outputs, rngs=rngs)

    return models.build(made, seed=config.seed, weights=weights)


def choose_convolutions(config: Config) -> models.Convolutions:
    """Say what computes the convolutions of a run here, and why."""
    return models.choose_convolutions(config.model.onednn, dtype=config.model.dtype, devices=config.train.devices)


def initial_state(config: Config, *, steps: int, at: int = 0) -> tuple[models.Network, TrainState, TrainStep]:
    """Build the network, the state before the first step, and the compiled-on-first-use training step.

    Args:
        config: the run's configuration.
        steps: optimiser steps of the whole run, for the schedule.
        at: step of the checkpoint that will be read into the state; it decides the form of the optimiser's state.
    """
    network, params, stats = build_network(config)
    held = frozen(config, at)
    tx = _optimizer(config, steps)
    state = TrainState(jnp.zeros((), jnp.int32), params, stats, tx.init(_learning(params, held)[0]))
    if config.optim.ema:
        state = state._replace(averaged=_averages(params, stats))
    return network, state, train_step(network, tx, config, held=held)


def frozen(config: Config, step: int) -> bool:
    """Say whether the encoder was frozen in the steps that led to the checkpoint of this step."""
    return config.freeze.encoder and (config.freeze.until == 0 or step <= config.freeze.until)


def thawed(network: models.Network, state: TrainState, config: Config, *, steps: int) -> tuple[TrainState, TrainStep]:
    """Let a frozen encoder learn: its optimiser state starts anew, the decoder's is kept."""
    tx = _optimizer(config, steps)
    state = state._replace(opt_state=optimizer.thaw(tx, state.params, state.opt_state))
    return state, train_step(network, tx, config)


def _optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    freeze = config.freeze
    return optimizer.create(config.optim, steps=steps, grouped=freeze.encoder, thawed_at=freeze.until)


def _learning(params: dict, held: bool) -> tuple[dict, dict]:
    """Split the parameters into those that learn and those that are held."""
    names = {models.ENCODER} if held else set()
    learning = {name: tree for name, tree in params.items() if name not in names}
    return learning, {name: params[name] for name in names}


def _averages(params: Any, stats: Any) -> dict[str, Any]:
    """Begin the averages. They are copies: a step is given the memory of its state, and no array of it twice."""
    return jax.tree.map(jnp.copy, {"params": params, "stats": stats})


def moving_average(averaged: Any, new: Any, *, decay: float, step: Int32[Array, ""]) -> Any:
    """Take a step's parameters and statistics into their exponential moving averages.

    a <- a + (1 - d) (x - a),  d = min(decay, (1 + t) / (10 + t)),  with t steps done before this one.

    With the decay alone, random initial weights would be in the average for some 1 / (1 - decay) steps. With this
    warm-up (that of TensorFlow's ExponentialMovingAverage, after which timm's is made) the first step counts for 0.9,
    and after ten steps the initial weights for 1e-5, so that nothing has to be divided by the sum of weights before
    the averages are used. What does not change (a frozen encoder) stays bit for bit in this form.

    BatchNorm's running statistics are averaged as the parameters are. The raw ones follow the activations of the last
    steps' weights, which are not those of the averaged weights; to first order, the mean of the statistics is the
    statistics of the mean.

    Args:
        averaged: the averages so far.
        new: parameters and statistics after the step, in the same form.
        decay: the largest share of the averages so far, `config.optim.ema`.
        step: optimiser steps done before this one.
    """
    d = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, x: a + (1 - d) * (x - a), averaged, new)


def train_step(
    network: models.Network, tx: optax.GradientTransformation, config: Config, *, held: bool = False
) -> TrainStep:
    """Make the training step of the configured task: augmentation, forward, loss, AdamW in one donated jit.

    With `held` the encoder has no gradient and no optimiser state, and its BatchNorm uses the statistics that it has
    and leaves them as they are (docs/method.md, Supervised training: frozen means parameters and statistics).

    The batch is computed in `config.train.accumulation` micro-batches; its loss is the mean of theirs, and
    BatchNorm sees one of them at a time (docs/method.md, Supervised training). With a batch that is sharded over a
    mesh, all means are over the whole batch.
    """
    parts, together = config.train.accumulation, pairs_an_element(config)
    objective = objective_of(config).loss(network.frozen if held else network.train, config)

    def micro(learning: Any, rest: Any, stats: Any, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Any]:
        return objective({**learning, **rest}, stats, batch, key)

    def in_parts(x: Array) -> Array:
        # Micro-batch j takes every parts-th element: the axis that is sharded stays the inner one.
        split = jnp.moveaxis(x.reshape(-1, parts, together, *x.shape[1:]), 1, 0)
        return split.reshape(parts, -1, *x.shape[1:])

    differentiate = jax.value_and_grad(micro, has_aux=True)

    def step(state: TrainState, batch: Batch, key: Key[Array, ""]) -> tuple[TrainState, Progress]:
        key = jax.random.fold_in(key, state.step)
        learning, rest = _learning(state.params, held)
        if parts == 1:
            (loss, stats), grads = differentiate(learning, rest, state.stats, batch, key)
        else:
            batches = jax.tree.map(in_parts, batch)

            def accumulate(carry: Any, item: Any) -> tuple[Any, Array]:
                stats, total = carry
                (loss, stats), grads = differentiate(learning, rest, stats, *item)
                return (stats, jax.tree.map(jnp.add, total, grads)), loss

            start = (state.stats, jax.tree.map(jnp.zeros_like, learning))
            (stats, total), per_part = jax.lax.scan(accumulate, start, (batches, jax.random.split(key, parts)))
            loss, grads = jnp.mean(per_part), jax.tree.map(lambda g: g / parts, total)
        updates, opt_state = tx.update(grads, state.opt_state, learning)
        learnt: Any = optax.apply_updates(learning, updates)
        params = {**learnt, **rest}
        progress = Progress(loss, optax.tree.norm(grads), optax.tree.norm((params, stats)))
        averaged = state.averaged
        if config.optim.ema:
            new = {"params": params, "stats": stats}
            averaged = moving_average(averaged, new, decay=config.optim.ema, step=state.step)
        return TrainState(state.step + 1, params, stats, opt_state, averaged), progress

    if jax.process_count() == 1:
        return jax.jit(step, donate_argnums=0)
    # Each process reads state and progress where it is, so they lie whole on every device.
    return jax.jit(step, donate_argnums=0, out_shardings=NamedSharding(sharding.training_mesh(config), PartitionSpec()))


def evaluation_step(
    network: models.Network,
    config: Config,
    labels_in: Scale | None = None,
    *,
    average: bool = False,
    patch: int = 0,
) -> EvaluationStep:
    """Make the evaluation step, `(params, stats, batch) -> Evaluated`.

    Args:
        network: static graphs.
        config: of the run.
        labels_in: scale of the labels, in which the run's scale can be read; by default the run's own. With a coarser
            one the loss is that of "damaged or not".
        average: take the mean probability over flips and quarter turns, at eight times the work.
        patch: side in pixels of the patches to count as well; 0: none.
    """
    wanted, scale = models.describe(config.model).normalisation, SCALES[config.data.scale]
    given = labels_in or scale
    reading = scale.read_as(given)

    def seen_once(params: Any, stats: Any, pre: Array, post: Array) -> Array:
        logits, _ = models.apply(network.eval, params, stats, normalise(pre, wanted), normalise(post, wanted))
        return logits

    def seen_from_all_sides(params: Any, stats: Any, pre: Array, post: Array) -> Array:
        probabilities = averaged(lambda *given: answer(seen_once(*given)))
        return as_logits(probabilities(params, stats, pre, post))

    answer = ordinal.exceedance if scale.buildings else jax.nn.sigmoid
    as_logits = ordinal.as_logits if scale.buildings else ordinal.log_odds
    forward = seen_from_all_sides if average else seen_once

    def patches(scores: tuple[Array, ...], labels: Array, valid: Array) -> Array | None:
        counted = [metrics.patch_histogram(score, labels, valid=valid, side=patch) for score in scores if patch]
        return jnp.stack(counted, axis=1) if patch else None

    def step(params: Any, stats: Any, batch: Batch) -> Evaluated:
        logits = forward(params, stats, batch.pre, batch.post)
        weight, per_pair = config.loss.positive_weight, (1, 2)
        distance = jnp.mean(jnp.abs(batch.pre.astype(jnp.float32) - batch.post.astype(jnp.float32)), axis=-1) / 255
        if not scale.buildings:
            return Evaluated(
                bins=metrics.histogram(logits, batch.labels, valid=batch.valid),
                sums=losses.sums(logits, batch.labels, valid=batch.valid, positive_weight=weight, axis=per_pair),
                probability=jax.nn.sigmoid(logits),
                difference=metrics.score_histogram(distance, batch.labels, valid=batch.valid),
                patches=patches((jax.nn.sigmoid(logits), distance), batch.labels, batch.valid),
            )
        probability = ordinal.exceedance(logits)
        damaged, levels = probability[..., scale.damaged - 1], ordinal.predicted_level(probability)
        levels = jnp.asarray(reading)[levels]
        labels, valid = ordinal.damage_alone(batch.labels, batch.valid, given)
        if given == scale:
            sums = ordinal.sums(logits, batch.labels, valid=batch.valid, weights=config.loss, axis=per_pair)
        else:
            sums = losses.sums(ordinal.log_odds(damaged), labels, valid=valid, positive_weight=weight, axis=per_pair)
        graded = given.buildings
        return Evaluated(
            bins=metrics.score_histogram(damaged, labels, valid=valid),
            sums=sums,
            probability=damaged,
            difference=metrics.score_histogram(distance, labels, valid=valid),
            grades=ordinal.confusion(levels, batch.labels, valid=batch.valid, scale=given) if graded else None,
            levels=levels if graded else None,
            patches=patches((damaged, distance), labels, valid),
        )

    return jax.jit(step)
