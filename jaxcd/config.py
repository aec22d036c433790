"""The typed configuration of a run: plain dataclasses, checked by `Config.validate`.

A config file is Python with `get_config() -> Config`; `jaxcd.entry` puts command-line overrides on
top. Overrides land after construction, so nothing is checked in `__post_init__`: whoever builds a
config calls `validate()` before using it.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field

from jaxcd.config_scenes import ScenesConfig
from jaxcd.errors import ConfigError

LAYOUTS = ("xbd", "paper", "folders", "scenes", "simulated", "prepared")
XBD_LEVELS = ("no-damage", "minor-damage", "major-damage", "destroyed")
ENCODINGS = ("auto", "png", "jpeg", "webp", "zstd", "raw")
TASKS = ("segmentation", "contrastive")
MODELS = ("fc_ef", "fc_siam_conc", "fc_siam_diff")
SIZES = ("small", "medium", "large")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Which tiles, how they are split, and how crops are drawn from them."""

    root: str = ""
    """Source folder, or a dataset that `jaxcd.prepare` built."""
    layout: str = "folders"
    """Layout of `root`: xbd, paper, folders, scenes, simulated (made on first use) or prepared."""
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    cache: str = "datasets"
    """Folder for datasets that training builds from a source folder on first use."""
    damage_levels: tuple[str, ...] = ("major-damage", "destroyed")
    """xBD damage levels that count as damage."""
    scaling: str = ""
    """How 16-bit and float images become 8 bits: "range:LOW,HIGH" or "percentiles:LOW,HIGH"; empty: refused."""
    incomplete: str = "refuse"
    """Files whose counterpart (image or label) is missing: refuse, or leave_out (and report)."""
    encoding: str = "auto"
    """How images lie in the dataset: auto (JPEG files as they are, others as zstd), zstd, raw, png, webp (lossless), or
    jpeg (of quality 95). README has their sizes and speeds. A prepared dataset is in the one it was built in."""
    places: str = "all"
    """Places that take part in the splits: all, or damaged (those with a damaged pixel, as the paper)."""
    split: str = "place"
    """How places are split: place (by rank in a seeded permutation) or block (spatial blocks stay together)."""
    split_shares: tuple[float, float, float] = (0.70, 0.15, 0.15)
    """Shares of training, validation and test places."""
    split_seed: int = 42
    """Seed of the split. Runs that are compared, or that begin with each other's encoder, share it."""
    block_size: float = 1000.0
    """Side of a spatial block in metres (split = block)."""
    crop: int = 256
    """Side of the training crops in pixels; 0 takes whole tiles."""
    damage_share: float = 0.5
    """Share of the crops that are centred on a damaged pixel, where the tile has one (task = segmentation)."""
    workers: int = 0
    """Loader processes; 0 reads in threads of the training process."""
    prefetch: int = 2
    """Batches kept ready on the device."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The network."""

    name: str = "fc_siam_diff"
    """fc_ef, fc_siam_conc or fc_siam_diff."""
    size: str = "large"
    """small, medium or large."""
    dropout: float = 0.0
    """Dropout rate, 0 <= rate < 1."""
    dtype: str = "float32"
    """Compute type: float32 or bfloat16. Parameters, statistics and losses stay in float32."""


@dataclass(kw_only=True, slots=True)
class ContrastConfig:
    """The pretraining of an encoder (task = contrastive)."""

    normalise: bool = True
    """Compare directions of embeddings, as the reference; else the embeddings themselves, as the paper's equation."""
    margin: float = 1.0
    """Squared distance from which a pair of different kinds costs nothing."""
    shares: tuple[float, float, float] = (0.92, 0.04, 0.04)
    """FC-EF: shares of training, validation and test places, of those that the supervised split does not hold out."""
    samples: int = 128
    """Image pairs that a validation embeds, of training and of validation places each."""


@dataclass(kw_only=True, slots=True)
class InitConfig:
    """What a run begins with."""

    encoder_from: str = ""
    """Run whose encoder, at its best checkpoint, this one begins with; empty: random weights."""


@dataclass(kw_only=True, slots=True)
class FreezeConfig:
    """What does not learn."""

    encoder: bool = False
    """The encoder's parameters and BatchNorm statistics stay as they were at the start; it runs without dropout."""
    until: int = 0
    """Optimiser steps after which a frozen encoder learns, too; 0: never."""


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weights of the summed losses (task = segmentation)."""

    bce: float = 0.0
    dice: float = 1.0
    iou: float = 0.0
    positive_weight: float = 16.2578
    """Weight of damaged pixels in the binary cross-entropy (the reference's value)."""


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """Ranges of the training augmentation; a range of zero switches an operation off.

    `jaxcd.training.augmentation` says what each number means.
    """

    flips: bool = True
    """Horizontal and vertical flips and quarter turns, on the host."""
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.2
    blur: int = 7
    clahe: float = 4.0
    gauss_noise: float = 50.0
    iso_noise: float = 0.5
    shift: float = 0.05
    scale: float = 0.05
    rotate: float = 90.0
    """Degrees."""

    @classmethod
    def off(cls) -> "AugmentConfig":
        """Return ranges with which images stay as they are."""
        return cls(
            flips=False, brightness=0, contrast=0, gamma=0, blur=0, clahe=0, gauss_noise=0, iso_noise=0, shift=0,
            scale=0, rotate=0,
        )  # fmt: skip


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """AdamW and its schedule."""

    learning_rate: float = 3e-4
    weight_decay: float = 2e-3
    schedule: str = "constant"
    """constant (as the paper) or cosine (linear warm-up, then cosine decay to zero)."""
    warmup_steps: int = 0
    clip_norm: float = 0.0
    """Largest global gradient norm; 0 does not clip."""
    encoder_lr_scale: float = 1.0
    """Factor on the encoder's learning rate: below 1, a pretrained encoder changes less than the decoder."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """How long, how wide, how often."""

    batch: int = 8
    """Pairs (FC-EF's pretraining: pairs of pairs) an optimiser step, over all devices."""
    accumulation: int = 1
    """Micro-batches a step is computed in, to save memory."""
    steps: int = 0
    """Optimiser steps; 0: given by `epochs`."""
    epochs: int = 0
    """Passes over the training places (pretraining: damaged ones, and as many pairs without damage); 0: see `steps`."""
    validate_every: int = 0
    """Steps between validations; 0: once an epoch."""
    best_by: str = "iou"
    """Validation score of the best checkpoint: iou (at 0.5, as the paper) or best_iou (at the threshold best there).

    Pretraining: always the validation loss.
    """
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: at validations only."""
    log_every: int = 10
    """Steps between log entries."""
    eval_batch: int = 1
    """Whole tiles that each device sees at a time in a validation."""
    devices: int = 0
    """Devices the batch is sharded over; 0: all there are."""


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that defines a run."""

    task: str = "segmentation"
    """What is learned: segmentation (maps of damage), or contrastive (an encoder that segmentation begins with)."""
    seed: int = 42
    """Of initial weights, batches, augmentation and dropout; the split has its own."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    init: InitConfig = field(default_factory=InitConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def compared(self) -> int:
        """Image pairs that make one element of a batch: FC-EF is pretrained on pairs of them."""
        return 2 if self.task == "contrastive" and self.model.name == "fc_ef" else 1

    def validate(self) -> None:
        """Check types first, then values.

        Raises:
            ConfigError: at the first field that does not hold; the message names it.
        """
        _check_types(self, "config")
        _check_values(self)


def field_type(path: str) -> typing.Any:
    """Return the type of a field given as `config.group.name`.

    Raises:
        ConfigError: there is no such field.
    """
    node: typing.Any = Config
    names = path.split(".")
    for i, name in enumerate(names[1:], start=1):
        hints = typing.get_type_hints(node) if dataclasses.is_dataclass(node) else {}
        if name not in hints:
            there = f"; {'.'.join(names[:i])} has {', '.join(hints)}" if hints else ""
            raise ConfigError(f"{path}: no such field{there}")
        node = hints[name]
    return node


def _check_types(node: typing.Any, path: str) -> None:
    hints = typing.get_type_hints(type(node))
    for name, hint in hints.items():
        value, where = getattr(node, name), f"{path}.{name}"
        if dataclasses.is_dataclass(hint):
            if type(value) is not hint:
                raise ConfigError(f"{where}: is a group of fields and cannot be set to {value!r}")
            _check_types(value, where)
        elif isinstance(hint, types.GenericAlias):
            _check_tuple(value, hint, where)
        elif hint is float:
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise ConfigError(f"{where}: expected a finite number, got {value!r}")
        elif type(value) is not hint:
            raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")


def _check_tuple(value: typing.Any, hint: types.GenericAlias, where: str) -> None:
    kinds = hint.__args__
    example = "\"('a', 'b')\"" if kinds[0] is str else '"(0.7, 0.15, 0.15)"'
    wanted = "a tuple of text" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers"
    accepted = str if kinds[0] is str else (int, float)
    if (
        not isinstance(value, tuple)
        or (kinds[-1] is not Ellipsis and len(value) != len(kinds))
        or not all(isinstance(item, accepted) and not isinstance(item, bool) for item in value)
        or any(isinstance(item, str) and "," in item for item in value)
    ):
        raise ConfigError(f"{where}: expected {wanted}, got {value!r}; write it as --{where}={example}")


def _check_values(config: Config) -> None:
    d, m, lo, a, o, t = config.data, config.model, config.loss, config.augment, config.optim, config.train

    def check(holds: bool, name: str, value: object, expected: str) -> None:
        if not holds:
            raise ConfigError(f"config.{name}: expected {expected}, got {value!r}")

    def choice(name: str, value: str, options: tuple[str, ...]) -> None:
        check(value in options, name, value, f"one of {', '.join(options)}")

    def at_least(low: float, group: str, node: object, *names: str) -> None:
        for name in names:
            value = getattr(node, name)
            check(value >= low, f"{group}.{name}", value, f"at least {low}")

    choice("task", config.task, TASKS)
    check(0 <= config.seed < 2**63, "seed", config.seed, "at least 0 and below 2**63")
    check(d.root != "", "data.root", d.root, "the folder that holds the data")
    choice("data.layout", d.layout, LAYOUTS)
    for level in d.damage_levels:
        choice("data.damage_levels", level, XBD_LEVELS)
    check(bool(d.damage_levels), "data.damage_levels", d.damage_levels, "at least one level")
    check_scaling(d.scaling, "config.data.scaling")
    s = d.scenes
    for name in ("min_overlap", "black", "valid"):
        check(0 <= getattr(s, name) <= 1, f"data.scenes.{name}", getattr(s, name), "a share between 0 and 1")
    at_least(0, "data.scenes", s, "gsd", "snow", "variance", "max_clouds", "max_off_nadir")
    check(32 <= s.tile <= 4096, "data.scenes.tile", s.tile, "between 32 and 4096 pixels")
    choice("data.scenes.edges", s.edges, ("pad", "shift"))
    choice("data.scenes.outside", s.outside, ("intact", "unlabelled"))
    attribute, values = bool(s.label_attribute), bool(s.label_values)
    check(
        attribute == values, "data.scenes.label_values", s.label_values, "values exactly where label_attribute is given"
    )
    choice("data.encoding", d.encoding, ENCODINGS)
    choice("data.incomplete", d.incomplete, ("refuse", "leave_out"))
    choice("data.places", d.places, ("all", "damaged"))
    choice("data.split", d.split, ("place", "block"))
    check(0 <= d.split_seed < 2**63, "data.split_seed", d.split_seed, "at least 0 and below 2**63")
    for name, shares in (("data.split_shares", d.split_shares), ("contrast.shares", config.contrast.shares)):
        check(all(s > 0 for s in shares), name, shares, "shares above 0")
        check(abs(sum(shares) - 1) < 1e-6, name, shares, "shares that sum to 1")
    check(d.block_size > 0, "data.block_size", d.block_size, "metres above 0")
    check(d.crop == 0 or d.crop >= 32, "data.crop", d.crop, "0 (whole tiles) or at least 32 pixels")
    check(0 <= d.damage_share <= 1, "data.damage_share", d.damage_share, "a share between 0 and 1")
    at_least(0, "data", d, "workers")
    at_least(1, "data", d, "prefetch")
    choice("model.name", m.name, MODELS)
    choice("model.size", m.size, SIZES)
    check(0 <= m.dropout < 1, "model.dropout", m.dropout, "a rate of at least 0 and below 1")
    choice("model.dtype", m.dtype, ("float32", "bfloat16"))
    check(config.contrast.margin > 0, "contrast.margin", config.contrast.margin, "a squared distance above 0")
    at_least(2, "contrast", config.contrast, "samples")
    at_least(0, "loss", lo, "bce", "dice", "iou")
    check(lo.bce + lo.dice + lo.iou > 0, "loss", (lo.bce, lo.dice, lo.iou), "a weight above 0 for bce, dice or iou")
    check(lo.positive_weight > 0, "loss.positive_weight", lo.positive_weight, "a weight above 0")
    for name in ("brightness", "contrast", "gamma", "iso_noise", "shift", "scale"):
        check(0 <= getattr(a, name) < 1, f"augment.{name}", getattr(a, name), "at least 0 and below 1")
    check(a.blur in (0, 3, 5, 7), "augment.blur", a.blur, "one of 0, 3, 5, 7 (largest kernel in pixels)")
    check(a.clahe == 0 or a.clahe >= 1, "augment.clahe", a.clahe, "0, or a clip limit of at least 1")
    check(a.gauss_noise == 0 or a.gauss_noise >= 10, "augment.gauss_noise", a.gauss_noise, "0, or a variance >= 10")
    check(0 <= a.rotate <= 180, "augment.rotate", a.rotate, "degrees between 0 and 180")
    check(o.learning_rate > 0, "optim.learning_rate", o.learning_rate, "a rate above 0")
    at_least(0, "optim", o, "weight_decay", "warmup_steps", "clip_norm", "encoder_lr_scale")
    at_least(0, "freeze", config.freeze, "until")
    check(
        config.freeze.encoder or not config.freeze.until,
        "freeze.until",
        config.freeze.until,
        "0 where nothing is frozen",
    )
    choice("optim.schedule", o.schedule, ("constant", "cosine"))
    at_least(1, "train", t, "batch", "accumulation", "log_every", "eval_batch")
    choice("train.best_by", t.best_by, ("iou", "best_iou"))
    at_least(0, "train", t, "steps", "epochs", "validate_every", "checkpoint_every", "devices")
    check((t.steps > 0) != (t.epochs > 0), "train", (t.steps, t.epochs), "either steps or epochs above 0, not both")
    check(t.batch % t.accumulation == 0, "train.accumulation", t.accumulation, f"a divisor of batch = {t.batch}")
    if config.task == "contrastive":
        # Half of a (micro-)batch differs; of FC-EF's also half of the pairs show damage.
        even = 2 * config.compared * t.accumulation
        check(t.batch % even == 0, "train.batch", t.batch, f"a multiple of {even}, so that batches are balanced")
        check(not config.freeze.encoder, "freeze.encoder", True, "False: the encoder is what pretraining learns")


def check_scaling(scaling: str, where: str) -> tuple[str, float, float] | None:
    """Parse "range:LOW,HIGH" or "percentiles:LOW,HIGH"; the empty text gives None.

    Raises:
        ConfigError: anything else; the message names `where`.
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
