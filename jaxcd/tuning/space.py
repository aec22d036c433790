"""The space that is searched: the paper's (docs/method.md, Supervised training)."""

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxcd.base.errors import ConfigError
from jaxcd.config import Config, LossConfig
from jaxcd.learn.objectives import check_maps
from jaxcd.learn.steps import check_network

if TYPE_CHECKING:
    import optuna

LOSSES = tuple(LossConfig().weights())
BATCHES = (4, 8, 16, 32)
LEARNING_RATE = (1e-5, 1e-2)
WEIGHT_DECAY = (1e-5, 1e-1)
DROPOUT = (0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class Space:
    """The space, narrowed to what a machine can take.

    Attributes:
        sizes: of the network; without a default, as each network has its own.
        batches: pairs an optimiser step.
    """

    sizes: tuple[str, ...]
    batches: tuple[int, ...] = BATCHES

    def check(self, base: Config) -> None:
        """Check that a run of every size and batch can be started, and that trials can be compared.

        Raises:
            ConfigError: they can't, or the configuration does not train damage networks.
        """
        check_maps(base, "config.task")
        if len(self.sizes) > 1 and base.init.encoder_from:
            raise ConfigError("config.init.encoder_from: that encoder has one size; name it with --sizes")
        t = base.train
        if len(self.batches) > 1 and (t.steps or t.validate_every):
            raise ConfigError(
                f"config.train: trials of several batches are compared by epochs, got steps={t.steps} and "
                f"validate_every={t.validate_every}; set --config.train.steps=0 --config.train.epochs=10 "
                "--config.train.validate_every=0, or one of --batches"
            )
        for size in self.sizes:
            for batch in self.batches:
                config = copy.deepcopy(base)
                config.model.size, config.train.batch = size, batch
                config.validate()
                check_network(config)
                if t.devices and batch // t.accumulation % t.devices:
                    raise ConfigError(f"config.train.devices: {t.devices} can't share batches of {batch} evenly")

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """Draw a point."""
        return {
            "loss": trial.suggest_categorical("loss", LOSSES),
            "batch": trial.suggest_categorical("batch", self.batches),
            "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATE, log=True),
            "weight_decay": trial.suggest_float("weight_decay", *WEIGHT_DECAY, log=True),
            "dropout": trial.suggest_float("dropout", *DROPOUT),
            "size": trial.suggest_categorical("size", self.sizes),
        }


def configured(base: Config, point: Mapping[str, Any]) -> Config:
    """Put a point of the space into a configuration; all else stays as in `base`."""
    config = copy.deepcopy(base)
    config.loss = dataclasses.replace(base.loss, **{name: float(name == point["loss"]) for name in LOSSES})
    config.train.batch = point["batch"]
    config.optim.learning_rate, config.optim.weight_decay = point["learning_rate"], point["weight_decay"]
    config.model.dropout, config.model.size = point["dropout"], point["size"]
    return config
