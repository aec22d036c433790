"""FC-Siam-Conc as in the paper (Table II): large, whole 1024² tiles, 100 epochs, constant rate.

    python -m jaxcd.train --config configs/fc_siam_conc.py --config.data.root=DIR --workdir runs/fc_siam_conc

Data: the authors' labelled tiles (layout `paper`), damaged places only.
Published on its 28 test places: F1 55.02, IoU 37.95
(%), 25 min on an RTX 3080. With jaxcd: not measured, the tiles are not at hand. Needs an accelerator.
"""

from jaxcd.config import Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """Table II, FC-Siam-Conc."""
    return Config(
        data=DataConfig(root="data/damaged", layout="paper", places="damaged", crop=0),
        model=ModelConfig(name="fc_siam_conc", size="large", dropout=0.02, dtype="bfloat16"),
        loss=LossConfig(dice=0.0, iou=1.0),
        optim=OptimConfig(learning_rate=5e-4, weight_decay=2e-4),
        train=TrainConfig(batch=4, epochs=100),
    )
