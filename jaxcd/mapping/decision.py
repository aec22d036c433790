"""Decides what a map calls damage: from which level on, and from which probability on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import Scale
from jaxcd.mapping.calibration import Labelled, calibrate
from jaxcd.mapping.predict.blocks import NO_DATA, Block, as_raster, read_rows
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.products.summary import Interval
from jaxcd.mapping.products.thresholds import STOPS, Ranked, called_shares
from jaxcd.mapping.settings import SCENE, MapSettings, share_of
from jaxcd.runs.inference import Trained
from jaxcd.scenes.windows import Grid

_ZERO = 0.25  # what a probability below the first step is on average, in steps
_ROWS = 512  # rows of a map that are read at a time


class Threshold(NamedTuple):
    """The probability from which a pixel is called damage, in words how it was chosen, and how sure that is."""

    value: float
    source: str
    interval: Interval | None = None


def damage_from(scale: Scale, settings: MapSettings) -> int:
    """Return the code of the lowest level that counts as damage.

    Raises:
        ConfigError: the scale has no such level of damage.
    """
    if not settings.level:
        return scale.damaged
    if not scale.buildings:
        raise ConfigError(
            f"--level {settings.level}: the run's network was trained without levels of damage (scale "
            f"{scale.name}); leave --level out"
        )
    if settings.level not in scale.levels[1:]:
        raise ConfigError(
            f"--level: expected one of {', '.join(scale.levels[1:])} (the run's scale is {scale.name}), "
            f"got {settings.level!r}"
        )
    return scale.codes.index(settings.level)


def threshold_of(trained: Trained, scale: Scale, settings: MapSettings) -> Threshold:
    """Return the threshold that does not depend on the scenes: the given one, or that of the run."""
    level = damage_from(scale, settings)
    if isinstance(settings.threshold, float):
        return Threshold(settings.threshold, "--threshold")
    if level != scale.damaged:
        return Threshold(0.5, f"the run's threshold is for damage from {scale.codes[scale.damaged]} on")
    if trained.threshold is None:
        return Threshold(0.5, "the run has no validation")
    return Threshold(trained.threshold, "best on the run's validation")


def needs_the_map(settings: MapSettings) -> bool:
    """Say whether the threshold is chosen by the probabilities of the whole map."""
    return bool(settings.expect) or settings.threshold == SCENE or settings.calibrate is not None


def threshold_of_map(
    blocks: Sequence[Block], grid: Grid, level: int, settings: MapSettings, labelled: Labelled | None
) -> Threshold:
    """Choose the threshold by the map's probabilities, as the settings say.

    Args:
        blocks: of the whole map, all on disk.
        grid: of the map.
        level: code of the lowest level that counts as damage.
        settings: settings of the map.
        labelled: the places of `settings.calibrate`.

    Raises:
        ConfigError: the map can't give the expected share.
        LabelError: too few labelled places are seen.
    """
    if settings.expect:
        return threshold_for_share(blocks, grid, level, settings.expect)
    if labelled is None:
        return threshold_of_scene(_counts(blocks, grid, level))
    ranked = Ranked.of(as_raster(blocks, grid), level, STEPS, STOPS[0])
    found = calibrate(labelled, ranked, called_shares(ranked, grid))
    stops, damaged = ranked.stops, int(labelled.damaged.sum())
    interval = Interval(name="90% interval", low=stops[found.low], high=stops[found.high])
    return Threshold(
        stops[found.stop],
        f"--calibrate {labelled.path}: {damaged} damaged and {len(labelled.damaged) - damaged} intact places, of which "
        f"{found.recall:.0%} and {found.false_alarms:.0%} are above it; {interval.name} {interval.low:g} to "
        f"{interval.high:g}",
        interval,
    )


def threshold_of_scene(counts: Int64[np.ndarray, "n"]) -> Threshold:
    """Estimate the threshold that parts damage from other ground, without labels: the minimum cross-entropy.

    Both sides of a threshold are described by their mean probability; the threshold is the one at which this describes
    all pixels best (Li and Lee, Minimum cross entropy thresholding, 1993). It assumes that there is damage, and that it
    stands out in the probability; without damage, the most suspicious ground is called damage.

    Args:
        counts: pixels with data by probability, a count for each multiple of 1 / STEPS from 0 on.
    """
    if not counts.any():
        return Threshold(0.5, "no pixel has data")
    steps = np.arange(float(len(counts)))
    steps[0] = _ZERO
    below, mass = counts.cumsum()[:-1], (counts * steps).cumsum()[:-1]
    above, rest = counts.sum() - below, (counts * steps).sum() - mass
    possible = (below > 0) & (above > 0)
    if not possible.any():
        return Threshold(0.5, "all pixels have the same probability")
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -mass * np.log(mass / below) - rest * np.log(rest / above)
    entropy = np.where(possible, entropy, np.inf)
    # Of equally good thresholds, take the highest, as `threshold_for_share` does.
    first = int(np.flatnonzero(entropy == entropy.min())[-1]) + 1
    return Threshold(
        first / STEPS,
        f"--threshold {SCENE}: minimum cross-entropy of its probabilities, which assumes that there is damage; "
        f"{counts[first:].sum() / counts.sum():.2%} of the seen ground is above it",
    )


def threshold_for_share(blocks: Sequence[Block], grid: Grid, level: int, expect: str) -> Threshold:
    """Choose the threshold at which the share of the seen ground called damage is nearest to an expected one.

    For a disaster that the network was not trained on, probabilities rank pixels better than they tell how many of them
    are damaged. A user who knows about how much is damaged can give that share (docs/results.md, Santa Rosa and other
    disasters).

    Args:
        blocks: of the whole map, all on disk.
        grid: of the map.
        level: code of the lowest level that counts as damage.
        expect: value of `--expect`.

    Raises:
        ConfigError: the expected share is larger than the share with a probability above 0.
    """
    share, counts = share_of(expect), _counts(blocks, grid, level)
    if not counts.any():
        return Threshold(0.5, "no pixel has data")
    above = counts[::-1].cumsum()[::-1][1:] / counts.sum()  # share at a threshold of 1, 2, ... steps
    if above[0] < share:
        raise ConfigError(
            f"--expect {expect}: only {above[0]:.2%} of the seen ground has a probability of damage above 0; expect "
            "less (what the network computed is kept)"
        )
    # Of equally near thresholds, take the highest: it calls less ground damage.
    distance = np.abs(above - share)
    steps = int(np.flatnonzero(distance == distance.min())[-1]) + 1
    return Threshold(steps / STEPS, f"--expect {expect}: {above[steps - 1]:.2%} of the seen ground is above it")


def _counts(blocks: Sequence[Block], grid: Grid, level: int) -> Int64[np.ndarray, "n"]:
    """Count the pixels with data by their probability of a level, a count for each of STEPS + 1 values."""
    counts = np.zeros(NO_DATA + 1, np.int64)
    for top in range(0, grid.height, _ROWS):
        values = read_rows(blocks, top, min(top + _ROWS, grid.height), grid.width)[level - 1]
        counts += np.bincount(values.ravel(), minlength=len(counts))
    return counts[:NO_DATA]
