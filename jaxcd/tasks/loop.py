"""The training loop: steps, logs, validations, checkpoints; it can be stopped at any moment and resumed."""

import collections
import contextlib
import itertools
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import jax
import numpy as np

from jaxcd.base import hosts, progress
from jaxcd.base.errors import DeviceMemoryError, NonFiniteLossError
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.learn import sharding, steps
from jaxcd.runs import run_folder, transfer
from jaxcd.runs.checkpoints import Checkpoints
from jaxcd.runs.figures import TrainingFigures
from jaxcd.runs.logs import NoLog, RunLog, plot_curves
from jaxcd.runs.memory import explained_memory
from jaxcd.tasks.task import Diverged, T, Task

_ONE_REQUEST = 0.5  # seconds in which signals count as one
_IN_FLIGHT = 2  # steps handed to the device before the loss of the first one is fetched


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call of `train` ended.

    Attributes:
        step: optimiser steps done.
        finished: all steps are done, or `config.train.patience` ended the run; else a signal ended it.
        signal: number of that signal, or 0.
        early: why the run ended before all steps were done, or empty.
    """

    step: int
    finished: bool
    signal: int
    early: str


def total_steps(config: Config, places: int) -> int:
    """Optimiser steps of the whole run; a batch may span the end of an epoch."""
    return config.train.steps or math.ceil(config.train.epochs * places / config.train.batch)


def train(config: Config, run: Path, task: Task) -> Outcome:
    """Train until all steps are done, patience or SIGTERM or Ctrl-C ends it; continues where an earlier call ended.

    Args:
        config: validated configuration; the same one each time.
        run: the run's folder, claimed by the caller.
        task: what is learned, from which batches.

    Raises:
        NonFiniteLossError: the loss or its gradient is no longer a number; the last good checkpoint stays.
        DeviceMemoryError: the device is too small.
        CheckpointError: the folder's checkpoint is of another network.
    """
    with (
        explained_memory(_training_advice(config)),
        _Signals() as signals,
        _Trainer(config, run, task, signals) as trainer,
    ):
        return trainer.run_to_end()


class _Signals:
    """Turns SIGTERM and Ctrl-C into a request that the loop answers between two steps."""

    def __enter__(self) -> "_Signals":
        self.received, self.at = 0, 0.0
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received:
            # Of a parent that is killed, each thread that ends last may send a signal (`_end_with_parent`).
            if time.monotonic() - self.at > _ONE_REQUEST:
                raise KeyboardInterrupt
            return
        self.received, self.at = number, time.monotonic()
        hosts.ask_to_stop(number)
        print("\nsaving after this step; once more to stop at once", file=sys.stderr, flush=True)


class _Best(NamedTuple):
    """The best validation so far.

    Attributes:
        score: of that validation; None before the first one.
        step: of that validation.
        since: validations after it, none of them better.
    """

    score: float | None = None
    step: int = 0
    since: int = 0

    def after(self, score: float, step: int) -> "_Best":
        """Return the best after one more validation."""
        if self.score is None or score > self.score:
            return _Best(score, step)
        return self._replace(since=self.since + 1)


class _Trainer:
    """One process's stretch of a run."""

    def __init__(self, config: Config, run: Path, task: Task, signals: _Signals):
        self.config, self.run, self.task, self.signals = config, run, task, signals
        self.steps = total_steps(config, task.places)
        self.validate_every = config.train.validate_every or max(round(task.places / config.train.batch), 1)
        self.mesh = sharding.training_mesh(config)
        self.checkpoints = Checkpoints(run, create=True)
        latest = self.checkpoints.latest()
        self.network, state, self.train_step = steps.initial_state(config, steps=self.steps, at=latest or 0)
        self.validate = task.validator(config, self.network, self.mesh, run)
        self.search = task.searcher(config, self.network) if config.train.search_every else None
        self.found, self.searched = [], 0
        if latest is None and config.init.encoder_from:
            state = state.begun_with(*transfer.with_encoder(config, state.params, state.stats))
            print(f"the encoder begins as that of {config.init.encoder_from}")
        if latest is None and config.init.network_from:
            state = state.begun_with(*transfer.with_network(config, state.params))
            print(f"the network begins as that of {config.init.network_from}")
        if latest is None and config.init.pretrained:
            params, stats, weights = transfer.with_pretrained(config, state.params, state.stats)
            state = state.begun_with(params, stats)
            if hosts.is_first():
                run_folder.record_weights(run, weights.file, weights.sha256)
            print(f"the encoder (nothing else) begins with ImageNet weights: {weights.file}, sha256 {weights.sha256}")
        init = config.init
        if config.freeze.encoder and not (init.encoder_from or init.network_from or init.pretrained):
            print(
                "WARNING: config.freeze.encoder without config.init.encoder_from or config.init.pretrained freezes a "
                "random encoder",
                file=sys.stderr,
            )
        if config.freeze.until >= self.steps:
            print(
                f"WARNING: config.freeze.until={config.freeze.until} is no step of this run, which has {self.steps}: "
                "the encoder stays frozen",
                file=sys.stderr,
            )
        self.state = sharding.replicate(state, self.mesh)
        # rbg: threefry's dropout masks took a fifth of the small network's step on 2 CPU cores.
        self.key = sharding.replicate(jax.random.key(config.seed, impl="rbg"), self.mesh)
        self.step, self.threshold, self.validation_due, self.best = 0, None, False, _Best()
        self.onednn = steps.choose_convolutions(config).onednn
        if latest is not None:
            self.state, meta = self.checkpoints.restore(self.state)
            self.step, self.threshold = int(meta["batches"]), meta["threshold"]
            self.validation_due = meta.get("validation_due", False)
            self.best = _Best(*meta.get("best", ()))
            self.found, self.searched = meta.get("found", []), meta.get("searched", 0)
            if meta.get("onednn", self.onednn) != self.onednn:
                why = steps.choose_convolutions(config).why
                print(
                    f"WARNING: the convolutions are {why}, and were not before step {self.step}: the last bits of this "
                    "run are no longer those of an uninterrupted one",
                    file=sys.stderr,
                )
            if not self._early():
                print(f"going on from step {self.step} of {self.steps}")
        self.log = RunLog(run, step=self.step) if hosts.is_first() else NoLog()
        self.saved, self.plotted = self.step, -1
        self.pending: collections.deque[tuple[int, np.ndarray, steps.Progress, jax.Array | int]] = collections.deque()
        # Of several processes, what one knows of a signal after a step is agreed upon when that step is settled, which
        # all do after the same later one.
        self.agreed, self.any_of = 0, sharding.any_of(self.mesh) if hosts.count() > 1 else None
        self.last = (float("nan"), float("nan"))
        pairs = config.train.batch
        self.bar = progress.bar(self.steps * pairs, initial=self.step * pairs, unit="pair")

    def __enter__(self) -> "_Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.log.close()
        self.checkpoints.close()

    def run_to_end(self) -> Outcome:
        if self.validation_due:
            self._validate()
        config, since, pairs = self.config.train, time.perf_counter(), 0
        for ids, batch in self._batches():
            if self.step and self.step == self.config.freeze.until:
                self._thaw()
            self.state, step_progress = self.train_step(self.state, batch, self.key)
            self.step += 1
            asked = self.any_of(hosts.asked_to_stop()) if self.any_of else 0
            self.pending.append((self.step, ids, step_progress, asked))
            self._settle(_IN_FLIGHT)
            pairs += config.batch
            self.bar.update(config.batch)
            if self.step % config.log_every == 0 or self.step == self.steps:
                self._settle(0)
                now = time.perf_counter()
                self._log_training(pairs / (now - since))
                since, pairs = now, 0
            if self.step % self.validate_every == 0 or self.step == self.steps:
                self._validate()
                since, pairs = time.perf_counter(), 0
            elif config.checkpoint_every and self.step % config.checkpoint_every == 0:
                self._save(None)
            if self._ended():
                break
        if self.step != self.saved:
            self._save(None)
        self.checkpoints.wait()
        self._plot()
        early = self._early()
        finished = (self.step == self.steps or early != "") and not self.validation_due
        return Outcome(step=self.step, finished=finished, signal=self._signal(), early=early)

    def _batches(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Give the batches from the present step on; every so many steps, search what the next ones are drawn by."""
        every = self.config.train.search_every
        while not self._ended():
            if self.search and self.step % every == 0 and self.step != self.searched and not self._searched():
                return
            # The position counts the batches that are taken, not those that are ready.
            with contextlib.closing(self.task.batches(self.step, self.found)) as batches:  # type: ignore[type-var]
                ready = sharding.on_device(batches, self.mesh, ahead=self.config.data.prefetch)
                yield from itertools.islice(ready, every - self.step % every if every else None)

    def _searched(self) -> bool:
        """Search; return whether no signal ended it."""
        assert self.search is not None
        self._settle(0)
        params, stats = self.state.weights_in_use()
        try:
            with explained_memory(_validation_advice(self.config)):
                self.found = self.search(params, stats, self._watch)
        except hosts.AskedToStop as ended:
            self.agreed = self.agreed or ended.number
            return False
        self.searched = self.step
        self.bar.write(f"step {self.step}: {len(self.found)} false alarms found on the training tiles")
        return True

    def _ended(self) -> bool:
        return self.step == self.steps or self._early() != "" or self._signal() != 0

    def _signal(self) -> int:
        """Return the number of the signal that ends the run, or 0; of several processes, all know the same."""
        return self.agreed if self.any_of else self.signals.received

    def _early(self) -> str:
        """Say why the run ends here, before all of its steps are done; empty where it does not."""
        patience, best = self.config.train.patience, self.best
        if not patience or best.score is None or best.since < patience or self.step == self.steps:
            return ""
        return (
            f"ended early at step {self.step} of {self.steps}: no validation after step {best.step} was better than "
            f"its score of {best.score:.4f} (config.train.patience={patience})"
        )

    def _thaw(self) -> None:
        self.state, self.train_step = steps.thawed(self.network, self.state, self.config, steps=self.steps)
        self.state = sharding.replicate(self.state, self.mesh)
        self.bar.write(f"step {self.step}: the encoder learns from here on")

    def _settle(self, left: int) -> None:
        """Wait for all but the last `left` steps and check that their loss and norms are finite."""
        while len(self.pending) > left:
            step, ids, step_progress, asked = self.pending.popleft()
            self.agreed = self.agreed or int(asked)
            loss, gradient, state = (float(value) for value in step_progress)
            self.last = loss, gradient
            if not np.isfinite((loss, gradient, state)).all():
                places = ", ".join(sorted({self.task.name(int(i)) for i in ids}))
                what = f"loss {loss}, gradient norm {gradient}, norm of the new parameters {state}"
                raise self._diverged(step, f"{what}, on tiles {places}")
            self.bar.set_postfix_str(f"step {step}, loss {loss:.4f}", refresh=False)

    def _log_training(self, rate: float) -> None:
        loss, norm = self.last
        self.log.write(self.step, TrainingFigures(loss=loss, gradient_norm=norm, pairs_per_second=rate))

    def _validate(self) -> None:
        self._settle(0)
        params, stats = self.state.weights_in_use()
        try:
            with explained_memory(_validation_advice(self.config)):
                validated = self.validate(params, stats, self.step, self._watch)
        except (hosts.AskedToStop, DeviceMemoryError) as ended:
            if isinstance(ended, DeviceMemoryError) and self.any_of:
                raise  # the other processes would not save with this one
            self.agreed = self.agreed or int(getattr(ended, "number", 0))
            # Save the steps up to here; the next start begins with this validation.
            self.validation_due = True
            if self.step != self.saved:
                self._save(None)
            if isinstance(ended, DeviceMemoryError):
                self.checkpoints.wait()
                raise
            return
        if isinstance(validated, Diverged):
            places = f", on tiles {', '.join(validated.places[:8])}" if validated.places else ""
            raise self._diverged(self.step, f"validation loss {validated.loss}{places}")
        self.validation_due, self.threshold = False, validated.threshold
        self.log.write(self.step, validated.figures)
        self.bar.write(f"step {self.step}: validation loss {validated.figures.loss:.4f}, {validated.summary}")
        if validated.warning:
            self.bar.write(f"WARNING: {validated.warning}", file=sys.stderr)
        self.best = self.best.after(validated.score, self.step)
        if early := self._early():
            self.log.note(self.step, early)
        self._plot()
        self._save(validated.score)

    def _plot(self) -> None:
        """Draw the curves, unless they show this step already."""
        if self.plotted != self.step and hosts.is_first():
            plot_curves(self.run, self.task.figures)
        self.plotted = self.step

    def _watch(self, batches: Iterator[T]) -> Iterator[T]:
        with contextlib.closing(batches) as closed:  # type: ignore[type-var]
            for batch in closed:
                if self.any_of and hosts.asked_to_stop():
                    return  # `hosts.exchange` tells all processes
                if self.signals.received and not self.any_of:
                    raise hosts.AskedToStop(self.signals.received)
                yield batch

    def _diverged(self, step: int, what: str) -> NonFiniteLossError:
        good = f"the checkpoint of step {self.saved} is kept" if self.saved else "no checkpoint was made yet"
        return NonFiniteLossError(
            f"step {step}: {what}; {good}; lower config.optim.learning_rate ({self.config.optim.learning_rate}) or "
            "set config.optim.clip_norm=1, in a new --workdir"
        )

    def _save(self, score: float | None) -> None:
        self._settle(0)
        meta = {"batches": self.step, "threshold": self.threshold, "validation_due": self.validation_due}
        meta["onednn"] = self.onednn
        if self.config.train.patience:
            meta["best"] = self.best
        if self.search:
            meta |= {"found": self.found, "searched": self.searched}
        self.checkpoints.save(self.state, meta=meta, score=score)
        self.saved = self.step


def _training_advice(config: Config) -> str:
    t, d, m = config.train, config.data, config.model
    return (
        f"lower config.train.batch ({t.batch}) or config.data.crop ({d.crop}), raise config.train.accumulation "
        f"({t.accumulation}), or set config.model.dtype=bfloat16 (now {m.dtype})"
    )


def _validation_advice(config: Config) -> str:
    if config.train.eval_batch > 1:
        return f"lower config.train.eval_batch ({config.train.eval_batch}) and run the same command again"
    return "a whole tile is too large for this device in validation; build the dataset of smaller tiles"
