"""Train a network or pretrain an encoder: `python -m jaxcd.train --config X.py [--config.a.b=v ...] --workdir RUN`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcd.base import fingerprints, hosts
from jaxcd.base.entry import announce_device, guarded
from jaxcd.base.errors import ConfigError
from jaxcd.config import Config, files
from jaxcd.config.flags import Parser, read_run, run_parser
from jaxcd.sources import layouts

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def parser() -> Parser:
    """Make the parser of the flags."""
    about = "Train a network or pretrain an encoder; the same command continues a run that was interrupted."
    return run_parser("jaxcd.train", about)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C, with all saved)."""
    config, run, _ = read_run(parser(), argv)
    if config.data.split == "published" and not layouts.may_publish(config.data.layout):
        raise ConfigError(
            f"config.data.split: layout {config.data.layout} has no published split; expected place or block"
        )
    together = config.hosts
    if not together.coordinator:
        return _start(config, run)
    return hosts.run(
        lambda: _start(config, run),
        coordinator=together.coordinator,
        processes=together.processes,
        index=together.index,
        timeout=together.timeout,
    )


def _start(config: Config, run: Path) -> int:
    announce_device()
    return _train(config, run)


def _train(config: Config, run: Path) -> int:
    # jax is imported late: loader processes import this module again, and do not need it.
    from jaxcd.feed.split_summary import describe
    from jaxcd.feed.splits import NAMES
    from jaxcd.learn import steps
    from jaxcd.runs import run_folder, transfer
    from jaxcd.runs.announcement import announce_network
    from jaxcd.store.dataset import open_or_build
    from jaxcd.tasks import loop
    from jaxcd.tasks.tasks import TASKS

    announce_network(config, trains=True)
    run_folder.check(run, config)
    steps.check_network(config)
    transfer.check_weights(config, run)
    with hosts.first_alone("dataset"):  # one builds it; the others find it, or build their own where they don't
        dataset = open_or_build(config.data)
    kind = TASKS[config.task]
    splits = kind.split(dataset, config)
    print(describe(dataset.samples, splits, dataset.scale))
    for text in dataset.warnings(splits.train):
        print(f"WARNING: {text}")
    task = kind.of(dataset, splits, config)
    places = {part: [dataset.samples[row].id for row in getattr(splits, part)] for part in NAMES}
    before = transfer.check_places(config, places, labels=dataset.digest())
    if hosts.count() > 1:
        hosts.agree(_facts(config, dataset.digest(), places))
    with run_folder.claim(run, config):
        if hosts.is_first():
            run_folder.record_splits(run, places, labels=dataset.digest(), before=before)
            run_folder.record_metres(run, dataset.metres)
        outcome = loop.train(config, run, task)
    if not outcome.finished:
        print(f"stopped at step {outcome.step}, all saved; the same command goes on from there")
        return 128 + outcome.signal
    print(f"{outcome.early or f'finished {outcome.step} steps'}; {kind.next_command(run)}")
    return 0


def _facts(config: Config, labels: str, places: dict[str, list[str]]) -> dict[str, Any]:
    """Return what has to be the same in all processes of a run."""
    import inspect

    import jax

    from jaxcd.models.networks import find

    # The network may lie outside of jaxcd.
    network = Path(inspect.getfile(find(config.model.name)))
    code = fingerprints.code(_LIBRARIES) | {network.name: fingerprints.file_digest(network)[:12]}
    return {
        "code": code,
        **files.shared_by_processes(config),
        "data": {"labels": labels, **{part: fingerprints.digest(ids, digits=12) for part, ids in places.items()}},
        "devices": jax.local_device_count(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
