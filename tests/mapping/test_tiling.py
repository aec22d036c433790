import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcd import models
from jaxcd.config import ModelConfig
from jaxcd.mapping.predict import tiling

SIZES = ("small", "medium", "large")


def described(size: str) -> models.Description:
    return models.describe(ModelConfig(size=size))


@given(st.integers(1, 6000), st.sampled_from(SIZES), st.integers(0, 2000))
def test_windows_answer_for_every_pixel_once_and_only_where_they_can(length, size, more):
    network = described(size)
    stride, margin = network.stride, tiling.halo(network)
    axis = tiling.cover(length, network, most=2 * margin + stride + more)
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
    network = described(size)
    window, halo = tiling.default_window(network), tiling.halo(network)
    assert window**2 / (window - 2 * halo) ** 2 <= 1.5
    assert halo >= network.receptive_radius
