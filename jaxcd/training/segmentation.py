"""The task of mapping damage: validation on whole tiles."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jax.sharding import Mesh

from jaxcd import models
from jaxcd.config import Config
from jaxcd.training import steps
from jaxcd.training.evaluation import evaluate, with_bar
from jaxcd.training.metrics import Counts
from jaxcd.training.panels import Keeper, save_panels
from jaxcd.training.steps import TrainState
from jaxcd.training.task import Validate, Validated, Watch
from jaxcd.types import Batch, Tile

_PANELS = 4


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Where the batches of a damage network come from; a `jaxcd.training.task.Task`.

    Attributes:
        places: training places; each comes once in an epoch.
        batches: training batches from a position on.
        name: name of a place.
        validation_tiles: tiles of one validation.
        validation: whole tiles with padding, one pass.
    """

    places: int
    batches: Callable[[int], Iterator[Batch]]
    name: Callable[[int], str]
    validation_tiles: int
    validation: Callable[[], Iterator[tuple[Batch, Sequence[Tile]]]]

    def validator(self, config: Config, network: models.Network, mesh: Mesh, run: Path) -> Validate:
        """Make the validation: loss and scores of the split, pictures of the most damaged tiles."""
        evaluation_step = steps.evaluation_step(network, config)

        def validate(state: TrainState, step: int, watch: Watch) -> Validated:
            keeper = Keeper(_PANELS, most_damaged)
            with contextlib.closing(with_bar(self.validation(), self.validation_tiles, "validation")) as shown:
                result = evaluate(
                    evaluation_step,
                    state.params,
                    state.stats,
                    watch(shown),
                    mesh=mesh,
                    weights=config.loss,
                    keepers=(keeper,),
                )
            folder = run / "panels"
            folder.mkdir(exist_ok=True)
            save_panels(keeper.kept(), folder / f"step_{step:07d}.png", threshold=0.5)
            threshold = result.counts.best()
            scores, best = result.counts.at(0.5), result.counts.at(threshold)
            values = {"loss": result.loss, **scores._asdict(), "best_threshold": threshold, "best_iou": best.iou}
            return Validated(
                loss=result.loss,
                not_finite=tuple(tile.place for tile in result.not_finite),
                score=values[config.train.best_by],
                threshold=threshold,
                values=values,
                summary=f"IoU {scores.iou:.4f}, F1 {scores.f1:.4f} at 0.5; F1 {best.f1:.4f} at {threshold:.3f}",
            )

        return validate


def most_damaged(counts: Counts) -> float | None:
    """Score of a tile for the panels of a validation: its damaged pixels."""
    return float(counts.damaged)
