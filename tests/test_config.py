"""Every wrong value is refused by name; what is written is what is read; the shipped configs load."""

import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcd.base import fingerprints
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import XBD
from jaxcd.config import Config, LossConfig, ScenesConfig, check_scaling
from jaxcd.config import files as configs

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.py"))


def valid() -> Config:
    config = Config()
    config.data.root = "somewhere"
    config.train.epochs = 1
    return config


def put(config: Config, name: str, value: object) -> Config:
    *groups, field = name.split(".")
    node = config
    for group in groups:
        node = getattr(node, group)
    setattr(node, field, value)
    return config


def load(path: Path) -> tuple[Config, str]:
    """Return what a config file gives and the text it opens with."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(), module.__doc__ or ""


def test_the_defaults_lack_only_data_and_length():
    valid().validate()
    with pytest.raises(ConfigError, match=r"config\.data\.root"):
        Config().validate()


WRONG_TYPES = [
    ("seed", "42"),
    ("seed", 1.0),
    ("seed", True),
    ("task", 1),
    ("contrast.normalise", 1),
    ("init.encoder_from", 3),
    ("init.network_from", 3),
    ("init.pretrained", 3),
    ("freeze.encoder", 0),
    ("data", "folders"),
    ("data.root", None),
    ("data.scenes", "turkey"),
    ("data.scenes.event_date", 20230206),
    ("data.scenes.only", "Adiyaman"),
    ("data.scenes.crs", 32637),
    ("data.register", 1),
    ("data.scenes.match_histogram", "yes"),
    ("data.scenes.labels", None),
    ("data.scenes.label_attribute", 1),
    ("data.scenes.label_levels", "minor-damage=minor"),
    ("data.scenes.labelled_area", None),
    ("data.scenes.labelled_only", 0),
    ("data.scenes.positive_unlabelled", 0),
    ("data.root", Path("somewhere")),
    ("data.scale", 4),
    ("data.weights", (1,)),
    ("data.events", None),
    ("data.test_events", "fire"),
    ("data.damage_levels", "destroyed"),
    ("loss.level_weights", (1,)),
    ("data.damage_levels", ["destroyed"]),
    ("data.damage_levels", ("major-damage,destroyed",)),
    ("data.damage_levels", (1,)),
    ("data.split_shares", 0.7),
    ("data.split_shares", (0.7,)),
    ("data.split_shares", (0.7, 0.3)),
    ("data.split_shares", ("0.7", "0.15", "0.15")),
    ("data.block_size", "1000"),
    ("data.balance", True),
    ("data.intact_share", "0.3"),
    ("data.crop", 256.0),
    ("data.workers", False),
    ("model.name", 3),
    ("model.size", 3),
    ("model.fusion", 3),
    ("data.layout", 3),
    ("model.dropout", None),
    ("model.dropout", float("nan")),
    ("loss.dice", True),
    ("loss.positive_weight", float("inf")),
    ("augment.flips", 1),
    ("augment.blur", 7.0),
    ("optim.learning_rate", "1e-4"),
    ("train.batch", 8.0),
]
WRONG_VALUES = [
    ("seed", -1),
    ("data.split_seed", -1),
    ("contrast.margin", 0.0),
    ("contrast.shares", (0.9, 0.1, 0.1)),
    ("contrast.samples", 1),
    ("freeze.until", -1),
    ("freeze.until", 5),
    ("optim.encoder_lr_scale", -0.1),
    ("optim.ema", 1.0),
    ("optim.ema", -0.1),
    ("data.root", ""),
    ("data.scenes.min_overlap", 1.5),
    ("data.scenes.max_clouds", -1.0),
    ("data.scenes.max_off_nadir", -1.0),
    ("data.scenes.gsd", -0.5),
    ("data.scenes.tile", 16),
    ("data.scenes.tile", 8192),
    ("data.scenes.edges", "drop"),
    ("data.scenes.black", 5.0),
    ("data.scenes.snow", -1.0),
    ("data.scenes.variance", -1.0),
    ("data.scenes.valid", 2.0),
    ("data.scenes.label_values", ("destroyed",)),
    ("data.scenes.label_levels", ("minor-damage",)),
    ("data.scenes.label_levels", ("minor-damage=minor",)),
    ("data.scenes.label_unknown", ("un-classified",)),
    ("data.scenes.outside", "unknown"),
    ("data.scale", "ems-98"),
    ("data.root", "a,,b"),
    ("data.root", "here/tiles,there/tiles"),
    ("data.weights", (1.0,)),
    ("data.weights", (1.0, 0.0)),
    ("data.damage_levels", ()),
    ("loss.level_weights", (1.0, 1.0)),
    ("train.best_by", "xview2"),
    ("data.damage_levels", ("destroyed", "ruined")),
    ("data.scaling", "percentile:2,98"),
    ("data.scaling", "range:5"),
    ("data.scaling", "range:5,5"),
    ("data.scaling", "range:a,b"),
    ("data.scaling", "percentiles:-1,98"),
    ("data.scaling", "percentiles:2,101"),
    ("data.places", "some"),
    ("data.incomplete", "ignore"),
    ("train.best_by", "f1"),
    ("data.split", "random"),
    ("data.split_shares", (0.7, 0.15, 0.25)),
    ("data.split_shares", (1.0, 0.0, 0.0)),
    ("data.block_size", 0.0),
    ("data.train_places", -1),
    ("data.crop", 31),
    ("data.crop", -1),
    ("data.damage_share", 1.01),
    ("data.jitter", 1.01),
    ("data.damage_share", -0.01),
    ("data.metres", -0.5),
    ("data.balance", "level"),
    ("data.intact_share", 0.3),
    ("data.intact_share", 1.5),
    ("data.false_alarm_share", 0.2),
    ("data.false_alarm_share", -0.1),
    ("train.search_every", 5),
    ("train.search_every", -1),
    ("data.workers", -1),
    ("data.prefetch", 0),
    ("model.dropout", 1.0),
    ("model.dropout", -0.1),
    ("model.dtype", "float16"),
    ("model.onednn", "on"),
    *((f"loss.{name}", -1.0) for name in LossConfig().weights()),
    ("loss.positive_weight", 0.0),
    ("augment.brightness", 1.0),
    ("data.encoding", "gif"),
    ("augment.contrast", -0.1),
    ("augment.gamma", 1.0),
    ("augment.blur", 4),
    ("augment.clahe", 0.5),
    ("augment.gauss_noise", 5.0),
    ("augment.iso_noise", 1.0),
    ("augment.shift", 1.0),
    ("augment.scale", 1.0),
    ("augment.rotate", 181.0),
    ("augment.dates", 0),
    ("augment.dates.tone", 1.1),
    ("augment.dates.haze", -0.1),
    ("augment.dates.shade", 2.0),
    ("augment.dates.blur", 4.5),
    ("augment.dates.moved", "both"),
    ("augment.dates.shift", 65.0),
    ("augment.dates.turn", 46.0),
    ("augment.dates.stretch", 1.5),
    ("augment.dates.parallax", -1.0),
    ("augment.dates.swap", 1.5),
    ("optim.learning_rate", 0.0),
    ("optim.weight_decay", -1e-4),
    ("optim.schedule", "step"),
    ("optim.warmup_steps", -1),
    ("optim.clip_norm", -1.0),
    ("train.batch", 0),
    ("train.accumulation", 0),
    ("train.accumulation", 3),
    ("train.steps", -1),
    ("train.epochs", -1),
    ("train.validate_every", -1),
    ("train.patience", -1),
    ("train.checkpoint_every", -1),
    ("train.log_every", 0),
    ("train.eval_batch", 0),
    ("train.devices", -1),
    ("hosts.coordinator", "here"),
    ("hosts.coordinator", "here:70000"),
    ("hosts.processes", -1),
    ("hosts.index", -2),
    ("hosts.timeout", 0.5),
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES + WRONG_VALUES)
def test_a_wrong_value_is_refused_by_its_name(name, value):
    with pytest.raises(ConfigError) as caught:
        put(valid(), name, value).validate()
    message = str(caught.value)
    assert message.startswith(f"config.{name}: ")
    assert "\n" not in message
    wrong = value[-1] if name == "data.damage_levels" and isinstance(value, tuple) and value else value
    assert str(wrong) in message


@pytest.mark.parametrize(
    ("scale", "settings", "message"),
    [
        (
            "xbd",
            {"label_values": ("a",)},
            "label_values: expected none with data.scale = xbd; give label_levels instead",
        ),
        ("binary", {"label_levels": ("a=damaged",)}, "label_levels: expected none with data.scale = binary; give"),
        ("xbd", {"label_attribute": "", "label_levels": ("a=minor",)}, "label_levels: expected no levels without"),
        ("xbd", {"label_attribute": "", "label_unknown": ("a",)}, "label_unknown: expected no values without"),
        (
            "xbd",
            {"label_levels": ("a=minor", "b=grade 1")},
            "scale xbd (intact, minor, major, destroyed), got ('a=minor",
        ),
        ("xbd", {"label_levels": ("a=ground",)}, "label_levels: expected VALUE=LEVEL with levels of the scale xbd"),
        ("xbd", {"label_levels": ("a=minor", "a=major")}, "label_levels: expected each value once, and no value of"),
        ("xbd", {"label_levels": ("a=minor",), "label_unknown": ("a",)}, "label_levels: expected each value once"),
    ],
)
def test_levels_of_scenes_fit_the_scale(scale, settings, message):
    config = put(valid(), "data.scale", scale)
    config.data.scenes = ScenesConfig(**{"label_attribute": "state"} | settings)
    with pytest.raises(ConfigError) as caught:
        config.validate()
    assert str(caught.value).startswith("config.data.scenes.label_") and message in str(caught.value)


def test_a_value_of_scenes_may_hold_an_equals_sign_and_rename_a_level():
    scenes = ScenesConfig(label_attribute="state", label_levels=("x=1=minor", "=intact", "major=destroyed"))
    config = put(put(valid(), "data.scale", "xbd"), "data.scenes", scenes)
    config.validate()
    codes = {"intact": 1, "minor": 2, "major": 4, "destroyed": 4, "x=1": 2, "": 1}
    assert scenes.codes_of_values(XBD) == codes


def test_every_field_is_refused_for_some_value():
    # A field added later without a check, or without a test of it, shows here.
    free = {"data.cache"}  # any text is a folder
    fields = set(fingerprints.flat(configs.to_dict(Config())))
    assert fields - {name for name, _ in WRONG_TYPES + WRONG_VALUES} == free
    with pytest.raises(ConfigError, match=r"config\.data\.cache"):
        put(valid(), "data.cache", 1).validate()


def test_losses_need_a_weight():
    *names, last = LossConfig().weights()
    expected = f"a weight above 0 for {', '.join(names)} or {last}"
    with pytest.raises(ConfigError, match=rf"^config\.loss: expected {expected}, got \(0.0, 0.0"):
        put(valid(), "loss", LossConfig(dice=0.0)).validate()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_config_file_that_is_written_gives_the_configuration_back(path, tmp_path):
    config, _ = load(path)
    config.data.root, config.data.damage_levels = 'a "quoted"\\ name', ("destroyed",)
    configs.write_python(config, tmp_path / "again.py", about="One line.\n\n    and another")
    again, doc = load(tmp_path / "again.py")
    assert again == config and doc == "One line.\n\n    and another\n"


@pytest.mark.parametrize(("steps", "epochs"), [(0, 0), (10, 10)])
def test_a_run_has_one_length(steps, epochs):
    with pytest.raises(ConfigError, match=r"^config\.train: .*either steps or epochs"):
        put(put(valid(), "train.steps", steps), "train.epochs", epochs).validate()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("", None), ("range:0,4095", ("range", 0.0, 4095.0)), ("percentiles:2,98.5", ("percentiles", 2.0, 98.5))],
)
def test_scaling(text, parsed):
    assert check_scaling(text, "x") == parsed
    put(valid(), "data.scaling", text).validate()


def test_dictionaries_and_files_give_the_configuration_back(tmp_path):
    config = put(put(valid(), "data.damage_levels", ("destroyed",)), "optim.learning_rate", 1e-4)
    assert configs.from_dict(configs.to_dict(config)) == config
    configs.write(config, tmp_path / "config.json")
    assert configs.read(tmp_path / "config.json") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@given(seed=st.integers(0, 2**62), rate=st.floats(1e-12, 1e6), share=st.floats(0, 1))
def test_numbers_survive_json(seed, rate, share):
    config = valid()
    config.seed, config.optim.learning_rate, config.data.damage_share = seed, rate, share
    assert configs.from_dict(configs.to_dict(config)) == config


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\x00", '{"seed": "1"}', '{"data": 3}', '{"learning": 1}'])
def test_a_file_that_is_no_configuration(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configs.read(path)
    assert re.search(r"config\.json|config\.(seed|data|learning)", str(caught.value))


@pytest.mark.parametrize("where", ["config", "config.data", "config.train"])
def test_an_unknown_field_is_named_with_its_neighbours(where):
    values = configs.to_dict(valid())
    node = values
    for group in where.split(".")[1:]:
        node = node[group]
    node["learnig_rate"] = 1
    with pytest.raises(ConfigError, match=rf"^{re.escape(where)}\.learnig_rate: no such field; there are \w+, "):
        configs.from_dict(values)


def test_difference_names_the_first_field_that_defines_another_run():
    assert configs.difference(valid(), valid()) is None
    for name, value in [("data.workers", 4), ("data.prefetch", 8), ("train.log_every", 1)]:
        assert configs.difference(valid(), put(valid(), name, value)) is None, name
    difference = configs.difference(valid(), put(valid(), "model.size", "small"))
    assert difference == "config.model.size is 'large' there and 'small' here"
    assert "config.seed is 42 there and 1 here" == configs.difference(valid(), put(valid(), "seed", 1))


def test_an_integer_for_a_number_is_the_same_run():
    # The command line turns 1 into an integer where 1.0 is the default.
    assert configs.difference(valid(), put(valid(), "loss.dice", 1)) is None


def test_configs_are_shipped():
    names = {path.stem for path in SHIPPED}
    networks = {"fc_ef", "fc_siam_conc", "fc_siam_diff"}
    assert {"quickstart", "xbd_santa_rosa"} | networks | {f"pretrain_{name}" for name in networks} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_is_valid(path):
    config, doc = load(path)
    assert type(config) is Config
    if not config.data.root:
        config.data.root = "given on the command line"
    config.validate()
    assert f"configs/{path.name}" in doc, "opens with its command"
    stated = re.search(r"(F1|recall) 0?\.?\d+", doc) and re.search(r"\d (min|h)\b", doc)
    assert stated or "Figures: docs/results.md" in doc, "states its score and time, or where they are"


@pytest.mark.parametrize(
    ("name", "loss", "batch", "rate", "decay", "dropout"),
    [
        ("fc_ef", "dice", 4, 4e-5, 7e-5, 0.01),
        ("fc_siam_conc", "iou", 4, 5e-4, 2e-4, 0.02),
        ("fc_siam_diff", "dice", 8, 3e-4, 2e-3, 0.05),
    ],
)
def test_the_papers_settings(name, loss, batch, rate, decay, dropout):
    # docs/method.md, Supervised training (Table II of the paper).
    config, _ = load(CONFIGS / f"{name}.py")
    assert (config.model.name, config.model.size, config.model.dropout) == (name, "large", dropout)
    assert config.loss.weights() == {key: float(key == loss) for key in LossConfig().weights()}
    assert (config.train.batch, config.train.epochs) == (batch, 100)
    assert (config.optim.learning_rate, config.optim.weight_decay) == (rate, decay)
    assert config.optim.schedule == "constant"
    assert (config.data.layout, config.data.places) == ("paper", "damaged")
