"""An encoder pretrained by contrast on the Santa Rosa tiles of xBD, sized for a CPU: small, 256² crops, 120 steps.

    python -m jaxcd.train --config configs/xbd_santa_rosa_pretrain.py --workdir runs/xbd_santa_rosa_pretrain
    python -m jaxcd.train --config configs/xbd_santa_rosa.py \\
        --config.init.encoder_from=runs/xbd_santa_rosa_pretrain --workdir runs/xbd_santa_rosa_pretrained

2 min on 2 CPU cores. Validation: linear probe 0.7. In the study (docs/results.md) FC-Siam-Diff with this encoder
reached test F1 0.525, from scratch 0.513, after 600 pairs each.
"""

from jaxcd.config import AugmentConfig, Config, ContrastConfig, DataConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """FC-Siam's encoder; `--config.model.name=fc_ef` pretrains FC-EF's."""
    return Config(
        task="contrastive",
        data=DataConfig(root="../shared/data/xbd_santa_rosa", layout="xbd", split="block", crop=256),
        model=ModelConfig(name="fc_siam_diff", size="small"),
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        # FC-EF: 4 % of 40 places are too few to validate on.
        contrast=ContrastConfig(shares=(0.7, 0.15, 0.15)),
        # The paper's 1e-5 is for 6700 steps and more of large networks.
        optim=OptimConfig(learning_rate=2e-4, weight_decay=1e-4),
        train=TrainConfig(batch=8, steps=120, validate_every=40),
    )
