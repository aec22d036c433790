"""The part of the configuration that says which tiles a run uses, and how it reads, splits and crops them."""

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
    """Return a bound that accepts what `check_scaling` accepts; for other values `check_scaling` raises its error."""

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
        "folder of source images, or a dataset that prepare built. Several folders are separated by commas; a run "
        "trains on all of them, and splits each by itself (a folder's name may not contain a comma)",
        Bound(
            lambda root: all(map(str.strip, root.split(","))),
            "the folder that holds the data, or several, separated by commas",
        ),
    )
    weights: tuple[float, ...] = setting(
        (),
        "weights of several roots: shares of the training crops that come from each; empty: all places are drawn "
        "equally often (task = segmentation)",
        Bound(lambda weights: all(0 < weight < math.inf for weight in weights), "finite weights above 0"),
    )
    layout: str = setting(
        "folders",
        "how files lie in root (the same for all roots): xbd, paper, folders, airchange_szada, airchange_tiszadob, "
        "scenes, simulated (jaxcd makes the data at the first start) or prepared (a dataset that prepare built)",
    )
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    cache: str = setting(
        "datasets",
        "folder that keeps datasets built from source folders, and the parts of remote scenes that were read",
    )
    scale: str = setting(
        "binary",
        "scale of damage of the labels: binary (damaged or not), or one that tells buildings from ground: buildings "
        "(intact, damaged), xbd (4 levels), ems98 (6 levels) or copernicus (4 levels)",
        one_of(*SCALES),
    )
    damage_levels: tuple[str, ...] = setting(
        ("major-damage", "destroyed"), "xBD damage levels that count as damage (scale = binary)", _LEVELS
    )
    scaling: str = setting(
        "",
        "how 16-bit and float images are scaled to 8 bits: range:LOW,HIGH or percentiles:LOW,HIGH; empty: such "
        "images are an error",
        scaling_named("config.data.scaling"),
    )
    register: bool = setting(
        False,
        "estimate by how much the ground of each post tile is shifted against its pre tile, and move it back; labels "
        "stay where they are, as if drawn on pre",
    )
    metres: float = setting(
        0.0,
        "side in metres of the pixels that all tiles are resampled to, if their places have bounds; 0: tiles stay as "
        "they are (scenes: as data.scenes.gsd says)",
        at_least(0),
    )
    incomplete: str = setting(
        "refuse",
        "what to do with files whose counterpart (image or label) is missing: refuse (end with an error) or "
        "leave_out (go on without them, and report them)",
        one_of("refuse", "leave_out"),
    )
    encoding: str = setting(
        "auto",
        "how images are stored in the dataset: auto keeps JPEG files as they are and stores all others as zstd; zstd, "
        "raw, png and webp are lossless; jpeg has quality 95. A prepared dataset keeps the encoding it was built with",
        one_of(*ENCODINGS),
    )
    places: str = setting(
        "all", "places to use: all, or damaged (only places with a damaged pixel, as in the paper)",
        one_of("all", "damaged"),
    )  # fmt: skip
    split: str = setting(
        "place",
        "what goes into one split as a whole: place (each place by itself), block (all places of a spatial block), "
        "event (all places of an event, and those that overlap with them) or published (the split of the source's "
        "authors; layouts airchange_...)",
        one_of("place", "block", "event", "published"),
    )
    events: str = setting(
        "",
        "CSV table with the columns place and event, which names the event of each place; empty: xBD's file names give "
        "the event, and of several roots, each is an event",
    )
    test_events: tuple[str, ...] = setting(
        (),
        "events whose places are the test split (split = event); the spatial blocks of all other events are divided "
        "into training and validation. Empty: whole events are divided by split_shares",
    )
    split_shares: tuple[float, float, float] = setting(
        (0.70, 0.15, 0.15), "shares of training, validation and test places", SHARES
    )
    split_seed: int = setting(
        42,
        "seed of the split; use one seed for runs that you compare, or that begin with another one's encoder",
        seed(),
    )
    block_size: float = setting(1000.0, "side of a spatial block in metres (split = block)", above_zero("metres"))
    train_places: int = setting(
        0,
        "places of the training split that are used (of each root), drawn with split_seed: shows what few labels can "
        "teach, because validation and test stay the same, and fewer places are part of more. 0: all",
        at_least(0),
    )
    balance: str = setting(
        "place",
        "what training draws equally often: place (each once in an epoch; of several roots, by weights) or event (each "
        "disaster; of what a crop lies around, levels by the root of their pixels)",
        one_of("place", "event"),
    )
    crop: int = setting(
        256,
        "side of the training crops in pixels; 0: whole tiles",
        Bound(lambda crop: crop == 0 or crop >= 32, "0 (whole tiles) or at least 32 pixels"),
    )
    damage_share: float = setting(
        0.5,
        "share of the training crops that are centred on a damaged pixel, if their tile has one (task = segmentation)",
        SHARE,
    )
    intact_share: float = setting(
        0.0,
        "share of the training crops that are centred on a building that does not count as damaged (balance = event; "
        "not with scale = binary)",
        SHARE,
    )
    false_alarm_share: float = setting(
        0.0,
        "share of the training crops around the worst false alarms on training tiles that the last search found "
        "(balance = event; train.search_every)",
        SHARE,
    )
    jitter: float = setting(
        0.0,
        "how far from the middle of its crop the damaged pixel or building may lie that the crop is drawn around, as a "
        "share of half a side; 0: in the middle, 1: anywhere. Where most pixels are unknown, use 1",
        SHARE,
    )
    workers: int = setting(0, "processes that load the data; 0: threads of the training process load it", at_least(0))
    prefetch: int = setting(2, "batches that are loaded ahead onto the device", at_least(1))

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that `root` names."""
        return tuple(root.strip() for root in self.root.split(","))

    def resolve(self) -> None:
        """Make the paths absolute, so that a run can be resumed and evaluated from any folder.

        Raises:
            ConfigError: two roots are links, and the folders that they point to have the same name.
        """
        self.root = ",".join(str(Path(root).resolve()) for root in self.roots)
        self.cache = str(Path(self.cache).resolve())
        self.events = self.events and str(Path(self.events).resolve())
        self.check_roots()

    def check_roots(self) -> None:
        """Check that the names of several roots' folders differ.

        Raises:
            ConfigError: two folders have the same name.
        """
        if len({Path(root).name for root in self.roots}) < len(self.roots):
            raise ConfigError(
                "config.data.root: expected folders with different names, because these tell their places apart, got "
                f"{self.root!r}; rename one"
            )
