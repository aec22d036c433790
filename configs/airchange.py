"""The published table of FC-EF, FC-Siam-Conc and FC-Siam-Diff on SZTAKI AirChange (Daudt, Le Saux, Boulch 2018).

    python tools/study.py --rows configs/airchange.py --out studies/airchange

trains and evaluates all 24 runs: two sets, four networks, three seeds. One run of its own:

    python -m jaxcd.train --config configs/airchange.py --config.data.layout=airchange_tiszadob \\
        --config.model.name=fc_ef --workdir runs/tiszadob_fc_ef

Published F1 0.527 (Szada/1) and 0.934 (Tiszadob/3) at best. FC-EF, mean of three seeds: 0.522 and 0.855; on Tiszadob/3
with --config.loss.positive_weight=1 it has 0.939. A run takes 4 to 7 min on one CPU core. Figures: docs/results.md.
"""

from jaxcd.config import (
    AugmentConfig,
    Config,
    DataConfig,
    DatesConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

# F1 of the change class (docs/method.md, AirChange); siam_lite0 is not in the paper.
_PUBLISHED = {
    "szada": {"fc_ef": 0.514, "fc_siam_conc": 0.504, "fc_siam_diff": 0.5266, "siam_lite0": None},
    "tiszadob": {"fc_ef": 0.934, "fc_siam_conc": 0.827, "fc_siam_diff": 0.778, "siam_lite0": None},
}
_STEPS = 500


def get_config(images: str = "szada", network: str = "fc_siam_diff") -> Config:
    """Medium and from scratch, as published; the averaged weights of the last step are evaluated."""
    pretrained = network == "siam_lite0"
    return Config(
        # 112 divides the test of 448 x 784; half of the crops lie around changed pixels, which are few.
        data=DataConfig(
            root="../shared/data/sztaki_airchange", layout=f"airchange_{images}", split="published", crop=112
        ),
        model=ModelConfig(name=network, size="medium", dropout=0.2),
        init=InitConfig(pretrained="imagenet" if pretrained else ""),
        # Published: weights inverse to frequency. Half of the crops lie around changes, so 4 is about as much.
        loss=LossConfig(dice=0.0, bce=1.0, positive_weight=4.0),
        # Published: flips and quarter turns. Light is added, of both dates and of each by itself.
        augment=AugmentConfig(
            blur=0, clahe=0, gauss_noise=0, iso_noise=0, shift=0, scale=0, rotate=0, dates=DatesConfig(tone=0.15)
        ),
        optim=OptimConfig(
            learning_rate=1e-3 if pretrained else 2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            warmup_steps=50,
            clip_norm=1.0,
            encoder_lr_scale=0.3 if pretrained else 1.0,
            ema=0.99,
        ),
        # One validation, at the end: so the last step is the best one, and nothing is chosen by few changed pixels.
        train=TrainConfig(batch=8, steps=_STEPS, validate_every=_STEPS, checkpoint_every=200, log_every=20),
    )


def get_rows() -> dict[str, tuple[Config, float | None]]:
    """Return the rows of the table, each with its published F1."""
    return {
        f"{images}_{network}": (get_config(images, network), f1)
        for images, networks in _PUBLISHED.items()
        for network, f1 in networks.items()
    }
