"""The network of the damage map in docs/maps.md: on six scenes of the 2023 earthquakes, from Santa Rosa's encoder.

    python -m jaxcd.train --config configs/xbd_santa_rosa.py --workdir runs/xbd_santa_rosa
    python -m jaxcd.train --config configs/turkey_map.py --config.init.encoder_from=runs/xbd_santa_rosa \\
        --workdir runs/turkey_map

Adiyaman_Merkez_3 and _4, which overlap, are left out for the map, and with them 277 of the 316 polygons: 39 are left to
learn from. On the maps of the two (docs/results.md): recall 0.055 with 1.7 % flagged, recall 0.062 with 2.5 %. 20 min
on 2 CPU cores.
"""

from jaxcd.config import (
    AugmentConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScenesConfig,
    TrainConfig,
)

PLACES = ("Adiyaman_Merkez_1", "Adiyaman_Merkez_2", "Adiyaman_Merkez_5", "Adiyaman_Merkez_6", "Hatay", "Kahramanmaras")


def get_config() -> Config:
    """As `turkey_scenes.py`, on fewer places, and with more of them to find the threshold on."""
    return Config(
        data=DataConfig(
            root="../shared/data/turkey_2023",
            layout="scenes",
            register=True,
            scenes=ScenesConfig(only=PLACES, tile=512, variance=300.0, positive_unlabelled=True),
            split="block",
            split_shares=(0.7, 0.2, 0.1),
            crop=256,
        ),
        model=ModelConfig(name="fc_siam_diff", size="small", dropout=0.05),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=4.0),
        augment=AugmentConfig(blur=0, clahe=0, gauss_noise=0, iso_noise=0),
        optim=OptimConfig(learning_rate=2e-3, weight_decay=1e-2, schedule="cosine", warmup_steps=40, clip_norm=1.0),
        train=TrainConfig(batch=8, steps=600, validate_every=100, best_by="best_iou"),
    )
