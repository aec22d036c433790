"""The paper's study on anyone's data: does contrastive pretraining help where labels are few?

    python tools/study.py --data DIR --layout L --out DIR [--seeds 3] [--epochs N] [--config X]

Three networks, each from scratch, with a pretrained encoder, with a pretrained and frozen one, and (what the paper
only proposes) with a pretrained one that learns at a tenth of the rate; each with several seeds on one split. All goes
through `jaxcd.train` and `jaxcd.evaluate`. The same command continues what was interrupted or has failed, and a larger
--seeds adds seeds. Writes `study.md`, `study.csv` and `claims.png`.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from study_report import NETWORKS, STARTS, Result, read_result, write_report

from jaxcd.base import progress
from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import refuse_other
from jaxcd.base.folders import alone, check_folder
from jaxcd.base.processes import Children, Stopped, last_words
from jaxcd.config import Config, FreezeConfig, InitConfig, TrainConfig
from jaxcd.config import files as config_files
from jaxcd.config.flags import Parser, read_run, run_parser
from jaxcd.learn.objectives import objective_of
from jaxcd.runs import run_folder
from jaxcd.runs.figures import METRICS
from jaxcd.runs.logs import read_log
from jaxcd.sources import layouts

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# FC-Siam-Conc and FC-Siam-Diff have the same encoder: it is pretrained once.
ENCODERS = {"fc_ef": "fc_ef", "fc_siam_conc": "fc_siam_diff", "fc_siam_diff": "fc_siam_diff"}
_SETTINGS = "study.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the study.

    Attributes:
        name: of its folder.
        config: what is trained.
        needs: name of the pretraining whose encoder it begins with, or empty.
    """

    name: str
    config: Config
    needs: str = ""

    @property
    def trains_maps(self) -> bool:
        """Whether it is evaluated."""
        return objective_of(self.config).maps


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of the study and write its report; returns 1 where a run failed."""
    options = _parser().parse_args(argv)
    if options.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {options.seeds}")
    supervised, pretraining = _bases(options)
    check_folder(options.out, _SETTINGS, holds="study")
    with alone(options.out, working="working on this study"):
        networks = _record(options.out, supervised, pretraining)
        jobs = list(_jobs(options.out, supervised, pretraining, options.seeds))
        failures: dict[str, str] = {}
        stopped = None
        try:
            _run_all(options.out, jobs, failures)
        except Stopped as signalled:
            stopped = signalled
        results = _results(options.out, networks, failures)
        write_report(options.out, results, failures, _setting(supervised, pretraining))
    if stopped is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped.number
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    print(f"written: {options.out}/ study.md, study.csv, claims.png")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python tools/study.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="source folder or built dataset")
    parser.add_argument("--layout", required=True, choices=layouts.NAMES, help="layout of --data")
    parser.add_argument("--out", required=True, type=Path, help="folder of the study")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NETWORK", help="default: all three"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument("--epochs", type=int, help="of the damage networks (default: as their configs)")
    parser.add_argument("--config", help="for all three networks (default: configs/NETWORK.py)")
    parser.add_argument(
        "--pretrain_config",
        help="for both encoders, with data, augmentation and size of --config (default: configs/pretrain_NETWORK.py)",
    )
    parser.add_argument("--pretrain_epochs", type=int, help="of the pretraining (default: as its config)")
    return parser


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
    for network in (name for name in NETWORKS if name in options.networks):
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


def _record(out: Path, supervised: dict[str, Config], pretraining: dict[str, Config]) -> list[str]:
    """Record the settings, or check that they are those that the study began with; networks may be added.

    Returns:
        All networks of the study, also those of an earlier call.

    Raises:
        RunError: the settings are others, or the folder is not a study's.
    """
    path = out / _SETTINGS
    here = {f"train {name}": config for name, config in supervised.items()}
    here |= {f"pretrain {name}": config for name, config in pretraining.items()}
    try:
        text = path.read_text() if path.exists() else "{}"
        there = {name: config_files.from_dict(values) for name, values in json.loads(text).items()}
    except (ValueError, AttributeError, ConfigError) as error:
        raise RunError(f"{path}: not a study's settings ({error}); give a new folder with --out") from error
    for name, config in here.items():
        difference = config_files.difference(there[name], config) if name in there else None
        refuse_other(out, difference and f"{name}: {difference}", holds="study")
    both = there | here
    write_whole(path, json.dumps({name: config_files.to_dict(config) for name, config in both.items()}, indent=1))
    return [network for network in NETWORKS if f"train {network}" in both]


def _jobs(out: Path, supervised: dict[str, Config], pretraining: dict[str, Config], seeds: int) -> Iterator[Job]:
    """Yield all runs, seed by seed, so that a study that ends early has complete tables of fewer seeds."""
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


def _run_all(out: Path, jobs: Sequence[Job], failures: dict[str, str]) -> None:
    """Train and evaluate each; `failures` receives why runs failed, by name."""
    for folder in ("configs", "runs", "results", "logs"):
        (out / folder).mkdir(exist_ok=True)
    with Children() as children, progress.bar(len(jobs), unit="run", title="study") as bar:

        def show(text: str) -> None:
            bar.set_postfix_str(text, refresh=sys.stderr.isatty())  # a log file has no use for a line a second

        for job in jobs:
            if job.needs in failures:
                failures[job.name] = f"its pretraining {job.needs} failed"
            else:
                reason = _run_one(out, job, children, show)
                if reason:
                    failures[job.name] = reason
                    bar.write(f"{job.name} failed: {reason}")
            bar.update()


def _run_one(out: Path, job: Job, children: Children, show: Callable[[str], None]) -> str:
    """Train and evaluate one run, as far as that is not done; returns why it failed, or nothing."""
    run, result, config = out / "runs" / job.name, out / "results" / job.name, out / "configs" / f"{job.name}.py"
    done = (result / METRICS) if job.trains_maps else (run / ".done")
    if done.exists():
        return ""
    config_files.write_python(
        job.config, config, about=f"Run {job.name} of a study.\n\n    python -m jaxcd.train --config FILE --workdir RUN"
    )
    commands = [["jaxcd.train", "--config", str(config), "--workdir", str(run)]]
    if job.trains_maps:
        commands.append(["jaxcd.evaluate", "--run", str(run), "--split", "test", "--out", str(result)])
    log = out / "logs" / f"{job.name}.log"
    run_folder.await_free(run, meanwhile=children.check)
    for command in commands:
        code = children.run(command, log, meanwhile=lambda: show(f"{job.name}, {_last_step(run)}"))
        if code:
            return last_words(log, code)
    if not job.trains_maps:
        done.touch()
    return ""


def _last_step(run: Path) -> str:
    entries = read_log(run)
    return f"step {entries[-1]['step']}" if entries else "starting"


def _results(
    out: Path, networks: Sequence[str], failures: dict[str, str]
) -> dict[tuple[str, str], list[Result | None]]:
    """Read all that was evaluated, by row of the table and seed; None where there is nothing."""
    seeds = [int(folder.name.rpartition("-")[2]) for folder in (out / "results").glob("*-*-*")]
    results: dict[tuple[str, str], list[Result | None]] = {}
    for network in networks:
        for start in STARTS:
            results[network, start] = []
            for seed in range(max(seeds, default=-1) + 1):
                name = _name(network, start, seed)
                try:
                    results[network, start].append(read_result(out / "results" / name, out / "runs" / name))
                except RunError as error:
                    results[network, start].append(None)
                    failures[name] = str(error)
    return results


def _setting(supervised: dict[str, Config], pretraining: dict[str, Config]) -> str:
    """Say in a line what was run."""
    first = next(iter(supervised.values()))
    size = f"{first.data.crop}² crops" if first.data.crop else "whole tiles"
    lengths, before = ({_length(c.train) for c in configs.values()} for configs in (supervised, pretraining))
    return (
        f"{first.model.size} networks, {size}, {' or '.join(sorted(lengths))}; encoders pretrained for "
        f"{' or '.join(sorted(before))}; one split (by {first.data.split}, seed {first.data.split_seed})"
    )


def _length(train: TrainConfig) -> str:
    length = f"{train.epochs} epochs" if train.epochs else f"{train.steps} steps"
    return f"up to {length} (patience {train.patience})" if train.patience else length


if __name__ == "__main__":
    raise SystemExit(main())
