import json

import numpy as np
import pytest

from jaxcd.base.errors import ImageError, LabelError
from jaxcd.base.scales import BINARY, BUILDINGS, DAMAGE, INTACT, INVALID, UNKNOWN, XBD
from jaxcd.sources.labels import check_size, rasterise_xbd, read_mask_codes, read_xbd
from jaxcd.sources.places import LabelRules
from tests.sources.tile_sources import write_rgb, xbd_label

LEVELS = ("major-damage", "destroyed")
RULES = LabelRules(BINARY, LEVELS)


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def drawn(path, buildings, levels=LEVELS, scale=BINARY):
    label = read_xbd(written(path / "label.json", xbd_label(buildings)))
    return rasterise_xbd(label, height=64, width=64, rules=LabelRules(scale, levels))


def test_polygons_become_codes_pixel_by_pixel(tmp_path):
    codes = drawn(
        tmp_path,
        [
            ((0, 0, 10, 4), "no-damage"),
            ((20, 0, 30, 4), "minor-damage"),
            ((0, 10, 10, 14), "major-damage"),
            ((20, 10, 30, 14), "destroyed"),
            ((0, 20, 10, 24), "un-classified"),
        ],
    )
    expected = np.full((64, 64), INTACT, np.uint8)
    expected[10:14, 0:10] = expected[10:14, 20:30] = DAMAGE
    expected[20:24, 0:10] = INVALID
    np.testing.assert_array_equal(codes, expected)
    assert codes.dtype == np.uint8


def test_which_levels_are_damage_is_a_setting(tmp_path):
    codes = drawn(tmp_path, [((0, 0, 4, 4), "minor-damage"), ((8, 8, 12, 12), "destroyed")], levels=("minor-damage",))
    assert (codes == DAMAGE).sum() == 16 and codes[2, 2] == DAMAGE and codes[9, 9] == INTACT


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_damage_wins_over_invalid_over_intact_in_any_order(tmp_path, order):
    buildings = [((0, 0, 30, 30), "no-damage"), ((10, 0, 40, 30), "un-classified"), ((20, 0, 50, 30), "destroyed")]
    codes = drawn(tmp_path, [buildings[i] for i in order])
    np.testing.assert_array_equal(codes[15], [INTACT] * 10 + [INVALID] * 10 + [DAMAGE] * 30 + [INTACT] * 14)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(XBD, (0, 1, 2, 3, 4, UNKNOWN)), (BUILDINGS, (0, 1, 1, 2, 2, UNKNOWN))],
)
def test_levels_become_the_codes_of_a_scale(tmp_path, scale, expected):
    levels = ["no-damage", "minor-damage", "major-damage", "destroyed", "un-classified"]
    codes = drawn(tmp_path, [((0, 10 * i, 4, 10 * i + 4), level) for i, level in enumerate(levels)], scale=scale)
    assert tuple(codes[2:50:10, 2]) == expected[1:] and codes[2, 40] == expected[0]


def test_the_worse_level_wins_and_an_unknown_one_over_those_that_are_no_damage(tmp_path):
    levels = ["destroyed", "no-damage", "un-classified", "minor-damage", "major-damage"]
    codes = drawn(tmp_path, [((5 * i, 0, 60, 8), level) for i, level in enumerate(levels)], scale=XBD)
    # The outlines begin five pixels apart and all end at 60.
    assert codes[4].tolist() == [4] * 60 + [0] * 4
    codes = drawn(tmp_path, [((5 * i, 0, 60, 8), level) for i, level in enumerate(levels[1:])], scale=XBD)
    assert codes[4].tolist() == [1] * 5 + [UNKNOWN] * 10 + [3] * 45 + [0] * 4


def test_graded_labels_read_as_binary_are_the_binary_ones(shared_data):
    reading, seen = XBD.read_as(BINARY), set()
    for path in sorted((shared_data / "xbd_michael" / "labels").glob("*_post_disaster.json"))[:6]:
        label = read_xbd(path)
        graded, binary = (
            rasterise_xbd(label, height=1024, width=1024, rules=LabelRules(scale, LEVELS)) for scale in (XBD, BINARY)
        )
        np.testing.assert_array_equal(reading[graded], binary)
        seen |= set(np.unique(graded).tolist())
    assert {0, 1, 2, 3, 4} <= seen


def test_a_mask_of_codes_is_taken_as_it_is(tmp_path):
    mask = np.resize(np.array([0, 1, 2, 3, 4, UNKNOWN, INVALID], np.uint8), (16, 16))
    np.testing.assert_array_equal(read_mask_codes(write_rgb(tmp_path / "mask.png", mask), XBD), mask)


def test_a_mask_of_another_scale_is_refused(tmp_path):
    mask = np.resize(np.array([0, 1, 2, 3, 4], np.uint8), (16, 16))
    with pytest.raises(LabelError, match=r"mask.png: holds the value 3, expected 0 \(ground\), 1 \(intact\)") as error:
        read_mask_codes(write_rgb(tmp_path / "mask.png", mask), BUILDINGS)
    assert "254 (building of unknown level) or 255 (unknown) in the scale buildings" in str(error.value)


def test_a_tile_without_buildings_is_intact(tmp_path):
    assert not drawn(tmp_path, []).any()


def test_holes_and_several_parts_are_kept(tmp_path):
    label = xbd_label([((0, 0, 1, 1), "destroyed")])
    label["features"]["xy"][0]["wkt"] = (
        "MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0), (2 2, 8 2, 8 8, 2 8, 2 2)), ((20 0, 22 0, 22 2, 20 2, 20 0)))"
    )
    codes = rasterise_xbd(read_xbd(written(tmp_path / "a.json", label)), height=64, width=64, rules=RULES)
    assert (codes == DAMAGE).sum() == 100 - 36 + 4


def test_date_and_size_are_read(tmp_path):
    label = read_xbd(written(tmp_path / "a.json", xbd_label([], size=32)))
    assert label.date == "2023-02-08T08:00:00.000Z" and label.size == (32, 32)
    assert read_xbd(written(tmp_path / "b.json", {"features": {"xy": []}})).size is None


def spoilt(change):
    label = xbd_label([((0, 0, 4, 4), "destroyed"), ((8, 8, 12, 12), "destroyed")])
    change(label)
    return label


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "lacks the field features; is it an xBD label?"),
        ({}, "lacks the field features;"),
        ({"features": {}}, "lacks the field features.xy;"),
        ({"features": {"xy": 3}}, "features.xy is '3', expected list"),
        ({"features": {"xy": ["a"]}}, "lacks the field features.xy[0].properties;"),
        (spoilt(lambda x: x["features"]["xy"][1].pop("wkt")), "lacks the field features.xy[1].wkt;"),
        (spoilt(lambda x: x["features"]["xy"][1]["properties"].pop("subtype")), "features.xy[1].properties.subtype;"),
        (
            spoilt(lambda x: x["features"]["xy"][0]["properties"].update(subtype="burnt")),
            "features.xy[0].properties.subtype is 'burnt', expected one of no-damage, minor-damage",
        ),
        (spoilt(lambda x: x["features"]["xy"][0].update(wkt="POLYGON ((0 0, 1")), "features.xy[0].wkt is not a WKT"),
        (spoilt(lambda x: x["features"]["xy"][0].update(wkt="POINT (1 2)")), "features.xy[0].wkt is a Point"),
        (spoilt(lambda x: x["metadata"].update(width="wide")), "metadata.width is 'wide', expected int"),
    ],
)
def test_a_broken_label_is_named_with_its_field(tmp_path, content, message):
    path = written(tmp_path / "label.json", content)
    with pytest.raises(LabelError) as error:
        read_xbd(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize("positive", [1, 255])
def test_masks_of_0_1_and_of_0_255_mean_the_same(tmp_path, positive):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4] = positive
    codes = read_mask_codes(write_rgb(tmp_path / "mask.png", mask), BINARY)
    np.testing.assert_array_equal(codes, np.where(mask > 0, DAMAGE, INTACT))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 255), "holds both 1 and 255"),
        ((0, 2, 7), "holds the values 2, 7, expected"),
        (range(90), "2, 3, 4, 5, 6, 7, ..."),
    ],
)
def test_other_mask_values_are_named(tmp_path, values, message):
    mask = np.resize(np.array(values, np.uint8), (16, 16))
    with pytest.raises(LabelError) as error:
        read_mask_codes(write_rgb(tmp_path / "mask.png", mask), BINARY)
    assert str(error.value).startswith(str(tmp_path / "mask.png")) and message in str(error.value)


def test_a_jpeg_mask_is_told_what_is_wrong_with_it(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[5:20, 5:20] = 255
    with pytest.raises(LabelError, match="must not be saved as JPEG"):
        read_mask_codes(write_rgb(tmp_path / "mask.jpg", mask), BINARY)


def test_differing_sizes_name_both_files(tmp_path):
    check_size(tmp_path / "a", (3, 4), tmp_path / "b", (3, 4))
    with pytest.raises(ImageError, match=r"a: 3 x 4 pixels, but \S+b has 4 x 3"):
        check_size(tmp_path / "a", (3, 4), tmp_path / "b", (4, 3))


def test_real_labels_draw_their_polygons(shared_data):
    source = shared_data / "xbd_santa_rosa" / "labels"
    drawn_pixels = polygon_area = 0.0
    for path in sorted(source.glob("*_post_disaster.json"))[:12]:
        label = read_xbd(path)
        codes = rasterise_xbd(label, height=1024, width=1024, rules=RULES)
        drawn_pixels += (codes == DAMAGE).sum()
        polygon_area += sum(b.outline.area for b in label.buildings if b.level in LEVELS)
    # Outlines seldom overlap, and a pixel counts by its centre.
    assert drawn_pixels == pytest.approx(polygon_area, rel=0.01) and drawn_pixels > 100_000
