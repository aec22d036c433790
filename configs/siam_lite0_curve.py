"""How many labelled tiles a network needs: siam_lite0 on 5, 10, 20 and 40 tiles of Santa Rosa.

    python tools/study.py --rows configs/siam_lite0_curve.py --seeds 1 --out studies/curve

Each number of tiles twice: the encoder begins with ImageNet weights, or with random ones and the full learning rate.
500 steps each, a third of siam_lite0.py's, and weights averaged over the last 100 or so. All else is as there, also the
validation and test tiles. Figures: docs/results.md.
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

_TILES = (5, 10, 20, 40)


def get_config(tiles: int = 40, pretrained: bool = True) -> Config:
    """A third of `siam_lite0.py`'s steps on some of its training tiles."""
    return Config(
        data=DataConfig(
            root="../shared/data/xbd_santa_rosa",
            layout="xbd",
            split="block",
            train_places=tiles,
            crop=192,
            damage_share=0.5,
        ),
        model=ModelConfig(name="siam_lite0", size="small"),
        init=InitConfig(pretrained="imagenet" if pretrained else ""),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0),
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        optim=OptimConfig(
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="onecycle",
            clip_norm=1.0,
            encoder_lr_scale=0.3 if pretrained else 1.0,
            ema=0.99,
        ),
        train=TrainConfig(batch=6, steps=500, validate_every=250, best_by="best_iou", log_every=20),
    )


def get_rows() -> dict[str, tuple[Config, float | None]]:
    """Return the rows of the table; none has a published score."""
    return {
        f"{tiles}_tiles_{name}": (get_config(tiles, pretrained), None)
        for tiles in _TILES
        for name, pretrained in (("imagenet", True), ("random", False))
    }
