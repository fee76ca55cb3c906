"""What lies in a folder: what counts and what doesn't; who is in no split or in two, as `check` and `prepare` say it."""

import os
from pathlib import Path

import pytest

from kdmri_lib.datasets.folders import NIFTI, files_in, label_maps
from kdmri_lib.errors import StudyError
from tests import downloads, trees


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def places(folder: Path, endings=NIFTI, pattern=None) -> list[str]:
    return [entry.place.as_posix() for entry in files_in(folder, endings, pattern)]


def test_what_systems_leave_is_passed_over(tmp_path):
    touch(tmp_path, "p2/a.nii.gz", "p10/a.NII", "p1/a.nii", "p1/._a.nii", ".cache/a.nii", "__MACOSX/p1/b.nii")
    touch(tmp_path, "p1/a.json", "p1/@eaDir/a.nii", "p1/Icon\r", "p1/a.nii.gz.part")
    os.mkfifo(tmp_path / "p1/pipe.nii")
    assert places(tmp_path) == ["p1/a.nii", "p2/a.nii.gz", "p10/a.NII"]
    assert [entry.bare.as_posix() for entry in files_in(tmp_path, NIFTI)] == ["p1/a", "p2/a", "p10/a"]
    assert "p1/a.json" in places(tmp_path, ()) and "p1/._a.nii" not in places(tmp_path, ())


def test_links_are_followed_and_circles_are_not(tmp_path):
    touch(tmp_path / "elsewhere", "p1/a.nii", "b.nii")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "p1").symlink_to(tmp_path / "elsewhere/p1")
    (folder / "p2.nii").symlink_to("../elsewhere/b.nii")
    (folder / "gone.nii").symlink_to("nothing")
    (folder / "self.nii").symlink_to("self.nii")
    (folder / "p1/up").symlink_to(folder)
    assert places(folder) == ["gone.nii", "p1/a.nii", "p2.nii", "self.nii"], "a link to nothing is somebody's file"
    (folder / "p3").symlink_to(tmp_path / "elsewhere/p1")
    with pytest.raises(StudyError, match=r"p3/a.nii: the same file as .*p1/a.nii, by a link; expected each once"):
        files_in(folder, NIFTI)
    assert places(folder, pattern="p1/*") == ["p1/a.nii"]


def test_a_folder_named_as_a_file_is_the_file_in_it(tmp_path):
    touch(tmp_path, "p1/x.nii/other.nii.gz", "p1/x_gt.nii/labels.nii", "p1/y.nii.gz/y.nii/y.nii", "p2/z.nii/z.nii")
    touch(tmp_path, "p2/z.nii/._z.nii", "p2/z.nii/z_seg.nii", "p3/two.nii/a.nii", "p3/two.nii/b.nii", "p3/no.nii/c.txt")
    assert places(tmp_path) == ["p1/x.nii", "p1/y.nii.gz", "p2/z.nii", "p3/two.nii/a.nii", "p3/two.nii/b.nii"]
    assert files_in(tmp_path, NIFTI)[0].file == tmp_path / "p1/x.nii/other.nii.gz"
    assert places(tmp_path, pattern="p1/x*") == ["p1/x.nii"]


@pytest.mark.parametrize("other", ["p/a.nii.gz", "p/a.NII", "p/a.nii.gz/any.nii"])
def test_one_volume_under_two_endings_is_refused(tmp_path, other):
    touch(tmp_path, "p/a.nii", other)
    with pytest.raises(StudyError, match=r"p/a.*: the same volume as .*p/a.*, by their names; expected one file"):
        files_in(tmp_path, NIFTI)


LABEL_MAPS = """
    x_seg.nii.gz x_brain_mask.nii sub-01_desc-brain_mask.nii.gz sub-01_dseg.nii.gz patient001_frame01_gt.nii.gz
    label_001.nii.gz mask.nii x-seg2.nii.gz segm.nii.gz LabelsForTraining.nii labelsTr/heart_001.nii.gz
    derivatives/program/sub-01/T1w.nii.gz x_gt.nii/x.nii
"""
IMAGES = "T1.nii sub-01_acq-mask_T1w.nii.gz segal_t1.nii gt3_scan.nii labelle/T2.nii 12.nii brainmask.nii"


def test_label_maps_and_copies_go_by_their_names(tmp_path):
    touch(tmp_path, *IMAGES.split(), *LABEL_MAPS.split())
    assert set(places(tmp_path)) == set(IMAGES.split())
    assert {str(place) for place in label_maps(tmp_path)} == set(LABEL_MAPS.replace("/x.nii", "").split())


def test_patterns(tmp_path):
    touch(tmp_path, "a/t2_1.nii.gz", "a/t1.nii.gz", "b/c/t2.nii", "t2.nii", "a/t2.json")
    assert places(tmp_path, pattern="*/t2*") == ["a/t2_1.nii.gz"]
    assert places(tmp_path, pattern="**/t2*") == ["a/t2_1.nii.gz", "b/c/t2.nii", "t2.nii"]
    assert places(tmp_path, pattern="./b/**/*.nii") == ["b/c/t2.nii"]
    assert places(tmp_path, pattern="*.nii") == ["t2.nii"]
    for pattern in ("/a/*", "../*"):
        with pytest.raises(StudyError, match=r"leads out of .*; expected a glob below it"):
            places(tmp_path, pattern=pattern)


def test_names_that_are_no_text_and_folders_without_permission_are_said(tmp_path):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    touch(place, "a.nii")
    with pytest.raises(StudyError, match=r"caf.udce9/a.nii': a name that isn't text in UTF-8; expected one that is"):
        files_in(tmp_path, NIFTI)
    place.rename(tmp_path / "café")
    assert places(tmp_path) == ["café/a.nii"]
    with trees.locked(tmp_path / "café"), pytest.raises(StudyError, match="no permission to read it"):
        files_in(tmp_path, NIFTI)


def test_a_split_without_anybody_and_a_person_in_two_are_said_by_both(tmp_path):
    folder, table = tmp_path / "download", tmp_path / "splits.csv"
    downloads.nifti(folder)
    table.write_text("subject,split\nperson1,train\nperson2,validation\n")
    by_table, by_name = (downloads.declared("nifti_folder", folder, splits=splits) for splits in (str(table), None))
    assert "no volume left for split 'test' (none is in it)" in trees.agreed(by_table, tmp_path / "out.h5")[2]
    (folder / "person10/scan.nii.gz").write_bytes((folder / "person1/scan.nii.gz").read_bytes())
    message = "person1_scan in train and person10_scan in test are the same image"
    assert message in trees.agreed(by_name, tmp_path / "out.h5")[2]
    table.write_text("subject,split\n" + "".join(f"person{n},train\n" for n in (1, 2, 3)) + "person10,test\n")
    for number in (1, 2, 3, 10):
        (folder / f"person{number}/scan.nii.gz").write_bytes(b"")
        (folder / f"person{number}/more.nii.gz").write_bytes(b"")
    said = trees.agreed(by_table, tmp_path / "out.h5")[2]
    assert "no volume left for split 'train' (" in said
    assert said.count("not a readable") == 3 and said.endswith("; and 3 more)")
