"""Evaluate a run: `python -m jaxcd.evaluate --run RUN [--data DIR --layout L --split S] --out DIR`."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcd.base import fingerprints
from jaxcd.base.entry import announce_device, guarded
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import write_whole
from jaxcd.base.scales import SCALES
from jaxcd.config import Config, DataConfig, files, scaling_named
from jaxcd.config.fields import at_least, check_bounds, one_of, setting, settings_of
from jaxcd.config.flags import Parser, add_settings, settings_from
from jaxcd.runs import shares
from jaxcd.sources import layouts

if TYPE_CHECKING:
    import numpy as np

    from jaxcd.base.types import Batch, Tile
    from jaxcd.learn.metrics import Counts
    from jaxcd.runs.evaluation import Evaluation
    from jaxcd.runs.inference import Trained
    from jaxcd.runs.panels import Keeper
    from jaxcd.store.dataset import TileDataset
    from jaxcd.store.manifest import Sample

_PANELS = 4
_PIECES = 256  # at most, that an evaluation is divided into when processes share it
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
_OUTPUTS = (
    "metrics.json",
    "tiles.csv",
    "precision_recall.png",
    "precision_recall.csv",
    "counts.npz",
    "best.png",
    "worst.png",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of an evaluation, apart from its run and its folder."""

    data: Path | None = setting(None, "evaluate on other data than the run's: a source folder, or a built dataset")
    layout: str | None = setting(None, "layout of --data, by default the run's own", one_of(*layouts.NAMES))
    cache: str | None = setting(None, f"folder in which a dataset is built from --data (default: {DataConfig().cache})")
    scale: str | None = setting(
        None, "scale of the labels of --data, to which the run's scale can be converted (default: the run's scale)",
        one_of(*SCALES),
    )  # fmt: skip
    scaling: str | None = setting(
        None,
        "how 16-bit and float images of --data are scaled: range:LOW,HIGH or percentiles:LOW,HIGH",
        scaling_named("--scaling"),
    )
    average: bool = setting(
        False, "average the probabilities over flips and quarter turns of the images, which takes eight times as long"
    )
    adapt: str = setting(
        "",
        "fit the network to each event's tiles without their labels: bn computes its BatchNorm statistics anew on them",
        one_of("", "bn"),
    )
    batch: int = setting(1, "tiles that each device computes at a time", at_least(1))
    split: str | None = setting(
        None,
        "split to evaluate: train, validation, test or all (default: test; with --data: all)",
        one_of("train", "validation", "test", "all"),
    )

    labels: Path | None = setting(
        None, "store of jaxcd.label with a blind sample: maps its pairs, too, and says how good these maps are"
    )

    def validate(self) -> None:
        """Check all values that can be checked without reading a file.

        Raises:
            ConfigError: at the first invalid value; the message names its flag.
        """
        check_bounds(self, "--")
        for name in ("layout", "scale", "scaling", "cache"):
            if self.data is None and getattr(self, name) is not None:
                raise ConfigError(f"--{name}: goes with --data; the run's own tiles are read as they were for training")


def parser() -> Parser:
    """Make the parser of the flags."""
    made = Parser(prog="python -m jaxcd.evaluate", description="Compute metrics and pictures of a run.")
    made.add_argument("--run", type=Path, required=True, help="run folder of jaxcd.train or import_torch")
    add_settings(made, settings_of(Settings, ""))
    made.add_argument("--out", type=Path, required=True, help="folder for metrics.json, tiles.csv and pictures")
    made.add_argument("--share", metavar="I/N", help=shares.HELP)
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code."""
    options = parser().parse_args(argv)
    run, out = options.run, options.out
    settings: Settings = settings_from(options, Settings)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: is a file; give a folder with --out")
    settings.validate()
    share = None if options.share is None else shares.Share.of(options.share)
    # jax is imported late, once the arguments are known to be valid.
    from jaxcd.learn.objectives import check_maps
    from jaxcd.runs import run_folder
    from jaxcd.runs.announcement import announce_network

    config = run_folder.read_config(run)
    check_maps(config, str(run))
    if settings.data is None:
        run_folder.read_splits(run)
    else:
        _read_other_data(config, settings.data, settings)
    config.validate()
    announce_device()
    announce_network(config)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)  # fails before hours of work, not after
    try:
        _evaluate(config, run, out, settings, share)
    finally:
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()
    return 0


def _read_other_data(config: Config, data: Path, settings: Settings) -> None:
    """Let a run's configuration name other data than its own."""
    if config.data.layout == layouts.SIMULATED and settings.layout is None:
        raise ConfigError(f"--layout: say how {data} is laid out; the run's own tiles are simulated")
    config.data.root, config.data.layout = str(data), settings.layout or config.data.layout
    config.data.register = config.data.register and config.data.layout != layouts.PREPARED  # such data are as built
    # These are of the roots that the run learned from.
    config.data.weights, config.data.events, config.data.test_events = (), "", ()
    config.data.split = "block" if config.data.split == "event" else config.data.split
    config.data.cache = settings.cache or DataConfig().cache
    scale, labels = SCALES[config.data.scale], SCALES[settings.scale or config.data.scale]
    if config.data.layout == layouts.SCENES and labels != scale:
        raise ConfigError(
            f"--scale: scenes are read in the scale of the run, {scale.name}; build them with jaxcd.prepare, and give "
            "--data the built dataset, with --layout prepared"
        )
    if scale.read_as(labels) is None:
        raise ConfigError(f"--scale: levels of the run's scale {scale.name} are not defined in {labels.name}")
    config.data.scaling = config.data.scaling if settings.scaling is None else settings.scaling
    wanted = config.data.split == "published" and settings.split not in (None, "all")
    if wanted and not layouts.may_publish(config.data.layout):
        raise _unpublished(config)


def _unpublished(config: Config) -> ConfigError:
    return ConfigError(f"--split: {config.data.root} has no published split; give --split all")


def _evaluate(config: Config, run: Path, out: Path, settings: Settings, share: shares.Share | None) -> None:
    from jaxcd.feed.loader import evaluation_batches
    from jaxcd.runs import inference
    from jaxcd.runs.evaluation import with_bar

    job = _prepare(config, run, settings)
    if settings.adapt and share is not None:
        raise ConfigError("--adapt: cannot be combined with --share; leave one of them out")
    how = {"keepers": (job.best, job.worst), "scale": job.dataset.scale, "average": settings.average}
    how |= {"advice": job.advice, "patch": job.patch}
    if share is None:
        groups = _groups(job) if settings.adapt else {"": job.rows}
        parts = (evaluation_batches(job.dataset, rows, **job.batches) for rows in groups.values())
        shown = with_bar(itertools.chain.from_iterable(parts), job.tiles, job.split)
        fitted = _fitted(config, job, groups) if settings.adapt else None
        _write(inference.evaluate_trained(config, job.trained, shown, fitted=fitted, **how), job, out)
        return
    plan, total = _plan(config, run, job, settings)
    pieces = -(-total // -(-total // _PIECES)) if total else 0
    work = shares.SharedWork(out, plan, share, pieces=pieces, holds="evaluation")

    def batches(numbers: Sequence[int]) -> "Iterator[tuple[Batch, Sequence[Tile]]]":
        return evaluation_batches(job.dataset, job.rows, **job.batches, numbers=numbers)

    with inference.evaluate_share(config, job.trained, work, batches, total, **how) as result:
        if result is None:
            print(work.told("pieces"))
        else:
            _write(result, job, out)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is evaluated, and how.

    Attributes:
        trained: the run's network.
        dataset: with the tiles.
        rows: of its places that are evaluated.
        split: their name.
        tiles: their number.
        batches: arguments of `evaluation_batches`.
        threshold: the network's.
        measure: maps the pairs of a store of labels into a folder, and returns what its blind sample says; None: no
            store was given.
        best: keeps the tiles of the picture of the best ones.
        worst: likewise.
        patch: side in pixels of the patches that are counted as well; 0: none.
        advice: what to do where memory does not suffice.
    """

    trained: "Trained"
    dataset: "TileDataset"
    rows: list[int]
    split: str
    tiles: int
    batches: dict[str, Any]
    threshold: float
    measure: "Callable[[Path], dict[str, Any]] | None"
    best: "Keeper"
    worst: "Keeper"
    patch: int
    advice: str


def _prepare(config: Config, run: Path, settings: Settings) -> _Job:
    from jaxcd import models
    from jaxcd.learn import sharding
    from jaxcd.runs import events, inference
    from jaxcd.runs.panels import Keeper
    from jaxcd.store.dataset import open_or_build

    trained = inference.load(config, run)
    dataset = open_or_build(dataclasses.replace(config.data, scale=settings.scale or config.data.scale))
    foreign, batch = settings.data is not None, settings.batch
    split = settings.split or ("all" if foreign else "test")
    rows = _rows(config, run, dataset.samples, split, foreign)
    devices = sharding.evaluation_mesh(config).size
    tiles = sum(len(dataset.samples[row].post) for row in rows)
    pairs = min(batch, -(-tiles // devices)) * devices
    threshold = 0.5 if trained.threshold is None else trained.threshold
    partial = dataset.positive_unlabelled
    return _Job(
        trained=trained,
        dataset=dataset,
        rows=rows,
        split=split,
        tiles=tiles,
        batches={"batch": pairs, "stride": models.describe(config.model).stride},
        threshold=threshold,
        measure=None if settings.labels is None else functools.partial(_measured, run, settings.labels),
        best=Keeper(_PANELS, lambda counts: _merit(counts, threshold, partial) if counts.damaged else None),
        worst=Keeper(_PANELS, lambda counts: _errors(counts, threshold, partial)),
        patch=events.patch_side(dataset.metres) if partial else 0,
        advice=f"lower --batch ({batch})" if batch > 1 else "a whole tile is too large; cut smaller ones",
    )


def _measured(run: Path, labels: Path, out: Path) -> dict[str, Any]:
    from jaxcd.labelling.learning.maps import of_run

    return of_run(run, labels, out)


def _groups(job: _Job) -> dict[str, list[int]]:
    """Return the rows of each event; those of an unknown one are one group."""
    groups: dict[str, list[int]] = {}
    for row in job.rows:
        groups.setdefault(job.dataset.samples[row].event, []).append(row)
    return groups


def _fitted(config: Config, job: _Job, groups: dict[str, list[int]]) -> "Callable[[int], Any]":
    """Return what gives the statistics for the tile of a row: those of its event, computed when they are needed."""
    from jaxcd.feed.loader import evaluation_batches
    from jaxcd.mapping.predict import adaptation

    estimate = adaptation.estimator(config)

    def pairs(event: str) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
        rows = groups[event]
        some = [rows[i] for i in range(0, len(rows), -(-len(rows) // adaptation.MOST))]
        stride = job.batches["stride"]
        for batch, _ in evaluation_batches(job.dataset, some, batch=1, stride=stride):
            yield from adaptation.seen_parts(batch.pre[0], batch.post[0], stride)

    @functools.cache
    def of_event(event: str) -> Any:
        return estimate(job.trained.params, job.trained.stats, pairs(event))

    return lambda row: of_event(job.dataset.samples[row].event)


def _plan(config: Config, run: Path, job: _Job, settings: Settings) -> tuple[dict[str, Any], int]:
    """Return what has to be the same in all processes that share an evaluation, and its number of batches."""
    from jaxcd.feed.loader import count_evaluation_batches

    plan = {
        "code": fingerprints.code(_LIBRARIES),
        "run": {"folder": str(run.resolve()), "step": job.trained.step, "threshold": job.threshold},
        "config": fingerprints.digest(files.to_dict(config)),
        "data": {"labels": job.dataset.digest(), "split": job.split, "rows": fingerprints.digest(job.rows)},
        "batches": job.batches,
        "average": settings.average,
        "patch": job.patch,
    }
    return plan, count_evaluation_batches(job.dataset, job.rows, **job.batches)


def _write(result: "Evaluation", job: _Job, out: Path) -> None:
    from jaxcd.runs import events
    from jaxcd.runs.evaluation import COUNTS, encoded
    from jaxcd.runs.figures import Metrics
    from jaxcd.runs.panels import save_panels
    from jaxcd.runs.reports.files import write_curve, write_tiles
    from jaxcd.runs.reports.tables import print_levels, print_recall, print_table

    dataset, threshold, partial = job.dataset, job.threshold, job.dataset.positive_unlabelled
    for name in _OUTPUTS:  # no file of an earlier evaluation may stay beside the new ones
        (out / name).unlink(missing_ok=True)
    for name, keeper in (("best", job.best), ("worst", job.worst)):
        if keeper.kept():
            drawn = {"threshold": threshold, "positive_unlabelled": partial, "scale": dataset.scale}
            save_panels(keeper.kept(), out / f"{name}.png", **drawn)
    write_tiles(result, out / "tiles.csv", threshold, partial)
    if result.counted:
        write_whole(out / COUNTS, encoded([result.counted]))
    if not partial:  # a curve of precision would mean nothing
        write_curve(result.counts, out, threshold)
    named = {s.id: s.event for s in dataset.samples if s.event}
    by_event = events.by_event(result.tiles, named, threshold) if named else {}
    found = events.recall_by_group(result.counted, _scene, job.patch) if job.patch else None
    metrics = Metrics.of(
        result.counts,
        threshold=threshold,
        positive_unlabelled=partial,
        grades=result.grades,
        events=by_event,
        recall=found and found.plain(),
    )
    blind = None if job.measure is None else job.measure(out / "maps")
    dataclasses.replace(metrics, blind_sample=blind).write(out)
    (print_recall if partial else print_table)(result, job.split, job.trained.step, job.trained.threshold)
    if found is not None and found.pixels:
        print(f"\n{events.describe_recall(found)}")
    if len(metrics.events) > 1:
        print(f"\n{events.describe(metrics.events, threshold)}")
    if metrics.levels is not None:
        print_levels(result)
    if blind is not None:
        from jaxcd.mapping.products.summary import blind_lines

        print("", *blind_lines(blind), sep="\n")
    print(f"written: {out}/ {', '.join(name for name in _OUTPUTS if (out / name).exists())}")


def _rows(config: Config, run: Path, samples: "Sequence[Sample]", split: str, foreign: bool) -> list[int]:
    """Choose the rows of a split: of the run's own data those that it recorded, of other data those of a new split."""
    from jaxcd.feed.splits import split_places
    from jaxcd.runs import run_folder

    if split == "all":
        return list(range(len(samples)))
    if foreign:
        if config.data.split == "published" and not any(sample.split for sample in samples):
            raise _unpublished(config)
        return list(getattr(split_places(samples, config.data), split))
    rows = {sample.id: row for row, sample in enumerate(samples)}
    places = run_folder.read_splits(run)[split]
    missing = [place for place in places if place not in rows]
    if missing:
        raise RunError(f"{run}: place {missing[0]} of its {split} split is no longer in {config.data.root}")
    return [rows[place] for place in places]


def _scene(place: str) -> str:
    """Return the name of the scene that a tile was cut from: ids end in the tile's number."""
    return place.rpartition("_")[0] or place


def _merit(counts: "Counts", threshold: float, partial: bool) -> float:
    """Score a tile with damage, for the choice of the best tiles."""
    scores = counts.at(threshold)
    return scores.recall if partial else scores.f1


def _errors(counts: "Counts", threshold: float, partial: bool) -> float:
    """Count wrongly called pixels, for the choice of the worst tiles, which may hold no damage."""
    _, fp, fn, _ = counts.confusion(threshold)
    return float(fn if partial else fp + fn)  # finding damage that has no label is no mistake


if __name__ == "__main__":
    raise SystemExit(main())
