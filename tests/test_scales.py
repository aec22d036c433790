"""What codes of one scale are in another, and old datasets."""

import numpy as np
import pytest

from jaxcd.base.scales import BINARY, BUILDINGS, COPERNICUS, EMS98, INVALID, SCALES, UNKNOWN, XBD


def codes(first, second):
    return first.read_as(second)[: len(first.codes)].tolist()


def test_scales_name_their_codes_from_ground_up():
    assert XBD.codes == ("ground", "intact", "minor", "major", "destroyed")
    assert BINARY.codes == ("not damaged", "damaged") and not BINARY.buildings
    assert [name for name, scale in SCALES.items() if scale.buildings] == ["buildings", "xbd", "ems98", "copernicus"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (XBD, BINARY, [0, 0, 0, 1, 1]),
        (XBD, BUILDINGS, [0, 1, 1, 2, 2]),
        (EMS98, XBD, [0, 1, 2, 2, 3, 3, 4]),
        (EMS98, COPERNICUS, [0, 1, 1, 1, 3, 3, 4]),
        (COPERNICUS, BINARY, [0, 0, 0, 1, 1]),
        (BUILDINGS, BINARY, [0, 0, 1]),
    ],
)
def test_a_finer_scale_is_read_as_a_coarser_one(first, second, expected):
    assert codes(first, second) == expected
    # Reading keeps the order, and what counts as damage.
    assert expected == sorted(expected)
    for code, read in enumerate(expected):
        assert first.is_damaged(np.uint8(code)) == second.is_damaged(np.uint8(read))


def test_a_building_of_unknown_level_stays_one_where_buildings_are_known():
    assert XBD.read_as(BUILDINGS)[UNKNOWN] == UNKNOWN and XBD.read_as(BINARY)[UNKNOWN] == INVALID
    assert all(scale.read_as(other)[INVALID] == INVALID for scale in SCALES.values() for other in (scale, BINARY))


def test_binary_labels_tell_no_levels_and_levels_not_defined_are_not_read():
    assert BINARY.read_as(XBD) is None and BUILDINGS.read_as(XBD) is None and XBD.read_as(EMS98) is None


def test_the_code_that_old_datasets_have_for_unknown_pixels_is_read_as_such():
    assert BINARY.read_as(BINARY)[[0, 1, 2]].tolist() == [0, 1, INVALID]


def test_an_unknown_level_is_no_damage():
    assert not XBD.is_damaged(np.array([0, 1, 2, UNKNOWN, INVALID], np.uint8)).any()
    assert XBD.is_damaged(np.array([3, 4], np.uint8)).all()
