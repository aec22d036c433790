"""Outlines that a network sees, counted against true ones."""

import geopandas as gpd
import pytest
import shapely

from tools import outlines

UTM = 32637


def frame(*boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    east, north = 433_000, 4_180_000
    shapes = [shapely.box(east + x, north + y, east + x + width, north + y + height) for x, y, width, height in boxes]
    return gpd.GeoDataFrame(geometry=shapes, crs=UTM)


def written(folder, true, seen):
    (folder / "maps" / "town").mkdir(parents=True)
    true.to_crs(4326).to_file(folder / "true.geojson")
    seen.to_file(folder / "maps" / "town" / "buildings.gpkg")
    (folder / "list.csv").write_text("name,pre,post,footprints\ntown,pre.tif,post.tif,true.geojson\n")
    return ["--pairs", str(folder / "list.csv"), "--maps", str(folder / "maps")]


def test_matches_cover_at_least_half_of_what_both_cover(tmp_path, capsys):
    # The same; shifted by a third (union 4/3, so a half); by half (a third); too small to count; missed.
    true = frame((0, 0, 12, 10), (30, 0, 12, 10), (60, 0, 12, 10), (90, 0, 2, 2), (120, 0, 12, 10))
    seen = frame((0, 0, 12, 10), (33.9, 0, 12, 10), (66, 0, 12, 10), (200, 0, 12, 10))
    assert outlines.main(written(tmp_path, true, seen)) == 0
    said = capsys.readouterr().out
    assert "4 true outlines, 4 seen, 2 matches" in said and "precision 0.500, recall 0.500, F1 0.500" in said


def test_what_is_missing_is_named(tmp_path, capsys):
    arguments = written(tmp_path, frame((0, 0, 9, 9)), frame((0, 0, 9, 9)))
    (tmp_path / "maps" / "town" / "buildings.gpkg").unlink()
    assert outlines.main(arguments) == 2
    assert "buildings.gpkg: no such file; map town without footprints first" in capsys.readouterr().err
    (tmp_path / "list.csv").write_text("name,pre\n")
    assert outlines.main(arguments) == 2
    assert "expected rows with the columns name and footprints" in capsys.readouterr().err


@pytest.mark.parametrize(("true", "seen"), [((), ((0, 0, 9, 9),)), (((0, 0, 9, 9),), ())])
def test_no_outlines_are_no_matches(true, seen):
    found = outlines.matches(frame(*true), frame(*seen), least_area=10)
    assert found == (len(true), len(seen), 0)
