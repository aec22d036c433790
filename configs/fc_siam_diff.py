"""FC-Siam-Diff as in the paper (Table II): large, whole 1024² tiles, 100 epochs, constant rate.

    python -m jaxcd.train --config configs/fc_siam_diff.py --config.data.root=DIR --workdir runs/fc_siam_diff

Data: the authors' labelled tiles (layout `paper`), damaged places only.
Published on its 28 test places: F1 55.62, IoU 38.52
(%), 25 min on an RTX 3080. With jaxcd: not measured, the tiles are not at hand. Needs an accelerator.
"""

from jaxcd.config import Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """Table II, FC-Siam-Diff."""
    return Config(
        data=DataConfig(root="data/damaged", layout="paper", places="damaged", crop=0),
        model=ModelConfig(name="fc_siam_diff", size="large", dropout=0.05, dtype="bfloat16"),
        loss=LossConfig(dice=1.0),
        optim=OptimConfig(learning_rate=3e-4, weight_decay=2e-3),
        train=TrainConfig(batch=8, accumulation=2, epochs=100),
    )
