"""The digest that identifies a trained network."""

import hashlib
from typing import Any

import jax
import numpy as np

from jaxcd.config import ModelConfig


def digest(model: ModelConfig, params: Any, stats: Any) -> str:
    """Return the SHA-256 of a network's name, size and compute type, and of all its parameters and statistics.

    Args:
        model: configuration of the network.
        params: parameters.
        stats: BatchNorm statistics.
    """
    digested = hashlib.sha256(f"{model.name} {model.size} {model.dtype}".encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, stats)):
        digested.update(jax.tree_util.keystr(path).encode())
        digested.update(np.ascontiguousarray(leaf).tobytes())
    return digested.hexdigest()
