"""The two calls of jaxlib's oneDNN: convolution and matrix product.

Settings that oneDNN cannot take end the process (see `trial.py` beside this file). XLA can compile programs with these
calls for a CPU only. The calls are internal to XLA, so another version of jaxlib may have changed them; jaxlib 0.10
counts axes from 0.
"""

import json
from typing import Any

import jax
from jaxtyping import Array, Float

from jaxcd.models.convolutions.geometry import Window

_IMAGES = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
_KERNEL = {"dims": 4, "filter": {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}}


def convolution(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c_in d"], window: Window, groups: int = 1
) -> Float[Array, "b _ _ d"]:
    """Convolve images.

    Args:
        x: images in float32 or bfloat16.
        kernel: kernel of the same type.
        window: kernel size, stride and padding.
        groups: number of groups of channels, each of which is convolved by itself; `c_in` is c / groups.
    """
    low, high = window.padding
    settings = {
        "dims": 4,
        "feature_groups": groups,
        "input": _IMAGES,
        "output": _IMAGES,
        "kernel": _KERNEL,
        "window": {
            "size": [window.kernel] * 2,
            "pad_left": [low] * 2,
            "pad_right": [high] * 2,
            "strides": [window.stride] * 2,
            "window_dilations": [1, 1],
        },
    }
    height, width = ((n + low + high - window.kernel) // window.stride + 1 for n in x.shape[1:3])
    shape = x.shape[0], height, width, kernel.shape[3]
    return _call("__onednn$convolution", {"onednn_conv_config": settings}, shape, x, kernel)


def product(a: Float[Array, "_ _"], b: Float[Array, "_ _"], *, transposed: str = "") -> Float[Array, "_ _"]:
    """Multiply two matrices, neither of which may be empty.

    Args:
        a: matrix in float32 or bfloat16.
        b: matrix of the same type.
        transposed: "a" or "b" to transpose that matrix first.
    """
    settings = {"transpose_a": transposed == "a", "transpose_b": transposed == "b"}
    shape = a.shape[transposed == "a"], b.shape[transposed != "b"]
    return _call("__onednn$matmul", {"onednn_matmul_config": settings}, shape, a, b)


def _call(target: str, settings: dict[str, Any], shape: tuple[int, ...], *operands: Array) -> Array:
    call = jax.ffi.ffi_call(
        target,
        jax.ShapeDtypeStruct(shape, operands[0].dtype),
        vmap_method="sequential",
        custom_call_api_version=1,
        legacy_backend_config=json.dumps(settings),
    )
    return call(*operands)
