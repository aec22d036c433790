"""Train a damage network: `python -m jaxcd.train --config configs/X.py [--config.a.b=v ...] --workdir RUN`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxcd.config import Config
from jaxcd.entry import announce_device, guarded, parse_run_flags

_USAGE = """usage: python -m jaxcd.train --config FILE [--config.group.field=value ...] --workdir RUN

  --config FILE               a file of configs/, or your own with get_config() -> jaxcd.config.Config
  --config.group.field=value  overrides one field; jaxcd/config.py says what there is
  --workdir RUN               folder of the run; the same command goes on where an earlier one ended"""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C, with all saved)."""
    config, run = parse_run_flags(sys.argv if argv is None else argv, usage=_USAGE)
    announce_device()
    return _train(config, run)


def _train(config: Config, run: Path) -> int:
    # jax comes late: loader processes import this module again and have no use for it.
    import jax

    from jaxcd.tiles.dataset import open_or_build
    from jaxcd.tiles.loader import evaluation_batches, train_batches
    from jaxcd.tiles.splits import NAMES, describe, split_places
    from jaxcd.training import loop, run_folder, steps

    run_folder.check(run, config)
    steps.check_crop(config)
    devices = steps.training_mesh(config).size
    dataset = open_or_build(config.data)
    splits = split_places(dataset.samples, config.data, seed=config.seed)
    print(describe(dataset.samples, splits))
    stride = steps.stride(config.model)
    source = loop.Source(
        places=len(splits.train),
        validation_tiles=sum(len(dataset.samples[row].post) for row in splits.validation),
        batches=lambda start: train_batches(
            dataset,
            splits.train,
            config,
            stride=stride,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ),
        validation=lambda: evaluation_batches(
            dataset, splits.validation, batch=config.train.eval_batch * devices, stride=stride
        ),
        name=lambda row: dataset.samples[row].id,
    )
    with run_folder.claim(run, config):
        places = {part: [dataset.samples[row].id for row in getattr(splits, part)] for part in NAMES}
        run_folder.record_splits(run, places, labels=dataset.digest())
        outcome = loop.train(config, run, source)
    if not outcome.finished:
        print(f"stopped at step {outcome.step}, all saved; the same command goes on from there")
        return 128 + outcome.signal
    print(f"finished {outcome.step} steps; evaluate with: python -m jaxcd.evaluate --run {run} --split test --out DIR")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
