"""Preparing: what is broken is left out by name, a stopped start goes on, and changed files are seen."""

import json
import os
import re
import shutil
import sys

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import yaml

from kdmri_lib.datasets import preparing
from kdmri_lib.datasets.prepared import index, read_prepared, splits
from kdmri_lib.datasets.preparing import changed_sources, images_number, prepare, source, survey, survey_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.__main__ import main
from kdmri_study.profile import Study
from kdmri_study.runs import prepare_dataset
from tests import downloads

PHANTOMS = Dataset(
    name="c", source="cardiac_phantom", shape=(40, 40), train=1, validation=1, test=1, slices_per_volume=2
)


@pytest.fixture
def folder(tmp_path):
    """A download of four NIfTI volumes."""
    downloads.nifti(tmp_path / "download")
    return tmp_path / "download"


@pytest.fixture
def dataset(folder):
    return downloads.declared("nifti_folder", folder)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


def sidecar(path):
    return path.with_name(f".{path.stem}.files.json")


def of_person(folder, number):
    return folder / f"person{number}/scan.nii.gz"


def replace(file, seed=77):
    """Another image in place of a file."""
    downloads.save_nifti(file, downloads.image(seed))


def prepared_of(path, volume):
    return next(v.image for v in read_prepared(path) if v.subject == volume)


def test_unknown_source():
    with pytest.raises(StudyError, match="unknown source of images 'acdcc'; known: acdc, "):
        source("acdcc")


def test_a_failing_source_leaves_no_file(tmp_path, monkeypatch):
    module = source("cardiac_phantom")
    make = module.make
    monkeypatch.setattr(
        module,
        "make",
        lambda d, number: make(d, number) if number < 3 else (np.full((2, 40, 40), np.nan), {"kind": "phantom"}),
    )
    with pytest.raises(StudyError, match=r"no volume left for split 'test' \(volume phantom003: 3200 values are NaN"):
        prepare(PHANTOMS, tmp_path / "c.h5", 1)
    assert not list(tmp_path.glob("*.h5"))


def save(values, scale=None):
    """What writes these values, with this scale, in place of a file."""

    def write(file):
        stored = nibabel.Nifti1Image(values, np.eye(4))
        stored.header.set_slope_inter(scale, 0 if scale else None)
        nibabel.save(stored, file)

    return write


def cut_short(file):
    file.write_bytes(file.read_bytes()[:900])


NOT_ONE_IMAGE = {
    "cut short": (cut_short, "not a readable NIfTI volume, or cut short"),
    "4-D": (save(np.ones((4, 4, 3, 5), np.float32)), r"4-D image of shape \(4, 4, 3, 5\), expected one 3-D volume"),
    "NaN": (save(np.full((4, 4, 3), np.nan, np.float32)), "the same value everywhere, or holds NaN"),
    "constant": (save(np.full((4, 4, 3), 7, np.float32)), "the same value everywhere, or holds NaN"),
    "overflow": (save(np.full((20, 16, 3), 30000, np.int16), 3e38), "has a scale overflowed\\?"),
}


@pytest.mark.parametrize("damage", NOT_ONE_IMAGE)
def test_a_broken_volume_is_left_out_by_name_and_the_others_go_on(folder, dataset, path, damage):
    spoil, message = NOT_ONE_IMAGE[damage]
    spoil(of_person(folder, 1))
    left_out = prepare(dataset, path, 1).left_out
    assert set(left_out) == {"person1_scan"} and str(of_person(folder, 1)) in left_out["person1_scan"]
    assert re.search(message, left_out["person1_scan"])
    assert sum(map(len, splits(path).values())) == 3
    assert prepare(dataset, path, 1) == (False, left_out), "said again when nothing is made"


def test_a_stopped_preparation_goes_on_where_it_was(dataset, path, tmp_path, monkeypatch):
    prepare(dataset, tmp_path / "whole.h5", 1)
    module, made = source("nifti_folder"), []
    make = module.make

    def interrupted(declared, file):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(file)
        return make(declared, file)

    monkeypatch.setattr(module, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, path, 1)
    assert not path.exists(), "a half-made file isn't taken for a whole one"
    part = next((tmp_path / ".out.parts").glob("*.h5"))
    part.write_bytes(part.read_bytes()[:-50])
    monkeypatch.setattr(module, "make", lambda declared, file: made.append(file) or make(declared, file))
    prepare(dataset, path, 1)
    assert len(made) == 2 + 3, "one of the two was damaged meanwhile"
    assert not (tmp_path / ".out.parts").exists()
    for a, b in zip(read_prepared(tmp_path / "whole.h5"), read_prepared(path), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_a_source_whose_images_have_changed_prepares_again(dataset, path, monkeypatch):
    assert images_number(dataset) == 1
    assert prepare(dataset, path, 1).made and not prepare(dataset, path, 1).made
    monkeypatch.setattr(source("nifti_folder"), "IMAGES", 2, raising=False)
    assert images_number(dataset) == 2 and prepare(dataset, path, 2).made and not prepare(dataset, path, 2).made
    with h5py.File(path, "r+") as file:
        file.attrs["code"] = "0123456789ab"  # a digest, as older files have
    assert prepare(dataset, path, 2).made and not prepare(dataset, path, 2).made


def test_a_file_of_other_content_is_prepared_again(folder, dataset, path):
    prepare(dataset, path, 1)
    assert changed_sources(dataset, path) == ""
    replace(of_person(folder, 2))
    assert changed_sources(dataset, path) == f"{of_person(folder, 2)} was replaced"
    assert changed_sources(dataset, path), "asking settles nothing"
    assert prepare(dataset, path, 1).made
    np.testing.assert_allclose(prepared_of(path, "person2_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)
    assert changed_sources(dataset, path) == "" and not prepare(dataset, path, 1).made


def test_a_change_of_the_same_size_that_keeps_the_time_of_the_content_is_seen(tmp_path, path):
    """As `cp -p`, or a program that sets times back, would make it."""
    folder = tmp_path / "plain"
    for number in (1, 2, 3, 10):
        downloads.save_nifti(folder / f"person{number}/scan.nii", downloads.image(number))
    dataset = downloads.declared("nifti_folder", folder)
    prepare(dataset, path, 1)
    file = folder / "person2/scan.nii"
    before = file.stat()
    replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert changed_sources(dataset, path) == f"{file} was replaced"


def test_a_file_that_was_only_touched_is_not_prepared_again(folder, dataset, path, monkeypatch):
    prepare(dataset, path, 1)
    before = path.read_bytes()
    os.utime(of_person(folder, 2))
    shutil.copy(of_person(folder, 3), folder / "copy")
    (folder / "copy").replace(of_person(folder, 3))
    assert not prepare(dataset, path, 1).made and path.read_bytes() == before
    read = []
    monkeypatch.setattr(preparing, "sha256_file", lambda file: read.append(file))
    assert changed_sources(dataset, path) == "" and read == [], "its checksum is computed once"


def test_a_new_subject_and_one_that_is_gone_are_seen(folder, dataset, path):
    replace(folder / "person1/second.nii.gz", 5)
    prepare(dataset, path, 1)
    (folder / "person1/second.nii.gz").unlink()
    assert changed_sources(dataset, path) == "person1_second is gone"
    replace(of_person(folder, 0), 5)
    assert changed_sources(dataset, path) == "person0_scan is new"
    prepare(dataset, path, 1)
    expected = {"train": ["person0_scan", "person1_scan"], "validation": ["person2_scan"], "test": ["person3_scan"]}
    assert splits(path) == expected
    replace(of_person(folder, 11), 6)
    assert changed_sources(dataset, path) == "", "beyond the declared number"
    shutil.rmtree(folder / "person1")
    assert changed_sources(dataset, path) == "person10_scan is new"
    prepare(dataset, path, 1)
    shutil.rmtree(folder / "person0")
    prepare(dataset, path, 1)
    assert splits(path)["train"] == ["person2_scan", "person3_scan"] and splits(path)["test"] == ["person11_scan"]
    shutil.rmtree(folder / "person3")
    with pytest.raises(StudyError, match=r"3 subjects found \(2 train, 1 validation, 0 test\), expected 2 train"):
        prepare(dataset, path, 1)
    assert splits(path)["train"] == ["person2_scan", "person3_scan"], "what stood stands"


OTHER_SPLITS = "subject,split\nperson1,train\nperson2,test\nperson3,validation\n"
BY_OTHERS = {"train": ["person1_scan"], "validation": ["person3_scan"], "test": ["person2_scan"]}


def by_a_table(folder):
    """A table of splits, and the data set that it splits."""
    table = folder.with_name("splits.csv")
    table.write_text("subject,split\nperson1,train\nperson2,validation\nperson3,test\n")
    return table, downloads.declared("nifti_folder", folder, splits=str(table))


def test_a_volume_in_another_split_is_seen(folder, path):
    table, dataset = by_a_table(folder)
    prepare(dataset, path, 1)
    table.write_text(OTHER_SPLITS)
    assert changed_sources(dataset, path) == "person2_scan is in split test now"
    assert prepare(dataset, path, 1).made
    assert splits(path) == BY_OTHERS
    assert not prepare(dataset, path, 1).made


def stopped_at_the_end(dataset, path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(preparing, "_left", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, path, 1)


def test_a_preparation_that_was_stopped_goes_on_with_the_files_and_splits_of_now(folder, path, tmp_path, monkeypatch):
    table, dataset = by_a_table(folder)
    stopped_at_the_end(dataset, path, monkeypatch)
    assert len(list((tmp_path / ".out.parts").glob("*.h5"))) == 3
    table.write_text(OTHER_SPLITS)
    replace(of_person(folder, 1))
    prepare(dataset, path, 1)
    assert splits(path) == BY_OTHERS
    np.testing.assert_allclose(prepared_of(path, "person1_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)


def test_a_preparation_that_fails_at_its_end_does_not_vouch_for_what_stood(folder, dataset, path):
    """The new file is the image of another split's subject: refused; and the older prepared file isn't of that file."""
    prepare(dataset, path, 1)
    shutil.copy(of_person(folder, 10), of_person(folder, 1))
    for _ in range(2):
        with pytest.raises(StudyError, match="person1_scan in train and person10_scan in test are the same image"):
            prepare(dataset, path, 1)
        assert changed_sources(dataset, path) == f"{of_person(folder, 1)} was replaced"
    replace(of_person(folder, 1))
    assert prepare(dataset, path, 1).made


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_volume_that_was_left_out_is_tried_again_when_its_file_is_replaced(folder, dataset, path, forgetful):
    file = of_person(folder, 1)
    whole = file.read_bytes()
    cut_short(file)
    left_out = prepare(dataset, path, 1).left_out
    assert set(left_out) == {"person1_scan"}
    if forgetful:
        sidecar(path).unlink()
    os.utime(file)
    assert prepare(dataset, path, 1) == (False, left_out), "touched, as broken as before"
    file.write_bytes(whole)
    assert changed_sources(dataset, path) == f"{file} was replaced"
    assert prepare(dataset, path, 1) == (True, {})
    assert splits(path)["train"] == ["person1_scan", "person2_scan"]
    assert not prepare(dataset, path, 1).made


def test_sensitivities_that_were_missing_and_are_there_now_are_seen(tmp_path, path):
    downloads.knee(tmp_path / "knee")
    options = {"combination": "sensitivity"}
    dataset = downloads.declared("knee_matlab", tmp_path / "knee", contrast="coronal_pd", options=options)
    file = tmp_path / "knee/coronal_pd/1/espirit2.mat"
    kept = file.read_bytes()
    file.unlink()
    assert set(prepare(dataset, path, 1).left_out) == {"coronal_pd_1"}
    assert not prepare(dataset, path, 1).made
    file.write_bytes(kept)
    assert changed_sources(dataset, path) == f"{file} was replaced"
    assert prepare(dataset, path, 1) == (True, {})


def test_a_slice_more_or_less_of_a_series_is_seen(tmp_path, path, monkeypatch):
    downloads.dicom(tmp_path / "dicom")
    dataset = downloads.declared("dicom_folder", tmp_path / "dicom")
    stopped_at_the_end(dataset, path, monkeypatch)
    series = pydicom.dcmread(tmp_path / "dicom/person1/IM_a.dcm").SeriesInstanceUID
    files = [tmp_path / f"dicom/person1/IM_{letter}.dcm" for letter in "ef"]
    for number, file in enumerate(files):
        downloads.save_dicom(file, np.arange(320).reshape(downloads.SHAPE), 5.0 * number, series)
        assert number == 0 or changed_sources(dataset, path) == f"{file} is new"
        prepare(dataset, path, 1)
        assert len(prepared_of(path, "person1_series1")) == 5 + number
    files[1].unlink()
    assert changed_sources(dataset, path) == f"{files[1]} is gone"
    prepare(dataset, path, 1)
    assert len(prepared_of(path, "person1_series1")) == 5 and not prepare(dataset, path, 1).made


def test_a_file_that_changes_while_it_is_read_is_left_out_and_tried_again(folder, dataset, path, monkeypatch):
    make = source("nifti_folder").make

    def changing(declared, file):
        made = make(declared, file)
        if "person1/" in file:
            replace(of_person(folder, 1))
        return made

    with monkeypatch.context() as patched:
        patched.setattr(source("nifti_folder"), "make", changing)
        left_out = prepare(dataset, path, 1).left_out
    assert left_out == {"person1_scan": f"{of_person(folder, 1)}: changed while it was read"}
    assert prepare(dataset, path, 1) == (True, {})
    np.testing.assert_allclose(prepared_of(path, "person1_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)


def test_a_deleted_download_leaves_the_prepared_file_standing(folder, dataset, path):
    prepare(dataset, path, 1)
    before = path.read_bytes()
    shutil.rmtree(folder)
    assert changed_sources(dataset, path) == "" and prepare(dataset, path, 1) == (False, {})
    assert path.read_bytes() == before
    with pytest.raises(StudyError, match="no folder"):
        prepare(dataset, path, 2)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b'{"half', b"[1, 2]", b'{"x": 3}'])
def test_the_file_of_sizes_and_times_may_be_deleted_or_damaged(folder, dataset, path, content):
    prepare(dataset, path, 1)
    right = json.loads(sidecar(path).read_text())
    if content is None:
        sidecar(path).unlink()
    else:
        sidecar(path).write_bytes(content)
    assert not prepare(dataset, path, 1).made
    assert json.loads(sidecar(path).read_text()) == right, "written anew"
    sidecar(path).unlink()
    replace(of_person(folder, 3))
    assert changed_sources(dataset, path) == f"{of_person(folder, 3)} was replaced"


def test_a_download_that_was_moved_with_its_prepared_file_is_not_prepared_again(tmp_path, monkeypatch):
    """A relative folder is below the project, wherever that is."""
    from kdmri_lib.datasets import cohort

    def at(place):
        for module in (cohort, preparing):
            monkeypatch.setattr(module, "PROJECT", place)

    downloads.nifti(tmp_path / "here/data/scans")
    dataset = downloads.declared("nifti_folder", "data/scans")
    at(tmp_path / "here")
    prepare(dataset, tmp_path / "here/out.h5", 1)
    shutil.move(tmp_path / "here", tmp_path / "there")
    at(tmp_path / "there")
    assert not prepare(dataset, tmp_path / "there/out.h5", 1).made
    replace(of_person(tmp_path / "there/data/scans", 1))
    assert prepare(dataset, tmp_path / "there/out.h5", 1).made


def test_a_file_that_may_not_be_read_any_more_is_said_and_not_left_out(folder, dataset, path, monkeypatch):
    prepare(dataset, path, 1)
    os.utime(of_person(folder, 1))

    def forbidden(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(preparing, "sha256_file", forbidden)
    with pytest.raises(StudyError, match=r"person1/scan.nii.gz: can't be read any more"):
        prepare(dataset, path, 1)


def test_names_longer_than_a_file_name_may_be(folder, dataset, path):
    """As archives of imaging centres make them, of folders within folders."""
    place = folder / "person1" / ("project_" + 20 * "session") / ("sérié" * 30) / "resources"
    place.mkdir(parents=True)
    shutil.move(of_person(folder, 1), place / "scan.nii.gz")
    of_person(folder, 2).rename(folder / "person2" / "SCAN.nii.gz")
    replace(of_person(folder, 2), 5)
    assert prepare(dataset, path, 1).left_out == {}
    (name,) = (n for n in splits(path)["train"] if n.startswith("person1_"))
    assert len(name.encode()) > 300 and name.endswith("_resources_scan")
    np.testing.assert_allclose(prepared_of(path, name), downloads.normalised(downloads.image(1)), atol=2e-6)
    assert {"person2_SCAN", "person2_scan"} <= set(splits(path)["train"]), "names that differ in capitals alone"
    assert not prepare(dataset, path, 1).made


def test_whatever_a_reader_raises_is_the_files_fault_and_the_others_go_on(dataset, path, monkeypatch):
    make = source("nifti_folder").make

    def failing(declared, file):
        if "person2" in file:
            raise ZeroDivisionError("division by zero")
        return make(declared, file)

    monkeypatch.setattr(source("nifti_folder"), "make", failing)
    left_out = prepare(dataset, path, 1).left_out
    assert list(left_out) == ["person2_scan"]
    assert "person2/scan.nii.gz: not a readable volume of source nifti_folder, or cut short (division" in str(left_out)
    assert survey(dataset).problems == left_out


def test_values_that_are_no_image_are_said_with_the_files_name(tmp_path, path):
    (tmp_path / "published").mkdir()
    downloads.published(tmp_path / "published")
    file = tmp_path / "published/train/acc_4x/1.h5"
    with h5py.File(file, "r+") as data:
        data["volfs"][...] -= 0.75
    dataset = downloads.declared("kdmri_h5", tmp_path / "published")
    assert f"{file}: negative values" in prepare(dataset, path, 1).left_out["train_1"]


def test_generated_images_have_no_files_to_change(tmp_path):
    prepare(PHANTOMS, tmp_path / "c.h5", 1)
    assert changed_sources(PHANTOMS, tmp_path / "c.h5") == "" and not prepare(PHANTOMS, tmp_path / "c.h5", 1).made
    assert {file.name for file in tmp_path.iterdir()} == {"c.h5"}


@pytest.fixture
def kdmri(monkeypatch):
    def run(command, study, *more):
        about = ("--profile", study.source, "--folder", study.folder, *more)
        monkeypatch.setattr(sys, "argv", ["kdmri", command, *map(str, about)])
        return main()

    return run


def test_checking_says_what_is_there_beside_the_papers_numbers(tmp_path, capsys, kdmri):
    for name, fill in (("acdc", downloads.acdc), ("mrbrains", downloads.mrbrains_2013)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    path = tmp_path / "mine.yaml"
    text = (PROJECT / "profiles" / "paper.yaml").read_text().replace("data/downloads", str(tmp_path))
    path.write_text(text.replace("train: 90, validation: 10, test: 50", "train: 2, validation: 1, test: 1"))
    study = Study(str(path), tmp_path / "study")
    assert kdmri("check", study) == 1
    said = capsys.readouterr()
    assert "train 2 subjects, 4 volumes, 14 slices" in said.out
    assert "train and validation: 3 subjects, 20 slices; the paper has 100 and 1841" in said.out
    assert "test: 1 subjects, 8 slices; the paper has 50 and 1076" in said.out
    assert "left out: data set 'knee', whose folder" in said.out
    assert "brain (mrbrains): " in said.out and "4 subjects found (4 train, 0 validation, 0 test)" in said.out
    assert "not all is as declared: brain" in said.err
    next((tmp_path / "acdc").rglob("patient001_frame01.nii.gz")).write_bytes(b"not NIfTI")
    assert kdmri("check", study) == 1
    said = capsys.readouterr()
    assert "can't be read, and would be left out: patient001_frame01: " in said.out
    assert "not all is as declared: patient001_frame01, brain" in said.err


@pytest.fixture
def scans(folder, tmp_path) -> Study:
    """A study on the download, prepared."""
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    declared = {"source": "nifti_folder", "folder": str(folder), "shape": list(downloads.SHAPE)}
    mine = declared | {"train": 2, "validation": 1, "test": 1}
    profile |= {"settings": {"mine": [2]}, "experiments": {}, "datasets": {"mine": mine}}
    (tmp_path / "scans.yaml").write_text(yaml.safe_dump(profile))
    study = Study(str(tmp_path / "scans.yaml"), tmp_path / "study")
    prepare_dataset(study, study.dataset("mine"))
    return study


def test_checking_says_what_changed_and_touches_what_the_workflow_looks_at(scans, folder, capsys, kdmri):
    stamp = scans.source_stamp(scans.dataset("mine"))
    assert kdmri("check", scans) == 0 and not stamp.exists()
    assert "mine (nifti_folder, " in (said := capsys.readouterr().out) and "will be again" not in said
    replace(of_person(folder, 2))
    assert kdmri("check", scans) == 0
    assert f"prepared before, and will be again: {of_person(folder, 2)} was replaced" in capsys.readouterr().out
    assert stamp.stat().st_mtime_ns > scans.prepared(scans.dataset("mine")).stat().st_mtime_ns
    assert kdmri("prepare", scans, "mine") == 0
    assert capsys.readouterr().out.strip() == f"{scans.prepared(scans.dataset('mine'))}: prepared"
    assert stamp.stat().st_mtime_ns < scans.prepared(scans.dataset("mine")).stat().st_mtime_ns
    before = stamp.stat().st_mtime_ns
    assert kdmri("check", scans) == 0 and stamp.stat().st_mtime_ns == before
    assert "will be again" not in capsys.readouterr().out


def test_checking_ends_with_an_error_where_preparing_would_leave_volumes_out(scans, folder, capsys, kdmri):
    downloads.save_nifti(of_person(folder, 1), downloads.image(1) - 1.5)
    scans.prepared(scans.dataset("mine")).unlink()
    assert kdmri("check", scans, "--headers") == 0
    assert "train 2 subjects, 2 volumes, 6 slices" in capsys.readouterr().out
    assert kdmri("check", scans, "--jobs", 2) == 1
    said = capsys.readouterr()
    assert "train 2 subjects, 2 volumes, 3 slices" in said.out
    assert f"can't be read, and would be left out: person1_scan: {of_person(folder, 1)}: negative values" in said.out
    assert "not all is as declared: person1_scan" in said.err
    for number in (1, 2, 3, 10):
        save(np.ones((4, 4, 3, 5), np.float32))(of_person(folder, number))
    for how in ((), ("--headers",)):
        assert kdmri("check", scans, *how) == 1
        assert "no volume left for split 'train' (" in capsys.readouterr().out


def test_checking_says_what_is_passed_over_and_what_becomes_zero(scans, folder, capsys, kdmri):
    image = downloads.image(1)
    image[1, 3, 4] = -1
    downloads.save_nifti(of_person(folder, 1), image)
    for number in (1, 2, 3, 10):
        downloads.save_nifti(folder / f"person{number}/scan_seg.nii.gz", np.round(image))
    for _ in range(2):  # as the files are; and as they were prepared
        assert kdmri("check", scans) == 0
        said = capsys.readouterr().out
        names = ", ".join(f"person{number}/scan_seg.nii.gz" for number in (1, 2, 3))
        assert f"passed over, label maps or copies by their names: 4 ({names}, ...)" in said
        share = 1 / np.abs(image).sum()
        assert f"values below 0 ({share:.2g} of the signal at most) become 0: 1 (person1_scan)" in said
        prepare_dataset(scans, scans.dataset("mine"))
    table = index(scans.prepared(scans.dataset("mine"))).set_index("subject")
    assert table.below_zero["person1_scan"] == pytest.approx(share, rel=0.01) and table.below_zero.isna().sum() == 3


def test_checking_what_is_prepared_reads_no_images_again(scans, folder, capsys, kdmri, monkeypatch):
    cut_short(of_person(folder, 1))
    prepare_dataset(scans, scans.dataset("mine"))
    dataset, path = scans.dataset("mine"), scans.prepared(scans.dataset("mine"))
    found = survey_prepared(dataset, path, 1)
    assert found == survey(dataset) and list(found.problems) == ["person1_scan"]
    assert survey_prepared(dataset, path, 2) is None
    monkeypatch.setattr(source("nifti_folder"), "make", None)
    assert kdmri("check", scans) == 1
    assert "would be left out: person1_scan" in capsys.readouterr().out


def test_checking_and_preparing_say_nothing_is_wrong_when_a_prepared_download_is_deleted(scans, folder, capsys, kdmri):
    shutil.rmtree(folder)
    assert kdmri("check", scans) == 0
    assert f"mine (nifti_folder, {folder}): the folder is gone; prepared before" in capsys.readouterr().out
    assert kdmri("prepare", scans, "mine") == 0
    assert f"{scans.prepared(scans.dataset('mine'))}: up to date" in capsys.readouterr().out
    assert not scans.source_stamp(scans.dataset("mine")).exists()
    scans.prepared(scans.dataset("mine")).unlink()
    assert kdmri("check", scans) == 1
    assert "not all is as declared: mine" in capsys.readouterr().err
