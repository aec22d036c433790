"""Decides what a map calls damage: from which level on, and from which probability on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import Scale
from jaxcd.mapping.predict.blocks import NO_DATA, Block, read_rows
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.settings import MapSettings, share_of
from jaxcd.runs.inference import Trained
from jaxcd.scenes.windows import Grid

_ROWS = 512  # rows of a map that are read at a time


class Threshold(NamedTuple):
    """The probability from which a pixel is called damage, and in words how it was chosen."""

    value: float
    source: str


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
    if settings.threshold is not None:
        return Threshold(settings.threshold, "--threshold")
    if level != scale.damaged:
        return Threshold(0.5, f"the run's threshold is for damage from {scale.codes[scale.damaged]} on")
    if trained.threshold is None:
        return Threshold(0.5, "the run has no validation")
    return Threshold(trained.threshold, "best on the run's validation")


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
