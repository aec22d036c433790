"""The scores of an evaluation by event: what a network is worth on each disaster by itself."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxcd.base.types import Tile
from jaxcd.learn.metrics import Counts

LEAST_DAMAGED = 1000
"""Damaged pixels from which an event counts in the mean over events: with fewer, a roof or two decide."""


class EventScores(NamedTuple):
    """Scores of one event's tiles.

    Attributes:
        tiles: labelled images.
        known: pixels of known class.
        damaged: damaged ones of them.
        f1: at the threshold of the run.
        flagged: share of the known pixels called damage at that threshold.
        share_f1: at the threshold that calls as much damage as there is: what `jaxcd.predict --expect` gives to a user
            who knows the share.
        best_f1: at the threshold that is best for this event, which nobody knows beforehand.
        best_threshold: that threshold.
        average_precision: over all thresholds; None where nothing is damaged.
    """

    tiles: int
    known: int
    damaged: int
    f1: float
    flagged: float
    share_f1: float
    best_f1: float
    best_threshold: float
    average_precision: float | None


def by_event(
    tiles: Sequence[tuple[Tile, Counts]], events: Mapping[str, str], threshold: float
) -> dict[str, EventScores]:
    """Compute the scores of each event.

    Args:
        tiles: counts of each tile.
        events: by the id of a place; a place that is missing or has an empty one is of the event "unknown".
        threshold: of the run.

    Returns:
        Scores by the name of the event, in alphabetic order.
    """
    groups: dict[str, list[Counts]] = {}
    for tile, counts in tiles:
        groups.setdefault(events.get(tile.place) or "unknown", []).append(counts)
    scores = {}
    for event, own in sorted(groups.items()):
        counts = sum(own, Counts.zero())
        best = counts.best()
        scores[event] = EventScores(
            tiles=len(own),
            known=counts.valid,
            damaged=counts.damaged,
            f1=counts.at(threshold).f1,
            flagged=counts.flagged(threshold),
            share_f1=counts.at(counts.threshold_for(counts.damaged)).f1,
            best_f1=counts.at(best).f1,
            best_threshold=best,
            average_precision=counts.average_precision() if counts.damaged else None,
        )
    return scores


def mean_average_precision(scores: Mapping[str, EventScores]) -> float | None:
    """Return the mean over the events with at least `LEAST_DAMAGED` damaged pixels; None if there is none."""
    found = [own.average_precision for own in scores.values() if own.damaged >= LEAST_DAMAGED]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def describe(scores: Mapping[str, EventScores], threshold: float) -> str:
    """Return a table with a line for each event, and the mean of their average precisions."""
    width = max(20, *(len(event) + 2 for event in scores))
    names = ("tiles", "damaged", "F1", "flagged", "F1, share", "best F1", "at", "AP")
    lines = [f"{f'by event, at {threshold:.3f}':<{width}}" + "".join(f"{name:>10}" for name in names)]
    for event, own in scores.items():
        found = own.average_precision is not None
        ratios = [f"{own.f1:.4f}" if found else "-", f"{own.flagged:.2%}"]
        best = (own.share_f1, own.best_f1, own.best_threshold, own.average_precision)
        ratios += [f"{value:.4f}" for value in best] if found else "----"
        cells = [str(own.tiles), f"{own.damaged:,}", *ratios]
        lines.append(f"{event:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    mean = mean_average_precision(scores)
    if mean is not None:
        lines.append(f"mean AP over events with at least {LEAST_DAMAGED:,} damaged pixels: {mean:.4f}")
    return "\n".join(lines)
