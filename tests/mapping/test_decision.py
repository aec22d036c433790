"""The share of damaged ground that a user expects, as the threshold of a map."""

import dataclasses

import numpy as np
import pytest
import rasterio

from jaxcd.base.errors import ConfigError
from jaxcd.mapping import scene_map
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.products import rasters
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, write_run, write_scenes

SETTINGS = MapSettings(window=120, min_area=1.0)


@pytest.fixture(scope="module")
def mapper(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("map") / "run", config("fc_siam_diff", "small"))
    return scene_map.load(run, SETTINGS)


def probabilities(out):
    """All probabilities of the map's blocks that are seen."""
    values = []
    for file in (out / ".blocks").glob("*.tif"):
        with rasterio.open(file) as source:
            values.append(source.read(1).ravel())
    values = np.concatenate(values)
    return np.sort(values[values <= STEPS])


@pytest.mark.parametrize(("expect", "share"), [("2%", 0.02), pytest.param("0.3", 0.3, marks=pytest.mark.slow)])
def test_the_expected_share_is_called_damage(tmp_path, mapper, expect, share):
    pre, post = (str(scene) for scene in write_scenes(tmp_path, 300, 300))
    told = scene_map.make(mapper, [pre], [post], tmp_path / "out", dataclasses.replace(SETTINGS, expect=expect))
    values = probabilities(tmp_path / "out")
    k = round(told.network.threshold * STEPS)
    flagged = [float(np.mean(values >= at)) for at in (k - 1, k, k + 1)]
    assert abs(flagged[1] - share) <= min(abs(flagged[0] - share), abs(flagged[2] - share)) < 0.01
    assert told.area.damaged_share == pytest.approx(flagged[1], abs=1e-12)
    assert told.network.threshold_from == f"--expect {expect}: {flagged[1]:.2%} of the seen ground is above it"
    # That threshold by hand gives the same map, and neither of them needs the network again.
    same = dataclasses.replace(SETTINGS, threshold=told.network.threshold)
    decision = (tmp_path / "out" / rasters.DECISION).read_bytes()
    again = scene_map.make(mapper, [pre], [post], tmp_path / "out", same)
    assert again.blocks_computed == 0 and (tmp_path / "out" / rasters.DECISION).read_bytes() == decision


@pytest.mark.slow
def test_more_than_the_network_can_give_is_refused_and_what_it_computed_is_kept(tmp_path, mapper):
    pre, post = (str(scene) for scene in write_scenes(tmp_path, 300, 300))
    first = scene_map.make(mapper, [pre], [post], tmp_path / "out", SETTINGS)
    for file in (tmp_path / "out" / ".blocks").glob("*.tif"):  # a network that is sure of nearly all of it
        with rasterio.open(file, "r+") as block:
            values = block.read(1)
            block.write(np.where(values > np.quantile(values, 0.9), values, 0).astype(np.uint16), 1)
    before = (tmp_path / "out" / rasters.DECISION).read_bytes()
    with pytest.raises(ConfigError, match=r"--expect 50%: only \d+\.\d\d% of the seen ground has a probability"):
        scene_map.make(mapper, [pre], [post], tmp_path / "out", dataclasses.replace(SETTINGS, expect="50%"))
    assert (tmp_path / "out" / rasters.DECISION).read_bytes() == before
    fits = scene_map.make(mapper, [pre], [post], tmp_path / "out", dataclasses.replace(SETTINGS, expect="5%"))
    assert fits.blocks_computed == 0 < first.blocks_computed
    assert fits.area.damaged_share == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("expect", ["two", "0", "100%", "-1%", "nan", "%"])
def test_other_shares_are_refused(expect):
    with pytest.raises(ConfigError, match=r"--expect: expected a share such as 0.02 or 2%, got"):
        MapSettings(expect=expect).validate()


def test_a_threshold_and_a_share_exclude_each_other():
    with pytest.raises(ConfigError, match=r"--expect: cannot be combined with --threshold"):
        MapSettings(expect="2%", threshold=0.5).validate()
