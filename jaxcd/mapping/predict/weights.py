"""The digest by which a trained network is recognised."""

import hashlib
from typing import Any

import jax
import numpy as np

from jaxcd.config import ModelConfig


def digest(model: ModelConfig, params: Any, stats: Any) -> str:
    """Return the SHA-256 of a network's kind and all its numbers.

    Args:
        model: name, size and compute type.
        params: parameters.
        stats: BatchNorm statistics.
    """
    found = hashlib.sha256(f"{model.name} {model.size} {model.dtype}".encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, stats)):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()
