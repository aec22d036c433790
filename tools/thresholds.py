"""How well a scene's threshold can be chosen: F1 by event with each way of `jaxcd.predict`, as a share of the best F1.

    python tools/thresholds.py --run RUN --data DIR [--layout L] [--draws 200]

A place of known class is a connected patch of truly damaged pixels, or a point on other ground. `labelled` chooses the
threshold by 15 damaged and 15 intact places (`jaxcd.predict --calibrate`), `scene` without labels (`--threshold
scene`). The other columns are of well-known estimators that were tried beside it: the shift of the prior by EM
(Saerens et al. 2002), and Otsu's threshold of the probabilities.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from jaxcd.base.entry import guarded
from jaxcd.base.errors import RunError
from jaxcd.mapping import calibration
from jaxcd.mapping.decision import threshold_of_scene
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.products.thresholds import STOPS

_PLACES = 15  # damaged, and as many intact
_PRIOR = 0.0126  # share of damage in the test tiles of Santa Rosa and Michael
_LEAST = 40  # pixels of a damaged patch
_BEST = 0.3  # an event counts if its best F1 is at least this


class Event(NamedTuple):
    """Pixels of an event by probability in steps of 1 / STEPS, and the places that an analyst could label.

    `damaged` and `intact` hold for each place the share of its pixels that is above each of `STOPS`.
    """

    hits: np.ndarray
    others: np.ndarray
    damaged: np.ndarray
    intact: np.ndarray

    def f1(self) -> np.ndarray:
        """Return F1 at every threshold, a multiple of 1 / STEPS."""
        found, wrong = (counts[::-1].cumsum()[::-1] for counts in (self.hits, self.others))
        return 2 * found / np.maximum(self.hits.sum() + found + wrong, 1)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/thresholds.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--data", required=True, help="tiles with events, in the run's layout")
    parser.add_argument("--cache", help="folder of built datasets")
    parser.add_argument("--draws", type=int, default=200, help="times that places are drawn anew")
    options = parser.parse_args(argv)
    from jaxcd.runs import inference, run_folder

    config = run_folder.read_config(options.run)
    config.data.cache = options.cache or config.data.cache
    trained = inference.load(config, options.run)
    events = {name: one for name, one in _events(config, trained, options.data).items() if one.f1().max() >= _BEST}
    if not events:
        raise RunError(f"{options.data}: no event has a best F1 of at least {_BEST}")
    _print(events, trained.threshold or 0.5, options.draws)
    return 0


def _events(config: Any, trained: Any, data: str) -> dict[str, Event]:
    """Predict all tiles of a dataset, and collect the pixels of each event."""
    import copy

    from jaxcd import models
    from jaxcd.feed.loader import evaluation_batches
    from jaxcd.learn import sharding, steps
    from jaxcd.store.dataset import open_or_build

    settings = copy.deepcopy(config.data)
    settings.root, settings.weights, settings.events, settings.test_events = data, (), "", ()
    dataset = open_or_build(settings)
    rows = range(len(dataset.samples))
    mesh, rng = sharding.evaluation_mesh(config), np.random.default_rng(0)
    step = steps.evaluation_step(trained.network, config, dataset.scale)
    params, stats = (sharding.replicate(part, mesh) for part in (trained.params, trained.stats))
    found: dict[str, list[Event]] = {}
    stride = models.describe(config.model).stride
    for batch, _ in evaluation_batches(dataset, list(rows), batch=mesh.size, stride=stride):
        probability = np.asarray(step(params, stats, sharding.shard_batch(batch, mesh)).probability)
        for i, row in enumerate(batch.ids):
            if row >= 0:
                damaged, known = batch.labels[i] >= dataset.scale.damaged, batch.valid[i] > 0
                one = _tile(probability[i], damaged & known, known & (batch.labels[i] == 0), known, rng)
                found.setdefault(dataset.samples[int(row)].event, []).append(one)
    return {
        name: Event(
            np.sum([one.hits for one in own], axis=0),
            np.sum([one.others for one in own], axis=0),
            np.concatenate([one.damaged for one in own]),
            np.concatenate([one.intact for one in own]),
        )
        for name, own in sorted(found.items())
    }


def _tile(probability: np.ndarray, damaged: np.ndarray, ground: np.ndarray, known: np.ndarray, rng: Any) -> Event:
    steps = np.rint(probability.astype(np.float64) * STEPS).astype(np.int64)
    hits, others = (np.bincount(steps[mask], minlength=STEPS + 1) for mask in (damaged, known & ~damaged))
    firsts = np.ceil(np.array(STOPS) * STEPS)
    labels, _ = ndimage.label(damaged)  # type: ignore[misc]
    patches = [steps[labels == number] for number in np.flatnonzero(np.bincount(labels.ravel()) >= _LEAST) if number]
    points = steps[ground][rng.integers(0, max(int(ground.sum()), 1), 400 if ground.any() else 0)]
    above = [(patch[:, None] >= firsts).mean(axis=0) for patch in patches]
    return Event(hits, others, np.array(above).reshape(-1, len(STOPS)), (points[:, None] >= firsts).astype(float))


def _print(events: dict[str, Event], threshold: float, draws: int) -> None:
    ways = {"run": lambda counts: threshold, "scene": lambda counts: threshold_of_scene(counts).value}
    ways |= {"EM": _em, "Otsu": _otsu}
    print(f"{'share of the best F1':<24}" + "".join(f"{name:>10}" for name in ("best F1", *ways, "labelled", "(10 %)")))
    table = []
    for name, event in events.items():
        f1 = event.f1()
        values = [f1[min(int(np.ceil(way(event.hits + event.others) * STEPS)), STEPS)] for way in ways.values()]
        chosen = np.array(list(_drawn(event, draws)))
        drawn = f1[np.ceil(np.array(STOPS)[chosen] * STEPS).astype(int)]
        row = [f1.max(), *(value / f1.max() for value in [*values, drawn.mean(), np.quantile(drawn, 0.1)])]
        table.append(row)
        print(f"{name:<24}" + "".join(f"{value:>10.3f}" for value in row))
    print(f"{'mean':<24}" + "".join(f"{value:>10.3f}" for value in np.mean(table, axis=0)))


def _drawn(event: Event, draws: int) -> Iterator[int]:
    rng = np.random.default_rng(0)
    counts = event.hits + event.others
    above = counts[::-1].cumsum()[::-1] / counts.sum()
    called = above[np.ceil(np.array(STOPS) * STEPS).astype(int)]
    for _ in range(draws):
        damaged, intact = (own[rng.integers(0, len(own), _PLACES)] for own in (event.damaged, event.intact))
        yield calibration.best(damaged.mean(axis=0)[None], called)[0]


def _em(counts: np.ndarray) -> float:
    x, prior = np.arange(len(counts)) / STEPS, _PRIOR
    share = prior
    for _ in range(300):
        with np.errstate(invalid="ignore"):
            odds = x * share / prior, (1 - x) * (1 - share) / (1 - prior)
            after = odds[0] / (odds[0] + odds[1])
        share = max(float((after * counts).sum() / counts.sum()), 1e-7)
    return float(np.searchsorted(after, 0.5) / STEPS)


def _otsu(counts: np.ndarray) -> float:
    number, total = counts.cumsum(), (counts * np.arange(len(counts), dtype=float)).cumsum()
    low = total / np.maximum(number, 1)
    high = (total[-1] - total) / np.maximum(number[-1] - number, 1)
    return float((number * (number[-1] - number) * (high - low) ** 2).argmax() + 1) / STEPS


if __name__ == "__main__":
    sys.exit(main())
