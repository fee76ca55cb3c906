"""Preparing: what is broken is left out by name, a stopped start goes on, changed files are seen; and what `check` says."""

import os
import shutil
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import yaml

from kdmri_lib.datasets import cohort, folders, preparing
from kdmri_lib.datasets.prepared import index, read_prepared, splits
from kdmri_lib.datasets.preparing import changed_sources, prepare, source, survey
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.profile import Study
from kdmri_study.runs import prepare_dataset
from tests import downloads, trees


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


def of_person(folder, number):
    return folder / f"person{number}/scan.nii.gz"


def replace(file, seed=77):
    """Another image in place of a file."""
    downloads.save_nifti(file, downloads.image(seed))


def is_made_of(path, volume, seed):
    (image,) = (v.image for v in read_prepared(path) if v.subject == volume)
    np.testing.assert_allclose(image, downloads.normalised(downloads.image(seed)), atol=2e-6)


def making(monkeypatch, name, change):
    """In place of a source's `make`: `change` of what makes the volume, and of the arguments that it is made from."""
    make = source(name).make
    monkeypatch.setattr(source(name), "make", lambda dataset, **how: change(partial(make, dataset, **how), how))


def test_what_is_broken_is_left_out_by_name_and_the_others_go_on(folder, dataset, path, monkeypatch):
    trees.cut(of_person(folder, 1))
    left_out = prepare(dataset, path).left_out
    assert set(left_out) == {"person1_scan"} and sum(map(len, splits(path).values())) == 3
    assert f"{of_person(folder, 1)}: not a readable NIfTI volume, or cut short" in left_out["person1_scan"]
    assert prepare(dataset, path) == (False, left_out), "said again when nothing is made"
    replace(of_person(folder, 1))
    making(monkeypatch, "nifti_folder", lambda make, how: 1 / 0 if "person2" in how["file"] else make())
    left_out = prepare(dataset, path).left_out
    assert f"{of_person(folder, 2)}: not a readable volume of source nifti_folder, or cut short (div" in str(left_out)
    assert list(left_out) == ["person2_scan"] and survey(dataset).problems == left_out


def test_a_stopped_preparation_goes_on_where_it_was(dataset, path, tmp_path, monkeypatch):
    prepare(dataset, tmp_path / "whole.h5")
    made = []

    def interrupted(make, how):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(how)
        return make()

    with monkeypatch.context() as patched:
        making(patched, "nifti_folder", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, path)
    assert not path.exists(), "a half-made file isn't taken for a whole one"
    trees.cut(next((tmp_path / ".out.parts").glob("*.h5")))
    making(monkeypatch, "nifti_folder", lambda make, how: made.append(how) or make())
    prepare(dataset, path)
    assert len(made) == 2 + 3, "one of the two was damaged meanwhile"
    assert not (tmp_path / ".out.parts").exists() and path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_source_whose_images_have_changed_prepares_again(tmp_path, monkeypatch):
    split = dict(shape=(40, 40), train=1, validation=1, test=1, slices_per_volume=2)
    dataset, path = Dataset(name="c", source="cardiac_phantom", **split), tmp_path / "c.h5"
    assert prepare(dataset, path).made and not prepare(dataset, path).made
    assert changed_sources(dataset, path) == "" and list(tmp_path.iterdir()) == [path], "no files to change"
    monkeypatch.setattr(source("cardiac_phantom"), "IMAGES", 2, raising=False)
    assert prepare(dataset, path).made and not prepare(dataset, path).made


def as_it_was(file):
    """Another image of the same size and time, as `cp -p`, or a program that sets times back, would make it."""
    before = file.stat()
    replace(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("person2/scan.nii.gz", replace, "{file} was replaced"),
        ("person1/second.nii", as_it_was, "{file} was replaced"),
        ("person3/broken.nii", replace, "{file} was replaced"),
        ("person1/second.nii", Path.unlink, "person1_second is gone"),
        ("person1/third.nii", replace, "person1_third is new"),
    ],
)
def test_a_change_of_the_files_is_seen_and_they_are_prepared_again(folder, dataset, path, name, change, message):
    replace(folder / "person1/second.nii", 5)
    replace(folder / "person3/broken.nii", 6)
    trees.cut(folder / "person3/broken.nii")
    assert set(prepare(dataset, path).left_out) == {"person3_broken"}
    replace(of_person(folder, 11), 6)
    assert not prepare(dataset, path).made, "beyond the declared number of subjects"
    change(folder / name)
    assert changed_sources(dataset, path) == message.format(file=folder / name)
    trees.cut(path.with_name(".out.files.json"))
    assert changed_sources(dataset, path) == message.format(file=folder / name), "sizes and times may be lost"
    assert prepare(dataset, path).made and not prepare(dataset, path).made
    if change is not Path.unlink:
        is_made_of(path, name.partition(".")[0].replace("/", "_"), 77)


def test_what_was_only_touched_is_not_prepared_again_and_the_others_are_not_read(folder, dataset, path, monkeypatch):
    prepare(dataset, path)
    before, read, checksum = path.read_bytes(), [], preparing.sha256_file
    os.utime(of_person(folder, 2))
    monkeypatch.setattr(preparing, "sha256_file", lambda file: read.append(file) or checksum(file))
    assert not prepare(dataset, path).made and path.read_bytes() == before
    assert read == [of_person(folder, 2)]


def test_a_volume_in_another_split_is_seen(folder, path, tmp_path):
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson1,train\nperson2,validation\nperson3,test\n")
    dataset = downloads.declared("nifti_folder", folder, splits=str(table))
    prepare(dataset, path)
    table.write_text("subject,split\nperson1,train\nperson2,test\nperson3,validation\n")
    assert changed_sources(dataset, path) == "person2_scan is in split test now"
    assert prepare(dataset, path).made and not prepare(dataset, path).made
    assert splits(path) == {"train": ["person1_scan"], "validation": ["person3_scan"], "test": ["person2_scan"]}


def test_a_slice_more_or_less_of_a_series_is_seen(tmp_path, path):
    downloads.dicom(tmp_path / "dicom")
    dataset = downloads.declared("dicom_folder", tmp_path / "dicom")
    prepare(dataset, path)
    series = pydicom.dcmread(tmp_path / "dicom/person1/IM_a.dcm").SeriesInstanceUID
    file = tmp_path / "dicom/person1/IM_e.dcm"
    downloads.save_dicom(file, np.arange(320).reshape(downloads.SHAPE), 0.0, series)
    assert changed_sources(dataset, path) == f"{file} is new"
    prepare(dataset, path)
    assert len(next(read_prepared(path, "train")).image) == 5
    file.unlink()
    assert changed_sources(dataset, path) == f"{file} is gone"


def test_a_file_that_changes_while_it_is_read_is_read_again(folder, dataset, path, monkeypatch):
    def changing(make, how):
        made = make()
        if "person1/" in how["file"]:
            replace(of_person(folder, 1))
        return made

    with monkeypatch.context() as patched:
        making(patched, "nifti_folder", changing)
        prepare(dataset, path)
    assert changed_sources(dataset, path) == f"{of_person(folder, 1)} was replaced"
    assert prepare(dataset, path).made
    is_made_of(path, "person1_scan", 77)


def test_a_download_that_was_moved_with_its_prepared_file_is_not_prepared_again(tmp_path, monkeypatch):
    """A relative folder is below the project, wherever that is."""

    def at(place):
        for module in (cohort, folders, preparing):
            monkeypatch.setattr(module, "PROJECT", place)

    downloads.nifti(tmp_path / "here/data/scans")
    dataset = downloads.declared("nifti_folder", "data/scans")
    at(tmp_path / "here")
    prepare(dataset, tmp_path / "here/out.h5")
    shutil.move(tmp_path / "here", tmp_path / "there")
    at(tmp_path / "there")
    assert not prepare(dataset, tmp_path / "there/out.h5").made
    replace(of_person(tmp_path / "there/data/scans", 1))
    assert prepare(dataset, tmp_path / "there/out.h5").made


def test_a_file_that_may_not_be_read_any_more_is_said_and_not_left_out(folder, dataset, path, monkeypatch):
    prepare(dataset, path)
    os.utime(of_person(folder, 1))
    monkeypatch.setattr(preparing, "sha256_file", lambda file: (_ for _ in ()).throw(PermissionError(13, "no", file)))
    with pytest.raises(StudyError, match=r"person1/scan.nii.gz: can't be read any more"):
        prepare(dataset, path)


def test_names_longer_than_a_file_name_may_be(folder, dataset, path):
    """As archives of imaging centres make them, of folders within folders."""
    place = folder / "person1" / ("project_" + 20 * "session") / ("sérié" * 30) / "resources"
    place.mkdir(parents=True)
    shutil.move(of_person(folder, 1), place / "scan.nii.gz")
    assert prepare(dataset, path).left_out == {} and not prepare(dataset, path).made
    (name,) = (n for n in splits(path)["train"] if n.startswith("person1_"))
    assert len(name.encode()) > 300 and name.endswith("_resources_scan")
    is_made_of(path, name, 1)


def of(study):
    """Arguments of a command of the study."""
    return "--profile", study.source, "--folder", study.folder


def test_checking_says_what_is_there_beside_the_papers_numbers(tmp_path, kdmri):
    for name, fill in (("acdc", downloads.acdc), ("mrbrains", downloads.mrbrains_2013)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    path = tmp_path / "mine.yaml"
    text = (PROJECT / "profiles" / "paper.yaml").read_text().replace("data/downloads", str(tmp_path))
    path.write_text(text.replace("train: 90, validation: 10, test: 50", "train: 2, validation: 1, test: 1"))
    next((tmp_path / "acdc").rglob("patient001_frame01.nii.gz")).write_bytes(b"not NIfTI")
    status, said = kdmri("check", *of(Study(str(path), tmp_path / "study")))
    assert status == 1
    for part in (
        "train 2 subjects, 4 volumes, 11 slices",
        "train and validation: 3 subjects, 17 slices; the paper has 100 and 1841",
        "test: 1 subjects, 8 slices; the paper has 50 and 1076",
        "left out: data set 'knee', whose folder",
        "brain (mrbrains): ",
        "4 subjects found (4 train, 0 validation, 0 test)",
        "can't be read, and would be left out: patient001_frame01: ",
        "not all is as declared: patient001_frame01, brain",
    ):
        assert part in said


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


def test_checking_says_what_changed_and_touches_what_the_workflow_looks_at(scans, folder, kdmri):
    dataset = scans.dataset("mine")
    stamp, path = scans.source_stamp(dataset), scans.prepared(dataset)
    status, said = kdmri("check", *of(scans))
    assert status == 0 and "mine (nifti_folder, " in said and "will be again" not in said and not stamp.exists()
    replace(of_person(folder, 2))
    status, said = kdmri("check", *of(scans))
    assert status == 0 and f"prepared before, and will be again: {of_person(folder, 2)} was replaced" in said
    assert stamp.stat().st_mtime_ns > path.stat().st_mtime_ns
    assert f"{path}: prepared" in kdmri("prepare", "mine", *of(scans))[1]
    assert (before := stamp.stat().st_mtime_ns) < path.stat().st_mtime_ns
    assert "will be again" not in kdmri("check", *of(scans))[1] and stamp.stat().st_mtime_ns == before


def test_checking_ends_with_an_error_where_preparing_would_leave_volumes_out(scans, folder, kdmri, monkeypatch):
    dataset, path = scans.dataset("mine"), scans.prepared(scans.dataset("mine"))
    downloads.save_nifti(of_person(folder, 1), downloads.image(1) - 1.5)
    path.unlink()
    status, said = kdmri("check", *of(scans), "--headers")
    assert status == 0 and "train 2 subjects, 2 volumes, 6 slices" in said
    promised, made = survey(dataset), source("nifti_folder").make
    for _ in range(2):  # as the files are; and as they were prepared, for which no image is read again
        status, said = kdmri("check", *of(scans))
        assert status == 1 and "train 2 subjects, 2 volumes, 3 slices" in said
        assert f"and would be left out: person1_scan: {of_person(folder, 1)}: negative values" in said
        assert "not all is as declared: person1_scan" in said
        prepare_dataset(scans, dataset)
        assert survey(dataset, path=path) == promised
        monkeypatch.setattr(source("nifti_folder"), "make", None)
    monkeypatch.setattr(source("nifti_folder"), "make", made)
    for number in (1, 2, 3, 10):
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 3, 5), np.float32), np.eye(4)), of_person(folder, number))
    for how in ((), ("--headers",)):
        status, said = kdmri("check", *of(scans), *how)
        assert status == 1 and "no volume left for split 'train' (" in said


def test_checking_says_what_is_passed_over_and_what_becomes_zero(scans, folder, kdmri):
    image = downloads.image(1)
    image[1, 3, 4] = -0.5
    downloads.save_nifti(of_person(folder, 1), image)
    for number in (1, 2, 3, 10):
        downloads.save_nifti(folder / f"person{number}/scan_seg.nii.gz", np.round(image))
    names, share = ", ".join(f"person{number}/scan_seg.nii.gz" for number in (1, 2, 3)), 0.5 / np.abs(image).sum()
    for _ in range(2):  # as the files are; and as they were prepared
        status, said = kdmri("check", *of(scans))
        assert status == 0 and f"passed over, label maps or copies by their names: 4 ({names}, ...)" in said
        assert f"values below 0 ({share:.2g} of the signal at most) become 0: 1 (person1_scan)" in said
        prepare_dataset(scans, scans.dataset("mine"))
    table = index(scans.prepared(scans.dataset("mine"))).set_index("subject")
    assert table.below_zero["person1_scan"] == pytest.approx(share, rel=0.01) and table.below_zero.isna().sum() == 3


def test_checking_and_preparing_say_nothing_is_wrong_when_a_prepared_download_is_deleted(scans, folder, kdmri):
    path = scans.prepared(scans.dataset("mine"))
    shutil.rmtree(folder)
    status, said = kdmri("check", *of(scans))
    assert status == 0 and f"mine (nifti_folder, {folder}): the folder is gone; prepared before" in said
    status, said = kdmri("prepare", "mine", *of(scans))
    assert status == 0 and f"{path}: up to date" in said and not scans.source_stamp(scans.dataset("mine")).exists()
    path.unlink()
    status, said = kdmri("check", *of(scans))
    assert status == 1 and "not all is as declared: mine" in said
