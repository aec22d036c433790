"""trial"""

from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(
            root="../shared/data/sztaki_airchange",
            layout="airchange_szada",
            split="published",
            crop=160,
            damage_share=0.5,
        ),
        model=ModelConfig(name="fc_siam_diff", size="medium", dropout=0.2),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0),
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        optim=OptimConfig(learning_rate=2e-3, weight_decay=1e-2, schedule="cosine", warmup_steps=50, clip_norm=1.0),
        train=TrainConfig(batch=8, steps=300, validate_every=100, best_by="best_iou", log_every=20),
    )
