"""The encoder of FC-EF, pretrained by contrast as in the paper: pairs of pairs, whole 1024² tiles.

    python -m jaxcd.train --config configs/pretrain_fc_ef.py --config.data.root=DIR --workdir runs/pretrain_fc_ef
    python -m jaxcd.train --config configs/fc_ef.py --config.data.root=DIR \\
        --config.init.encoder_from=runs/pretrain_fc_ef --workdir runs/fc_ef_pretrained

Data: the authors' labelled tiles (layout `paper`) and pairs without damage, their masks all zero; places that the
supervised run holds out are never seen. One epoch of 121 000 pairs of pairs; published: about 2 h on an RTX 3080;
a network that began with it reached F1 51.83, with its encoder frozen 34.71. With jaxcd: not measured, the tiles are
not at hand. Needs an accelerator.
"""

from jaxcd.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """docs/method.md, Contrastive pretraining."""
    return Config(
        task="contrastive",
        data=DataConfig(root="data/damaged", layout="paper", places="damaged", crop=0),
        model=ModelConfig(name="fc_ef", size="large", dtype="bfloat16"),
        optim=OptimConfig(learning_rate=1e-5, weight_decay=1e-4),
        train=TrainConfig(batch=8, steps=121_000 // 8, validate_every=500, log_every=50),
    )
