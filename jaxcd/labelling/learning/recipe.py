"""The configuration of a fine-tuning: that of the run that it begins with, or the recipe with ImageNet's weights."""

import copy
from pathlib import Path

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES, Scale
from jaxcd.config import (
    AugmentConfig,
    Config,
    DataConfig,
    FreezeConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from jaxcd.labelling.learning.tuning import TuneSettings

_CROP = 192
_OF_RUN, _OF_IMAGENET = 2e-4, 1e-3  # learning rates: with the larger one, a run forgets more than it learns
_DAMAGED, _INTACT = 0.5, 0.25  # shares of the crops around damage, and around buildings without
_EMA, _LEAST_STEPS = 0.98, 100  # averages over about the last 50 steps; not worth it in shorter trainings


def base(run: Path | None, scale: Scale) -> Config:
    """Return the configuration of a run, or that of the recipe for a scale.

    Raises:
        ConfigError: the run maps no damage, or labels of the scale cannot be read in its scale.
        RunError: not a run folder.
    """
    if run is None:
        return Config(
            data=DataConfig(root="labels", scale=scale.name, crop=_CROP),
            model=ModelConfig(name="siam_lite0", size="small"),
            init=InitConfig(pretrained="imagenet"),
            loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0 if not scale.buildings else 16.2578),
            augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
            optim=OptimConfig(weight_decay=1e-2),
        )
    from jaxcd.learn.objectives import check_maps
    from jaxcd.runs import run_folder

    config = run_folder.read_config(run)
    check_maps(config, f"--run {run}")
    if scale.read_as(SCALES[config.data.scale]) is None:
        raise ConfigError(
            f"--run {run}: was trained on the scale {config.data.scale}, in which labels of the scale {scale.name} "
            "cannot be read; give a run of that scale, or no --run"
        )
    config.init = InitConfig(network_from=str(run.absolute()))
    return config


def configured(
    base: Config, settings: TuneSettings, *, dataset: Path, tile: int, shares: tuple[float, float, float]
) -> Config:
    """Return the configuration of a fine-tuning on a dataset of tiles.

    Args:
        base: of `base`.
        settings: of the fine-tuning.
        dataset: folder that prepare built.
        tile: side of the tiles in pixels.
        shares: of training, validation and test tiles.
    """
    config, steps = copy.deepcopy(base), settings.steps
    config.task, config.freeze = "segmentation", FreezeConfig()
    # Blocks of a metre: each tile is one of its own, and each split gets one with damage. Balanced: most tiles of a
    # store show no damage, and crops drawn tile by tile would teach that there is none.
    config.data = DataConfig(
        root=str(dataset),
        layout="prepared",
        scale=base.data.scale,
        split="block",
        block_size=1.0,
        split_shares=shares,
        balance="event",
        crop=min(base.data.crop or tile, tile),
        damage_share=_DAMAGED,
        intact_share=_INTACT if SCALES[base.data.scale].buildings else 0.0,
        jitter=1.0,  # few pixels are known; if they lay in the middle, networks would look there alone
    )
    config.optim = OptimConfig(
        learning_rate=settings.learning_rate or (_OF_RUN if base.init.network_from else _OF_IMAGENET),
        weight_decay=base.optim.weight_decay,
        schedule="cosine",
        warmup_steps=steps // 10,
        clip_norm=1.0,
        encoder_lr_scale=settings.encoder_lr_scale,
        ema=_EMA if steps >= _LEAST_STEPS else 0.0,
    )
    config.train = TrainConfig(
        batch=settings.batch,
        steps=steps,
        validate_every=max(steps // 4, 1),
        best_by="best_iou",
        checkpoint_every=max(min(20, steps // 4), 1),
        log_every=max(min(5, steps // 4), 1),
        devices=base.train.devices,
    )
    config.validate()
    return config
