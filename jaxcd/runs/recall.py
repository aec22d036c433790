"""How much of the labelled damage a score finds in the area that it flags first: for labels that are incomplete.

Where much damage has no label, precision says nothing. What can be compared is recall at the same area flagged, of the
network and of |pre - post|, and with chance, which finds as much of the damage as of the area.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxcd.learn.metrics import Counts

AREAS = (0.02, 0.05, 0.10)
"""Shares of the area flagged."""
PATCH_METRES = 15.0
_PATCH_PIXELS = 32  # where the size of a pixel is not known


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


def by_group(tiles: Sequence[Any], group: Callable[[str], str], patch: int) -> Recalls:
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


def describe(recalls: Recalls) -> str:
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
