"""Matches the colours of one image to those of another."""

import numpy as np
from jaxtyping import Bool, UInt8


def match_histogram(
    image: UInt8[np.ndarray, "h w 3"], reference: UInt8[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Give each band of an image the distribution of values that it has in a reference.

    Args:
        image: RGB.
        reference: RGB.
        valid: where both have data: only these pixels are compared and changed.
    """
    matched = image.copy()
    if not valid.any():
        return matched
    for band in range(3):
        own, wanted = (
            np.cumsum(np.bincount(values[..., band][valid], minlength=256)) / valid.sum()
            for values in (image, reference)
        )
        table = np.rint(np.interp(own, wanted, np.arange(256))).astype(np.uint8)
        matched[..., band][valid] = table[image[..., band][valid]]
    return matched
