"""Tells the splits of a dataset in words: places, damage, levels, and what is left out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jaxcd.base.scales import BINARY, Scale
from jaxcd.feed.splits import NAMES, Splits
from jaxcd.store.manifest import Sample


def describe(samples: Sequence[Sample], splits: Splits, scale: Scale = BINARY) -> str:
    """Describe the splits in a few lines: their places and damage, and how many places are left out for which reason.

    With levels of damage, the lines also give the share of known pixels of each level, and warn of levels that no
    training pixel has.
    """
    lines = []
    for name, rows in zip(NAMES, (splits.train, splits.validation, splits.test), strict=True):
        pixels = sum(post.valid for row in rows for post in samples[row].post)
        damaged = sum(samples[row].damaged for row in rows)
        with_damage = sum(samples[row].damaged > 0 for row in rows)
        share = damaged / max(pixels, 1)
        lines.append(
            f"{name:<10} {len(rows):>6} places, {with_damage} with damage, {share:.2%} of known pixels damaged"
        )
        if scale.buildings:
            lines.append("           " + ", ".join(_shares(samples, rows, scale, pixels)))
    if scale.buildings:
        counts = _count(samples, splits.train, scale)
        absent = [name for name, count in zip(scale.levels, counts[1:-1], strict=True) if not count]
        if absent:
            lines.append(f"WARNING: no training pixel is {' or '.join(absent)}: the network cannot learn it")
    harmed = {samples[row].event for row in splits.train if samples[row].damaged}
    events = Counter(samples[row].event for row in splits.train)
    lines += [
        f"WARNING: no training pixel of the event {event} is damaged ({count} places): it only teaches no damage"
        for event, count in sorted(events.items())
        if len(events) > 1 and event not in harmed
    ]
    for reason, count in Counter(reason for _, reason in splits.left_out).items():
        lines.append(f"left out   {count:>6} places: {reason}")
    return "\n".join(lines)


def _count(samples: Sequence[Sample], rows: Sequence[int], scale: Scale) -> np.ndarray:
    """Count the pixels of each code of the scale, then those of buildings of unknown level."""
    none = (0,) * (len(scale.codes) + 1)
    return np.sum([none, *(post.codes for row in rows for post in samples[row].post)], axis=0)


def _shares(samples: Sequence[Sample], rows: Sequence[int], scale: Scale, pixels: int) -> list[str]:
    counts = _count(samples, rows, scale)
    return [f"{name} {count / max(pixels, 1):.3%}" for name, count in zip(scale.levels, counts[1:-1], strict=True)]
