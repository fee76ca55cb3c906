"""What lies in a folder: what counts and what doesn't, for every source; and `check` promises what `prepare` does."""

import os
import random
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.datasets.folders import NIFTI, files_in, is_label_map, label_maps, the_nifti
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.errors import StudyError
from tests import downloads, trees
from tests.unit.datasets.test_sources import EVERY


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def places(folder: Path, endings=NIFTI, pattern=None) -> list[str]:
    return [entry.place.as_posix() for entry in files_in(folder, endings, pattern)]


def test_what_systems_leave_is_passed_over(tmp_path):
    touch(
        tmp_path, "p2/a.nii.gz", "p10/a.NII", "p1/a.nii", "p1/._a.nii", ".cache/a.nii", "__MACOSX/p1/b.nii", "p1/a.json"
    )
    touch(tmp_path, "p1/@eaDir/a.nii", "p1/Icon\r", "p1/a.nii.gz.part")
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
    with pytest.raises(
        StudyError, match=r"here/p3/a.nii: the same file as .*here/p1/a.nii, by a link; expected each once"
    ):
        files_in(folder, NIFTI)
    assert places(folder, pattern="p1/*") == ["p1/a.nii"]


def test_a_folder_named_as_a_file_is_the_file_in_it(tmp_path):
    touch(tmp_path, "p1/x.nii/other.nii.gz", "p1/x_gt.nii/labels.nii", "p1/y.nii.gz/y.nii/y.nii", "p2/z.nii/z.nii")
    touch(
        tmp_path, "p2/z.nii/._z.nii", "p2/z.nii/z_seg.nii", "p3/two.nii/a.nii", "p3/two.nii/b.nii", "p3/none.nii/c.txt"
    )
    assert places(tmp_path) == ["p1/x.nii", "p1/y.nii.gz", "p2/z.nii", "p3/two.nii/a.nii", "p3/two.nii/b.nii"]
    assert files_in(tmp_path, NIFTI)[0].file == tmp_path / "p1/x.nii/other.nii.gz"
    assert places(tmp_path, pattern="p1/x*") == ["p1/x.nii"]
    assert the_nifti(tmp_path / "p2/z.nii") == tmp_path / "p2/z.nii/z.nii"
    with pytest.raises(StudyError, match=r"two.nii: a folder with 2 NIfTI files, expected a file"):
        the_nifti(tmp_path / "p3/two.nii")


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


@pytest.mark.parametrize("name", LABEL_MAPS.split())
def test_label_maps_and_copies_go_by_their_names(tmp_path, name):
    touch(tmp_path, name, "x.nii.gz")
    assert places(tmp_path) == ["x.nii.gz"]
    assert [str(place) for place in label_maps(tmp_path)] == [name.removesuffix("/x.nii")]


@pytest.mark.parametrize("name", IMAGES.split())
def test_images_are_not_taken_for_label_maps(name):
    assert not is_label_map(Path(name))


def test_patterns(tmp_path):
    touch(tmp_path, "a/t2_1.nii.gz", "a/t1.nii.gz", "b/c/t2.nii", "t2.nii", "a/t2.json")
    assert places(tmp_path, pattern="*/t2*") == ["a/t2_1.nii.gz"]
    assert places(tmp_path, pattern="**/t2*") == ["a/t2_1.nii.gz", "b/c/t2.nii", "t2.nii"]
    assert places(tmp_path, pattern="./b/**/*.nii") == ["b/c/t2.nii"] and places(tmp_path, pattern="*.nii") == [
        "t2.nii"
    ]
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
    (tmp_path / "café").chmod(0)
    before = os.geteuid()
    try:
        if before == 0:  # who may read everything
            os.seteuid(65534)
        with pytest.raises(StudyError, match="no permission to read it"):
            files_in(tmp_path, NIFTI)
    finally:
        os.seteuid(before)
        (tmp_path / "café").chmod(0o755)


OF_EACH = "acdc|mrbrains 2018|knee, MATLAB 7.3|fastMRI multicoil|Calgary-Campinas|published code|NIfTI|DICOM"


@pytest.mark.parametrize("source", OF_EACH.split("|"))
def test_every_source_finds_a_download_again_in_a_folder_as_people_have_it(tmp_path, source):
    source, fill, more = EVERY[source]
    (tmp_path / "download").mkdir()
    expected, dataset = fill(tmp_path / "download"), downloads.declared(source, tmp_path / "download", **more)
    plain, _, _ = trees.agreed(dataset, tmp_path / "plain.h5")
    for change in trees.HARMLESS:
        change(tmp_path / "download", tmp_path / "elsewhere", random.Random(source))
    found, left_out, error = trees.agreed(dataset, tmp_path / "out.h5")
    assert not error and not left_out and set(found) == set(plain)
    for name, image in found.items():
        np.testing.assert_allclose(image, expected[name], atol=2e-6, err_msg=name)


VALUES = {  # what may stand in a person's file, and whether it is an image
    "right": (None, True),
    "resampled by splines": (lambda x: np.where(x < x.min() + 1e-3, -1e-3, x), True),
    "one axis more": (lambda x: x[..., None], True),
    "z-scored": (lambda x: (x - x.mean()) / x.std(), False),
    "labels": (lambda x: np.round(4 * (x - 1)), False),
    "constant": (np.ones_like, False),
    "not a number": (lambda x: np.where(x > 1.9, np.nan, x), False),
    "complex": (lambda x: x.astype(np.complex64), False),
    "two-dimensional": (lambda x: x[:, :, 0], False),
    "a series": (lambda x: np.stack([x, x + 1], axis=3), False),
    "no slices": (lambda x: x[:, :, :0], False),
}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(VALUES)), min_size=4, max_size=6),
    st.sets(st.sampled_from(range(len(trees.HARMLESS)))),
    st.sampled_from([None, 2, 40]),
    st.integers(0, 2**32),
)
def test_check_promises_what_prepare_does(kinds, changes, slices, seed):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder, right = Path(place) / "download", set()
        for number, kind in enumerate(kinds):
            change, is_right = VALUES[kind]
            file = folder / f"person{number}" / "scan.nii.gz"
            downloads.save_nifti(file, downloads.image(number))
            if change:
                stored = nibabel.load(file)
                nibabel.save(nibabel.Nifti1Image(change(np.asarray(stored.dataobj)), stored.affine), file)
            if is_right:
                right.add(f"person{number}_scan")
        for number in sorted(changes):
            trees.HARMLESS[number](folder, Path(place) / "elsewhere", chance)
        dataset = downloads.declared("nifti_folder", folder, train=len(kinds) - 2, slices_per_volume=slices)
        found, left_out, error = trees.agreed(dataset, Path(place) / "out.h5")
        assert error or (
            set(found) == right and set(found) | set(left_out) == {f"person{n}_scan" for n in range(len(kinds))}
        )
        assert ("no volume left for split" in error) == bool(error)


def test_a_split_without_anybody_and_a_person_in_two_are_said_by_both(tmp_path):
    downloads.nifti(tmp_path / "download")
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson1,train\nperson2,validation\n")
    dataset = downloads.declared("nifti_folder", tmp_path / "download", splits=str(table))
    assert "no volume left for split 'test' (none is in it)" in trees.agreed(dataset, tmp_path / "out.h5")[2]
    copy = tmp_path / "download/person10/scan.nii.gz"
    copy.write_bytes((tmp_path / "download/person1/scan.nii.gz").read_bytes())
    dataset = downloads.declared("nifti_folder", tmp_path / "download")
    assert "person1_scan in train and person10_scan in test are the same image" in survey(dataset).stopped
    with pytest.raises(StudyError, match="person1_scan in train and person10_scan in test are the same image"):
        prepare(dataset, tmp_path / "out.h5", 1)
    table.write_text("subject,split\n" + "".join(f"person{n},train\n" for n in (1, 2, 3)) + "person10,test\n")
    for number in (1, 2, 3, 10):
        (tmp_path / f"download/person{number}/scan.nii.gz").write_bytes(b"")
        (tmp_path / f"download/person{number}/more.nii.gz").write_bytes(b"")
    dataset = downloads.declared("nifti_folder", tmp_path / "download", splits=str(table))
    found = survey(dataset)
    assert found.stopped.startswith("data set 'mine': no volume left for split 'train' (")
    assert found.stopped.count("not a readable") == 3 and found.stopped.endswith("; and 3 more)")
    assert len(found.problems) == 8
