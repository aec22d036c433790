"""Finds, describes and makes networks by name."""

import importlib
import inspect
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxcd.base.errors import ConfigError
from jaxcd.config import ModelConfig
from jaxcd.models.description import DamageNetwork, Description
from jaxcd.models.pretrained.siamese import SiamLite0, SiamResNet18, SiamResNet34, SiamResNet50
from jaxcd.models.unet import FCEF, FCSiamConc, FCSiamDiff

# To add a network, write a file beside this one and add a line here; a network elsewhere is named as module:Class.
NETWORKS: dict[str, type[DamageNetwork]] = {
    "fc_ef": FCEF,
    "fc_siam_conc": FCSiamConc,
    "fc_siam_diff": FCSiamDiff,
    "siam_lite0": SiamLite0,
    "siam_resnet18": SiamResNet18,
    "siam_resnet34": SiamResNet34,
    "siam_resnet50": SiamResNet50,
}


def find(name: str) -> type[DamageNetwork]:
    """Return the class of a network.

    Args:
        name: one of `NETWORKS`, or `module:Class` of a `DamageNetwork` that Python can import.

    Raises:
        ConfigError: there is no such network.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    module, colon, kind = name.partition(":")
    if not colon:
        raise ConfigError(
            f"config.model.name: expected one of {', '.join(NETWORKS)}, or module:Class of a network of your own, got "
            f"{name!r}"
        )
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"config.model.name: {name} cannot be imported ({error}); put its folder on PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, DamageNetwork)):
        raise ConfigError(f"config.model.name: {name} is no subclass of jaxcd.models.DamageNetwork")
    return found


def check(config: ModelConfig) -> None:
    """Check that the configured network exists and has the configured size and fusion.

    Raises:
        ConfigError: there is no such network, or it has no such size or fusion.
    """
    network = find(config.name)
    if config.size not in network.sizes:
        raise ConfigError(f"config.model.size: expected one of {', '.join(network.sizes)}, got {config.size!r}")
    if config.fusion and config.fusion not in network.fusions:
        expected = (
            f"one of {', '.join(network.fusions)}"
            if network.fusions
            else f"no fusion, as {config.name} has none to choose"
        )
        raise ConfigError(f"config.model.fusion: expected {expected}, got {config.fusion!r}")


def describe(config: ModelConfig) -> Description:
    """Return the description of the configured network.

    Raises:
        ConfigError: there is no such network, or it has no such size.
    """
    check(config)
    return find(config.name).describe(config.size)


def create(
    name: str,
    *,
    size: str = "large",
    fusion: str = "",
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
    onednn: bool = False,
    outputs: int = 1,
    rngs: nnx.Rngs,
) -> DamageNetwork:
    """Build a network, in eval mode.

    Args:
        name: one of `NETWORKS`, or `module:Class`.
        size: one of the network's sizes; those of jaxcd's own networks are small, medium and large.
        fusion: one of the network's fusions, if it has any; empty for its first one.
        dropout: dropout rate of train mode.
        dtype: compute type; parameters, statistics and logits are float32.
        onednn: whether oneDNN computes its convolutions on a CPU (`jaxcd.models.choose_convolutions`).
        outputs: number of logits for each pixel: as many as the scale of damage has levels.
        rngs: source of the initial weights, `nnx.Rngs(seed)`.

    Returns:
        A network whose call takes normalised `f32[b,h,w,3]` images before and after the event and gives
        logits `f32[b,h,w]`, or `f32[b,h,w,outputs]` if there are several; sides are multiples of its description's
        stride.

    Raises:
        ConfigError: name, size or fusion is unknown, or a network of the user's own takes no `outputs`.

    Source: docs/method.md, Architectures (paper Fig. 4) and Pretrained encoders.

    Example:
        >>> model = create("fc_siam_diff", size="small", rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 3))).shape
        (1, 64, 64)
    """
    check(ModelConfig(name=name, size=size, fusion=fusion))
    network: Any = find(name)
    chosen: dict[str, Any] = {"fusion": fusion or network.fusions[0]} if network.fusions else {}
    if outputs > 1:
        if "outputs" not in inspect.signature(network.__init__).parameters:
            raise ConfigError(
                f"config.model.name: {name} takes no argument outputs, so it can only learn the scale binary; add the "
                "argument to its __init__ (see jaxcd.models.DamageNetwork)"
            )
        chosen["outputs"] = outputs
    made = network(size, dropout=dropout, dtype=dtype, rngs=rngs, **chosen)
    made.set_attributes(onednn=onednn, raise_if_not_found=False)
    return made
