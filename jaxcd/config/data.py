"""The part of the configuration that says which tiles are learned from, and how they are read, split and cropped."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES
from jaxcd.config.fields import SHARE, SHARES, Bound, above_zero, at_least, one_of, seed, setting
from jaxcd.config.scenes import ScenesConfig

XBD_LEVELS = ("no-damage", "minor-damage", "major-damage", "destroyed")
ENCODINGS = ("auto", "png", "jpeg", "webp", "zstd", "raw")
_LEVELS = Bound(
    lambda levels: bool(levels) and set(levels) <= set(XBD_LEVELS), f"at least one level, of {', '.join(XBD_LEVELS)}"
)


def scaling_named(where: str) -> Bound:
    """Accept what `check_scaling` accepts; for other values, `check_scaling` itself raises the error."""

    def holds(scaling: str) -> bool:
        check_scaling(scaling, where)
        return True

    return Bound(holds, "")


def check_scaling(scaling: str, where: str) -> tuple[str, float, float] | None:
    """Parse "range:LOW,HIGH" or "percentiles:LOW,HIGH"; the empty text gives None.

    Raises:
        ConfigError: any other text; the message names `where`.
    """
    if scaling == "":
        return None
    kind, _, numbers = scaling.partition(":")
    try:
        low, high = (float(number) for number in numbers.split(","))
    except ValueError:
        low = high = math.nan
    top = 100 if kind == "percentiles" else math.inf
    if kind not in ("range", "percentiles") or not low < high or (kind == "percentiles" and (low < 0 or high > top)):
        raise ConfigError(f"{where}: expected range:LOW,HIGH or percentiles:LOW,HIGH with LOW < HIGH, got {scaling!r}")
    return kind, low, high


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Which tiles, how they are split, and how crops are drawn from them."""

    root: str = setting(
        "",
        "source folder, or a dataset that prepare built; several, separated by commas, are trained on together, each "
        "with its own split (so a folder's own name has no comma)",
        Bound(
            lambda root: all(map(str.strip, root.split(","))),
            "the folder that holds the data, or several, separated by commas",
        ),
    )
    weights: tuple[float, ...] = setting(
        (),
        "shares of the training crops that come from each of several roots; empty: each place is drawn as often "
        "(task = segmentation)",
        Bound(lambda weights: all(0 < weight < math.inf for weight in weights), "finite weights above 0"),
    )
    layout: str = setting(
        "folders",
        "layout of root, the same for all roots: xbd, paper, folders, airchange_szada, airchange_tiszadob, scenes, "
        "simulated (made on first use) or prepared (a built dataset)",
    )
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    cache: str = setting("datasets", "folder for datasets built on first use, and for windows of remote scenes")
    scale: str = setting(
        "binary",
        "scale of damage that is learned: binary (damaged or not), or buildings and their levels: buildings (intact, "
        "damaged), xbd (4 levels), ems98 (6) or copernicus (4)",
        one_of(*SCALES),
    )
    damage_levels: tuple[str, ...] = setting(
        ("major-damage", "destroyed"), "xBD damage levels that count as damage (scale = binary)", _LEVELS
    )
    scaling: str = setting(
        "",
        "how 16-bit and float images become 8 bits: range:LOW,HIGH or percentiles:LOW,HIGH; empty: they are refused",
        scaling_named("config.data.scaling"),
    )
    incomplete: str = setting(
        "refuse",
        "files whose counterpart (image or label) is missing: refuse them, or leave them out and report them",
        one_of("refuse", "leave_out"),
    )
    encoding: str = setting(
        "auto",
        "how images lie in the dataset: auto keeps JPEG files and takes zstd for all else; zstd, raw, png and webp "
        "keep each pixel; jpeg has quality 95. A prepared dataset is in the one it was built in",
        one_of(*ENCODINGS),
    )
    places: str = setting(
        "all", "places that are split: all, or damaged (those with a damaged pixel, as the paper)",
        one_of("all", "damaged"),
    )  # fmt: skip
    split: str = setting(
        "place",
        "how places are split: place (each by itself), block (spatial blocks stay together), event (whole events stay "
        "together, and what overlaps with them) or published (as the source's authors did; layouts airchange_...)",
        one_of("place", "block", "event", "published"),
    )
    events: str = setting(
        "",
        "CSV table with the columns place and event, for data whose names do not tell; empty: names of xBD tell, and "
        "of several roots each is an event",
    )
    test_events: tuple[str, ...] = setting(
        (),
        "events to test on (split = event): training and validation share the blocks of all others; empty: whole "
        "events are shared by split_shares",
    )
    split_shares: tuple[float, float, float] = setting(
        (0.70, 0.15, 0.15), "shares of training, validation and test places", SHARES
    )
    split_seed: int = setting(
        42, "seed of the split; runs that are compared, or that begin with each other's encoder, share it", seed()
    )
    block_size: float = setting(1000.0, "side of a spatial block in metres (split = block)", above_zero("metres"))
    crop: int = setting(
        256,
        "side of the training crops in pixels; 0 takes whole tiles",
        Bound(lambda crop: crop == 0 or crop >= 32, "0 (whole tiles) or at least 32 pixels"),
    )
    damage_share: float = setting(
        0.5,
        "share of the crops that are centred on a damaged pixel, where the tile has one (task = segmentation)",
        SHARE,
    )
    workers: int = setting(0, "loader processes; 0 reads in threads of the training process", at_least(0))
    prefetch: int = setting(2, "batches kept ready on the device", at_least(1))

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that `root` names."""
        return tuple(root.strip() for root in self.root.split(","))

    def resolve(self) -> None:
        """Make the paths absolute, so that a run can be resumed and evaluated from any folder.

        Raises:
            ConfigError: links lead to folders of one name.
        """
        self.root = ",".join(str(Path(root).resolve()) for root in self.roots)
        self.cache = str(Path(self.cache).resolve())
        self.events = self.events and str(Path(self.events).resolve())
        self.check_roots()

    def check_roots(self) -> None:
        """Check that the names of several roots' folders differ.

        Raises:
            ConfigError: they do not.
        """
        if len({Path(root).name for root in self.roots}) < len(self.roots):
            raise ConfigError(
                "config.data.root: expected folders of different names, as the names tell their places apart, got "
                f"{self.root!r}"
            )
