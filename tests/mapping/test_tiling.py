import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcd import models
from jaxcd.mapping import tiling

SIZES = ("small", "medium", "large")


def test_radius_of_the_large_network():
    assert tiling.receptive_radius("large") == 211  # paper's network, counted by hand


@pytest.mark.parametrize("size", ("small", pytest.param("medium", marks=pytest.mark.slow)))
def test_radius_is_that_of_gradients(size):
    """The radius is reached by the gradient of some output pixel, and passed by none."""
    network, params, stats = models.build(lambda rngs: models.create("fc_siam_conc", size=size, rngs=rngs), seed=0)
    radius, stride = tiling.receptive_radius(size), 2 ** len(models.ENCODER_BLOCKS[size])
    side = (2 * radius // stride + 3) * stride
    # Without ReLU's zeros and the maximum's choice every path would count: positive weights keep all of them open.
    params = jax.tree.map(lambda x: abs(x) + 0.01, params)
    images = np.random.default_rng(0).random((1, side, side, 3)).astype(np.float32)

    @jax.jit
    def reach(row):
        return jax.grad(lambda x: models.apply(network.eval, params, stats, x, x)[0][0, row, side // 2])(images)

    found = []
    for row in range(side // 2, side // 2 + stride):
        touched = np.flatnonzero(np.abs(np.asarray(reach(row))[0]).sum(axis=(1, 2)))
        found.append(max(row - touched[0], touched[-1] - row))
    # Max pooling passes the gradient to one of two pixels, so that the last one may be missing.
    assert radius - len(models.ENCODER_BLOCKS[size]) * 2 <= max(found) <= radius


@given(st.integers(1, 6000), st.sampled_from(SIZES), st.integers(0, 2000))
def test_windows_answer_for_every_pixel_once_and_only_where_they_can(length, size, more):
    stride, margin = 2 ** len(models.ENCODER_BLOCKS[size]), tiling.halo(size)
    axis = tiling.cover(length, size, most=2 * margin + stride + more)
    assert axis.padded == -(-length // stride) * stride and axis.window % stride == 0
    assert axis.window <= max(2 * margin + stride + more, stride)
    assert [span.first for span in axis.spans] == [0, *(span.last for span in axis.spans[:-1])]
    assert axis.spans[-1].last == length
    for span in axis.spans:
        end = span.start + axis.window
        assert span.start % stride == 0 and 0 <= span.start <= span.first < span.last <= end <= axis.padded
        assert span.start == 0 or span.first - span.start >= margin
        assert end == axis.padded or end - span.last >= margin


@pytest.mark.parametrize("size", SIZES)
def test_halo_of_an_inner_window_costs_at_most_half_the_work_more(size):
    window = tiling.default_window(size)
    assert window**2 / (window - 2 * tiling.halo(size)) ** 2 <= 1.5
    assert tiling.halo(size) >= tiling.receptive_radius(size)
