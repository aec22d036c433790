"""The paper's study on anyone's data: does contrastive pretraining help where labels are few?

    python tools/study.py --data DIR --layout L --out DIR [--seeds 3] [--epochs N] [--config X]

Three networks, each from scratch, with a pretrained encoder, with a pretrained and frozen one, and (what the paper
only proposes) with a pretrained one that learns at a tenth of the rate; each with several seeds on one split. All goes
through `jaxcd.train` and `jaxcd.evaluate`. The same command continues what was interrupted or has failed, and a larger
--seeds adds seeds. Writes `study.md`, `study.csv` and `claims.png`.

A table of anything else beside its published figures (`study.md`, `study.csv`) comes from a file of rows:

    python tools/study.py --rows configs/airchange.py --out DIR [--seeds 3] [--unseen DATA]

With --unseen, the runs are evaluated on other data, too, and `study.md` has their scores there by event.

How networks do on events that they have not seen, each in turn (`study.md`):

    python tools/study.py --leave_one_out event --data DIR,DIR --layout L --config X --out DIR [--events A B]
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import study_events
import study_rows
from study_report import NETWORKS, STARTS, Result, read_results, write_report
from study_runs import Job, record, run_all, seeds_done

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError
from jaxcd.base.folders import alone, check_folder
from jaxcd.base.processes import Stopped
from jaxcd.config import Config, FreezeConfig, InitConfig, TrainConfig
from jaxcd.config.flags import Parser, read_run, run_parser
from jaxcd.sources import layouts

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# FC-Siam-Conc and FC-Siam-Diff have the same encoder: it is pretrained once.
ENCODERS = {"fc_ef": "fc_ef", "fc_siam_conc": "fc_siam_diff", "fc_siam_diff": "fc_siam_diff"}
_WITH_DATA = ("layout", "networks", "epochs", "config", "pretrain_config", "pretrain_epochs")


class Study(Protocol):
    """What is run and reported.

    Attributes:
        mark: name of the file in the study's folder that holds the settings, and shows which kind of study it is.
    """

    mark: ClassVar[str]

    @property
    def settings(self) -> Mapping[str, Config]:
        """Configurations by name, which are recorded in the study's folder."""
        ...

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield all runs, seed by seed, so that a study that ends early has complete tables of fewer seeds."""
        ...

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write the report of all recorded rows; `failures` receives damaged results. Returns what was written."""
        ...


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of the study and write its report; returns 1 where a run failed."""
    options = _parser().parse_args(argv)
    if options.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {options.seeds}")
    study = _study(options)
    check_folder(options.out, study.mark, holds=f"study with {study.mark}")
    with alone(options.out, working="working on this study"):
        recorded = record(options.out, study.mark, study.settings)
        failures: dict[str, str] = {}
        stopped = None
        try:
            run_all(options.out, list(study.jobs(options.out, options.seeds)), failures)
        except Stopped as signalled:
            stopped = signalled
        written = study.report(options.out, recorded, failures)
    if stopped is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped.number
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    print(f"written: {options.out}/ {written}")
    return 1 if failures else 0


def _study(options: argparse.Namespace) -> Study:
    if options.unseen and not options.rows:
        raise ConfigError("--unseen: goes with --rows")
    if options.leave_one_out:
        if options.rows:
            raise ConfigError("--rows: does not go with --leave_one_out; give --data, --layout and --config")
        return study_events.LeaveOneOut.read(options)
    if options.events:
        raise ConfigError("--events: goes with --leave_one_out")
    return _of_rows(options) if options.rows else _Pretraining(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python tools/study.py", description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", help="source folder or built dataset")
    what.add_argument("--rows", type=Path, help="Python file with get_rows(), whose configurations say all else")
    parser.add_argument("--out", required=True, type=Path, help="folder of the study")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument(
        "--leave_one_out", choices=("event",), help="train without each event in turn, with --data, --layout, --config"
    )
    parser.add_argument(
        "--events", nargs="+", metavar="EVENT", help="events that are left out one by one; the rest is left out as one"
    )
    parser.add_argument(
        "--unseen", metavar="DATA", help="with --rows: data on which the runs are evaluated, too, by event"
    )
    with_data = parser.add_argument_group("with --data only")
    with_data.add_argument("--layout", choices=layouts.NAMES, help="layout of --data")
    with_data.add_argument("--networks", nargs="+", choices=NETWORKS, metavar="NETWORK", help="default: all three")
    with_data.add_argument("--epochs", type=int, help="of the damage networks (default: as their configs)")
    with_data.add_argument("--config", help="for all three networks (default: configs/NETWORK.py)")
    with_data.add_argument(
        "--pretrain_config",
        help="for both encoders, with data, augmentation and size of --config (default: configs/pretrain_NETWORK.py)",
    )
    with_data.add_argument("--pretrain_epochs", type=int, help="of the pretraining (default: as its config)")
    return parser


def _of_rows(options: argparse.Namespace) -> study_rows.RowStudy:
    for name in _WITH_DATA:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: goes with --data; a row's configuration says it")
    return study_rows.RowStudy.read(options.rows, options.unseen or "")


class _Pretraining:
    """The paper's study: whether pretraining helps."""

    mark: ClassVar[str] = "study.json"

    def __init__(self, options: argparse.Namespace) -> None:
        """Read the configurations."""
        if options.layout is None:
            raise ConfigError("--layout: say how --data is laid out")
        self.supervised, self.pretraining = _bases(options)
        self.settings = {f"train {name}": config for name, config in self.supervised.items()}
        self.settings |= {f"pretrain {name}": config for name, config in self.pretraining.items()}

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield each seed's pretrainings, then its damage networks."""
        return _jobs(out, self.supervised, self.pretraining, seeds)

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write table, intervals and plot."""
        networks = [network for network in NETWORKS if f"train {network}" in recorded]
        results = _results(out, networks, failures)
        write_report(out, results, failures, _setting(self.supervised, self.pretraining))
        return "study.md, study.csv, claims.png"


def _bases(options: argparse.Namespace) -> tuple[dict[str, Config], dict[str, Config]]:
    """Read the configuration of each network and of each encoder's pretraining."""

    def read(file: str | None, name: str, epochs: int | None, task: str) -> Config:
        flags = ["--config", file or str(CONFIGS / f"{name}.py"), "--workdir", str(options.out)]
        flags += [f"--config.data.root={options.data}", f"--config.data.layout={options.layout}"]
        if epochs is not None:
            flags += [f"--config.train.epochs={epochs}", "--config.train.steps=0"]
        config, _, _ = read_run(run_parser("jaxcd.train", ""), flags)
        if config.task != task:
            raise ConfigError(f"{file or name}: config.task is {config.task}, expected {task}")
        if (config.init, config.freeze, config.optim.encoder_lr_scale) != (InitConfig(), FreezeConfig(), 1.0):
            raise ConfigError(f"{file or name}: init, freeze and optim.encoder_lr_scale are what the study varies")
        return config

    supervised, pretraining = {}, {}
    for network in (name for name in NETWORKS if name in (options.networks or NETWORKS)):
        config = read(options.config, network, options.epochs, "segmentation")
        config.model.name = network
        supervised[network] = config
    for network in dict.fromkeys(ENCODERS[name] for name in supervised):
        config = read(options.pretrain_config, f"pretrain_{network}", options.pretrain_epochs, "contrastive")
        own = copy.deepcopy(next(supervised[name] for name in supervised if ENCODERS[name] == network))
        config.data, config.augment = own.data, own.augment
        config.model.name, config.model.size, config.model.dtype = network, own.model.size, own.model.dtype
        config.train.devices = own.train.devices
        config.validate()
        pretraining[network] = config
    return supervised, pretraining


def _jobs(out: Path, supervised: dict[str, Config], pretraining: dict[str, Config], seeds: int) -> Iterator[Job]:
    for seed in range(seeds):
        for encoder, base in pretraining.items():
            config = copy.deepcopy(base)
            config.seed += seed
            yield Job(name=_pretraining_name(encoder, seed), config=config)
        for network, base in supervised.items():
            for start in STARTS:
                config = copy.deepcopy(base)
                config.seed += seed
                needs = "" if start == "scratch" else _pretraining_name(ENCODERS[network], seed)
                if needs:
                    config.init.encoder_from = str((out / "runs" / needs).resolve())
                config.freeze.encoder = start == "frozen"
                config.optim.encoder_lr_scale = 0.1 if start == "slow" else 1.0
                yield Job(name=_name(network, start, seed), config=config, needs=needs)


def _name(network: str, start: str, seed: int) -> str:
    return f"{network}-{start}-{seed}"


def _pretraining_name(encoder: str, seed: int) -> str:
    return f"pretraining-{encoder}-{seed}"


def _results(
    out: Path, networks: Sequence[str], failures: dict[str, str]
) -> dict[tuple[str, str], list[Result | None]]:
    """Read all that was evaluated, by row of the table and seed; None where there is nothing."""
    results: dict[tuple[str, str], list[Result | None]] = {}
    for network in networks:
        for start in STARTS:
            names = [_name(network, start, seed) for seed in range(seeds_done(out))]
            results[network, start] = read_results(out, names, failures)
    return results


def _setting(supervised: dict[str, Config], pretraining: dict[str, Config]) -> str:
    """Say in a line what was run."""
    first = next(iter(supervised.values()))
    size = f"{first.data.crop}² crops" if first.data.crop else "whole tiles"
    lengths, before = ({_length(c.train) for c in configs.values()} for configs in (supervised, pretraining))
    split = (
        "as published" if first.data.split == "published" else f"by {first.data.split}, seed {first.data.split_seed}"
    )
    return (
        f"{first.model.size} networks, {size}, {' or '.join(sorted(lengths))}; encoders pretrained for "
        f"{' or '.join(sorted(before))}; one split ({split})"
    )


def _length(train: TrainConfig) -> str:
    length = f"{train.epochs} epochs" if train.epochs else f"{train.steps} steps"
    return f"up to {length} (patience {train.patience})" if train.patience else length


if __name__ == "__main__":
    raise SystemExit(main())
