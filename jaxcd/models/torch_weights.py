"""Weights of the PyTorch reference in jaxcd's networks (names: docs/method.md, Architectures)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxcd.base.errors import CheckpointError
from jaxcd.models.unet import ENCODER_BLOCKS, UNet

_VECTOR = (0,)


def load_torch_state_dict(model: UNet, state_dict: Mapping[str, Any]) -> None:
    """Overwrite all parameters and statistics of a network with a reference state dict.

    Args:
        model: a network of `jaxcd.models.create`; unchanged when an error is raised.
        state_dict: the reference's names with numpy arrays or torch tensors. `num_batches_tracked` entries
            are ignored: the momentum is constant.

    Raises:
        CheckpointError: entries missing, extra or of another shape, all named in one message.
    """
    given = {name: value for name, value in state_dict.items() if not name.endswith("num_batches_tracked")}
    targets = dict(_targets(model))
    missing = [name for name in targets if name not in given]
    extra = [name for name in given if name not in targets]
    arrays, misshapen = {}, []
    for name, (variable, layout) in targets.items():
        if name not in given:
            continue
        value, expected = _numpy(given[name]), tuple(variable.shape[layout.index(a)] for a in range(len(layout)))
        if value.shape == expected:
            arrays[name] = value.transpose(layout)
        else:
            misshapen.append(f"{name} {value.shape}, expected {expected}")
    problems = [("missing", missing), ("not of this network", extra), ("of another shape", misshapen)]
    if any(names for _, names in problems):
        listing = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems if names)
        raise CheckpointError(f"the state dict does not fit {type(model).__name__}: {listing}")
    for name, array in arrays.items():
        # A transposed convolution runs the kernel backwards in torch: flip it spatially.
        array = array[::-1, ::-1] if ".conv_t" in name and array.ndim == 4 else array
        variable = targets[name][0]
        variable[...] = np.asarray(array, dtype=np.float32)


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


def _targets(model: UNet) -> Iterator[tuple[str, tuple[nnx.Variable, tuple[int, ...]]]]:
    """Yield, for every entry of the reference, its name, our variable and torch's axes in our order."""
    for side, blocks in (("encoder", model.encoder.blocks), ("decoder", model.decoder.blocks)):
        for i, layers in enumerate(blocks):
            if side == "decoder":
                up, name = model.decoder.ups[i], f"decoder.decoder.conv_t{i}"
                yield f"{name}.weight", (up.kernel, (2, 3, 0, 1))
                yield f"{name}.bias", (up.bias, _VECTOR)
            for j, layer in enumerate(layers):
                name = f"{side}.{side}.conv{i}_{j}"
                yield f"{name}.weight", (layer.conv.kernel, (2, 3, 1, 0))
                yield f"{name}.bias", (layer.conv.bias, _VECTOR)
                if layer.norm is not None:
                    norm, name = layer.norm, f"{side}.{side}.bn{i}_{j}"
                    yield f"{name}.weight", (norm.scale, _VECTOR)
                    yield f"{name}.bias", (norm.bias, _VECTOR)
                    yield f"{name}.running_mean", (norm.mean, _VECTOR)
                    yield f"{name}.running_var", (norm.var, _VECTOR)


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value  # numpy has no bfloat16
    return np.asarray(value)
