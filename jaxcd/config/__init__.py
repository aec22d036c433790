"""The configuration of a run: a tree of typed dataclasses, its files and its flags."""

from jaxcd.config.data import ENCODINGS, XBD_LEVELS, DataConfig, check_scaling, scaling_named
from jaxcd.config.dates import DatesConfig
from jaxcd.config.hosts import HostsConfig
from jaxcd.config.scenes import ScenesConfig
from jaxcd.config.tree import (
    AugmentConfig,
    Config,
    ContrastConfig,
    FreezeConfig,
    InitConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    field_type,
)

__all__ = [
    "ENCODINGS",
    "XBD_LEVELS",
    "AugmentConfig",
    "Config",
    "ContrastConfig",
    "DataConfig",
    "DatesConfig",
    "FreezeConfig",
    "HostsConfig",
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
