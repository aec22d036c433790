"""The task of mapping damage: batches of crops, validation on whole tiles."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxcd import models
from jaxcd.base import hosts
from jaxcd.base.scales import SCALES
from jaxcd.base.types import Batch, Tile
from jaxcd.config import Config
from jaxcd.feed.balance import Alarm
from jaxcd.feed.loader import count_evaluation_batches, evaluation_batches, train_batches
from jaxcd.feed.splits import Splits, split_places
from jaxcd.learn import sharding, steps
from jaxcd.learn.metrics import Counts
from jaxcd.runs.evaluation import Evaluation, count, evaluate, keep, summed, with_bar
from jaxcd.runs.figures import Figures, GradeFigures, MapFigures, validation_figures
from jaxcd.runs.panels import Keeper, save_panels
from jaxcd.store.dataset import TileDataset
from jaxcd.tasks import false_alarms
from jaxcd.tasks.task import Diverged, Search, Validate, Validated, Watch

_PANELS = 4


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Where the batches of a damage network come from; a `jaxcd.tasks.task.Task`.

    Attributes:
        figures: what its validations log.
        places: training places; each comes once in an epoch.
        batches: training batches from a position on, some of them around false alarms.
        name: name of a place.
        validation_tiles: tiles of one validation.
        validation_batches: batches of one validation.
        validation: whole tiles with padding, one pass over the batches of these numbers (None: all).
        search: finds false alarms on the training tiles.
    """

    figures: type[Figures]
    places: int
    batches: Callable[[int, Sequence[Any]], Iterator[Batch]]
    name: Callable[[int], str]
    validation_tiles: int
    validation_batches: int
    validation: Callable[[Sequence[int] | None], Iterator[tuple[Batch, Sequence[Tile]]]]
    search: Callable[..., list[Alarm]]

    @classmethod
    def split(cls, dataset: TileDataset, config: Config) -> Splits:
        """Split the places of a dataset."""
        return split_places(dataset.samples, config.data)

    @classmethod
    def of(cls, dataset: TileDataset, splits: Splits, config: Config) -> "Segmentation":
        """Take the batches from a dataset; each holds this process's part of the batch."""
        stride = models.describe(config.model).stride
        sharding.training_mesh(config)
        how = {"batch": config.train.eval_batch * sharding.evaluation_mesh(config).size, "stride": stride}
        return cls(
            figures=validation_figures(dataset.scale),
            places=len(splits.train),
            batches=lambda start, found: train_batches(
                dataset,
                splits.train,
                config,
                stride=stride,
                start=start,
                alarms=[Alarm(*entry) for entry in found],
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ),
            name=lambda row: dataset.samples[row].id,
            validation_tiles=sum(len(dataset.samples[row].post) for row in splits.validation),
            validation_batches=count_evaluation_batches(dataset, splits.validation, **how),
            validation=lambda numbers: evaluation_batches(dataset, splits.validation, numbers=numbers, **how),
            search=functools.partial(
                false_alarms.find,
                batches=lambda numbers: evaluation_batches(dataset, splits.train, numbers=numbers, **how),
                total=count_evaluation_batches(dataset, splits.train, **how),
                dataset=dataset,
                config=config,
            ),
        )

    @staticmethod
    def next_command(run: Path) -> str:
        """Say what to do with a finished run."""
        return f"evaluate with: python -m jaxcd.evaluate --run {run} --split test --out DIR"

    def searcher(self, config: Config, network: models.Network) -> Search:
        """Make the search for the worst false alarms on the training tiles."""
        step = steps.evaluation_step(network, config)
        return lambda params, stats, watch: [list(alarm) for alarm in self.search(step, (params, stats), watch=watch)]

    def validator(self, config: Config, network: models.Network, mesh: Mesh, run: Path) -> Validate:
        """Make the validation: loss and scores of the split, pictures of the most damaged tiles.

        Of several processes, each evaluates a share of the batches; all add up all counts, the first one draws.
        """
        evaluation_step, scale = steps.evaluation_step(network, config), SCALES[config.data.scale]
        what = {"weights": config.loss, "scale": scale}

        def evaluated(params: Any, stats: Any, watch: Watch, keeper: Keeper) -> Evaluation:
            with contextlib.closing(with_bar(self.validation(None), self.validation_tiles, "validation")) as shown:
                return evaluate(evaluation_step, params, stats, watch(shown), mesh=mesh, keepers=(keeper,), **what)

        def evaluated_together(weights: tuple[Any, Any], watch: Watch, keeper: Keeper) -> Evaluation:
            mesh, total = sharding.evaluation_mesh(config), self.validation_batches
            numbers = range(hosts.index(), total, hosts.count())
            with contextlib.closing(with_bar(self.validation(numbers), self.validation_tiles, "validation")) as shown:
                shares = hosts.exchange(list(count(evaluation_step, *weights, watch(shown), mesh=mesh)))
            counted = [shares[j % hosts.count()][j // hosts.count()] for j in range(total)]
            if hosts.is_first():
                keep((keeper,), counted, evaluation_step, *weights, self.validation, mesh=mesh)
            return summed(itertools.chain.from_iterable(counted), **what)

        def validate(params: Any, stats: Any, step: int, watch: Watch) -> Validated | Diverged:
            keeper = Keeper(_PANELS, most_damaged)
            if hosts.count() == 1:
                result = evaluated(params, stats, watch, keeper)
            else:
                result = evaluated_together(sharding.own_copy((params, stats), config), watch, keeper)
            if hosts.is_first():
                folder = run / "panels"
                folder.mkdir(exist_ok=True)
                save_panels(keeper.kept(), folder / f"step_{step:07d}.png", threshold=0.5, scale=scale)
            if not math.isfinite(result.loss):
                return Diverged(result.loss, tuple(tile.place for tile in result.not_finite))
            if result.grades is None:
                figures, graded = MapFigures.of(result.loss, result.counts), ""
            else:
                figures = GradeFigures.graded(result.loss, result.counts, result.grades)
                graded = f"; xView2 score {figures.xview2:.4f}"
            threshold = figures.best_threshold
            best = f"F1 {result.counts.at(threshold).f1:.4f} at {threshold:.3f}"
            return Validated(
                figures=figures,
                score=getattr(figures, config.train.best_by),
                threshold=threshold,
                summary=f"IoU {figures.iou:.4f}, F1 {figures.f1:.4f} at 0.5; {best}{graded}",
            )

        return validate


def most_damaged(counts: Counts) -> float | None:
    """Score of a tile for the panels of a validation: its damaged pixels."""
    return float(counts.damaged)
