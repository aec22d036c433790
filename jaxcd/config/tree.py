"""The typed configuration of a run: plain dataclasses, checked by `Config.validate`.

A config file is Python with `get_config() -> Config`; `jaxcd.config.flags` puts command-line overrides on top.
Overrides land after construction, so nothing is checked in `__post_init__`: whoever builds a config calls `validate()`
before using it.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass, field

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES
from jaxcd.config.data import DataConfig
from jaxcd.config.fields import (
    SHARES,
    Bound,
    above_zero,
    at_least,
    below_one,
    check,
    one_of,
    seed,
    setting,
)
from jaxcd.config.hosts import HostsConfig

_LOSS_PARAMETERS = ("positive_weight", "level_weights")


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The network."""

    name: str = setting(
        "fc_siam_diff",
        "fc_ef, fc_siam_conc or fc_siam_diff (the paper's); siam_lite0, siam_resnet18, siam_resnet34 or siam_resnet50 "
        "(their encoders can begin with ImageNet weights, config.init.pretrained); or module:Class, a "
        "jaxcd.models.DamageNetwork of your own",
    )
    size: str = setting("large", "one of the network's sizes: small, medium or large")
    fusion: str = setting(
        "",
        "what a level of a siam_... decoder sees of both dates: both (features of both, and their difference), diff or "
        "conc; empty: both, or a network that has no choice",
    )
    dropout: float = setting(0.0, "dropout rate (siam_...: of the decoder)", below_one("a rate"))
    dtype: str = setting(
        "float32",
        "compute type; parameters, statistics and losses stay in float32",
        one_of("float32", "bfloat16"),
    )
    onednn: str = setting(
        "auto",
        "convolutions on a CPU: auto (by oneDNN, where a trial of it on this machine gave right numbers) or off (XLA's "
        "own); the last bits of a run differ between the two",
        one_of("auto", "off"),
    )


@dataclass(kw_only=True, slots=True)
class ContrastConfig:
    """The pretraining of an encoder (task = contrastive)."""

    normalise: bool = setting(
        True, "compare directions of embeddings, as the reference; else the embeddings, as the paper's equation"
    )
    margin: float = setting(
        1.0, "squared distance from which a pair of different kinds costs nothing", above_zero("a squared distance")
    )
    shares: tuple[float, float, float] = setting(
        (0.92, 0.04, 0.04),
        "FC-EF: shares of training, validation and test places, of those that the supervised split does not hold out",
        SHARES,
    )
    samples: int = setting(
        128, "image pairs that a validation embeds, of training and of validation places each", at_least(2)
    )


@dataclass(kw_only=True, slots=True)
class InitConfig:
    """The weights that a run begins with."""

    encoder_from: str = setting(
        "", "run whose encoder, at its best checkpoint, this one begins with; empty: random weights"
    )
    pretrained: str = setting(
        "",
        "ImageNet weights that the encoder of a siam_... network begins with: imagenet (siam_lite0; packaged in "
        "jaxcd[pretrained]) or a file, .pth or .safetensors (siam_resnet...: torchvision's or timm's); empty: none",
    )


@dataclass(kw_only=True, slots=True)
class FreezeConfig:
    """The part of the network that does not learn."""

    encoder: bool = setting(
        False,
        "the encoder's parameters and BatchNorm statistics stay as they were at the start; it runs without dropout",
    )
    until: int = setting(0, "optimiser steps after which a frozen encoder learns, too; 0: never", at_least(0))


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weights of the summed losses (task = segmentation)."""

    bce: float = setting(0.0, "weight of the binary cross-entropy (of levels: the ordinal one)", at_least(0))
    dice: float = setting(1.0, "weight of the Dice loss", at_least(0))
    iou: float = setting(0.0, "weight of the IoU loss", at_least(0))
    positive_weight: float = setting(
        16.2578,
        "weight of damaged pixels in the binary cross-entropy (by default the reference's; scale = binary)",
        above_zero("a weight"),
    )
    level_weights: tuple[float, ...] = setting(
        (),
        "weights in the cross-entropy of ground and of each level, the least damage first; empty: 1 each (not for "
        "scale = binary)",
        Bound(
            lambda weights: all(0 <= weight < math.inf for weight in weights) and (not weights or any(weights)),
            "finite weights of at least 0, and one above 0",
        ),
    )

    def weights(self) -> dict[str, float]:
        """Return the weights by the names of the losses: all fields but the parameters of single losses."""
        names = (each.name for each in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in _LOSS_PARAMETERS}


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """Ranges of the training augmentation; a range of zero switches an operation off.

    `jaxcd.learn.augmentation` says what each number means.
    """

    flips: bool = setting(True, "horizontal and vertical flips and quarter turns, on the host")
    brightness: float = setting(0.2, "largest change of brightness, as a share of the whole range", below_one())
    contrast: float = setting(0.2, "largest change of contrast, as a share", below_one())
    gamma: float = setting(0.2, "largest change of the gamma exponent from 1", below_one())
    blur: int = setting(
        7,
        "side of the largest Gaussian kernel in pixels",
        Bound(lambda side: side in (0, 3, 5, 7), "one of 0, 3, 5, 7 (largest kernel in pixels)"),
    )
    clahe: float = setting(
        4.0,
        "largest clip limit of the local histogram equalisation (CLAHE)",
        Bound(lambda limit: limit == 0 or limit >= 1, "0, or a clip limit of at least 1"),
    )
    gauss_noise: float = setting(
        50.0,
        "largest variance of Gaussian noise, in grey levels squared",
        Bound(lambda variance: variance == 0 or variance >= 10, "0, or a variance >= 10"),
    )
    iso_noise: float = setting(0.5, "largest strength of camera noise", below_one())
    shift: float = setting(0.05, "largest shift, as a share of the side", below_one())
    scale: float = setting(0.05, "largest change of scale, as a share", below_one())
    rotate: float = setting(
        90.0,
        "largest turn in degrees",
        Bound(lambda degrees: 0 <= degrees <= 180, "degrees between 0 and 180"),
    )

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

    learning_rate: float = setting(3e-4, "AdamW's rate, at its highest", above_zero("a rate"))
    weight_decay: float = setting(2e-3, "AdamW's decay, of all parameters", at_least(0))
    schedule: str = setting(
        "constant",
        "constant (as the paper), cosine (linear warm-up, then cosine decay to zero) or onecycle (cosine up from a "
        "25th of the rate, then cosine down to a 250000th: PyTorch's OneCycleLR)",
        one_of("constant", "cosine", "onecycle"),
    )
    warmup_steps: int = setting(
        0, "steps in which the rate rises; 0 means none, and with onecycle 0.3 of all steps", at_least(0)
    )
    clip_norm: float = setting(0.0, "largest global gradient norm; 0 does not clip", at_least(0))
    encoder_lr_scale: float = setting(
        1.0,
        "factor on the encoder's rate: below 1, a pretrained encoder changes less than the decoder",
        at_least(0),
    )
    ema: float = setting(
        0.0,
        "decay of the moving averages of parameters and BatchNorm statistics, such as 0.998; 0 keeps none. Training "
        "goes on from the raw weights; validation, evaluation and other runs use the averages",
        below_one("a decay"),
    )


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """How long, how wide, how often."""

    batch: int = setting(
        8, "pairs (FC-EF's pretraining: pairs of pairs) an optimiser step, over all devices", at_least(1)
    )
    accumulation: int = setting(1, "micro-batches that a step is computed in, to save memory", at_least(1))
    steps: int = setting(0, "optimiser steps; 0: given by epochs", at_least(0))
    epochs: int = setting(
        0,
        "passes over the training places (with data.weights: as many crops as there are places; pretraining: damaged "
        "ones, and as many pairs without damage); 0: by steps",
        at_least(0),
    )
    validate_every: int = setting(0, "steps between validations; 0: once an epoch", at_least(0))
    best_by: str = setting(
        "iou",
        "validation score of the best checkpoint: iou (of damage at 0.5, as the paper), best_iou (at the threshold "
        "best there) or xview2 (of levels); pretraining goes by the validation loss",
        one_of("iou", "best_iou", "xview2"),
    )
    patience: int = setting(
        0, "validations in a row without a better score (best_by) after which the run ends; 0: never", at_least(0)
    )
    checkpoint_every: int = setting(0, "steps between checkpoints; 0: at validations only", at_least(0))
    log_every: int = setting(10, "steps between log entries", at_least(1))
    eval_batch: int = setting(1, "whole tiles that each device sees at a time in a validation", at_least(1))
    devices: int = setting(0, "devices of each process that share the batch; 0: all there are", at_least(0))


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that defines a run."""

    task: str = setting(
        "segmentation",
        "what is learned: segmentation (maps of damage) or contrastive (an encoder that segmentation begins with)",
    )
    seed: int = setting(42, "of initial weights, batches, augmentation and dropout; the split has its own", seed())
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    init: InitConfig = field(default_factory=InitConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    hosts: HostsConfig = field(default_factory=HostsConfig)

    def validate(self) -> None:
        """Check the types of all fields, then each value, then the values that depend on each other.

        Raises:
            ConfigError: at the first invalid field; the message names it.
        """
        check(self, "config.")
        self.data.scenes.check_together("config.data.scenes.", SCALES[self.data.scale])
        self.hosts.check_together()
        _check_together(self)


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


def _check_together(config: Config) -> None:
    """Check the values that depend on each other."""
    weights, freeze, train, init = config.loss.weights(), config.freeze, config.train, config.init

    def wants(holds: bool, name: str, value: object, expected: str) -> None:
        if not holds:
            raise ConfigError(f"config.{name}: expected {expected}, got {value!r}")

    *names, last = weights
    given = tuple(weights.values())
    wants(sum(given) > 0, "loss", given, f"a weight above 0 for {', '.join(names)} or {last}")
    one = "nothing where encoder_from names a run: the encoder begins as one of them"
    wants(not (init.encoder_from and init.pretrained), "init.pretrained", init.pretrained, one)
    wants(freeze.encoder or not freeze.until, "freeze.until", freeze.until, "0 where nothing is frozen")
    length = (train.steps, train.epochs)
    wants((train.steps > 0) != (train.epochs > 0), "train", length, "either steps or epochs above 0, not both")
    roots, shares = config.data.roots, config.data.weights
    several = f"none, or one of each of the {len(roots)} roots (one root: none)"
    wants(not shares or len(shares) == len(roots) > 1, "data.weights", shares, several)
    config.data.check_roots()
    scale, levels = SCALES[config.data.scale], config.loss.level_weights
    graded = f"{len(scale.codes)} weights, of {', '.join(scale.codes)}"
    expected = graded if scale.buildings else "none with data.scale = binary"
    wants(not levels or (scale.buildings and len(levels) == len(scale.codes)), "loss.level_weights", levels, expected)
    by_levels = "iou or best_iou with data.scale = binary"
    wants(scale.buildings or train.best_by != "xview2", "train.best_by", train.best_by, by_levels)
    accumulation, batch = train.accumulation, train.batch
    wants(batch % accumulation == 0, "train.accumulation", accumulation, f"a divisor of batch = {batch}")
