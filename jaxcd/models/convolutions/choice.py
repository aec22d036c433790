"""Chooses what computes the convolutions of a network on this machine: oneDNN or XLA."""

import warnings
from typing import NamedTuple

import jax

from jaxcd.models.convolutions import trial


class Convolutions(NamedTuple):
    """The choice between oneDNN and XLA.

    Attributes:
        onednn: True for oneDNN, False for XLA.
        why: the choice and its reason in words, for the first lines of a run.
    """

    onednn: bool
    why: str


def choose_convolutions(setting: str, *, dtype: str, devices: int) -> Convolutions:
    """Choose oneDNN on a single CPU device if its numbers are right, else XLA.

    Args:
        setting: `config.model.onednn`, "auto" or "off".
        dtype: the network's compute type, "float32" or "bfloat16".
        devices: number of devices that share a batch; 0: all devices.
    """
    if jax.default_backend() != "cpu":
        return Convolutions(False, "XLA's")
    if setting == "off":
        return Convolutions(False, "XLA's (config.model.onednn=off)")
    if (devices or jax.device_count()) > 1 or jax.process_count() > 1:
        # XLA cannot divide these calls: each device would compute the whole batch.
        return Convolutions(False, "XLA's, because several devices share the batch")
    failure = trial.failure(dtype)
    if failure:
        return Convolutions(False, f"XLA's, slower: {failure}")
    # jaxlib cannot write programs with these calls to JAX's compilation cache, and would warn at each start.
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry", UserWarning)
    return Convolutions(True, "oneDNN's, compiled anew at each start (config.model.onednn=off: XLA's, slower)")
