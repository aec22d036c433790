"""The settings of a damage map."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcd.base.errors import ConfigError
from jaxcd.config import scaling_named
from jaxcd.config.fields import Bound, above_zero, check_bounds, one_of, setting

SCENE = "scene"
"""Value of `threshold` that has it estimated from the map's own probabilities."""

_FROM_ZERO = Bound(lambda value: 0 <= value < float("inf"), "a number from 0")


def _ordered(shares: Any) -> bool:
    low, high = shares
    return 0 < low <= high <= 1


def _threshold(given: Any) -> bool:
    return given == SCENE or (isinstance(given, float) and 0 < given < 1)


def share_of(text: str) -> float:
    """Return the number that a text such as 0.02 or 2% means; NaN for other texts."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return math.nan


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """All settings of a map, apart from its scenes and its network."""

    aoi: Path | None = setting(None, "file of polygons: map only the ground within them")
    register: bool = setting(
        False, "estimate the shift of each post scene against the pre scenes, and read it from the shifted position"
    )
    crs: str = setting(
        "", "coordinate reference system of the map, such as EPSG:32637; empty: that of the first pre scene"
    )
    gsd: float = setting(
        0.0, "side of a pixel in units of the coordinate reference system; 0: as in the first pre scene", _FROM_ZERO
    )
    scaling: str = setting(
        "",
        "how 16-bit and float scenes are scaled to 8 bits: range:LOW,HIGH or percentiles:LOW,HIGH; empty: such scenes "
        "are an error",
        scaling_named("--scaling"),
    )  # fmt: skip
    average: bool = setting(
        False, "average the probabilities over flips and quarter turns of the images, which takes eight times as long"
    )
    window: int = setting(
        0,
        "largest side in pixels of the windows that the network predicts; 0: a side that suits the network",
        _FROM_ZERO,
    )
    threshold: float | str | None = setting(
        None,
        "call a pixel damage from this probability on; scene: estimate it from the map's own probabilities, for a "
        "disaster that the network has not seen (default: the threshold that was best on the run's validation places)",
        Bound(_threshold, f"between 0 and 1, or {SCENE}"),
    )
    calibrate: Path | None = setting(
        None,
        "file of a few dozen points or buildings with the attribute damaged (0 or 1; or as --label_attribute and "
        "--label_values say): they choose the threshold",
    )
    expect: str = setting(
        "",
        "share of the ground that you expect to be damaged, such as 2%: chooses the threshold at which about so much "
        "is called damage",
        Bound(lambda text: not text or 0 < share_of(text) < 1, "a share such as 0.02 or 2%"),
    )
    adapt: str = setting(
        "",
        "fit the network to the scenes without labels: bn computes its BatchNorm statistics anew on them",
        one_of("", "bn"),
    )
    level: str = setting(
        "",
        "lowest level that counts as damage, a name of the run's scale; empty: the level that the scale sets",
    )
    min_area: float = setting(10.0, "leave out damage polygons of a smaller area, in m²", _FROM_ZERO)
    simplify: float = setting(
        1.0, "by about how many pixels an outline may deviate from the edges of the pixels", _FROM_ZERO
    )
    cell: float = setting(
        250.0,
        "side in metres of the square cells in which damage is counted",
        Bound(lambda side: 0 < side < float("inf"), above_zero("metres").expected),
    )
    cache: Path = setting(
        Path("datasets"), "folder that keeps the parts of scenes that were read from URLs (in its folder windows/)"
    )
    footprints: Path | None = setting(
        None, "file of the buildings' outlines: GeoPackage, GeoJSON, Shapefile or GeoParquet"
    )
    buffer: float = setting(2.0, "damage up to so many metres outside a footprint counts as the building's", _FROM_ZERO)
    building_shares: tuple[float, float] = setting(
        (0.1, 0.3),
        "damaged share of a building from which it is possibly damaged, and that from which it is damaged",
        Bound(_ordered, "two shares, 0 < LOW <= HIGH <= 1"),
    )
    min_building: float = setting(20.0, "smaller buildings are not judged; area in m²", _FROM_ZERO)
    label_attribute: str = setting(
        "", "attribute of the footprints that holds their true class; the map is then compared with it"
    )
    label_values: tuple[str, ...] = setting(
        (), "values of the attribute that mean damage; all other values mean no damage"
    )
    label_unknown: tuple[str, ...] = setting(
        (), "values of the attribute that mean an unknown class, such as un-classified; a missing value means the same"
    )

    def validate(self) -> None:
        """Check all values that can be checked without reading a file.

        Raises:
            ConfigError: at the first invalid value; the message names its flag.
        """
        check_bounds(self, "--")
        ways = {"--expect": bool(self.expect), "--calibrate": self.calibrate, "--threshold": self.threshold}
        given = [name for name, value in ways.items() if value]
        if len(given) > 1:
            raise ConfigError(
                f"{given[0]}: cannot be combined with {given[1]}, because it chooses the threshold; leave one of them "
                "out"
            )
        if bool(self.label_attribute) != bool(self.label_values):
            raise ConfigError(
                f"--label_values: expected values if --label_attribute is given, and none otherwise, got "
                f"{self.label_values!r}"
            )
