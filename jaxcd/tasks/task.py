"""What a run learns, as `jaxcd.train` and the training loop see it: a split, batches, a validation."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from jax.sharding import Mesh

from jaxcd import models
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.feed.splits import Splits
from jaxcd.runs.figures import Figures
from jaxcd.store.dataset import TileDataset

T = TypeVar("T")


class Validated(NamedTuple):
    """What a validation gave.

    Attributes:
        figures: for the logs.
        score: of the checkpoint, the higher the better.
        threshold: probability from which a pixel is best called damage; None where nothing is decided.
        summary: for the reader of the progress bar.
        warning: what the user should know, or empty.
    """

    figures: Figures
    score: float
    threshold: float | None
    summary: str
    warning: str = ""


class Diverged(NamedTuple):
    """What a validation gave where training has diverged: a loss that is no finite number, and the places of it."""

    loss: float
    places: tuple[str, ...] = ()


@runtime_checkable
class Watch(Protocol):
    """Passes batches on as long as no signal asks the run to stop."""

    def __call__(self, batches: Iterator[T], /) -> Iterator[T]: ...  # noqa: D102


Search = Callable[[Any, Any, Watch], list[Any]]
"""`(params, stats, watch) -> found`: what further batches are drawn by, as values for JSON."""
Validate = Callable[[Any, Any, int, Watch], Validated | Diverged]
"""`(params, stats, step, watch) -> Validated`: of these weights after this step; batches are drawn through `watch`."""


@runtime_checkable
class Task(Protocol):
    """What `jaxcd.train` and the training loop need of a task.

    Attributes:
        figures: what its validations log.
        places: elements of an epoch.
        batches: training batches from a position on (a number of consumed batches), drawn by what the last search
            found.
        name: name of the place that an entry of `Batch.ids` stands for.
    """

    @property
    def figures(self) -> type[Figures]: ...  # noqa: D102
    @property
    def places(self) -> int: ...  # noqa: D102
    @property
    def batches(self) -> Callable[[int, Sequence[Any]], Iterator[Batch]]: ...  # noqa: D102
    @property
    def name(self) -> Callable[[int], str]: ...  # noqa: D102

    @classmethod
    def split(cls, dataset: TileDataset, config: Config) -> Splits:
        """Split the places of a dataset."""
        ...

    @classmethod
    def of(cls, dataset: TileDataset, splits: Splits, config: Config) -> "Task":
        """Take the batches from a dataset; each holds this process's part of the batch."""
        ...

    @staticmethod
    def next_command(run: Path) -> str:
        """Say what to do with a finished run."""
        ...

    def validator(self, config: Config, network: models.Network, mesh: Mesh, run: Path) -> Validate:
        """Make the validation; it leaves its pictures in `run`."""
        ...

    def searcher(self, config: Config, network: models.Network) -> Search:
        """Make the search that the loop starts after each `config.train.search_every` steps, if that is above 0."""
        ...
