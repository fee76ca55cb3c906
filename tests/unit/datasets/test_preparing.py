"""Preparing: what is broken is left out by name, a stopped start goes on, and changed files are seen."""

import json
import os
import shutil
import sys

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import yaml

from kdmri_lib.__main__ import main
from kdmri_lib.datasets import preparing
from kdmri_lib.datasets.prepared import content_checksum, read_prepared, splits
from kdmri_lib.datasets.preparing import changed_sources, prepare, source, survey, survey_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.provenance import preparing_code
from kdmri_study.runs import prepare_dataset
from kdmri_study.study import Study
from tests import downloads


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
    dataset = Dataset(
        name="c", source="cardiac_phantom", shape=(40, 40), train=1, validation=1, test=1, slices_per_volume=2
    )
    make = module.make
    monkeypatch.setattr(
        module,
        "make",
        lambda d, number: make(d, number) if number < 3 else (np.full((2, 40, 40), np.nan), {"kind": "phantom"}),
    )
    with pytest.raises(StudyError, match=r"no volume left for split 'test' \(volume phantom003: 3200 values are NaN"):
        prepare(dataset, tmp_path / "c.h5", "code")
    assert not list(tmp_path.glob("*.h5"))


def broken_gzip(path):
    path.write_bytes(path.read_bytes()[:900])
    return "not a readable NIfTI volume, or cut short"


def four_d(path):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 3, 5), np.float32), np.eye(4)), path)
    return r"4-D image of shape \(4, 4, 3, 5\), expected one 3-D volume"


def not_a_number(path):
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 3), np.nan, np.float32), np.eye(4)), path)
    return "the same value everywhere, or holds NaN"


def constant(path):
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 3), 7, np.float32), np.eye(4)), path)
    return "the same value everywhere, or holds NaN"


def scale_that_overflows(path):
    stored = nibabel.Nifti1Image(np.full((20, 16, 3), 30000, np.int16), np.eye(4))
    stored.header.set_slope_inter(3e38, 0)
    nibabel.save(stored, path)
    return "has a scale overflowed\\?"


@pytest.mark.parametrize("damage", [broken_gzip, four_d, not_a_number, constant, scale_that_overflows])
def test_a_broken_volume_is_left_out_by_name_and_the_others_go_on(folder, dataset, path, damage):
    message = damage(of_person(folder, 1))
    left_out = prepare(dataset, path, "code").left_out
    assert set(left_out) == {"person1_scan"} and str(of_person(folder, 1)) in left_out["person1_scan"]
    with pytest.raises(StudyError, match=message):
        raise StudyError(left_out["person1_scan"])
    assert sum(map(len, splits(path).values())) == 3
    assert prepare(dataset, path, "code") == (False, left_out), "said again when nothing is made"


def test_a_stopped_preparation_goes_on_where_it_was(dataset, path, tmp_path, monkeypatch):
    prepare(dataset, tmp_path / "whole.h5", "code")
    module, made = source("nifti_folder"), []
    make = module.make

    def interrupted(declared, file):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(file)
        return make(declared, file)

    monkeypatch.setattr(module, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, path, "code")
    assert not path.exists(), "a half-made file isn't taken for a whole one"
    part = next((tmp_path / ".out.parts").glob("*.h5"))
    part.write_bytes(part.read_bytes()[:-50])
    monkeypatch.setattr(module, "make", lambda declared, file: made.append(file) or make(declared, file))
    prepare(dataset, path, "code")
    assert len(made) == 2 + 3, "one of the two was damaged meanwhile"
    assert not (tmp_path / ".out.parts").exists()
    for a, b in zip(read_prepared(tmp_path / "whole.h5"), read_prepared(path), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_other_code_prepares_again(dataset, path):
    assert prepare(dataset, path, "code").made and not prepare(dataset, path, "code").made
    assert prepare(dataset, path, "newer").made and not prepare(dataset, path, "newer").made


def test_a_file_of_other_content_is_prepared_again(folder, dataset, path):
    prepare(dataset, path, "code")
    assert changed_sources(dataset, path) == ""
    replace(of_person(folder, 2))
    assert changed_sources(dataset, path) == f"{of_person(folder, 2)} was replaced"
    assert changed_sources(dataset, path), "asking settles nothing"
    assert prepare(dataset, path, "code").made
    np.testing.assert_allclose(prepared_of(path, "person2_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)
    assert changed_sources(dataset, path) == "" and not prepare(dataset, path, "code").made


def test_a_change_of_the_same_size_that_keeps_the_time_of_the_content_is_seen(tmp_path, path):
    """As `cp -p`, or a program that sets times back, would make it."""
    folder = tmp_path / "plain"
    for number in (1, 2, 3, 10):
        downloads.save_nifti(folder / f"person{number}/scan.nii", downloads.image(number))
    dataset = downloads.declared("nifti_folder", folder)
    prepare(dataset, path, "code")
    file = folder / "person2/scan.nii"
    before = file.stat()
    replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert changed_sources(dataset, path) == f"{file} was replaced"


def test_a_file_that_was_only_touched_is_not_prepared_again(folder, dataset, path, monkeypatch):
    prepare(dataset, path, "code")
    before = path.read_bytes()
    os.utime(of_person(folder, 2))
    shutil.copy(of_person(folder, 3), folder / "copy")
    (folder / "copy").replace(of_person(folder, 3))
    assert not prepare(dataset, path, "code").made and path.read_bytes() == before
    read = []
    monkeypatch.setattr(preparing, "sha256_file", lambda file: read.append(file))
    assert changed_sources(dataset, path) == "" and read == [], "its checksum is computed once"


def test_a_new_subject_and_one_that_is_gone_are_seen(folder, dataset, path):
    prepare(dataset, path, "code")
    replace(of_person(folder, 0), 5)
    assert changed_sources(dataset, path) == "person0_scan is new"
    prepare(dataset, path, "code")
    assert splits(path) == {
        "train": ["person0_scan", "person1_scan"],
        "validation": ["person2_scan"],
        "test": ["person3_scan"],
    }
    replace(of_person(folder, 11), 6)
    assert changed_sources(dataset, path) == "", "beyond the declared number"
    shutil.rmtree(folder / "person1")
    assert changed_sources(dataset, path) == "person10_scan is new"
    prepare(dataset, path, "code")
    shutil.rmtree(folder / "person0")
    prepare(dataset, path, "code")
    assert splits(path)["train"] == ["person2_scan", "person3_scan"] and splits(path)["test"] == ["person11_scan"]
    shutil.rmtree(folder / "person3")
    with pytest.raises(StudyError, match=r"3 subjects found \(2 train, 1 validation, 0 test\), expected 2 train"):
        prepare(dataset, path, "code")
    assert splits(path)["train"] == ["person2_scan", "person3_scan"], "what stood stands"


def test_one_of_several_scans_that_is_gone_or_new_is_seen(folder, dataset, path):
    replace(folder / "person1/second.nii.gz", 5)
    prepare(dataset, path, "code")
    (folder / "person1/second.nii.gz").unlink()
    assert changed_sources(dataset, path) == "person1_second is gone"
    prepare(dataset, path, "code")
    replace(folder / "person1/third.nii.gz", 6)
    assert changed_sources(dataset, path) == "person1_third is new"
    assert prepare(dataset, path, "code").made
    assert splits(path)["train"] == ["person1_scan", "person1_third", "person2_scan"]


def test_a_volume_in_another_split_is_seen(folder, path, tmp_path):
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson1,train\nperson2,validation\nperson3,test\n")
    dataset = downloads.declared("nifti_folder", folder, splits=str(table))
    prepare(dataset, path, "code")
    table.write_text("subject,split\nperson1,train\nperson2,test\nperson3,validation\n")
    assert changed_sources(dataset, path) in (
        "person2_scan is in split test now",
        "person3_scan is in split validation now",
    )
    assert prepare(dataset, path, "code").made
    assert splits(path) == {"train": ["person1_scan"], "validation": ["person3_scan"], "test": ["person2_scan"]}
    assert not prepare(dataset, path, "code").made


def test_a_subject_that_its_distributor_moved_to_the_test_set_is_seen(tmp_path, path):
    downloads.acdc(tmp_path / "acdc")
    dataset = downloads.declared("acdc", tmp_path / "acdc", train=1, test=2)
    shutil.move(tmp_path / "acdc/testing/patient101", tmp_path / "acdc/training/patient003")
    for file in list((tmp_path / "acdc/training/patient003").glob("patient101*")):
        file.rename(file.with_name(file.name.replace("101", "003")))
    shutil.move(tmp_path / "acdc/training/patient010", tmp_path / "acdc/testing/patient010")
    shutil.move(tmp_path / "acdc/training/patient003", tmp_path / "acdc/testing/patient003")
    replace(tmp_path / "acdc/training/patient004/patient004_frame01.nii.gz", 4)
    prepare(dataset, path, "code")
    assert {name[:10] for name in splits(path)["test"]} == {"patient003", "patient010"}
    shutil.move(tmp_path / "acdc/testing/patient003", tmp_path / "acdc/training/patient003")
    shutil.move(tmp_path / "acdc/training/patient002", tmp_path / "acdc/testing/patient002")
    assert "is in split" in changed_sources(dataset, path)
    prepare(dataset, path, "code")
    assert {name[:10] for name in splits(path)["test"]} == {"patient002", "patient010"}
    assert {name[:10] for name in splits(path)["validation"]} == {"patient003"}


def test_a_preparation_that_was_stopped_goes_on_with_the_files_and_splits_of_now(folder, path, tmp_path, monkeypatch):
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson1,train\nperson2,validation\nperson3,test\n")
    dataset = downloads.declared("nifti_folder", folder, splits=str(table))
    with monkeypatch.context() as patched:
        patched.setattr(preparing, "join_prepared", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, path, "code")
    assert len(list((tmp_path / ".out.parts").glob("*.h5"))) == 3
    table.write_text("subject,split\nperson1,train\nperson2,test\nperson3,validation\n")
    replace(of_person(folder, 1))
    prepare(dataset, path, "code")
    assert splits(path) == {"train": ["person1_scan"], "validation": ["person3_scan"], "test": ["person2_scan"]}
    np.testing.assert_allclose(prepared_of(path, "person1_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)


def test_a_preparation_that_fails_at_its_end_does_not_vouch_for_what_stood(folder, dataset, path):
    """The new file is the image of another split's subject: refused; and the older prepared file isn't of that file."""
    prepare(dataset, path, "code")
    shutil.copy(of_person(folder, 10), of_person(folder, 1))
    for _ in range(2):
        with pytest.raises(StudyError, match="person1_scan in train and person10_scan in test are the same image"):
            prepare(dataset, path, "code")
        assert changed_sources(dataset, path) == f"{of_person(folder, 1)} was replaced"
    replace(of_person(folder, 1))
    assert prepare(dataset, path, "code").made


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_volume_that_was_left_out_is_tried_again_when_its_file_is_replaced(folder, dataset, path, forgetful):
    file = of_person(folder, 1)
    whole = file.read_bytes()
    broken_gzip(file)
    left_out = prepare(dataset, path, "code").left_out
    assert set(left_out) == {"person1_scan"}
    if forgetful:
        sidecar(path).unlink()
    os.utime(file)
    assert prepare(dataset, path, "code") == (False, left_out), "touched, as broken as before"
    file.write_bytes(whole)
    assert changed_sources(dataset, path) == f"{file} was replaced"
    assert prepare(dataset, path, "code") == (True, {})
    assert splits(path)["train"] == ["person1_scan", "person2_scan"]
    assert not prepare(dataset, path, "code").made


def test_a_fastmri_file_that_could_not_be_opened_is_tried_again_too(tmp_path, path):
    downloads.fastmri(tmp_path / "fastmri")
    dataset = downloads.declared("fastmri", tmp_path / "fastmri", train=1, validation=2)
    file = tmp_path / "fastmri/multicoil_train/file3.h5"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    assert set(prepare(dataset, path, "code").left_out) == {"file3"}
    assert not prepare(dataset, path, "code").made
    file.write_bytes(whole)
    assert prepare(dataset, path, "code") == (True, {})


def test_sensitivities_that_were_missing_and_are_there_now_are_seen(tmp_path, path):
    downloads.knee(tmp_path / "knee")
    options = {"combination": "sensitivity"}
    dataset = downloads.declared("knee_matlab", tmp_path / "knee", contrast="coronal_pd", options=options)
    file = tmp_path / "knee/coronal_pd/1/espirit2.mat"
    kept = file.read_bytes()
    file.unlink()
    assert set(prepare(dataset, path, "code").left_out) == {"coronal_pd_1"}
    assert not prepare(dataset, path, "code").made
    file.write_bytes(kept)
    assert changed_sources(dataset, path) == f"{file} was replaced"
    assert prepare(dataset, path, "code") == (True, {})


def test_a_slice_more_or_less_of_a_series_is_seen(tmp_path, path):
    downloads.dicom(tmp_path / "dicom")
    dataset = downloads.declared("dicom_folder", tmp_path / "dicom")
    prepare(dataset, path, "code")
    series = pydicom.dcmread(tmp_path / "dicom/person1/IM_a.dcm").SeriesInstanceUID
    more = tmp_path / "dicom/person1/IM_e.dcm"
    downloads.save_dicom(more, np.arange(320).reshape(downloads.SHAPE), 0.0, series)
    assert changed_sources(dataset, path) == f"{more} is new"
    prepare(dataset, path, "code")
    assert len(prepared_of(path, "person1_series1")) == 5
    more.unlink()
    assert changed_sources(dataset, path) == f"{more} is gone"
    prepare(dataset, path, "code")
    assert len(prepared_of(path, "person1_series1")) == 4 and not prepare(dataset, path, "code").made


def test_a_part_of_a_series_that_has_grown_since_is_made_again(tmp_path, path, monkeypatch):
    downloads.dicom(tmp_path / "dicom")
    dataset = downloads.declared("dicom_folder", tmp_path / "dicom")
    with monkeypatch.context() as patched:
        patched.setattr(preparing, "join_prepared", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, path, "code")
    series = pydicom.dcmread(tmp_path / "dicom/person1/IM_a.dcm").SeriesInstanceUID
    downloads.save_dicom(tmp_path / "dicom/person1/IM_e.dcm", np.arange(320).reshape(downloads.SHAPE), 0.0, series)
    prepare(dataset, path, "code")
    assert len(prepared_of(path, "person1_series1")) == 5


def test_a_file_that_changes_while_it_is_read_is_left_out_and_tried_again(folder, dataset, path, monkeypatch):
    module = source("nifti_folder")
    make = module.make

    def changing(declared, file):
        made = make(declared, file)
        if "person1/" in file:
            replace(of_person(folder, 1))
        return made

    with monkeypatch.context() as patched:
        patched.setattr(module, "make", changing)
        left_out = prepare(dataset, path, "code").left_out
    assert left_out == {"person1_scan": f"{of_person(folder, 1)}: changed while it was read"}
    assert prepare(dataset, path, "code") == (True, {})
    np.testing.assert_allclose(prepared_of(path, "person1_scan"), downloads.normalised(downloads.image(77)), atol=2e-6)


def test_a_deleted_download_leaves_the_prepared_file_standing(folder, dataset, path):
    prepare(dataset, path, "code")
    before = path.read_bytes()
    shutil.rmtree(folder)
    assert changed_sources(dataset, path) == "" and prepare(dataset, path, "code") == (False, {})
    assert path.read_bytes() == before
    with pytest.raises(StudyError, match="no folder"):
        prepare(dataset, path, "other code")
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b'{"half', b"[1, 2]", b'{"x": 3}'])
def test_the_file_of_sizes_and_times_may_be_deleted_or_damaged(folder, dataset, path, content):
    prepare(dataset, path, "code")
    right = json.loads(sidecar(path).read_text())
    if content is None:
        sidecar(path).unlink()
    else:
        sidecar(path).write_bytes(content)
    assert not prepare(dataset, path, "code").made
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
    prepare(dataset, tmp_path / "here/out.h5", "code")
    shutil.move(tmp_path / "here", tmp_path / "there")
    at(tmp_path / "there")
    assert not prepare(dataset, tmp_path / "there/out.h5", "code").made
    replace(of_person(tmp_path / "there/data/scans", 1))
    assert prepare(dataset, tmp_path / "there/out.h5", "code").made


def test_a_file_that_may_not_be_read_any_more_is_said_and_not_left_out(folder, dataset, path, monkeypatch):
    prepare(dataset, path, "code")
    os.utime(of_person(folder, 1))

    def forbidden(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(preparing, "sha256_file", forbidden)
    with pytest.raises(StudyError, match=r"person1/scan.nii.gz: can't be read any more"):
        prepare(dataset, path, "code")


def test_names_longer_than_a_file_name_may_be(folder, dataset, path):
    """As archives of imaging centres make them, of folders within folders."""
    place = folder / "person1" / ("project_" + 20 * "session") / ("sérié" * 30) / "resources"
    place.mkdir(parents=True)
    shutil.move(of_person(folder, 1), place / "scan.nii.gz")
    of_person(folder, 2).rename(folder / "person2" / "SCAN.nii.gz")
    replace(of_person(folder, 2), 5)
    assert prepare(dataset, path, "code").left_out == {}
    (name,) = (n for n in splits(path)["train"] if n.startswith("person1_"))
    assert len(name.encode()) > 300 and name.endswith("_resources_scan")
    np.testing.assert_allclose(prepared_of(path, name), downloads.normalised(downloads.image(1)), atol=2e-6)
    assert {"person2_SCAN", "person2_scan"} <= set(splits(path)["train"]), "names that differ in capitals alone"
    assert not prepare(dataset, path, "code").made


def test_whatever_a_reader_raises_is_the_files_fault_and_the_others_go_on(dataset, path, monkeypatch):
    module = source("nifti_folder")
    make = module.make

    def failing(declared, file):
        if "person2" in file:
            raise ZeroDivisionError("division by zero")
        return make(declared, file)

    monkeypatch.setattr(module, "make", failing)
    left_out = prepare(dataset, path, "code").left_out
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
    assert f"{file}: negative values" in prepare(dataset, path, "code").left_out["train_1"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_survey_is_the_same_in_several_processes(folder, dataset, jobs):
    broken_gzip(of_person(folder, 1))
    found = survey(dataset, jobs)
    assert found.slices == {"train": 3, "validation": 3, "test": 3} and list(found.problems) == ["person1_scan"]


def test_generated_images_have_no_files_to_change(tmp_path):
    dataset = Dataset(
        name="c", source="cardiac_phantom", shape=(40, 40), train=1, validation=1, test=1, slices_per_volume=2
    )
    prepare(dataset, tmp_path / "c.h5", "code")
    assert changed_sources(dataset, tmp_path / "c.h5") == "" and not prepare(dataset, tmp_path / "c.h5", "code").made
    assert {file.name for file in tmp_path.iterdir()} == {"c.h5"}


def kdmri(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["kdmri", *map(str, arguments)])
    return main()


def test_checking_says_what_is_there_beside_the_papers_numbers(tmp_path, capsys, monkeypatch):
    for name, fill in (("acdc", downloads.acdc), ("mrbrains", downloads.mrbrains_2013)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    path = tmp_path / "mine.yaml"
    text = (PROJECT / "profiles" / "paper.yaml").read_text().replace("data/downloads", str(tmp_path))
    path.write_text(text.replace("train: 90, validation: 10, test: 50", "train: 2, validation: 1, test: 1"))
    check = ("check", "--profile", path, "--folder", tmp_path / "study")
    assert kdmri(monkeypatch, *check) == 1
    said = capsys.readouterr()
    assert "train 2 subjects, 4 volumes, 14 slices" in said.out
    assert "train and validation: 3 subjects, 20 slices; the paper has 100 and 1841" in said.out
    assert "test: 1 subjects, 8 slices; the paper has 50 and 1076" in said.out
    assert "left out: data set 'knee', whose folder" in said.out
    assert "brain (mrbrains): " in said.out and "4 subjects found (4 train, 0 validation, 0 test)" in said.out
    assert "not all is as declared: brain" in said.err
    next((tmp_path / "acdc").rglob("patient001_frame01.nii.gz")).write_bytes(b"not NIfTI")
    assert kdmri(monkeypatch, *check) == 1
    said = capsys.readouterr()
    assert "can't be read, and would be left out: patient001_frame01: " in said.out
    assert "not all is as declared: patient001_frame01, brain" in said.err


@pytest.fixture
def scans(folder, tmp_path) -> Study:
    """A study on the download, prepared."""
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    declared = {"source": "nifti_folder", "folder": str(folder), "shape": list(downloads.SHAPE)}
    mine = declared | {"train": 2, "validation": 1, "test": 1}
    profile |= {"cells": {"mine": [2]}, "experiments": {}, "datasets": {"mine": mine}}
    (tmp_path / "scans.yaml").write_text(yaml.safe_dump(profile))
    study = Study(str(tmp_path / "scans.yaml"), tmp_path / "study")
    prepare_dataset(study, "mine")
    return study


def test_checking_says_what_changed_and_touches_what_the_workflow_looks_at(scans, folder, capsys, monkeypatch):
    check = ("check", "--profile", scans.source, "--folder", scans.folder)
    stamp = scans.source_stamp("mine")
    assert kdmri(monkeypatch, *check) == 0 and not stamp.exists()
    assert "mine (nifti_folder, " in (said := capsys.readouterr().out) and "will be again" not in said
    replace(of_person(folder, 2))
    assert kdmri(monkeypatch, *check) == 0
    assert f"prepared before, and will be again: {of_person(folder, 2)} was replaced" in capsys.readouterr().out
    assert stamp.stat().st_mtime_ns > scans.prepared("mine").stat().st_mtime_ns
    assert kdmri(monkeypatch, "prepare", "--profile", scans.source, "--folder", scans.folder, "mine") == 0
    assert capsys.readouterr().out.strip() == f"{scans.prepared('mine')}: prepared"
    assert stamp.stat().st_mtime_ns < scans.prepared("mine").stat().st_mtime_ns
    before = stamp.stat().st_mtime_ns
    assert kdmri(monkeypatch, *check) == 0 and stamp.stat().st_mtime_ns == before
    assert "will be again" not in capsys.readouterr().out


def test_checking_ends_with_an_error_where_preparing_would_leave_volumes_out(scans, folder, capsys, monkeypatch):
    check = ("check", "--profile", scans.source, "--folder", scans.folder)
    downloads.save_nifti(of_person(folder, 1), downloads.image(1) - 1.5)
    scans.prepared("mine").unlink()
    assert kdmri(monkeypatch, *check, "--headers") == 0
    assert "train 2 subjects, 2 volumes, 6 slices" in capsys.readouterr().out
    assert kdmri(monkeypatch, *check, "--jobs", 2) == 1
    said = capsys.readouterr()
    assert "train 2 subjects, 2 volumes, 3 slices" in said.out
    assert f"can't be read, and would be left out: person1_scan: {of_person(folder, 1)}: negative values" in said.out
    assert "not all is as declared: person1_scan" in said.err
    for number in (1, 2, 3, 10):
        four_d(of_person(folder, number))
    for how in ((), ("--headers",)):
        assert kdmri(monkeypatch, *check, *how) == 1
        assert "no volume left for split 'train' (" in capsys.readouterr().out


def test_checking_says_what_is_passed_over_and_what_becomes_zero(scans, folder, capsys, monkeypatch):
    image = downloads.image(1)
    image[1, 3, 4] = -1
    downloads.save_nifti(of_person(folder, 1), image)
    for number in (1, 2, 3, 10):
        downloads.save_nifti(folder / f"person{number}/scan_seg.nii.gz", np.round(image))
    for _ in range(2):  # as the files are; and as they were prepared
        assert kdmri(monkeypatch, "check", "--profile", scans.source, "--folder", scans.folder) == 0
        said = capsys.readouterr().out
        names = ", ".join(f"person{number}/scan_seg.nii.gz" for number in (1, 2, 3))
        assert f"passed over, label maps or copies by their names: 4 ({names}, ...)" in said
        assert (
            f"values below 0 ({1 / np.abs(image).sum():.2g} of the signal at most) become 0: 1 (person1_scan)" in said
        )
        prepare_dataset(scans, "mine")


def test_checking_what_is_prepared_reads_no_images_again(scans, folder, capsys, monkeypatch):
    broken_gzip(of_person(folder, 1))
    prepare_dataset(scans, "mine")
    dataset, path = scans.dataset("mine"), scans.prepared("mine")
    found = survey_prepared(dataset, path, preparing_code(dataset))
    assert found == survey(dataset) and list(found.problems) == ["person1_scan"]
    assert survey_prepared(dataset, path, "other code") is None
    monkeypatch.setattr(source("nifti_folder"), "make", None)
    assert kdmri(monkeypatch, "check", "--profile", scans.source, "--folder", scans.folder) == 1
    assert "would be left out: person1_scan" in capsys.readouterr().out


def test_checking_and_preparing_say_nothing_is_wrong_when_a_prepared_download_is_deleted(
    scans, folder, capsys, monkeypatch
):
    shutil.rmtree(folder)
    assert kdmri(monkeypatch, "check", "--profile", scans.source, "--folder", scans.folder) == 0
    assert f"mine (nifti_folder, {folder}): the folder is gone; prepared before" in capsys.readouterr().out
    assert kdmri(monkeypatch, "prepare", "--profile", scans.source, "--folder", scans.folder, "mine") == 0
    assert f"{scans.prepared('mine')}: up to date" in capsys.readouterr().out
    assert not scans.source_stamp("mine").exists()
    scans.prepared("mine").unlink()
    assert kdmri(monkeypatch, "check", "--profile", scans.source, "--folder", scans.folder) == 1
    assert "not all is as declared: mine" in capsys.readouterr().err


def test_the_index_and_the_contact_sheet_follow_the_prepared_file(scans, folder):
    path = scans.prepared("mine")
    index, sheet = path.with_suffix(".csv"), path.with_suffix(".png")
    before, content = index.read_text(), content_checksum(path)
    sheet.unlink()
    assert not prepare_dataset(scans, "mine").made and sheet.exists(), "made again where it is missing"
    replace(folder / "person1/second.nii.gz", 5)
    assert prepare_dataset(scans, "mine").made
    assert index.read_text() != before and "person1_second" in index.read_text()
    assert content_checksum(path) != content
    assert preparing.preparing_code(path) == preparing_code(scans.dataset("mine"))
