"""The part of the configuration that says how large scenes become tiles."""

from dataclasses import dataclass

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import DAMAGE, Scale
from jaxcd.config.fields import SHARE, Bound, at_least, one_of, setting

_Check = tuple[str, bool, str]
"""A field's name, whether it is right, and what is expected."""


@dataclass(kw_only=True, slots=True)
class ScenesConfig:
    """How large scenes become tiles (layout = scenes)."""

    event_date: str = setting("", "YYYY-MM-DD: tells pre from post scenes where no folder does")
    only: tuple[str, ...] = setting((), "beginnings of the names of the places to take; none: all")
    min_overlap: float = setting(0.01, "least share of a place's pre scene that a post scene has to cover", SHARE)
    max_clouds: float = setting(100.0, "percent; scenes of a catalogue with more clouds are left out", at_least(0))
    max_off_nadir: float = setting(
        90.0, "degrees; scenes of a catalogue that look from further aside are left out", at_least(0)
    )
    crs: str = setting("", "reference system of the tiles, such as EPSG:32637; empty: that of each place's pre scene")
    gsd: float = setting(
        0.0, "side of a pixel in units of the reference system; 0: that of each place's pre scene", at_least(0)
    )
    tile: int = setting(
        1024, "side of a tile in pixels", Bound(lambda side: 32 <= side <= 4096, "between 32 and 4096 pixels")
    )
    edges: str = setting(
        "pad",
        "the last tiles of a scene: pad (with pixels of unknown class), or shift (inward, over those before)",
        one_of("pad", "shift"),
    )
    register: bool = setting(False, "estimate by how much each post tile is shifted, and read it there")
    match_histogram: bool = setting(False, "give post tiles the distribution of colours of the pre tile")
    black: float = setting(
        0.05, "largest share of black pixels of a tile that is kept (docs/method.md, Data processing)", SHARE
    )
    snow: float = setting(500.0, "largest mean of R + G + B of a tile that is kept", at_least(0))
    variance: float = setting(2601.0, "least variance of the grey value of a tile that is kept", at_least(0))
    valid: float = setting(0.5, "least share of a tile that is seen both before and after", SHARE)
    labels: str = setting(
        "", "file of damage polygons or mask raster for all places; empty: the file beside each; none: unlabelled tiles"
    )
    label_attribute: str = setting(
        "",
        "attribute of the polygons that tells damage from other classes, or the level of damage; empty: every polygon "
        "is damage (scale = binary)",
    )
    label_values: tuple[str, ...] = setting((), "values of the attribute that mean damage (scale = binary)")
    label_levels: tuple[str, ...] = setting(
        (),
        "the level that values of the attribute mean, such as no-damage=intact minor-damage=minor; a value that is a "
        "level's name needs none (not for scale = binary)",
        Bound(lambda entries: all("=" in entry for entry in entries), "texts VALUE=LEVEL"),
    )
    label_unknown: tuple[str, ...] = setting(
        (), "values of the attribute that tell neither damage nor its level (such as un-classified), as no value does"
    )
    outside: str = setting(
        "intact",
        "what lies outside of all polygons: intact (scales of levels: ground), or unlabelled (of unknown class)",
        one_of("intact", "unlabelled"),
    )
    labelled_area: str = setting(
        "", "file of polygons outside of which nobody has looked for damage; empty: somebody has everywhere"
    )
    positive_unlabelled: bool = setting(
        False, "much damage has no polygon: evaluation then reports recall and flagged area, and no precision"
    )

    def codes_of_values(self, scale: Scale) -> dict[str, int]:
        """Return the codes that values of the attribute have: of `binary` those that mean damage, else of each level.

        Raises:
            KeyError: the scale has no such level; `check_together` tells it in words.
        """
        if not scale.buildings:
            return dict.fromkeys(self.label_values, DAMAGE)
        codes = {level: code for code, level in enumerate(scale.levels, start=1)}
        return codes | {value: codes[level] for value, level in self._entries()}

    def check_together(self, path: str, scale: Scale) -> None:
        """Check the values that depend on each other and on the scale.

        Args:
            path: what goes before the field's name in messages.
            scale: of the labels (`config.data.scale`).

        Raises:
            ConfigError: values or levels of labels do not fit label_attribute or the scale.
        """
        attribute, unknown = bool(self.label_attribute), self.label_unknown
        checks = (
            *(self._checks_of_levels(scale) if scale.buildings else self._checks_of_binary()),
            ("label_unknown", attribute or not unknown, "values only where label_attribute is given"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ConfigError(f"{path}{name}: expected {expected}, got {getattr(self, name)!r}")

    def _checks_of_binary(self) -> tuple[_Check, ...]:
        given = bool(self.label_attribute) == bool(self.label_values)
        return (
            ("label_levels", not self.label_levels, "none with data.scale = binary, which has label_values"),
            ("label_values", given, "values exactly where label_attribute is given"),
        )

    def _checks_of_levels(self, scale: Scale) -> tuple[_Check, ...]:
        values, levels = ([entry[i] for entry in self._entries()] for i in (0, 1))
        once = len(set(values)) == len(values) and not set(values) & set(self.label_unknown)
        given = bool(self.label_attribute) or not values
        of_scale = f"VALUE=LEVEL with levels of the scale {scale.name} ({', '.join(scale.levels)})"
        return (
            ("label_values", not self.label_values, f"none with data.scale = {scale.name}, which has label_levels"),
            ("label_levels", given, "levels only where label_attribute is given"),
            ("label_levels", set(levels) <= set(scale.levels), of_scale),
            ("label_levels", once, "each value once, and none of label_unknown"),
        )

    def _entries(self) -> list[tuple[str, str]]:
        """Split the entries of label_levels: a value may hold a =, a level does not."""
        return [(value, level) for value, _, level in (entry.rpartition("=") for entry in self.label_levels)]
