import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.errors import CheckpointError, RunError
from jaxcd.learn import optimizer, steps
from jaxcd.runs import run_folder, transfer
from jaxcd.runs.checkpoints import Checkpoints
from tests.learn.batches import random_batch, small_config


def configured(**changes):
    config = small_config(batch=4, steps=20)
    for path, value in changes.items():
        group, _, name = path.rpartition("__")
        setattr(getattr(config, group) if group else config, name, value)
    config.validate()
    return config


def advanced(config, state, step, n, *, first=0):
    losses = []
    for i in range(first, first + n):
        state, progress = step(state, random_batch(4, seed=i), jax.random.key(1, impl="rbg"))
        losses.append(float(progress.loss))
    return state, losses


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def host(tree):
    return jax.tree.map(np.array, tree)


@pytest.mark.parametrize(
    ("name", "accumulation"),
    [("fc_siam_diff", 2), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("fc_ef", "fc_siam_conc"))],
)
def test_a_frozen_encoder_stays_bit_for_bit_and_has_no_optimiser_state(name, accumulation):
    config = configured(freeze__encoder=True, model__name=name, model__dropout=0.1, train__accumulation=accumulation)
    _, state, step = steps.initial_state(config, steps=20)
    before = host((state.params, state.stats))
    moments = jax.tree.leaves(state.opt_state)
    decoder = sum(leaf.size for leaf in jax.tree.leaves(state.params["decoder"]))
    assert sum(leaf.size for leaf in moments) < 2 * decoder + 10
    state, _ = advanced(config, state, step, 3)
    after = host((state.params, state.stats))
    for (was, now), part in zip(zip(before, after, strict=True), ("parameters", "statistics"), strict=True):
        assert equal(was["encoder"], now["encoder"]), part
        assert not equal(was["decoder"], now["decoder"]), part


@pytest.mark.slow
def test_a_rate_of_zero_is_a_frozen_encoder_but_for_its_statistics():
    config = configured(optim__encoder_lr_scale=0.0)
    _, state, step = steps.initial_state(config, steps=20)
    before = host((state.params, state.stats))
    state, _ = advanced(config, state, step, 3)
    assert equal(before[0]["encoder"], host(state.params["encoder"]))
    assert not equal(before[0]["decoder"], host(state.params["decoder"]))
    assert not equal(before[1]["encoder"], host(state.stats["encoder"]))


def test_the_encoders_rate_is_scaled_and_the_decoders_is_not():
    params = {"encoder": {"w": jnp.ones(3)}, "decoder": {"w": jnp.ones(3)}}
    gradient = jax.tree.map(lambda p: 2 * p, params)
    config = configured(optim__encoder_lr_scale=0.1, optim__learning_rate=0.01, optim__weight_decay=0.0).optim
    tx = optimizer.create(config, steps=20)
    update, _ = tx.update(gradient, tx.init(params), params)
    np.testing.assert_allclose(update["decoder"]["w"], -0.01, rtol=1e-5)
    np.testing.assert_allclose(update["encoder"]["w"], -0.001, rtol=1e-5)


@pytest.mark.slow
def test_a_thawed_encoder_learns_with_a_fresh_optimiser_on_the_runs_schedule():
    config = configured(freeze__encoder=True, freeze__until=4, optim__schedule="cosine", optim__weight_decay=0.0)
    network, state, step = steps.initial_state(config, steps=20)
    state, _ = advanced(config, state, step, 4)
    before, decoder = host(state.params), host(state.opt_state)
    state, step = steps.thawed(network, state, config, steps=20)
    carried = dict(jax.tree_util.tree_flatten_with_path(host(state.opt_state))[0])
    for path, leaf in jax.tree_util.tree_flatten_with_path(decoder)[0]:
        if jax.tree_util.DictKey("encoder") not in path:
            np.testing.assert_array_equal(carried[path], leaf)
    state, _ = advanced(config, state, step, 1, first=4)
    # The first step of a fresh Adam is the rate itself; here that of step 4 of the whole run.
    rate = float(optimizer._rate(config.optim, 20)(4))
    kernels = [tree["encoder"]["blocks"][0][0]["conv"]["kernel"] for tree in (before, host(state.params))]
    moved = np.abs(kernels[1] - kernels[0])
    assert np.median(moved) == pytest.approx(rate, rel=1e-3)
    assert not equal(before["decoder"], host(state.params["decoder"]))


def test_what_a_checkpoint_holds_follows_the_thaw():
    config = configured(freeze__encoder=True, freeze__until=4)
    assert [steps.frozen(config, step) for step in (0, 3, 4, 5)] == [True, True, True, False]
    assert steps.frozen(configured(freeze__encoder=True), 10**6) and not steps.frozen(configured(), 0)
    sizes = [len(jax.tree.leaves(steps.initial_state(config, steps=20, at=at)[1].opt_state)) for at in (4, 5)]
    assert sizes[0] < sizes[1]


def _run(folder, config, *, step=True):
    """A run folder with one checkpoint: after two steps, or (cheaper) of the initial weights."""
    _, state, train = steps.initial_state(config, steps=20)
    state, _ = advanced(config, state, train, 2 if step else 0)
    with run_folder.claim(folder, config):
        checkpoints = Checkpoints(folder, create=True)
        checkpoints.save(state, meta={"batches": 2, "threshold": 0.5, "validation_due": False}, score=0.5)
        checkpoints.close()
    return host((state.params, state.stats))


def test_an_encoder_is_taken_over_exactly_and_nothing_else(tmp_path):
    source = _run(tmp_path / "source", configured())
    config = configured(init__encoder_from=str(tmp_path / "source"), model__name="fc_siam_conc")
    _, state, _ = steps.initial_state(config, steps=20)
    params, stats = transfer.with_encoder(config, state.params, state.stats)
    assert equal(host(params["encoder"]), source[0]["encoder"]) and equal(host(stats["encoder"]), source[1]["encoder"])
    assert equal(params["decoder"], state.params["decoder"]) and equal(stats["decoder"], state.stats["decoder"])


def test_a_network_is_taken_over_whole(tmp_path):
    source = _run(tmp_path / "source", configured())
    config = configured(init__network_from=str(tmp_path / "source"), seed=7)
    _, state, _ = steps.initial_state(config, steps=20)
    params, stats = transfer.with_network(config, state.params)
    assert equal(host(params), source[0]) and equal(host(stats), source[1])
    assert not equal(host(state.params["decoder"]), source[0]["decoder"])
    other = configured(init__network_from=str(tmp_path / "source"), model__name="fc_siam_conc")
    with pytest.raises(CheckpointError, match="network of .*does not fit fc_siam_conc small: .*decoder"):
        transfer.with_network(other, steps.initial_state(other, steps=20)[1].params)
    other = configured(init__network_from=str(tmp_path / "source"), data__scale="buildings")
    with pytest.raises(CheckpointError, match="learned the scale binary, and this run learns buildings; begin with"):
        transfer.with_network(other, state.params)
    places = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    run_folder.record_splits(tmp_path / "source", places, labels="1")
    assert transfer.check_places(config, places, labels="1") == {"a"}
    with pytest.raises(RunError, match="config.init.network_from: .*was trained on 1 places that this run holds out"):
        transfer.check_places(config, {"train": ["b"], "validation": ["a"], "test": ["c"]}, labels="1")


@pytest.mark.parametrize("name", ["fc_ef", "fc_siam_conc"])
def test_a_pretrained_encoder_is_taken_over_exactly(tmp_path, name):
    source = configured(task="contrastive", model__name="fc_ef" if name == "fc_ef" else "fc_siam_diff")
    pretrained = _run(tmp_path / "source", source, step=False)
    config = configured(init__encoder_from=str(tmp_path / "source"), model__name=name, seed=7)
    _, state, _ = steps.initial_state(config, steps=20)
    params, stats = transfer.with_encoder(config, state.params, state.stats)
    assert equal(host(params["encoder"]), pretrained[0]["encoder"])
    assert equal(host(stats["encoder"]), pretrained[1]["encoder"])
    assert not equal(host(state.params["encoder"]), pretrained[0]["encoder"]) and set(params) == {"encoder", "decoder"}


def test_an_encoder_that_saw_what_is_held_out_is_refused(tmp_path, capsys):
    _run(tmp_path / "source", configured(), step=False)
    places = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    run_folder.record_splits(tmp_path / "source", places, labels="1")
    config = configured(init__encoder_from=str(tmp_path / "source"))
    assert transfer.check_places(config, places, labels="1") == {"a", "b"}
    other = {"train": ["a", "c"], "validation": ["d"], "test": ["b"]}
    for labels in ("1", "2"):  # also if the dataset has changed meanwhile
        with pytest.raises(
            RunError, match="was trained on 1 places that this run holds out, b among them; .*split_seed"
        ):
            transfer.check_places(config, other, labels=labels)
    config.data.root = "elsewhere"
    assert transfer.check_places(config, other, labels="2") == {"a", "b"}
    assert "WARNING: config.init.encoder_from" in capsys.readouterr().err
    assert transfer.check_places(configured(), other, labels="1") == set()


@pytest.mark.parametrize(("learned", "held"), [("szada_1", "szada_1_test"), ("szada_1_right", "szada_1")])
def test_a_part_of_a_learned_image_under_another_layout_is_warned_of(tmp_path, capsys, learned, held):
    source = configured()
    with run_folder.claim(tmp_path / "source", source):
        run_folder.record_splits(
            tmp_path / "source", {"train": ["szada_2", learned], "validation": [], "test": []}, labels="1"
        )
    config = configured(init__encoder_from=str(tmp_path / "source"), data__layout="airchange_szada")
    places = {"train": ["szada_3"], "validation": ["szada_7"], "test": [held]}
    assert transfer.check_places(config, places, labels="2") == {"szada_2", learned}
    said = capsys.readouterr().err
    assert f"trained on 1 places that this run holds out, {held} among them; see that these are not" in said
    # In one dataset such names are of different places.
    config.data.layout = source.data.layout
    assert transfer.check_places(config, places, labels="1") == {"szada_2", learned}
    assert capsys.readouterr().err == ""


def test_what_an_encoder_saw_before_is_not_forgotten(tmp_path):
    places = {"train": ["c"], "validation": ["d"], "test": ["e"]}
    run_folder.record_splits(tmp_path, places, labels="1", before={"b", "a"})
    run_folder.record_splits(tmp_path, places, labels="1")  # gone on with where the source is gone
    assert run_folder.learned_from(tmp_path) == ({"a", "b", "c"}, "1")
    assert set(run_folder.read_splits(tmp_path)) == {"train", "validation", "test"}


def test_an_encoder_that_does_not_fit_is_named(tmp_path):
    _run(tmp_path / "source", configured(), step=False)
    for changes, message in (
        ({"model__size": "medium"}, "fc_siam_diff medium"),
        ({"model__name": "fc_ef"}, "fc_ef small"),
    ):
        config = configured(init__encoder_from=str(tmp_path / "source"), **changes)
        _, state, _ = steps.initial_state(config, steps=20)
        with pytest.raises(
            CheckpointError, match=rf"config.init.encoder_from: .*does not fit {message}: blocks/0/.* there"
        ):
            transfer.with_encoder(config, state.params, state.stats)
    config = configured(init__encoder_from=str(tmp_path / "nothing"))
    with pytest.raises(RunError, match="not a run"):
        transfer.with_encoder(config, {}, {})
