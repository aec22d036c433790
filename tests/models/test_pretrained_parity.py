"""The pretrained encoders against PyTorch: EfficientNet-Lite0 of PyPI, ResNets with torchvision's names."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from flax import nnx

from jaxcd import models
from jaxcd.config import ModelConfig
from tests.models.torch_resnet import ResNet

NAMES = ("siam_lite0", "siam_resnet18", "siam_resnet34", "siam_resnet50")
QUICK = pytest.mark.parametrize(
    "name", [name if name in NAMES[:2] else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
# In 64 bits torch convolves a depthwise layer's groups one by one, and its threads wait for each other for minutes.
torch.set_num_threads(1)
_LITE0_LEVELS = (0, 2, 4, 10)  # the last blocks before each stride's end


class Lite0(torch.nn.Module):
    """PyPI's network, with the features that our encoder gives."""

    def __init__(self):
        super().__init__()
        self.whole = EfficientNet.from_name("efficientnet-lite0", drop_connect_rate=0.0)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        found, whole = [], self.whole
        x = whole._swish(whole._bn0(whole._conv_stem(x)))
        for i, block in enumerate(whole._blocks[: _LITE0_LEVELS[-1] + 1]):
            x = block(x)
            if i in _LITE0_LEVELS:
                found.append(x)
        return found


def reference(name: str, seed: int = 0) -> tuple[Any, torch.nn.Module]:
    """The reference with random weights and statistics, and the part of it whose state dict is published."""
    torch.manual_seed(seed)
    network = Lite0() if name == "siam_lite0" else ResNet(name.removeprefix("siam_"))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
            for vector, low in ((module.weight.data, 0.5), (module.bias.data, -0.3)):
                vector.uniform_(low, low + 1)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network, network.whole if isinstance(network, Lite0) else network


def encoder(name: str, state_dict: dict, folder: Path, dtype: Any = jnp.float32) -> tuple[Any, Any, Any]:
    """Our encoder's graph, and parameters and statistics read from a file of the state dict."""
    torch.save(state_dict, folder / "weights.pth")
    read = models.load_pretrained(ModelConfig(name=name), str(folder / "weights.pth"))
    made = nnx.eval_shape(
        lambda: models.find(name).make_encoder("small", dropout=0.0, dtype=dtype, rngs=nnx.Rngs(0))[0]
    )
    made.train()
    return made, read.params, read.stats


def images(side: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, side, side + 16, 3)).astype(np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def assert_close(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, what
    # What only shifts the input of a BatchNorm has a gradient of zero, but for rounding.
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max() + 1e-9, what
    assert np.abs(b).max() > 1e-9 or "bias" in what, what


def assert_same_features(made: Any, params: Any, stats: Any, theirs: Any) -> None:
    made.eval()
    graphdef, x = nnx.graphdef(made), images(64)
    skips, bottom = jax.jit(lambda params, stats, x: models.merge(graphdef, params, stats)(x))(params, stats, x)
    with torch.no_grad():
        expected = theirs.features(nchw(x))
    assert [64 // feature.shape[1] for feature in (*skips, bottom)] == [2, 4, 8, 16]
    for ours, feature in zip((*skips, bottom), expected, strict=True):
        assert_close(ours, feature.numpy().transpose(0, 2, 3, 1), 1e-4, str(feature.shape))


@QUICK
def test_features_of_every_stride(name, tmp_path):
    theirs, whole = reference(name)
    whole.eval()
    assert_same_features(*encoder(name, whole.state_dict(), tmp_path), theirs)


def test_features_of_the_packaged_weights():
    theirs, whole = reference("siam_lite0")
    read = models.load_pretrained(ModelConfig(name="siam_lite0"), "imagenet")
    whole.load_state_dict(torch.load(read.file, map_location="cpu", weights_only=True))
    made = nnx.eval_shape(
        lambda: models.find("siam_lite0").make_encoder("small", dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(0))[0]
    )
    assert_same_features(made, read.params, read.stats, (whole.eval(), theirs)[1])


class Step(NamedTuple):
    """Features of train mode; gradients and statistics, by torch's names."""

    features: list
    grads: dict
    stats: dict


def their_step(theirs: Any, whole: torch.nn.Module, x: np.ndarray, weights: list[np.ndarray]) -> Step:
    theirs.double().train()
    found = theirs.features(nchw(x).double())
    torch.stack([(f * nchw(w)).sum() for f, w in zip(found, weights, strict=True)]).sum().backward()
    grads = {key: parameter.grad for key, parameter in whole.named_parameters() if parameter.grad is not None}
    return Step([f.detach().numpy().transpose(0, 2, 3, 1) for f in found], grads, whole.state_dict())


@pytest.mark.parametrize(
    "name", ["siam_resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n != "siam_resnet18")]
)
def test_gradients_and_statistics_in_train_mode(name, tmp_path):
    # In 64 bits, as for the other networks (test_parity.py): in 32, a value at the kink of a ReLU may fall on either
    # side.
    theirs, whole = reference(name)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    x, rng = images(32), np.random.default_rng(1)
    with jax.enable_x64(True):
        made, params, stats = encoder(name, before, tmp_path, jnp.float64)
        graphdef = nnx.graphdef(made)
        params, stats = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, stats))

        def run(params, stats, weights):
            model = models.merge(graphdef, params, stats)
            skips, bottom = model(jnp.asarray(x, jnp.float64))
            total = sum(jnp.vdot(f, w) for f, w in zip((*skips, bottom), weights, strict=True))
            return total, ((*skips, bottom), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)))

        shapes = [f.permute(0, 2, 3, 1).shape for f in theirs.features(nchw(x))]
        whole.load_state_dict(before)  # the statistics have moved
        weights = [rng.standard_normal(shape) for shape in shapes]
        grads, (features, after) = jax.jit(jax.grad(run, has_aux=True))(params, stats, weights)
    expected = their_step(theirs, whole, x, weights)
    for ours, feature in zip(features, expected.features, strict=True):
        assert_close(ours, feature, 1e-4, str(feature.shape))
    # Gradients and statistics take the way of a file into our layout.
    carried = encoder(name, {**before, **expected.stats, **expected.grads}, tmp_path)
    for ours, others, tolerance in ((grads, carried[1], 1e-3), (after, carried[2], 1e-4)):
        for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(others), strict=True):
            assert_close(a, b, tolerance, jax.tree_util.keystr(path))
