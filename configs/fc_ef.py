"""FC-EF as in the paper (Table II): large, whole 1024² tiles, 100 epochs, constant rate.

    python -m jaxcd.train --config configs/fc_ef.py --config.data.root=DIR --workdir runs/fc_ef

Data: the authors' labelled tiles (layout `paper`), damaged places only.
Published on its 28 test places: F1 53.34, IoU 36.37
(%), 25 min on an RTX 3080. With jaxcd: not measured, the tiles are not at hand. Needs an accelerator.
"""

from jaxcd.config import Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """Table II, FC-EF."""
    return Config(
        data=DataConfig(root="data/damaged", layout="paper", places="damaged", crop=0),
        model=ModelConfig(name="fc_ef", size="large", dropout=0.01, dtype="bfloat16"),
        loss=LossConfig(dice=1.0),
        optim=OptimConfig(learning_rate=4e-5, weight_decay=7e-5),
        train=TrainConfig(batch=4, epochs=100),
    )
