"""The settings of a damage map."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcd.base.errors import ConfigError
from jaxcd.config import scaling_named
from jaxcd.config.fields import Bound, above_zero, check_bounds, setting

_FROM_ZERO = Bound(lambda value: 0 <= value < float("inf"), "a number from 0")


def _ordered(shares: Any) -> bool:
    low, high = shares
    return 0 < low <= high <= 1


def share_of(text: str) -> float:
    """Return a share of the ground that is given as 0.02 or as 2%; NaN where it is neither."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """All settings of a map but its scenes and network."""

    aoi: Path | None = setting(None, "polygons outside of which nothing is mapped")
    register: bool = setting(False, "estimate by how much each post scene is shifted, and read it there")
    crs: str = setting("", "reference system of the map, such as EPSG:32637; empty: that of the first pre scene")
    gsd: float = setting(
        0.0, "side of a pixel in units of the reference system; 0: that of the first pre scene", _FROM_ZERO
    )
    scaling: str = setting(
        "", "of 16-bit and float scenes: range:LOW,HIGH or percentiles:LOW,HIGH; empty: they are refused",
        scaling_named("--scaling"),
    )  # fmt: skip
    average: bool = setting(False, "mean probability over flips and quarter turns, at eight times the work")
    window: int = setting(0, "largest side of the network's windows in pixels; 0: as the network wants", _FROM_ZERO)
    threshold: float | None = setting(
        None,
        "probability from which a pixel is damage (default: the best one on the run's validation)",
        Bound(lambda threshold: 0 < threshold < 1, "between 0 and 1"),
    )
    expect: str = setting(
        "",
        "share of the seen ground that is about damaged, such as 2%: the threshold is the one at which so much is "
        "called damage",
        Bound(lambda text: not text or 0 < share_of(text) < 1, "a share such as 0.02 or 2%"),
    )
    level: str = setting(
        "", "level of damage from which a pixel is damage, on the scale of the run; empty: the one that the scale names"
    )
    min_area: float = setting(10.0, "least m² of a damage polygon", _FROM_ZERO)
    simplify: float = setting(1.0, "pixels by which an outline may leave the pixels' edges, about", _FROM_ZERO)
    cell: float = setting(
        250.0,
        "side of the cells that damage is counted in, in metres",
        Bound(lambda side: 0 < side < float("inf"), above_zero("metres").expected),
    )
    cache: Path = setting(Path("datasets"), "folder that keeps windows of scenes behind URLs, in windows/")
    footprints: Path | None = setting(None, "GeoPackage, GeoJSON, Shapefile or GeoParquet of the buildings' outlines")
    buffer: float = setting(2.0, "metres around a footprint in which damage counts as its own", _FROM_ZERO)
    building_shares: tuple[float, float] = setting(
        (0.1, 0.3),
        "damaged shares from which a building is possibly damaged, and damaged",
        Bound(_ordered, "two shares, 0 < LOW <= HIGH <= 1"),
    )
    min_building: float = setting(20.0, "m² below which a building is too small to judge", _FROM_ZERO)
    label_attribute: str = setting("", "attribute of the footprints that tells their true class, to compare with")
    label_values: tuple[str, ...] = setting((), "values of the attribute that mean damage; all others mean none")
    label_unknown: tuple[str, ...] = setting(
        (), "values of the attribute that mean neither (such as un-classified), as no value does"
    )

    def validate(self) -> None:
        """Check all values that need no file.

        Raises:
            ConfigError: at the first invalid value; the message names its flag.
        """
        check_bounds(self, "--")
        if self.expect and self.threshold is not None:
            raise ConfigError("--expect: goes without --threshold, which it chooses")
        if bool(self.label_attribute) != bool(self.label_values):
            raise ConfigError(
                f"--label_values: expected values exactly where --label_attribute is given, got {self.label_values!r}"
            )
