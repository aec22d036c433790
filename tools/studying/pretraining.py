"""The paper's study: three networks with and without a pretrained encoder, which `tools/study.py --data DIR` runs."""

import argparse
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from jaxcd.base.errors import ConfigError
from jaxcd.config import Config, FreezeConfig, InitConfig, TrainConfig
from jaxcd.config.flags import read_run, run_parser
from studying.report import NETWORKS, STARTS, write_report
from studying.results import Result, read_results
from studying.runs import Job, seeds_done

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# FC-Siam-Conc and FC-Siam-Diff have the same encoder: it is pretrained once.
_ENCODERS = {"fc_ef": "fc_ef", "fc_siam_conc": "fc_siam_diff", "fc_siam_diff": "fc_siam_diff"}


class Pretraining:
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
        flags = ["--config", file or str(_CONFIGS / f"{name}.py"), "--workdir", str(options.out)]
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
    for network in dict.fromkeys(_ENCODERS[name] for name in supervised):
        config = read(options.pretrain_config, f"pretrain_{network}", options.pretrain_epochs, "contrastive")
        own = copy.deepcopy(next(supervised[name] for name in supervised if _ENCODERS[name] == network))
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
                needs = "" if start == "scratch" else _pretraining_name(_ENCODERS[network], seed)
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
