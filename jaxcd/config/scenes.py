"""The part of the configuration that says how large scenes become tiles."""

from dataclasses import dataclass

from jaxcd.base.errors import ConfigError
from jaxcd.config.fields import SHARE, Bound, at_least, one_of, setting


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
        "", "attribute of the polygons that tells damage from other classes; empty: every polygon is damage"
    )
    label_values: tuple[str, ...] = setting((), "values of the attribute that mean damage")
    label_unknown: tuple[str, ...] = setting(
        (), "values of the attribute that mean neither damage nor none (such as un-classified), as no value does"
    )
    outside: str = setting(
        "intact",
        "what lies outside of all polygons: intact, or unlabelled (of unknown class)",
        one_of("intact", "unlabelled"),
    )
    labelled_area: str = setting(
        "", "file of polygons outside of which nobody has looked for damage; empty: somebody has everywhere"
    )
    positive_unlabelled: bool = setting(
        False, "much damage has no polygon: evaluation then reports recall and flagged area, and no precision"
    )

    def check_together(self, path: str) -> None:
        """Check the values that depend on each other; in messages, `path` goes before the field's name.

        Raises:
            ConfigError: label values without label_attribute, or label_attribute without values.
        """
        attribute = bool(self.label_attribute)
        for name, holds, expected in (
            ("label_values", attribute == bool(self.label_values), "values exactly where label_attribute is given"),
            ("label_unknown", attribute or not self.label_unknown, "values only where label_attribute is given"),
        ):
            if not holds:
                raise ConfigError(f"{path}{name}: expected {expected}, got {getattr(self, name)!r}")
