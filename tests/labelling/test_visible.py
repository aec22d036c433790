"""Footprints where an image has no data are not offered: nobody could judge them."""

import numpy as np
import pytest

from jaxcd.base.scales import XBD
from jaxcd.labelling import workspace
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Store
from jaxcd.labelling.visible import seen_of
from tests.labelling.served import SIDE, write_scenes
from tests.scenes.scene_files import ground, write


@pytest.mark.parametrize("declared", [True, False])
def test_footprints_where_an_image_has_no_data_are_left_out(tmp_path, capsys, declared):
    scenes = write_scenes(tmp_path)
    pixels = np.maximum(ground(2, SIDE, SIDE), 1)
    pixels[:, : SIDE // 2] = 0  # the western half, either declared or black up to the edge
    write(scenes.post, pixels, **({"nodata": 0} if declared else {}))
    settings = LabelSettings(footprints=scenes.footprints)
    named = workspace.named(pre=[str(scenes.pre)], post=[str(scenes.post)], settings=settings)
    (opened,) = workspace.open_all(named, settings, tmp_path / "store")
    store = Store.create_or_open(tmp_path / "store", XBD, [opened.pair], {"scene": seen_of(opened)})
    west, _, east, _ = opened.pair.bounds
    labels, total = store.objects("scene", opened.pair.bounds, viewer=None)
    assert total == 10  # 25 in five columns, of which three lie in the west
    assert all(label.geometry.bounds[2] > (west + east) / 2 for label in labels)
    assert "NOTE: 15 footprints of scene lie where an image has no data: left out" in capsys.readouterr().out
    store.close()
