"""The settings of a labelling server."""

from dataclasses import dataclass
from pathlib import Path

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES, XBD
from jaxcd.config import scaling_named
from jaxcd.config.fields import SHARE, Bound, check_bounds, one_of, setting

FORMATS = ("geojson", "gpkg", "coco", "masks")
"""Formats that labels are exported in."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """All settings of a labelling server but its scenes and its store."""

    footprints: Path | None = setting(None, "GeoPackage, GeoJSON, Shapefile or GeoParquet of the buildings' outlines")
    cells: float = setting(
        0.0, "without footprints: side in metres of cells that are judged and scored, such as 32; 0: none",
        Bound(lambda side: 0 <= side <= 10_000, "0 to 10000"),
    )  # fmt: skip
    scale: str = setting(
        XBD.name, f"scale of damage that is labelled: {', '.join(SCALES)}; a store keeps its own", one_of(*SCALES)
    )
    register: bool = setting(False, "estimate by how much each post scene is shifted, and show it there")
    scaling: str = setting(
        "", "of 16-bit and float scenes: range:LOW,HIGH or percentiles:LOW,HIGH; empty: they are refused",
        scaling_named("--scaling"),
    )  # fmt: skip
    event_date: str = setting("", "YYYY-MM-DD: tells pre from post scenes of --source where no folder does")
    only: tuple[str, ...] = setting((), "beginnings of the names of the places of --source to take; none: all")
    second_opinions: float = setting(0.0, "share of the work that a second person judges as well", SHARE)
    run: Path | None = setting(
        None, "run folder of jaxcd.train whose encoder scores learn on; none: ImageNet's weights"
    )
    read_only: bool = setting(False, "show the labels, and let nobody change them")
    host: str = setting("127.0.0.1", "address to listen at; any but this machine's own wants a token in the link")
    port: int = setting(8000, "port to listen at; 0: any free one", Bound(lambda port: 0 <= port < 65536, "0 to 65535"))
    cache: Path = setting(Path("datasets"), "folder that keeps windows of scenes behind URLs, in windows/")

    def validate(self) -> None:
        """Check all values that need no file.

        Raises:
            ConfigError: at the first invalid value; the message names its flag.
        """
        check_bounds(self, "--")
        if not self.host:
            raise ConfigError("--host: give an address to listen at, such as 127.0.0.1")

    @property
    def private(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in _LOOPBACK
