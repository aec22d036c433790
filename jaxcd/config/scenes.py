"""The part of the configuration that says how large scenes become tiles."""

from dataclasses import dataclass

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import DAMAGE, Scale
from jaxcd.config.fields import SHARE, Bound, at_least, one_of, setting

_Check = tuple[str, bool, str]
"""A field's name, whether its value is right, and the expected value in words."""


@dataclass(kw_only=True, slots=True)
class ScenesConfig:
    """How large scenes become tiles (layout = scenes)."""

    event_date: str = setting(
        "",
        "date of the event, YYYY-MM-DD: scenes before it are pre, all others post; needed unless they lie in folders "
        "pre and post",
    )
    only: tuple[str, ...] = setting((), "use only places whose names begin with one of these texts; empty: all places")
    min_overlap: float = setting(0.01, "share of a place's pre scene that a post scene must cover at least", SHARE)
    max_clouds: float = setting(
        100.0, "largest cloud cover in percent; cloudier scenes of a catalogue are left out", at_least(0)
    )
    max_off_nadir: float = setting(
        90.0, "largest off-nadir angle in degrees; scenes of a catalogue with a larger one are left out", at_least(0)
    )
    crs: str = setting(
        "", "coordinate reference system of the tiles, such as EPSG:32637; empty: that of each place's pre scene"
    )
    gsd: float = setting(
        0.0, "side of a pixel in units of the coordinate reference system; 0: as in each place's pre scene", at_least(0)
    )
    tile: int = setting(
        1024, "side of a tile in pixels", Bound(lambda side: 32 <= side <= 4096, "between 32 and 4096 pixels")
    )
    edges: str = setting(
        "pad",
        "where the last tiles reach beyond the scene: pad (fill them with pixels of unknown class) or shift (move them "
        "inward, so that they overlap the tiles before)",
        one_of("pad", "shift"),
    )
    match_histogram: bool = setting(False, "match the colour histogram of each post tile to that of its pre tile")
    black: float = setting(
        0.05, "leave out tiles with a larger share of black pixels (docs/method.md, Data processing)", SHARE
    )
    snow: float = setting(500.0, "leave out tiles with a larger mean of R + G + B, such as snow", at_least(0))
    variance: float = setting(
        2601.0, "leave out tiles whose grey values have a smaller variance, such as fields and forests", at_least(0)
    )
    valid: float = setting(0.5, "leave out tiles of which a smaller share has data both before and after", SHARE)
    labels: str = setting(
        "",
        "file of damage polygons, or mask raster, for all places; empty: the label file beside each scene; the word "
        "none: tiles without labels",
    )
    label_attribute: str = setting(
        "",
        "attribute of the polygons that holds their class or level of damage; empty: every polygon is damage (scale = "
        "binary)",
    )
    label_values: tuple[str, ...] = setting((), "values of the attribute that mean damage (scale = binary)")
    label_levels: tuple[str, ...] = setting(
        (),
        "the level that each value of the attribute means, such as no-damage=intact minor-damage=minor; values that "
        "are names of levels need no entry (not for scale = binary)",
        Bound(lambda entries: all("=" in entry for entry in entries), "texts VALUE=LEVEL"),
    )
    label_unknown: tuple[str, ...] = setting(
        (),
        "values of the attribute that mean an unknown class or level, such as un-classified; a missing value means the "
        "same",
    )
    outside: str = setting(
        "intact",
        "class of pixels outside all polygons: intact (in scales with buildings: ground) or unlabelled (unknown class)",
        one_of("intact", "unlabelled"),
    )
    labelled_area: str = setting(
        "",
        "polygons of the ground that was searched for damage; pixels elsewhere are of unknown class. Empty: all of it",
    )
    labelled_only: bool = setting(
        False, "leave out tiles in which the class of no pixel is known, as --layout labelled always does"
    )
    positive_unlabelled: bool = setting(
        False,
        "say that much damage has no polygon: evaluation then reports recall and the share called damage, but no "
        "precision",
    )

    def codes_of_values(self, scale: Scale) -> dict[str, int]:
        """Return the code that each value of the attribute means: damage in the scale `binary`, else a level.

        Raises:
            KeyError: the scale has no such level; `check_together` reports this to the user.
        """
        if not scale.buildings:
            return dict.fromkeys(self.label_values, DAMAGE)
        codes = {level: code for code, level in enumerate(scale.levels, start=1)}
        return codes | {value: codes[level] for value, level in self._entries()}

    def check_together(self, path: str, scale: Scale) -> None:
        """Check the values that depend on one another and on the scale.

        Args:
            path: text before the field's name in messages.
            scale: of the labels (`config.data.scale`).

        Raises:
            ConfigError: values or levels of labels do not fit label_attribute or the scale.
        """
        attribute, unknown = bool(self.label_attribute), self.label_unknown
        checks = (
            *(self._checks_of_levels(scale) if scale.buildings else self._checks_of_binary()),
            ("label_unknown", attribute or not unknown, "no values without label_attribute"),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ConfigError(f"{path}{name}: expected {expected}, got {getattr(self, name)!r}")

    def _checks_of_binary(self) -> tuple[_Check, ...]:
        given = bool(self.label_attribute) == bool(self.label_values)
        return (
            ("label_levels", not self.label_levels, "none with data.scale = binary; give label_values instead"),
            ("label_values", given, "values if label_attribute is given, and none otherwise"),
        )

    def _checks_of_levels(self, scale: Scale) -> tuple[_Check, ...]:
        values, levels = ([entry[i] for entry in self._entries()] for i in (0, 1))
        once = len(set(values)) == len(values) and not set(values) & set(self.label_unknown)
        given = bool(self.label_attribute) or not values
        of_scale = f"VALUE=LEVEL with levels of the scale {scale.name} ({', '.join(scale.levels)})"
        return (
            ("label_values", not self.label_values, f"none with data.scale = {scale.name}; give label_levels instead"),
            ("label_levels", given, "no levels without label_attribute"),
            ("label_levels", set(levels) <= set(scale.levels), of_scale),
            ("label_levels", once, "each value once, and no value of label_unknown"),
        )

    def _entries(self) -> list[tuple[str, str]]:
        """Split the entries of label_levels at their last "=", because a value may contain one and a level does not."""
        return [(value, level) for value, _, level in (entry.rpartition("=") for entry in self.label_levels)]
