"""The configuration of a run: a tree of typed dataclasses, its files and its flags."""

from jaxcd.config.scenes import ScenesConfig
from jaxcd.config.tree import (
    ENCODINGS,
    XBD_LEVELS,
    AugmentConfig,
    Config,
    ContrastConfig,
    DataConfig,
    FreezeConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    check_scaling,
    field_type,
    scaling_named,
)

__all__ = [
    "ENCODINGS",
    "XBD_LEVELS",
    "AugmentConfig",
    "Config",
    "ContrastConfig",
    "DataConfig",
    "FreezeConfig",
    "InitConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "ScenesConfig",
    "TrainConfig",
    "check_scaling",
    "field_type",
    "scaling_named",
]
