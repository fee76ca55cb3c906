"""Who is in which split: by the order of names, by what a distributor set apart, or by a file; and what is refused."""

import os
import shutil
import subprocess
import sys

import pytest

from kdmri_lib.datasets.cohort import in_order, numbered_subjects, split_subjects
from kdmri_lib.datasets.prepared import read_prepared, splits
from kdmri_lib.datasets.preparing import members, prepare
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from tests import downloads


def test_numbers_in_names_are_numbers_and_test_sets_only_test(tmp_path):
    downloads.acdc(tmp_path)
    prepare(downloads.declared("acdc", tmp_path), tmp_path / "out.h5", 1)
    found = splits(tmp_path / "out.h5")
    assert found["train"] == [f"patient{n:03d}_frame{f:02d}" for n in (1, 2) for f in (1, 12)]
    assert {name[:10] for name in found["validation"]} == {"patient010"}
    assert {name[:10] for name in found["test"]} == {"patient101"}
    phases = {v.subject: v.attributes["phase"] for v in read_prepared(tmp_path / "out.h5")}
    assert phases["patient001_frame01"] == "ED" and phases["patient001_frame12"] == "ES"
    assert in_order(["patient10", "patient2", "a"]) == ["a", "patient2", "patient10"]
    assert in_order(["²", "7", "x²", "10"]) == ["7", "10", "x²", "²"], "a raised 2 is no number"


def test_subjects_that_a_distributor_set_apart_never_train(tmp_path):
    volumes = {f"p{n}": [(f"p{n}_scan", {})] for n in range(1, 8)}
    dataset = downloads.declared("nifti_folder", tmp_path, train=3, validation=1, test=2)
    found = list(split_subjects(dataset, volumes, reserved=["p1", "p6"]))
    assert [m.subject for m in found] == ["p2", "p3", "p4", "p5", "p1", "p6"]
    assert [m.split for m in found] == ["train", "train", "train", "validation", "test", "test"]
    with pytest.raises(StudyError, match=r"7 subjects found \(3 train, 1 validation, 1 test\), expected 3 train"):
        list(split_subjects(dataset, volumes, reserved=["p6"]))


def test_generated_subjects_are_numbered_through_the_splits(tmp_path):
    dataset = downloads.declared("cardiac_phantom", tmp_path, slices_per_volume=2)
    found = list(numbered_subjects(dataset, "phantom"))
    assert [m.split for m in found] == ["train", "train", "validation", "test"]
    assert [(m.volume, m.how) for m in found] == [(f"phantom00{n}", {"number": n}) for n in (1, 2, 3, 4)]
    with pytest.raises(StudyError, match="source cardiac_phantom needs slices_per_volume"):
        list(numbered_subjects(downloads.declared("cardiac_phantom", tmp_path), "phantom"))


def test_splits_from_a_file(tmp_path):
    downloads.nifti(tmp_path)
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson10,train\nperson2,validation\nperson1,test\n")
    dataset = downloads.declared("nifti_folder", tmp_path, splits=str(table))
    prepare(dataset, tmp_path / "out.h5", 1)
    expected = {"train": ["person10_scan"], "validation": ["person2_scan"], "test": ["person1_scan"]}
    assert splits(tmp_path / "out.h5") == expected
    for row, message in {
        "person1,train": "line 5: subject person1 is in two splits, test and train",
        "person7,train": "line 5: no subject person7",
        "person3,tset": "line 5: expected columns subject, split with train, validation, test",
    }.items():
        table.write_text(f"subject,split\nperson10,train\nperson2,validation\nperson1,test\n{row}\n")
        with pytest.raises(StudyError, match=message):
            prepare(dataset, tmp_path / "again.h5", 1)
    table.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(StudyError, match=r"splits.csv: can't be read"):
        prepare(dataset, tmp_path / "again.h5", 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_splits_as_spreadsheets_save_them(tmp_path, encoding, between):
    """With a byte-order mark, as Excel does it; semicolons, where commas stand in numbers; and rows without anything."""
    downloads.nifti(tmp_path)
    (tmp_path / "person2").rename(tmp_path / "Jörg 2")
    rows = [("subject", "split"), ("person10", "train"), ("Jörg 2", "validation"), ("person1 ", "test"), ("", "")]
    table = tmp_path / "splits.csv"
    table.write_bytes("".join(f"{between.join(row)}\r\n" for row in rows).encode(encoding))
    dataset = downloads.declared("nifti_folder", tmp_path, splits=str(table))
    expected = {"person10": "train", "Jörg 2": "validation", "person1": "test"}
    assert {m.subject: m.split for m in members(dataset)} == expected
    table.write_bytes(f"subject{between}split\r\n1{between}train\r\n".encode(encoding))
    with pytest.raises(StudyError, match="line 2: no subject 1; the first ones found: "):
        members(dataset)


def test_files_are_read_as_utf_8_whatever_the_locale(tmp_path):
    """A profile and a table with letters that ASCII hasn't, where nothing says that files are UTF-8."""
    downloads.nifti(tmp_path / "scans")
    (tmp_path / "scans/person2").rename(tmp_path / "scans/Jörg")
    (tmp_path / "splits.csv").write_text("subject,split\nJörg,train\n", encoding="utf-8")
    text = (PROJECT / "profiles" / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(f"\ufeff# für Jörg\n{text}", encoding="utf-8")
    code = (
        "import sys; from kdmri_study.profile import load_profile; from kdmri_lib.datasets.cohort import _read_splits;"
        "from pathlib import Path; load_profile(sys.argv[1]);"
        "print(ascii(_read_splits(Path(sys.argv[2]), ['J\\xf6rg'])))"
    )
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mine.yaml"), str(tmp_path / "splits.csv")],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
    )
    assert (done.returncode, done.stdout.strip()) == (0, r"{'J\xf6rg': 'train'}"), done.stderr


def test_a_patient_twice_in_a_download_is_refused(tmp_path):
    downloads.acdc(tmp_path)
    shutil.copytree(tmp_path / "training/patient001", tmp_path / "testing/patient001")
    with pytest.raises(StudyError, match="patient001 is there twice"):
        prepare(downloads.declared("acdc", tmp_path), tmp_path / "out.h5", 1)


def test_two_volumes_of_one_name_are_refused(tmp_path):
    """As when names differ in a letter that no volume's name may have."""
    downloads.dicom(tmp_path)
    (tmp_path / "person1").rename(tmp_path / "one person")
    (tmp_path / "person2").rename(tmp_path / "one_person")
    with pytest.raises(StudyError, match=r"mine': 2 volumes are called one_person_series1 \(.*one person.*one_person"):
        members(downloads.declared("dicom_folder", tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 7}, r"4 subjects found \(4 train, 0 validation, 0 test\), expected 7 train, 1 validation, 1 test"),
        ({"folder": "/nowhere/at/all"}, "no folder /nowhere/at/all; data/README.md says how to get the images"),
        ({"folder": None}, "source nifti_folder needs folder"),
    ],
)
def test_bad_declarations(tmp_path, change, message):
    downloads.nifti(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path).model_copy(update=change)
    with pytest.raises(StudyError, match=message):
        prepare(dataset, tmp_path / "out.h5", 1)
