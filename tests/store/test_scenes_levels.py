"""Labels of scenes in scales of levels: the codes of each pixel, the index, the report, and what is refused."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import BINARY, INVALID, UNKNOWN
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.prepare import main
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from jaxcd.store.manifest import BuildSettings
from tests.scenes.scene_files import ORIGIN, UTM, at, ground, write

SIDE = 128
PRE, POST = ground(21, SIDE, SIDE), ground(22, SIDE, SIDE)
XBD_FLAGS = ["--scale", "xbd", "--label_attribute", "state"]
LEVELS = ["--label_levels", "no-damage=intact", "minor-damage=minor"]


def box(row: int, column: int, rows: int = 10, columns: int = 10) -> shapely.Polygon:
    """A rectangle of pixels of the scene, in coordinates."""
    x, y = ORIGIN[0] + column * 0.5, ORIGIN[1] - row * 0.5
    return shapely.box(x, y - rows * 0.5, x + columns * 0.5, y)


def scene(source: Path, houses: list, **columns: list) -> Path:
    """A place with polygons beside its scenes."""
    write(source / "town" / "pre.tif", PRE)
    write(source / "town" / "post.tif", POST)
    if houses:
        gpd.GeoDataFrame(columns, geometry=houses, crs=UTM).to_file(source / "town" / "damage.gpkg")
    return source


def prepare(source: Path, out: Path, *more: str) -> int:
    flags = ["--tile", str(SIDE), "--variance", "100", *more]
    return main(["--layout", "scenes", "--source", str(source), "--out", str(out), *flags])


def codes_of(out: Path) -> np.ndarray:
    return decode(TileDataset.open(out).read(0).label[0])


def expected_codes(*rectangles: tuple[slice, slice, int], outside: int = 0) -> np.ndarray:
    codes = np.full((SIDE, SIDE), outside, np.uint8)
    for rows, columns, code in rectangles:
        codes[rows, columns] = code
    return codes


def test_values_of_an_attribute_become_levels_in_pixels_index_and_report(tmp_path, capsys):
    values = ["no-damage", "minor-damage", "major", "destroyed", "un-classified", None]
    source = scene(tmp_path / "s", [box(10, 20 * k) for k in range(6)], state=values)
    assert prepare(source, tmp_path / "out", *XBD_FLAGS, *LEVELS, "--label_unknown", "un-classified") == 0
    drawn = zip(range(6), (1, 2, 3, 4, UNKNOWN, UNKNOWN), strict=True)
    rows = slice(10, 20)
    expected = expected_codes(*((rows, slice(20 * k, 20 * k + 10), code) for k, code in drawn))
    np.testing.assert_array_equal(codes_of(tmp_path / "out"), expected)

    (image,) = TileDataset.open(tmp_path / "out").samples[0].post
    assert image.codes == (SIDE**2 - 600, 100, 100, 100, 100, 200) and (image.valid, image.damaged) == (SIDE**2, 200)
    binary = TileDataset.open(tmp_path / "out", BINARY)
    codes = binary.codes(0, binary.read(0).label[0])
    assert ((codes == 1).sum(), (codes == INVALID).sum()) == (200, 200) and (codes[15, 65], codes[15, 25]) == (1, 0)

    index = gpd.read_parquet(tmp_path / "out" / "polygons.parquet").sort_values("row")
    assert index.label.tolist() == ["intact", "minor", "major", "destroyed", "unknown level", "unknown level"]
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert notes == {
        "damage.gpkg: 2 polygons of unknown level, without a value of 'state' or with un-classified": 1,
        "damage.gpkg: polygons by level: 1 intact, 1 minor, 1 major, 1 destroyed, 2 unknown level": 1,
    }
    said = capsys.readouterr().out
    assert "polygons by level: 1 intact, 1 minor" in said and "label polygons in kept tiles           6" in said


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_of_polygons_that_overlap_the_worse_wins_and_an_unknown_one_over_no_damage(tmp_path, order):
    values = ["destroyed", "minor", "?", "major"]
    houses = [box(0, 0, 40, 10), box(0, 0, 40, 40), box(10, 0, 20, 60), box(20, 0, 20, 30)]
    state = [values[k] for k in order]
    source = scene(tmp_path / "s", [houses[k] for k in order], state=state)
    assert prepare(source, tmp_path / "out", *XBD_FLAGS, "--label_unknown", "?") == 0
    painted = [
        (slice(0, 40), slice(0, 40), 2),
        (slice(10, 30), slice(0, 60), UNKNOWN),
        (slice(20, 40), slice(0, 30), 3),
        (slice(0, 40), slice(0, 10), 4),
    ]
    np.testing.assert_array_equal(codes_of(tmp_path / "out"), expected_codes(*painted))


def test_outside_of_polygons_and_of_the_labelled_area_nothing_is_known(tmp_path):
    source = scene(tmp_path / "s", [box(0, 0), box(0, 20), box(60, 0)], grade=["grade 2", None, "grade 5"])
    gpd.GeoDataFrame(geometry=[box(0, 0, 50, 50)], crs=UTM).to_file(tmp_path / "area.gpkg")
    flags = ["--scale", "ems98", "--label_attribute", "grade"]
    near = (slice(0, 10), slice(0, 10), 3), (slice(0, 10), slice(20, 30), UNKNOWN)
    assert prepare(source, tmp_path / "a", *flags, "--outside", "unlabelled") == 0
    far = (slice(60, 70), slice(0, 10), 6)
    np.testing.assert_array_equal(codes_of(tmp_path / "a"), expected_codes(*near, far, outside=INVALID))
    assert prepare(source, tmp_path / "b", *flags, "--labelled_area", str(tmp_path / "area.gpkg")) == 0
    seen = (slice(0, 50), slice(0, 50), 0)
    np.testing.assert_array_equal(codes_of(tmp_path / "b"), expected_codes(seen, *near, outside=INVALID))


def test_numbers_are_values_as_a_user_writes_them(tmp_path):
    source = scene(tmp_path / "s", [box(0, 20 * k) for k in range(3)], grade=[1.0, 2.0, None])
    flags = ["--scale", "buildings", "--label_attribute", "grade", "--label_levels", "1=intact", "2=damaged"]
    assert prepare(source, tmp_path / "out", *flags) == 0
    assert codes_of(tmp_path / "out")[5, [5, 25, 45, 65]].tolist() == [1, 2, UNKNOWN, 0]


def test_a_mask_holds_codes_of_the_scale_on_the_ground_that_it_shows(tmp_path, capsys):
    mask = np.repeat(np.array([0, 1, 2, 3, 4, UNKNOWN, INVALID, 99], np.uint8), 8)[:, None].repeat(32, axis=1)
    source = scene(tmp_path / "s", [])
    write(source / "town" / "mask.tif", mask, at(gsd=1.0), nodata=99)
    assert prepare(source, tmp_path / "out", "--scale", "xbd") == 0
    expected = expected_codes(outside=INVALID)
    expected[:, :64] = np.repeat([0, 1, 2, 3, 4, UNKNOWN, INVALID, INVALID], 16)[:, None]
    np.testing.assert_array_equal(codes_of(tmp_path / "out"), expected)
    assert prepare(source, tmp_path / "fewer", "--scale", "buildings") == 2
    assert "mask.tif: holds the value 3, expected 0 (ground), 1 (intact), 2 (damaged)" in capsys.readouterr().err


REFUSED = [
    (XBD_FLAGS, "damage.gpkg: 'state' is 'grade 1' or 'no-damage', expected a level of the scale xbd (intact, minor, "),
    (XBD_FLAGS, "say what it means with --label_levels VALUE=LEVEL, or list it in --label_unknown"),
    ([*XBD_FLAGS, *LEVELS], "damage.gpkg: 'state' is 'grade 1', expected a level"),
    (["--scale", "xbd"], "damage.gpkg: the polygons have no level of the scale xbd (intact, minor, major"),
    (["--scale", "xbd"], "name the attribute that holds the level with --label_attribute"),
    (["--scale", "xbd", "--label_attribute", "grade"], "damage.gpkg: no attribute 'grade'; it has state"),
    ([*XBD_FLAGS, "--label_values", "major"], "label_values: expected none with data.scale = xbd"),
    (
        [*XBD_FLAGS, "--label_levels", "no-damage=none"],
        "levels of the scale xbd (intact, minor, major, destroyed), got",
    ),
    (["--label_attribute", "state", *LEVELS], "label_levels: expected none with data.scale = binary"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED)
def test_what_tells_no_level_is_refused_in_one_line(tmp_path, capsys, flags, message):
    source = scene(tmp_path / "s", [box(0, 0), box(0, 20), box(0, 40)], state=["no-damage", "grade 1", "major"])
    assert prepare(source, tmp_path / "out", *flags) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ") and message in said, said
    assert not (tmp_path / "out").exists()


def test_labels_wanted_in_another_scale_than_they_were_set_for_are_refused(tmp_path):
    """Without this, all values of the attribute would silently mean "not damaged"."""
    source = scene(tmp_path / "s", [box(0, 0)], state=["major"])
    scenes = ScenesConfig(tile=SIDE, label_attribute="state", label_levels=("x=minor",))
    with pytest.raises(ConfigError, match=r"config\.data\.scenes\.label_levels: expected none with data.scale = bin"):
        build(DataConfig(root=str(source), layout="scenes", scenes=scenes), tmp_path / "out")


def test_binary_datasets_of_before_there_were_levels_keep_their_names():
    def fingerprint(scale: str = "binary", **labels) -> str:
        scenes = ScenesConfig(**labels)
        data = DataConfig(root="/nowhere/scenes", layout="scenes", scale=scale, scenes=scenes)
        return BuildSettings.of(data).fingerprint()

    assert fingerprint() == "dad3029d"
    assert fingerprint(label_attribute="damage", label_values=("destroyed",)) == "8f5d55a1"
    levels = [("a=minor",), ("a=major",), ()]
    graded = {fingerprint("xbd", label_attribute="damage", label_levels=entries) for entries in levels}
    assert len(graded) == 3
