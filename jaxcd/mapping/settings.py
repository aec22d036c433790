"""What a user decides about a damage map."""

from dataclasses import dataclass
from pathlib import Path

from jaxcd.config import check_scaling
from jaxcd.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """All but the scenes and the network.

    Attributes:
        crs: reference system of the map, such as EPSG:32637; empty for that of the first pre scene.
        gsd: side of a pixel in units of the reference system; 0 for that of the first pre scene.
        scaling: of 16-bit and float scenes; empty: they are refused.
        register: estimate by how much each post scene is shifted, and read it there.
        aoi: polygons outside of which nothing is mapped; None: everywhere.
        average: mean over flips and quarter turns.
        window: largest side of the windows in pixels; 0 for the network's own.
        threshold: of the decision; None for that best on the run's validation.
        min_area: of damage polygons, in square metres.
        simplify: by how many pixels a polygon's outline may leave the pixels' edges, about.
        footprints: of buildings; None: no buildings.
        label_attribute: of the footprints, their true class; empty where it is not known.
        label_values: of the attribute, that mean damage; all others mean none.
        label_unknown: of the attribute, that mean neither, as no value does.
        buffer: metres around a footprint in which damage counts as its own.
        building_shares: damaged shares from which a building is possibly damaged, and damaged.
        min_building: square metres below which a building is too small to judge.
        cell: side of the cells that damage is counted in, in metres.
        cache: folder that keeps windows of scenes behind URLs, in windows/.
    """

    crs: str = ""
    gsd: float = 0.0
    scaling: str = ""
    register: bool = False
    aoi: Path | None = None
    average: bool = False
    window: int = 0
    threshold: float | None = None
    min_area: float = 10.0
    simplify: float = 1.0
    footprints: Path | None = None
    label_attribute: str = ""
    label_values: tuple[str, ...] = ()
    label_unknown: tuple[str, ...] = ()
    buffer: float = 2.0
    building_shares: tuple[float, float] = (0.1, 0.3)
    min_building: float = 20.0
    cell: float = 250.0
    cache: Path = Path("datasets")

    def validate(self) -> None:
        """Check all values that need no file.

        Raises:
            ConfigError: at the first that does not hold; the message names its flag.
        """

        def check(holds: bool, flag: str, value: object, expected: str) -> None:
            if not holds:
                raise ConfigError(f"--{flag}: expected {expected}, got {value!r}")

        check_scaling(self.scaling, "--scaling")
        for name in ("gsd", "window", "min_area", "simplify", "buffer", "min_building"):
            check(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "a number from 0")
        check(0 < self.cell < float("inf"), "cell", self.cell, "metres above 0")
        check(self.threshold is None or 0 < self.threshold < 1, "threshold", self.threshold, "between 0 and 1")
        low, high = self.building_shares
        check(0 < low <= high <= 1, "building_shares", self.building_shares, "two shares, 0 < LOW <= HIGH <= 1")
        told = bool(self.label_attribute) == bool(self.label_values)
        check(told, "label_values", self.label_values, "values exactly where --label_attribute is given")
