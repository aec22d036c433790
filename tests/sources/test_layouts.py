import json

import cv2
import numpy as np
import pytest

from jaxcd.base.errors import ConfigError, LayoutError
from jaxcd.base.scales import SCALES
from jaxcd.sources.layouts import check, discover, listing
from tests.sources.tile_sources import picture, write_folders, write_paper, write_rgb, write_xbd, xbd_label


def names(images) -> list[str]:
    return [image.file.name for image in images]


def test_xbd_pairs_by_name_and_reports_what_is_alone(tmp_path):
    source = write_xbd(tmp_path, "quake_1", xbd_label([]))
    write_xbd(source, "quake_0", xbd_label([]), suffix=".jpg")
    (source / "labels" / "quake_0_pre_disaster.json").write_text("{}")
    write_rgb(source / "images" / "quake_2_pre_disaster.png", picture(0))
    write_rgb(source / "images" / "quake_3.png", picture(0))
    (source / "images" / "notes.txt").write_text("")
    (source / "images" / ".DS_Store").write_text("")
    found = discover("xbd", source)
    assert [place.id for place in found.places] == ["quake_0", "quake_1"]
    assert names(found.places[0].pre) == ["quake_0_pre_disaster.jpg"]
    assert names(found.places[0].post) == ["quake_0_post_disaster.jpg"]
    assert found.places[0].post[0].label == source / "labels" / "quake_0_post_disaster.json"
    assert {file.rpartition("/")[2] for file, _ in found.left_out} == {"quake_3.png", "notes.txt"}
    ((file, reason),) = found.incomplete
    assert file.endswith("quake_2_pre_disaster.png") and reason == "no post image and no label named 'quake_2'"


def test_paper_groups_dates_of_a_place_and_drops_unlabelled_posts(tmp_path):
    found = discover("paper", write_paper(tmp_path))
    first, second = found.places
    assert (first.id, first.block, second.id, second.block) == ("03_7", "03", "12_0", "12")
    assert [image.date for image in first.pre] == ["2021-05-01", "2022-05-01"]
    assert [image.date for image in first.post] == ["2023-02-07", "2023-02-09"]
    assert [post.label.name for post in first.post] == names(first.post)
    assert names(second.post) == ["12_2023-02-07_AC-visual_0.png"]
    ((file, reason),) = found.left_out
    assert file.endswith("post/12_2023-02-09_AD-visual_0.png")
    assert reason == "unlabelled: no masks/12_2023-02-09_AD-visual_0"


def test_paper_reports_a_place_that_lacks_a_side_and_a_mask_without_image(tmp_path):
    write_paper(tmp_path)
    (tmp_path / "pre" / "12_2022-05-01_AB-visual_0.png").unlink()
    write_rgb(tmp_path / "masks" / "33_2023-02-07_AC-visual_1.png", np.zeros((8, 8), np.uint8))
    found = discover("paper", tmp_path)
    assert [place.id for place in found.places] == ["03_7"]
    reasons = {file.rpartition("/")[2]: reason for file, reason in found.incomplete}
    assert reasons["12_2023-02-07_AC-visual_0.png"] == "no pre image of this place"
    assert reasons["33_2023-02-07_AC-visual_1.png"] == "no post/33_2023-02-07_AC-visual_1"
    # Raw images without a label are no loss.
    write_rgb(tmp_path / "pre" / "32_2022-05-01_AB-visual_3.png", picture(0))
    found = discover("paper", tmp_path)
    assert [reason for file, reason in found.left_out if "32_" in file] == ["no labelled post image of this place"]
    assert len(found.incomplete) == 2


@pytest.mark.parametrize("folders", [("A", "B", "label"), ("pre", "post", "masks"), ("A", "post", "mask")])
def test_folders_accepts_its_names_and_mixed_suffixes(tmp_path, folders):
    write_folders(tmp_path, 2)
    for old, new in zip(("A", "B", "label"), folders, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    (tmp_path / folders[0] / "p000.png").rename(tmp_path / folders[0] / "p000.PNG")
    (tmp_path / folders[0] / "p001.png").unlink()
    write_rgb(tmp_path / folders[0] / "p001.tif", picture(9))
    found = discover("folders", tmp_path)
    assert [names(place.pre) for place in found.places] == [["p000.PNG"], ["p001.tif"]]
    assert found.left_out == ()


def test_folders_names_what_a_place_lacks(tmp_path):
    write_folders(tmp_path, 3)
    (tmp_path / "B" / "p001.png").unlink()
    (tmp_path / "label" / "p002.png").unlink()
    found = discover("folders", tmp_path)
    assert [place.id for place in found.places] == ["p000"]
    assert found.left_out == ()
    assert found.incomplete == (
        (str(tmp_path / "A" / "p001.png"), "no post image named 'p001'"),
        (str(tmp_path / "label" / "p001.png"), "no post image named 'p001'"),
        (str(tmp_path / "A" / "p002.png"), "no label named 'p002'"),
        (str(tmp_path / "B" / "p002.png"), "no label named 'p002'"),
    )


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(LayoutError, match=r"absent: no such folder"):
        discover("xbd", tmp_path / "absent")
    write_folders(tmp_path, 1)
    with pytest.raises(LayoutError, match=r"wants a folder images/ and .*labels/; found A, B, label\. .*folders"):
        discover("xbd", tmp_path)


def test_a_layout_one_folder_down_is_pointed_at(tmp_path):
    write_folders(tmp_path / "train", 1)
    with pytest.raises(LayoutError, match=r"found train\. \S+/train has layout folders: use that"):
        discover("folders", tmp_path)


def test_another_layout_of_the_same_folders_is_pointed_at(tmp_path):
    write_paper(tmp_path)
    with pytest.raises(LayoutError, match=r"no place with a pre image, a post image and a mask.* has layout paper"):
        discover("folders", tmp_path)


def test_nothing_complete_is_an_error_that_says_why(tmp_path):
    write_xbd(tmp_path, "a", xbd_label([]))
    (tmp_path / "labels" / "a_post_disaster.json").unlink()
    with pytest.raises(LayoutError, match=r"no place with images/NAME_pre_disaster.*no label named 'a'"):
        discover("xbd", tmp_path)
    with pytest.raises(LayoutError, match="the folders are empty"):
        for folder in ("pre", "post", "masks"):
            (tmp_path / "paper" / folder).mkdir(parents=True)
        discover("paper", tmp_path / "paper")


def test_ambiguous_sources_are_refused(tmp_path):
    write_folders(tmp_path, 1)
    cv2.imwrite(str(tmp_path / "A" / "p000.jpg"), picture(0))
    with pytest.raises(LayoutError, match=r"p000.png: p000.jpg has the same name"):
        discover("folders", tmp_path)
    (tmp_path / "mask").mkdir()
    with pytest.raises(LayoutError, match="has both label and mask"):
        discover("folders", tmp_path)


def test_a_town_is_not_simulated_into_a_folder_of_something_else(tmp_path):
    write_folders(tmp_path, 1)
    with pytest.raises(LayoutError, match="holds '.*', and layout simulated makes a town in a folder of its own"):
        discover("simulated", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A", "B", "label"]


def test_every_label_that_is_none_is_reported(tmp_path):
    write_xbd(tmp_path, "a", xbd_label([]))
    for name in ("a_pre_disaster.json", "b_post.json", "._a_post_disaster.json"):
        (tmp_path / "labels" / name).write_text("{}")
    (tmp_path / "images" / "c_pre_disaster.png").symlink_to(tmp_path / "nowhere.png")
    found = discover("xbd", tmp_path)
    assert {(file.rpartition("/")[2], reason) for file, reason in found.left_out} == {
        ("b_post.json", "not named *_post_disaster.json"),
        ("c_pre_disaster.png", "a broken link"),
    }
    assert [place.id for place in found.places] == ["a"] and found.incomplete == ()


def test_the_listing_sees_what_counts_and_nothing_else(tmp_path):
    write_folders(tmp_path, 2)
    before = listing("folders", tmp_path)
    assert len(before) == 6 and before[0][0] == "A/p000.png"
    for name in ("p000.png.aux.xml", "Thumbs.db", ".hidden.png"):
        (tmp_path / "A" / name).write_text("x")
    assert listing("folders", tmp_path) == before
    write_rgb(tmp_path / "B" / "p001.png", picture(77))
    assert listing("folders", tmp_path) != before


def test_a_built_dataset_is_recognised(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({}))
    with pytest.raises(LayoutError, match="use layout prepared"):
        discover("xbd", tmp_path)


def test_labels_of_scenes_can_be_of_any_scale_and_simulated_ones_are_binary():
    for scale in SCALES:
        check("scenes", scale)
    check("simulated", "binary")
    with pytest.raises(ConfigError, match="labels of layout simulated can be read in the scale binary, got 'xbd'"):
        check("simulated", "xbd")
