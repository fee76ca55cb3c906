"""Who is in which split: by the order of names, by what a distributor set apart, or by a file; and what is refused."""

import shutil

import pytest

from kdmri_lib.datasets.cohort import Member, in_order, split_subjects
from kdmri_lib.datasets.preparing import members
from kdmri_lib.errors import StudyError
from tests import downloads


def test_numbers_in_names_are_numbers():
    assert in_order(["patient10", "patient2", "a"]) == ["a", "patient2", "patient10"]
    assert in_order(["²", "7", "x²", "10"]) == ["7", "10", "x²", "²"], "a raised 2 is no number"


def test_subjects_that_a_distributor_set_apart_never_train(tmp_path):
    def found(*reserved):
        return [Member("test" if n in reserved else "", f"p{n}", f"p{n}_scan", {}) for n in (10, *range(1, 7))]

    dataset = downloads.declared("nifti_folder", tmp_path, train=3, validation=1, test=2)
    chosen = split_subjects(dataset, found(1, 6))
    assert [m.subject for m in chosen] == ["p2", "p3", "p4", "p5", "p1", "p6"]
    assert [m.split for m in chosen] == ["train", "train", "train", "validation", "test", "test"]
    with pytest.raises(StudyError, match=r"7 subjects found \(3 train, 1 validation, 1 test\), expected 3 train"):
        split_subjects(dataset, found(6))


def test_generated_subjects_are_numbered_through_the_splits(tmp_path):
    dataset = downloads.declared("cardiac_phantom", tmp_path, slices_per_volume=2)
    found = members(dataset)
    assert [m.split for m in found] == ["train", "train", "validation", "test"]
    assert [(m.volume, m.how) for m in found] == [(f"phantom00{n}", {"number": n}) for n in (1, 2, 3, 4)]
    with pytest.raises(StudyError, match="source cardiac_phantom needs slices_per_volume"):
        members(downloads.declared("cardiac_phantom", tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_splits_from_a_table_as_spreadsheets_save_it(tmp_path, encoding, between):
    """With a byte-order mark, as Excel does it; semicolons, where commas stand in numbers; and rows without anything."""
    downloads.nifti(tmp_path)
    (tmp_path / "person2").rename(tmp_path / "Jörg 2")
    rows = ["subject,split", "person10,train", "Jörg 2,validation", "person1 ,test", ","]
    table = tmp_path / "splits.csv"
    dataset = downloads.declared("nifti_folder", tmp_path, splits=str(table))

    def found(*more):
        text = "".join(f"{row}\r\n" for row in (*rows, *more)).replace(",", between)
        table.write_bytes(text.encode(encoding))
        return {m.subject: m.split for m in members(dataset)}

    assert found() == {"person10": "train", "Jörg 2": "validation", "person1": "test"}
    for row, message in {
        "person1,train": "line 6: subject person1 is in two splits, test and train",
        "7,train": "line 6: no subject 7; the first ones found: ",
        "person3,tset": "line 6: expected columns subject, split with train, validation, test",
    }.items():
        with pytest.raises(StudyError, match=message):
            found(row)
    table.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(StudyError, match=r"splits.csv: can't be read"):
        members(dataset)


def test_a_patient_twice_in_a_download_is_refused(tmp_path):
    downloads.acdc(tmp_path)
    shutil.copytree(tmp_path / "training/patient001", tmp_path / "testing/patient001")
    with pytest.raises(StudyError, match="patient001 is there twice"):
        members(downloads.declared("acdc", tmp_path))


def test_two_volumes_of_one_name_are_refused(tmp_path):
    """As when names differ in a letter that no volume's name may have."""
    downloads.dicom(tmp_path)
    (tmp_path / "person1").rename(tmp_path / "one person")
    (tmp_path / "person2").rename(tmp_path / "one_person")
    with pytest.raises(StudyError, match=r"mine': 2 volumes are called one_person_series1 \(.*one person.*one_person"):
        members(downloads.declared("dicom_folder", tmp_path))


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("/nowhere/at/all", "no folder /nowhere/at/all; data/README.md says how to get the images"),
        (None, "source nifti_folder needs folder"),
    ],
)
def test_a_folder_that_is_not_there_or_not_declared(tmp_path, folder, message):
    with pytest.raises(StudyError, match=message):
        members(downloads.declared("nifti_folder", tmp_path).model_copy(update={"folder": folder}))
