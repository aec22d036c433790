"""Weights of the PyTorch reference in jaxcd's networks (names: docs/method.md, Architectures)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxcd.base.errors import CheckpointError
from jaxcd.models.blocks import BatchNorm
from jaxcd.models.unet import ENCODER_BLOCKS, UNet

Target = tuple[nnx.Variable, tuple[int, ...]]
"""A variable of ours, and torch's axes in its order."""

KERNEL, VECTOR = (2, 3, 1, 0), (0,)
_NAMED = 8  # entries that a message names of each kind


def load_torch_state_dict(model: UNet, state_dict: Mapping[str, Any]) -> None:
    """Overwrite all parameters and statistics of a network with a reference state dict.

    Args:
        model: a network of `jaxcd.models.create`; unchanged when an error is raised.
        state_dict: the reference's names with numpy arrays or torch tensors. `num_batches_tracked` entries
            are ignored: the momentum is constant.

    Raises:
        CheckpointError: entries missing, extra or of another shape, all named in one message.
    """
    targets = dict(_targets(model))
    for name, array in fitting(state_dict, targets, of=type(model).__name__).items():
        # A transposed convolution runs the kernel backwards in torch: flip it spatially.
        array = array[::-1, ::-1] if ".conv_t" in name and array.ndim == 4 else array
        targets[name][0][...] = array


def fitting(state_dict: Mapping[str, Any], targets: Mapping[str, Target], *, of: str) -> dict[str, np.ndarray]:
    """Return a state dict's arrays in our layout, one for each target.

    Args:
        state_dict: numpy arrays or torch tensors by torch's names.
        targets: where each of them goes.
        of: what they are weights of, for messages.

    Raises:
        CheckpointError: entries missing, extra or of another shape, all kinds named in one message.
    """
    given = {name: value for name, value in state_dict.items() if not name.endswith("num_batches_tracked")}
    missing = [name for name in targets if name not in given]
    extra = [name for name in given if name not in targets]
    arrays, misshapen = {}, []
    for name, (variable, layout) in targets.items():
        if name not in given:
            continue
        value, expected = _numpy(given[name]), tuple(variable.shape[layout.index(a)] for a in range(len(layout)))
        if value.shape == expected:
            arrays[name] = np.asarray(value.transpose(layout), dtype=np.float32)
        else:
            misshapen.append(f"{name} {value.shape}, expected {expected}")
    problems = [("missing", missing), ("not of this network", extra), ("of another shape", misshapen)]
    if any(names for _, names in problems):
        listing = "; ".join(f"{what}: {_some(names)}" for what, names in problems if names)
        raise CheckpointError(f"the state dict does not fit {of}: {listing}")
    return arrays


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def infer_architecture(state_dict: Mapping[str, Any]) -> tuple[str, str]:
    """Tell which network a reference state dict is of.

    Returns:
        Name and size, as `jaxcd.models.create` takes them.

    Raises:
        CheckpointError: no network of docs/method.md has these entries.
    """
    first = state_dict.get("encoder.encoder.conv0_0.weight")
    up = state_dict.get("decoder.decoder.conv_t0.weight")
    merge = state_dict.get("decoder.decoder.conv0_0.weight")
    if first is None or up is None or merge is None or {len(k.shape) for k in (first, up, merge)} != {4}:
        raise CheckpointError(
            "not a state dict of FC-EF, FC-Siam-Conc or FC-Siam-Diff: expected entries such as "
            f"encoder.encoder.conv0_0.weight with four axes, got {', '.join(list(state_dict)[:8])}"
        )
    sizes = {f"encoder.encoder.conv{len(b) - 1}_{len(b[-1]) - 1}.weight": size for size, b in ENCODER_BLOCKS.items()}
    size = next((sizes[name] for name in reversed(list(sizes)) if name in state_dict), None)
    names = {(6, 2): "fc_ef", (3, 3): "fc_siam_conc", (3, 2): "fc_siam_diff"}
    name = names.get((first.shape[1], merge.shape[1] // up.shape[1]))
    if size is None or name is None:
        raise CheckpointError(f"no known network has a first kernel {tuple(first.shape)} and these blocks")
    return name, size


def _targets(model: UNet) -> Iterator[tuple[str, Target]]:
    """Yield, for every entry of the reference, its name, our variable and torch's axes in our order."""
    for side, blocks in (("encoder", model.encoder.blocks), ("decoder", model.decoder.blocks)):
        for i, layers in enumerate(blocks):
            if side == "decoder":
                up, name = model.decoder.ups[i], f"decoder.decoder.conv_t{i}"
                yield f"{name}.weight", (up.kernel, (2, 3, 0, 1))
                yield f"{name}.bias", (up.bias, VECTOR)
            for j, layer in enumerate(layers):
                name = f"{side}.{side}.conv{i}_{j}"
                yield f"{name}.weight", (layer.conv.kernel, KERNEL)
                yield f"{name}.bias", (layer.conv.bias, VECTOR)
                if layer.norm is not None:
                    yield from norm_targets(f"{side}.{side}.bn{i}_{j}", layer.norm)


def norm_targets(name: str, norm: BatchNorm) -> Iterator[tuple[str, Target]]:
    """Yield, for the four vectors of a BatchNorm of this name in torch, their names and where they go."""
    yield f"{name}.weight", (norm.scale, VECTOR)
    yield f"{name}.bias", (norm.bias, VECTOR)
    yield f"{name}.running_mean", (norm.mean, VECTOR)
    yield f"{name}.running_var", (norm.var, VECTOR)


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # numpy has no bfloat16
    return np.asarray(value)
