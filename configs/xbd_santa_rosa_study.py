"""The study's damage networks on the Santa Rosa tiles of xBD, sized for a CPU: small, 256² crops, 15 epochs.

    python tools/study.py --data ../shared/data/xbd_santa_rosa --layout xbd --seeds 2 --out studies/santa_rosa \\
        --config configs/xbd_santa_rosa_study.py --pretrain_config configs/xbd_santa_rosa_pretrain.py

About 80 min on 2 CPU cores for all 28 runs. From scratch, mean of two seeds on the test tiles: F1 0.365 (FC-EF), 0.547
(FC-Siam-Conc), 0.513 (FC-Siam-Diff); docs/results.md has all rows.
"""

from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """As `xbd_santa_rosa.py`, in a twentieth of its pairs."""
    return Config(
        data=DataConfig(root="../shared/data/xbd_santa_rosa", layout="xbd", split="block", crop=256),
        model=ModelConfig(name="fc_siam_diff", size="small"),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0),
        augment=AugmentConfig(gauss_noise=0, iso_noise=0, clahe=0, blur=0, shift=0, scale=0, rotate=0),
        optim=OptimConfig(learning_rate=2e-3, weight_decay=1e-2, schedule="cosine", warmup_steps=15, clip_norm=1.0),
        train=TrainConfig(batch=4, epochs=15, validate_every=75, best_by="best_iou"),
    )
