"""Each event in turn unseen: what `tools/study.py --leave_one_out event` runs, and its table.

For each group of events, one network is trained on all others (`data.test_events`). *Unseen* is the group's own tiles.
*Seen* is the validation tiles of the other events: the best checkpoint and the threshold were chosen on them, so it is
a little too good.
"""

import argparse
import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import write_whole
from jaxcd.config import Config
from jaxcd.config.flags import read_run, run_parser
from jaxcd.learn.metrics import Counts
from jaxcd.learn.objectives import check_maps
from jaxcd.runs.evaluation import COUNTS, Counted, decoded
from jaxcd.runs.figures import METRICS, Metrics
from jaxcd.store.dataset import open_or_build
from studying.results import failed, table
from studying.runs import Job, seeds_done

REST = "rest"
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_RESAMPLES, _PERCENTILES = 1000, (2.5, 97.5)
_FEWEST = 2  # one tile has no spread

Bins = Int64[np.ndarray, "*n 2 1024"]


class Side(NamedTuple):
    """What an evaluation counted.

    Attributes:
        places: of the tiles.
        network: pixels of each tile by class and bin of the probability.
        difference: likewise, of |pre - post|.
        threshold: of the run.
    """

    places: tuple[str, ...]
    network: Bins
    difference: Bins
    threshold: float


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """A network for each group of events, trained without it.

    Attributes:
        mark: name of the file in the study's folder that holds the settings.
        settings: configuration of each group's network, by the group's name.
        events: event of each place.
    """

    mark: ClassVar[str] = "events.json"
    settings: Mapping[str, Config]
    events: Mapping[str, str]

    @classmethod
    def read(cls, options: argparse.Namespace) -> "LeaveOneOut":
        """Read the configuration, and build the dataset that names the events.

        Raises:
            ConfigError: a flag is missing or wrong, or there are fewer than two groups of events.
        """
        for name in ("data", "layout", "config"):
            if getattr(options, name) is None:
                raise ConfigError(f"--{name}: is needed with --leave_one_out")
        for name in ("networks", "pretrain_config", "pretrain_epochs"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name}: does not go with --leave_one_out")
        flags = ["--config", options.config, "--workdir", str(options.out), "--config.data.split=event"]
        flags += [f"--config.data.root={options.data}", f"--config.data.layout={options.layout}"]
        if options.epochs is not None:
            flags += [f"--config.train.epochs={options.epochs}", "--config.train.steps=0"]
        config, _, _ = read_run(run_parser("jaxcd.train", ""), flags)
        check_maps(config, "config.task")
        dataset = open_or_build(config.data)
        events = {sample.id: sample.event for sample in dataset.samples if sample.event}
        settings = {}
        for name, own in _groups(sorted(set(events.values())), options.events or (), dataset.where).items():
            settings[name] = copy.deepcopy(config)
            settings[name].data.test_events = own
        return cls(settings=settings, events=events)

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield the networks of all groups of the first seed, then of the next."""
        for seed in range(seeds):
            for name, base in self.settings.items():
                config = copy.deepcopy(base)
                config.seed += seed
                yield Job(name=f"{name}-{seed}", config=config, also={"seen": ("--split", "validation")})

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write the table of all groups, also those of an earlier call, and of their events."""
        seeds = range(seeds_done(out))
        names = {group: [f"{group}-{seed}" for seed in seeds] for group in recorded}
        sides = {
            group: (_read_all(out / "results", own, failures), _read_all(out / "seen", own, failures))
            for group, own in names.items()
        }
        lines = ["# Events that were not trained on", "", *_explained(), ""]
        lines += [*_table("held out", [(group, *both) for group, both in sides.items()]), ""]
        by_event = [
            (f"{event} ({group})", [_of_event(side, event, self.events) for side in unseen], seen)
            for group, (unseen, seen) in sides.items()
            for event in recorded[group].data.test_events
            if len(recorded[group].data.test_events) > 1
        ]
        if by_event:
            lines += ["Events of groups:", "", *_table("event", by_event), ""]
        write_whole(out / "study.md", "\n".join([*lines, *failed(failures)]).rstrip() + "\n")
        return "study.md"


def _groups(known: Sequence[str], chosen: Sequence[str], where: str) -> dict[str, tuple[str, ...]]:
    """Divide events into groups: each of the chosen ones by itself, the rest as one; by default each by itself."""
    for event in chosen:
        if event not in known:
            raise ConfigError(f"--events: no place belongs to {event}; known are {', '.join(known) or 'none'}")
    alone = list(dict.fromkeys(chosen)) or list(known)
    groups: dict[str, tuple[str, ...]] = {_NAME.sub("_", event): (event,) for event in alone}
    rest = tuple(event for event in known if event not in alone)
    if rest:
        groups[REST] = rest
    if len(groups) < 2:
        raise ConfigError(
            f"--leave_one_out: {where} has {len(known)} known events ({', '.join(known) or 'none'}), and two groups "
            "are needed; name the event of each place in config.data.events, or give --events fewer of them"
        )
    return groups


def _read_all(folder: Path, names: Sequence[str], failures: dict[str, str]) -> list[Side]:
    sides = []
    for name in names:
        if (folder / name / METRICS).exists():
            try:
                sides.append(_read(folder / name))
            except RunError as error:
                failures[name] = str(error)
    return sides


def _read(folder: Path) -> Side:
    """Read what `jaxcd.evaluate` counted.

    Raises:
        RunError: the files are damaged.
    """
    metrics = Metrics.read(folder)
    try:
        tiles: list[Counted] = [one for own in decoded((folder / COUNTS).read_bytes()) for one in own]
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder}: damaged result ({error!r}); delete it and run the same command again") from error
    network, difference = (np.array([getattr(one, name) for one in tiles], np.int64) for name in ("bins", "difference"))
    return Side(tuple(one.tile.place for one in tiles), network, difference, metrics.threshold)


def _of_event(side: Side, event: str, events: Mapping[str, str]) -> Side:
    own = [i for i, place in enumerate(side.places) if events.get(place) == event]
    return Side(tuple(side.places[i] for i in own), side.network[own], side.difference[own], side.threshold)


def interval(sides: Sequence[Bins], score: Callable[[Counts, int], float]) -> tuple[float, tuple[float, float] | None]:
    """Compute the mean of a score over seeds, and its 95 % interval by a bootstrap over tiles.

    Each resample draws tiles with replacement, the same for all seeds.

    Args:
        sides: bins of the tiles, for each seed.
        score: of the summed counts of a seed, given with its number.

    Returns:
        The mean, and the 2.5th and 97.5th percentile; None where there are fewer than two tiles.
    """
    tiles = len(sides[0])

    def mean(weights: Float[np.ndarray, " n"] | Int64[np.ndarray, " n"]) -> float:
        summed = [np.tensordot(weights, bins, axes=1) for bins in sides]
        return float(np.mean([score(Counts(bins=bins), seed) for seed, bins in enumerate(summed)]))

    value = mean(np.ones(tiles, np.int64))
    if tiles < _FEWEST:
        return value, None
    drawn = np.random.default_rng(0).multinomial(tiles, np.full(tiles, 1 / tiles), size=_RESAMPLES)
    low, high = np.percentile([mean(weights) for weights in drawn], _PERCENTILES)
    return value, (float(low), float(high))


def _explained() -> list[str]:
    return [
        "In %, mean over the seeds, with 95 % intervals of a bootstrap over the tiles. Unseen: the tiles of the events "
        "that were held out. Seen: the validation tiles of all other events, on which checkpoint and threshold were "
        "chosen. |pre − post|: the mean absolute difference of the bands as a score, on the unseen tiles. F1 is at the "
        "threshold of the run; the best F1 is at the threshold that nobody knows beforehand. AP: average precision."
    ]


def _table(name: str, rows: Sequence[tuple[str, Sequence[Side], Sequence[Side]]]) -> list[str]:
    heads = ["seeds", "tiles", "damaged pixels", "F1 seen", "F1 unseen", "best F1 unseen", "best F1, pre − post"]
    lines = []
    for row, unseen, seen in rows:
        if not unseen or not seen:
            lines.append([row, "0", *"–" * (len(heads) + 2)])
            continue
        network, difference = [side.network for side in unseen], [side.difference for side in unseen]
        before = [side.network for side in seen]
        damaged = int(network[0][:, 1].sum())
        cells = [
            _cell(before, _f1_in_use(seen)),
            _cell(network, _f1_in_use(unseen)),
            *(_cell(bins, lambda counts, _: counts.at(counts.best()).f1) for bins in (network, difference)),
            *(_cell(bins, lambda counts, _: counts.average_precision()) for bins in (before, network, difference)),
        ]
        if not damaged:  # nothing to find there
            cells = [cells[0], "–", "–", "–", cells[4], "–", "–"]
        lines.append([row, str(len(unseen)), str(len(network[0])), f"{damaged:,}", *cells])
    return table([name, *heads, "AP seen", "AP unseen", "AP, pre − post"], lines)


def _f1_in_use(sides: Sequence[Side]) -> Callable[[Counts, int], float]:
    return lambda counts, seed: counts.at(sides[seed].threshold).f1


def _cell(sides: Sequence[Bins], score: Callable[[Counts, int], float]) -> str:
    value, reach = interval(sides, score)
    return f"{100 * value:.1f}" + (f" ({100 * reach[0]:.1f} to {100 * reach[1]:.1f})" if reach else "")
