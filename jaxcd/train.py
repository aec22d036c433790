"""Train a network or pretrain an encoder: `python -m jaxcd.train --config X.py [--config.a.b=v ...] --workdir RUN`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.config import Config
from jaxcd.entry import announce_device, guarded, parse_run_flags, warn_of_slow_type

if TYPE_CHECKING:
    from jaxcd.tiles.dataset import TileDataset
    from jaxcd.tiles.splits import Splits
    from jaxcd.training.pretraining import Pretraining
    from jaxcd.training.segmentation import Segmentation

_FEW = 5  # places of a kind, below which a validation of embeddings says little
_USAGE = """usage: python -m jaxcd.train --config FILE [--config.group.field=value ...] --workdir RUN

  --config FILE               a file of configs/, or your own with get_config() -> jaxcd.config.Config
  --config.group.field=value  overrides one field; jaxcd/config.py says what there is
  --workdir RUN               folder of the run; the same command goes on where an earlier one ended"""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C, with all saved)."""
    config, run, _ = parse_run_flags(sys.argv if argv is None else argv, usage=_USAGE)
    announce_device()
    warn_of_slow_type(config.model.dtype)
    return _train(config, run)


def _train(config: Config, run: Path) -> int:
    # jax comes late: loader processes import this module again and have no use for it.
    from jaxcd.tiles.dataset import open_or_build
    from jaxcd.tiles.pretraining import pretraining_splits
    from jaxcd.tiles.splits import NAMES, describe, split_places
    from jaxcd.training import loop, run_folder, steps, transfer

    run_folder.check(run, config)
    steps.check_crop(config)
    dataset = open_or_build(config.data)
    contrastive = config.task == "contrastive"
    splits = pretraining_splits(dataset.samples, config) if contrastive else split_places(dataset.samples, config.data)
    print(describe(dataset.samples, splits))
    task = (_pretraining if contrastive else _segmentation)(config, dataset, splits)
    places = {part: [dataset.samples[row].id for row in getattr(splits, part)] for part in NAMES}
    before = transfer.check_places(config, places, labels=dataset.digest())
    with run_folder.claim(run, config):
        run_folder.record_splits(run, places, labels=dataset.digest(), before=before)
        run_folder.record_metres(run, dataset.metres)
        outcome = loop.train(config, run, task)
    if not outcome.finished:
        print(f"stopped at step {outcome.step}, all saved; the same command goes on from there")
        return 128 + outcome.signal
    then = (
        f"begin a damage network with its encoder: --config.init.encoder_from={run}"
        if contrastive
        else f"evaluate with: python -m jaxcd.evaluate --run {run} --split test --out DIR"
    )
    print(f"finished {outcome.step} steps; {then}")
    return 0


def _segmentation(config: Config, dataset: "TileDataset", splits: "Splits") -> "Segmentation":
    import jax

    from jaxcd.tiles.loader import evaluation_batches, train_batches
    from jaxcd.training import steps
    from jaxcd.training.segmentation import Segmentation

    stride, devices = steps.stride(config.model), steps.training_mesh(config).size
    return Segmentation(
        places=len(splits.train),
        batches=lambda start: train_batches(
            dataset,
            splits.train,
            config,
            stride=stride,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        ),
        name=lambda row: dataset.samples[row].id,
        validation_tiles=sum(len(dataset.samples[row].post) for row in splits.validation),
        validation=lambda: evaluation_batches(
            dataset, splits.validation, batch=config.train.eval_batch * devices, stride=stride
        ),
    )


def _pretraining(config: Config, dataset: "TileDataset", splits: "Splits") -> "Pretraining":
    import jax

    from jaxcd.tiles.pretraining import contrast_batches, kinds
    from jaxcd.training import steps
    from jaxcd.training.pretraining import Pretraining

    steps.training_mesh(config)
    stride = steps.stride(config.model)
    here = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    train, validation = (
        kinds(dataset, rows, config, stride=stride, split=name)
        for name, rows in (("train", splits.train), ("validation", splits.validation))
    )
    few = min(len(validation.damaged), len(validation.intact))
    if few < _FEW:
        print(
            f"WARNING: validation crops come from {few} places; what they say of embeddings is about these few",
            file=sys.stderr,
        )
    return Pretraining(
        places=2 * len(train.damaged) // config.compared,
        batches=lambda start: contrast_batches(
            dataset, train, config, stride=stride, seed=config.seed, start=start, **here
        ),
        name=lambda row: dataset.samples[row].id,
        # The same pairs whatever the run's seed, so that runs can be compared.
        known=lambda: contrast_batches(dataset, train, config, stride=stride, seed=0, **here),
        asked=lambda: contrast_batches(dataset, validation, config, stride=stride, seed=0, **here),
    )


if __name__ == "__main__":
    raise SystemExit(main())
