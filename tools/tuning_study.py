"""What fine-tuning on some labels of a scene brings: pixel scores of its maps before and after.

    python tools/xbd_scenes.py --source XBD --out scenes/michael
    python tools/tuning_study.py --scenes scenes/michael --run RUN --out tuned/michael

Answers for some buildings, drawn at random, with their true levels (attribute `subtype`); fine-tunes RUN on these
labels as `jaxcd.label --fine_tune` does; maps all scenes with RUN and with what became of it. Damaged: major damage and
destroyed. The pixels of the labelled buildings, and of those whose level is unknown, are left out of the scores.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import write_whole
from jaxcd.base.processes import Children, Stopped, last_words
from jaxcd.base.scales import XBD
from jaxcd.labelling import workspace
from jaxcd.labelling.learning import tuning
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Edit, Store
from jaxcd.labelling.visible import seen_of
from jaxcd.learn.metrics import BINS, Counts
from jaxcd.mapping import listed_pairs
from jaxcd.mapping.products.rasters import DECISION, EMPTY, PROBABILITY, TOP
from jaxcd.scenes.raster import drawn

LEVELS = dict(zip(("no-damage", "minor-damage", "major-damage", "destroyed"), XBD.levels, strict=True))
DAMAGED = XBD.levels[2:]


class Building(NamedTuple):
    """A building of the scenes: its pair, its id in the store, and its true level (None: unknown)."""

    pair: str
    object: str
    level: str | None


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of the study; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/tuning_study.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=Path, required=True, help="folder of tools/xbd_scenes.py")
    parser.add_argument("--run", type=Path, required=True, help="run folder of a network that has not seen them")
    parser.add_argument("--out", type=Path, required=True, help="folder of the store, the maps and scores.json")
    parser.add_argument("--labels", type=int, default=120, help="buildings that are labelled (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of labels (default %(default)s)")
    options = parser.parse_args(argv)
    if options.labels < 1:
        raise ConfigError(f"--labels: expected at least 1, got {options.labels}")
    try:
        return _study(options)
    except Stopped as signalled:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + signalled.number


def _study(options: argparse.Namespace) -> int:
    listed, store = options.scenes / "list.csv", options.out / "store"
    wanted = listed_pairs.read(listed)
    frames = {each.name: gpd.read_file(each.footprints) for each in wanted if each.footprints}
    labelled = _label(store, listed, frames, options.labels, options.seed)
    before, log = options.out / "before", options.out / "output.log"
    if tuning.network_run(store) is None:
        _entry(["jaxcd.label", "--store", str(store), "--fine_tune", "--run", str(options.run)], log)
    _entry(["jaxcd.predict", "--run", str(options.run), "--pairs", str(listed), "--out", str(before)], log)
    tuned = tuning.network_run(store)
    assert tuned is not None
    found = {
        name: scores(maps, frames, labelled) for name, maps in (("before", before), ("after", tuned.parent / "maps"))
    }
    found["labels"] = {level: sum(each.level == level for each in labelled) for level in XBD.levels}
    write_whole(options.out / "scores.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


def _label(store: Path, listed: Path, frames: Mapping[str, gpd.GeoDataFrame], count: int, seed: int) -> list[Building]:
    """Label buildings of known level with their true ones, drawn at random among all; those already labelled stay."""
    settings = LabelSettings()
    opened = workspace.open_all(workspace.named(pairs=listed, settings=settings), settings, store)
    seen = {each.pair.id: seen_of(each) for each in opened}
    made = Store.create_or_open(store, XBD, [each.pair for each in opened], seen)
    try:
        buildings = []
        for name, frame in frames.items():
            shown, _ = made.objects(name, made.pairs[name].bounds, viewer=None, limit=len(frame) + 1)
            known = {each.object for each in shown}
            rows = [(f"f{row}", LEVELS.get(level)) for row, level in zip(frame.index, frame["subtype"], strict=True)]
            buildings += [Building(name, key, level) for key, level in rows if level and key in known]
        order = np.random.default_rng(seed).permutation(len(buildings))[:count]
        person = made.person("study")
        for place in order:
            chosen = buildings[place]
            edit = Edit(object=chosen.object, base=0, level=chosen.level)
            made.save(chosen.pair, f"study {seed} {place}", person, [edit])
    finally:
        made.close()
    return [buildings[place] for place in order]


def _entry(arguments: Sequence[str], log: Path) -> None:
    with Children() as children:
        code = children.run(arguments, log)
    if code:
        raise RunError(f"{arguments[0]}: {last_words(log, code)}")


def scores(maps: Path, frames: Mapping[str, gpd.GeoDataFrame], labelled: Sequence[Building]) -> dict[str, float]:
    """Score the pixels of maps; the footprints are the truth.

    Args:
        maps: folder with a map of each scene.
        frames: footprints of each scene, with their true levels.
        labelled: buildings whose pixels are left out.

    Returns:
        Precision, recall and F1 at the maps' own threshold, the best F1 at any, average precision, and the number of
        pixels that are scored and damaged.
    """
    total, decided = Counts.zero(), np.zeros((2, 2), np.int64)
    for name, frame in frames.items():
        with rasterio.open(maps / name / PROBABILITY) as probability, rasterio.open(maps / name / DECISION) as decision:
            values, called = probability.read(1), decision.read(1)
            shape, transform = (values.shape[0], values.shape[1]), probability.transform
            outlines = frame.geometry.to_crs(probability.crs).to_numpy()
        levels = [LEVELS.get(level) for level in frame["subtype"]]
        taken = {each.object for each in labelled if each.pair == name}
        out = [level is None or f"f{row}" in taken for row, level in zip(frame.index, levels, strict=True)]
        truth = _drawn(outlines[[level in DAMAGED for level in levels]], shape, transform)
        valid = (values != EMPTY) & ~_drawn(outlines[out], shape, transform)
        bins = np.minimum(values[valid].astype(int) * BINS // TOP, BINS - 1)
        total += Counts(
            bins=np.stack([np.bincount(bins[truth[valid] == side], minlength=BINS) for side in (False, True)])
        )
        np.add.at(decided, (truth[valid].astype(int), called[valid].astype(int)), 1)
    (_, false), (missed, hit) = decided.tolist()
    return {
        "precision": hit / max(hit + false, 1),
        "recall": hit / max(hit + missed, 1),
        "F1": 2 * hit / max(2 * hit + false + missed, 1),
        "best F1": total.at(total.best()).f1,
        "average precision": total.average_precision(),
        "pixels": total.valid,
        "damaged pixels": total.damaged,
    }


def _drawn(outlines: np.ndarray, shape: tuple[int, int], transform: Affine) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels of outlines, of which there may be none."""
    return drawn(outlines, shape, transform) if len(outlines) else np.zeros(shape, bool)


if __name__ == "__main__":
    sys.exit(main())
