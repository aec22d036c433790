"""The scores of an evaluation by event, and where labels are incomplete, recall by the area flagged.

Where much damage has no label, precision says nothing. What can be compared is recall at the same area flagged, of the
network and of |pre - post|, and with chance, which finds as much of the damage as of the area.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxcd.base.types import Tile
from jaxcd.learn.metrics import Counts

LEAST_DAMAGED = 1000
"""Damaged pixels from which an event counts in the mean over events: with fewer, a roof or two decide."""

AREAS = (0.02, 0.05, 0.10)
"""Shares of the area flagged."""
PATCH_METRES = 15.0
_PATCH_PIXELS = 32  # where the size of a pixel is not known


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


class Recall(NamedTuple):
    """Recall of labelled damage at each of `AREAS`.

    Attributes:
        damaged: pixels, or patches, of labelled damage.
        network: by the network's probability.
        difference: by |pre - post|.
    """

    damaged: int
    network: tuple[float, ...]
    difference: tuple[float, ...]

    @classmethod
    def of(cls, network: Counts, difference: Counts) -> "Recall":
        """Compute the recall of two scores on the same pixels, or patches."""
        by_area = [tuple(counts.recall_at(area) for area in AREAS) for counts in (network, difference)]
        return cls(network.damaged, *by_area)


class Recalls(NamedTuple):
    """The recall on pixels and on patches.

    Attributes:
        patch: side of a patch in pixels.
        pixels: recall by group, and "all"; a group without damage is left out.
        patches: likewise.
    """

    patch: int
    pixels: dict[str, Recall]
    patches: dict[str, Recall]

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        kinds = {"pixels": self.pixels, "patches": self.patches}
        found = {kind: {name: own._asdict() for name, own in by.items()} for kind, by in kinds.items()}
        return {"areas": list(AREAS), "patch": self.patch, **found}


def patch_side(metres: float) -> int:
    """Return the side in pixels of a patch of the size of a footprint, for pixels of so many metres (0: unknown)."""
    return max(round(PATCH_METRES / metres), 1) if metres else _PATCH_PIXELS


def recall_by_group(tiles: Sequence[Any], group: Callable[[str], str], patch: int) -> Recalls:
    """Compute recalls by group.

    Args:
        tiles: `jaxcd.runs.evaluation.Counted` of each tile, with patches.
        group: name of the group of a place.
        patch: side of a patch in pixels.
    """
    groups: dict[str, list[Any]] = {"all": list(tiles)}
    for one in tiles:
        groups.setdefault(group(one.tile.place), []).append(one)

    def recalls(read: Callable[[Any], tuple[Counts, Counts]]) -> dict[str, Recall]:
        found = {}
        for name, own in groups.items():
            network, difference = (sum(part, Counts.zero()) for part in zip(*map(read, own), strict=True))
            if network.damaged and (name == "all" or len(groups) > 2):
                found[name] = Recall.of(network, difference)
        return found

    return Recalls(
        patch,
        recalls(lambda one: (one.counts, one.baseline)) if tiles else {},
        recalls(lambda one: one.patches_of()) if tiles else {},
    )


def describe_recall(recalls: Recalls) -> str:
    """Return a table with a line for each group."""
    areas = [f"{area:.0%}" for area in AREAS]
    names = [*recalls.pixels, *recalls.patches]
    width = max(20, *(len(name) + 2 for name in names))
    lines = []
    kinds: list[tuple[str, Mapping[str, Recall]]] = [
        ("pixels", recalls.pixels),
        (f"patches, {recalls.patch} px", recalls.patches),
    ]
    for kind, by in kinds:
        lines.append(f"{kind:<{width}}{'damaged':>12}" + "".join(f"{f'at {area}':>9}" for area in 2 * areas))
        for name, own in by.items():
            found = "".join(f"{value:>9.3f}" for value in (*own.network, *own.difference))
            lines.append(f"{name:<{width}}{own.damaged:>12,}{found}")
    head = f"{'':<{width + 12}}{'network':>27}{'|pre - post|':>27}"
    return "\n".join(["recall of labelled damage, by share of the area flagged:", head, *lines])
