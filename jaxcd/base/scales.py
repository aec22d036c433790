"""Scales of damage: what the codes of a label raster mean, and how one scale is read as another.

A code is 0 on ground, 1 for the first level of a scale, and so on; worse levels have higher codes. The scale `binary`
knows no buildings: its 0 is all that is not damaged, and its one level is damage.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line's help, which reads the names of scales, does without numpy
    import numpy as np
    from jaxtyping import Bool, UInt8

# Codes of a label raster; those of levels are from 0 on, see `Scale`. Where a pixel is INVALID its class is
# unknown (no data; of the scale `binary` also a building of unknown level): it takes part in no loss and no metric.
# Where it is UNKNOWN, it belongs to a building of unknown level.
INTACT, DAMAGE, UNKNOWN, INVALID = 0, 1, 254, 255

_INTACT_COLOUR = "#56b4e9"
_DAMAGE_COLOURS = ("#f0e442", "#fdb863", "#e66101", "#b2182b", "#67001f")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A list of damage levels.

    Attributes:
        name: of the scale.
        levels: names of the levels, the least damage first; the first one has code 1.
        damaged: code of the lowest level that counts as damage where a map or a score knows only "damaged" and "not".
    """

    name: str
    levels: tuple[str, ...]
    damaged: int

    @property
    def buildings(self) -> bool:
        """Whether intact buildings have a code of their own, so that a network also learns where buildings are."""
        return self.damaged > 1

    @property
    def codes(self) -> tuple[str, ...]:
        """Names of the codes, from 0 on."""
        return ("ground" if self.buildings else "not damaged", *self.levels)

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the levels, as #rrggbb: intact is blue, damage goes from yellow to dark red.

        They differ in lightness, so that readers who do not see all colours can tell them apart.
        """
        worse, last = len(self.levels) - self.buildings, len(_DAMAGE_COLOURS) - 1
        picked = [round(i * last / (worse - 1)) for i in range(worse)] if worse > 1 else [last // 2]
        return (_INTACT_COLOUR,) * self.buildings + tuple(_DAMAGE_COLOURS[i] for i in picked)

    def is_damaged(self, codes: "UInt8[np.ndarray, '*s']") -> "Bool[np.ndarray, '*s']":
        """Mark the pixels whose level counts as damage."""
        return (codes >= self.damaged) & (codes <= len(self.levels))

    def read_as(self, other: "Scale") -> "UInt8[np.ndarray, '256'] | None":
        """Return the other scale's code for each code of this one, or None where no such reading is defined.

        Every scale can be read as `binary`, and each one with buildings as `buildings`: by `damaged`. A building of
        unknown level stays one where the other scale knows buildings; in `binary` its class is INVALID.
        """
        import numpy as np

        if other == self:
            known: tuple[int, ...] | None = tuple(range(len(self.levels) + 1))
        elif other == BINARY:
            known = tuple(int(code >= self.damaged) for code in range(len(self.levels) + 1))
        elif other == BUILDINGS and self.buildings:
            known = (0, *(2 if code >= self.damaged else 1 for code in range(1, len(self.levels) + 1)))
        else:
            known = _READINGS.get((self.name, other.name))
        if known is None:
            return None
        table = np.full(256, INVALID, np.uint8)
        table[: len(known)] = known
        table[UNKNOWN] = UNKNOWN if other.buildings else INVALID
        return table


BINARY = Scale(name="binary", levels=("damaged",), damaged=1)
BUILDINGS = Scale(name="buildings", levels=("intact", "damaged"), damaged=2)
XBD = Scale(name="xbd", levels=("intact", "minor", "major", "destroyed"), damaged=3)
EMS98 = Scale(name="ems98", levels=("intact", "grade 1", "grade 2", "grade 3", "grade 4", "grade 5"), damaged=4)
"""Intact buildings, and the five grades of the European Macroseismic Scale 1998; damage is grade 3 and above."""
COPERNICUS = Scale(
    name="copernicus", levels=("no visible damage", "possibly damaged", "damaged", "destroyed"), damaged=3
)
"""The classes of Copernicus EMS rapid mapping."""

SCALES = {scale.name: scale for scale in (BINARY, BUILDINGS, XBD, EMS98, COPERNICUS)}
"""By name."""

# Codes of the second scale for those of the first, from 0 on: jaxcd's own choice (docs/method.md, Graded damage).
_READINGS = {
    ("ems98", "xbd"): (0, 1, 2, 2, 3, 3, 4),
    ("ems98", "copernicus"): (0, 1, 1, 1, 3, 3, 4),
}
