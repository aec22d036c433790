"""What the store takes and gives: edits, labels, outcomes, conflicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shapely.geometry.base import BaseGeometry

from jaxcd.base.errors import JaxcdError

PAIR = "pair"
"""Object id of a pair as a whole, whose levels are `VERDICTS`."""
UNKNOWN, CLOUD = "unknown", "cloud"
STATES = (UNKNOWN, CLOUD)
"""Besides the levels of the scale: a building of unknown level, and ground that nobody can see."""
DAMAGED, INTACT, BAD = "damaged", "intact", "bad image"
VERDICTS = (DAMAGED, INTACT, BAD)
FOOTPRINT, CELL, DRAWN, IMPORTED = "footprint", "cell", "drawn", "imported"
"""Origins of an object. A cell is a square of ground that is judged where there are no footprints."""


_OWN = 2**40


def own_version(edits: int) -> int:
    """Return the version of a second opinion, as whoever gives it sees it.

    These numbers lie far from those of the object itself: once the task is done and the object is shown again, an edit
    upon the opinion is a conflict, and does not overwrite what its author never saw.
    """
    return _OWN + edits


class Keep:
    """Type of `KEEP`."""


KEEP: Final = Keep()
"""Of an edit: leave this as it is."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A change of one object.

    Attributes:
        object: "f17" (row 17 of the footprints), "c17" (a cell), "d-" and a UUID of what is drawn or imported, or
            `PAIR`.
        base: version that the author saw; 0: never saved.
        level: a level of the scale, a state, of a pair a verdict; None takes the label away.
        geometry: outline of a drawn object in the pair's coordinates; None: as it is.
        comment: text; empty: none.
        deleted: takes a drawn object away.
        origin: of a new object.
    """

    object: str
    base: int
    level: str | Keep | None = KEEP
    geometry: BaseGeometry | None = None
    comment: str | Keep = KEEP
    deleted: bool = False
    origin: str = DRAWN


@dataclass(frozen=True, kw_only=True)
class Label:
    """The state of an object as a viewer may see it.

    Attributes:
        object: its id.
        level: level, state, verdict, or None where it is not judged.
        geometry: in the pair's coordinates; None of a pair.
        comment: text, or "".
        version: counts the saved edits; 0: never saved. Of a second opinion, see `own_version`.
        author: name of whoever saved it last, or "".
        at: when, as ISO 8601 in UTC, or "".
        origin: footprint, cell, drawn or imported.
        deleted: whether it was taken away.
        opinions: names and levels where several people have judged it.
    """

    object: str
    level: str | None
    geometry: BaseGeometry | None
    comment: str
    version: int
    author: str
    at: str
    origin: str
    deleted: bool = False
    opinions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The outcome of a change.

    Attributes:
        labels: of the objects that it changed, as they are now.
        seq: number of the change.
        repeated: whether the change had been saved before, so that nothing was done.
    """

    labels: list[Label]
    seq: int
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A step in the history of an object: what one person made of it.

    Attributes:
        version: after this step.
        kind: save, undo or redo.
        author: name.
        at: when, as ISO 8601 in UTC.
        changes: what was changed (level, comment, geometry, deleted), each as before and after.
    """

    version: int
    kind: str
    author: str
    at: str
    changes: dict[str, tuple[object, object]]


class Conflict(JaxcdError):
    """Somebody else has changed an object since; nothing was saved."""

    def __init__(self, labels: Sequence[Label]):
        """Keep the objects' current labels in `labels`."""
        self.labels = list(labels)
        names = ", ".join(label.object for label in self.labels[:3]) + (", ..." if len(self.labels) > 3 else "")
        authors = ", ".join(dict.fromkeys(label.author for label in self.labels if label.author)) or "somebody"
        super().__init__(f"{names}: changed by {authors} in the meantime; nothing was saved, look at it again")
