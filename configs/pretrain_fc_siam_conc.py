"""The encoder of FC-Siam-Conc, pretrained by contrast as in the paper: pre and post of one pair, whole 1024² tiles.

    python -m jaxcd.train --config configs/pretrain_fc_siam_conc.py --config.data.root=DIR \\
        --workdir runs/pretrain_fc_siam_conc
    python -m jaxcd.train --config configs/fc_siam_conc.py --config.data.root=DIR \\
        --config.init.encoder_from=runs/pretrain_fc_siam_conc --workdir runs/fc_siam_conc_pretrained

Data: the authors' labelled tiles (layout `paper`) and pairs without damage, their masks all zero; places that the
supervised run holds out are never seen. 200 epochs of about 268 pairs; published: about 2 h on an RTX 3080;
a network that began with it reached F1 51.42, with its encoder frozen 43.68. With jaxcd: not measured, the tiles are
not at hand. Needs an accelerator.

FC-Siam-Conc and FC-Siam-Diff have the same encoder: a pretrained one serves both.
"""

from jaxcd.config import Config, DataConfig, ModelConfig, OptimConfig, TrainConfig


def get_config() -> Config:
    """docs/method.md, Contrastive pretraining."""
    return Config(
        task="contrastive",
        data=DataConfig(root="data/damaged", layout="paper", places="damaged", crop=0),
        model=ModelConfig(name="fc_siam_conc", size="large", dtype="bfloat16"),
        optim=OptimConfig(learning_rate=1e-5, weight_decay=1e-4),
        train=TrainConfig(batch=8, steps=200 * 268 // 8, validate_every=500, log_every=50),
    )
