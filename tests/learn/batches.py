"""Small random batches and configurations for the tests of the steps and the loop."""

import numpy as np

from jaxcd.base.types import Batch
from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, TrainConfig


def random_batch(n: int = 4, side: int = 32, *, seed: int = 0) -> Batch:
    """A batch whose damage is visible: post is bright where the label is 1; a corner of each tile is not valid."""
    rng = np.random.default_rng(seed)
    pre = rng.integers(0, 120, (n, side, side, 3), dtype=np.uint8)
    labels = np.zeros((n, side, side), np.uint8)
    for i in range(n):
        y, x = rng.integers(0, side - 12, 2)
        labels[i, y : y + 12, x : x + 12] = 1
    post = np.where(labels[..., None] > 0, 230, pre).astype(np.uint8)
    valid = np.ones_like(labels)
    valid[:, :4, :4] = 0
    return Batch(pre, post, labels * valid, valid, np.arange(n, dtype=np.int32))


def small_config(*, batch: int = 4, accumulation: int = 1, steps: int = 10, dropout: float = 0.0) -> Config:
    """A small FC-Siam-Diff on crops of 32 pixels, without augmentation."""
    return Config(
        data=DataConfig(root="unused", crop=32),
        model=ModelConfig(name="fc_siam_diff", size="small", dropout=dropout, onednn="off"),
        loss=LossConfig(dice=1.0, bce=1.0, positive_weight=1.0),
        augment=AugmentConfig.off(),
        train=TrainConfig(batch=batch, accumulation=accumulation, steps=steps),
    )
