"""Every source on a download in miniature: orientation, scale, crop, coil combination and split; and what is broken."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from kdmri_lib.sampling import declared_mask

from kdmri_lib import datasets
from kdmri_lib.__main__ import main
from kdmri_lib.datasets.prepared import Volume, read_prepared, splits
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.declarations import Degradation
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from tests import downloads

EVERY = {
    "acdc": ("acdc", downloads.acdc, {}),
    "mrbrains 2013": ("mrbrains", downloads.mrbrains_2013, {}),
    "mrbrains 2018": ("mrbrains", downloads.mrbrains_2018, {}),
    "knee, MATLAB 7.3": ("knee_matlab", downloads.knee, {"contrast": "coronal_pd"}),
    "knee, older MATLAB": ("knee_matlab", lambda f: downloads.knee(f, older=True), {"contrast": "coronal_pd"}),
    "knee, sensitivities": (
        "knee_matlab",
        downloads.knee,
        {"contrast": "coronal_pd", "options": {"combination": "sensitivity"}},
    ),
    "fastMRI multicoil": ("fastmri", downloads.fastmri, {}),
    "fastMRI single coil": ("fastmri", lambda f: downloads.fastmri(f, multicoil=False), {}),
    "fastMRI reconstructions": ("fastmri", downloads.fastmri, {"options": {"image": "reconstruction"}}),
    "Calgary-Campinas": ("calgary_campinas", downloads.calgary_nifti, {}),
    "Calgary-Campinas raw, 12 channels": ("calgary_campinas", downloads.calgary_raw, {}),
    "Calgary-Campinas raw, 1 channel": (
        "calgary_campinas",
        lambda f: downloads.calgary_raw(f, multichannel=False),
        {},
    ),
    "published code": ("kdmri_h5", downloads.published, {}),
    "NIfTI": ("nifti_folder", downloads.nifti, {}),
    "DICOM": ("dicom_folder", downloads.dicom, {}),
}


@pytest.fixture(params=sorted(EVERY))
def download(request, tmp_path):
    """A download's declaration and what must come of it."""
    source, fill, more = EVERY[request.param]
    folder = tmp_path / "download"
    folder.mkdir()
    return fill(folder), downloads.declared(source, folder, **more), tmp_path / "out.h5"


def test_every_source_gives_the_images_that_were_written(download):
    expected, dataset, path = download
    assert prepare(dataset, path).left_out == {}
    volumes = {v.subject: v for v in read_prepared(path)}
    assert set(volumes) <= set(expected)
    for name, volume in volumes.items():
        np.testing.assert_allclose(volume.image, expected[name], atol=2e-6, err_msg=name)
        assert volume.attributes["kind"] == "real MR"
    people = {split: {v.attributes["person"] for v in volumes.values() if v.split == split} for split in splits(path)}
    assert [len(people[s]) for s in ("train", "validation", "test")] == [2, 1, 1]
    assert not people["train"] & people["validation"] and not people["train"] & people["test"]
    assert not people["validation"] & people["test"]


def test_counting_agrees_with_preparing(download):
    _, dataset, path = download
    found = survey(dataset)
    prepare(dataset, path)
    for split, subjects in splits(path).items():
        assert found.volumes[split] == len(subjects)
        assert found.slices[split] == sum(len(v.image) for v in read_prepared(path, split))
    assert found.problems == {}


def test_numbers_in_names_are_numbers_and_test_sets_only_test(tmp_path):
    downloads.acdc(tmp_path)
    prepare(downloads.declared("acdc", tmp_path), tmp_path / "out.h5")
    found = splits(tmp_path / "out.h5")
    assert found["train"] == [f"patient{n:03d}_frame{f:02d}" for n in (1, 2) for f in (1, 12)]
    assert {name[:10] for name in found["validation"]} == {"patient010"}
    assert {name[:10] for name in found["test"]} == {"patient101"}
    phases = {v.subject: v.attributes["phase"] for v in read_prepared(tmp_path / "out.h5")}
    assert phases["patient001_frame01"] == "ED" and phases["patient001_frame12"] == "ES"


def test_two_scans_of_a_patient_stay_together(tmp_path):
    downloads.fastmri(tmp_path)
    prepare(downloads.declared("fastmri", tmp_path, train=1, validation=2), tmp_path / "out.h5")
    assert splits(tmp_path / "out.h5")["train"] == ["file1", "file2"]
    (volume,) = read_prepared(tmp_path / "out.h5", "test")
    np.testing.assert_allclose(volume.attributes["spacing"], (4.5, 7.0, 140 / 16))
    assert volume.attributes["coils"] == 4 and volume.attributes["acquisition"] == "CORPD_FBK"


def test_the_cine_on_request(tmp_path):
    downloads.acdc(tmp_path)
    for series in tmp_path.rglob("*_4d.nii.gz"):
        rng = np.random.default_rng(len(str(series)) + int(series.name[7:10]))
        nibabel.save(nibabel.Nifti1Image(rng.random((4, 4, 2, 5), dtype=np.float32), np.diag([1, 1, 8, 1])), series)
    prepare(downloads.declared("acdc", tmp_path, shape=(4, 4), options={"cine": True}), tmp_path / "out.h5")
    (volume,) = read_prepared(tmp_path / "out.h5", "test")
    stored = nibabel.load(tmp_path / "testing/patient101/patient101_4d.nii.gz").get_fdata()
    assert volume.subject == "patient101_4d" and volume.image.shape == (10, 4, 4)
    np.testing.assert_allclose(volume.image[2], (stored[::-1, ::-1, 0, 1].T / stored.max()), atol=1e-6)


def test_published_masks_are_used_as_they_are(tmp_path):
    downloads.published(tmp_path)
    masks = {"masks": str(tmp_path / "mask_{factor}x.npy")}
    dataset = downloads.declared("kdmri_h5", tmp_path, options=masks)
    mask = np.load(tmp_path / "mask_4x.npy").astype(bool)
    np.testing.assert_array_equal(declared_mask(dataset, Degradation(acceleration=4)), mask)
    with pytest.raises(StudyError, match=r"mask_8x.npy: no such file"):
        declared_mask(dataset, Degradation(acceleration=8))


def test_index_sources_and_contact_sheet(tmp_path):
    downloads.nifti(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path)
    prepare(dataset, tmp_path / "out.h5")
    table = pd.read_csv(tmp_path / "out.csv").set_index("subject")
    assert dict(table.split) == {
        "person1_scan": "train",
        "person2_scan": "train",
        "person3_scan": "validation",
        "person10_scan": "test",
    }
    assert set(table.slices) == {3} and set(table["size"]) == {"20×16"} and set(table.spacing) == {"8 × 1.4 × 1.4"}
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    with h5py.File(tmp_path / "out.h5") as file:
        sources = json.loads(file["sources/person2_scan"][()])
    (name,) = sources
    assert name.endswith("person2/scan.nii.gz") and len(sources[name]) == 64


def test_slices_are_chosen_cropped_and_padded_about_the_centre(tmp_path):
    expected = downloads.nifti(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path, shape=(24, 10), slices_per_volume=2)
    prepare(dataset, tmp_path / "out.h5")
    for volume in read_prepared(tmp_path / "out.h5"):
        whole = expected[volume.subject][[0, 2], :, 3:13]
        np.testing.assert_allclose(volume.image[:, 2:22], whole / whole.max(), atol=2e-6)
        assert not volume.image[:, :2].any() and not volume.image[:, 22:].any()


def broken_gzip(folder):
    path = folder / "person1/scan.nii.gz"
    path.write_bytes(path.read_bytes()[:900])
    return path, "not a readable NIfTI volume, or cut short"


def four_d(folder):
    path = folder / "person1/scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 3, 5), np.float32), np.eye(4)), path)
    return path, r"4-D image of shape \(4, 4, 3, 5\), expected one 3-D volume"


def not_a_number(folder):
    path = folder / "person1/scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 3), np.nan, np.float32), np.eye(4)), path)
    return path, "the same value everywhere, or holds NaN"


def constant(folder):
    path = folder / "person1/scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 3), 7, np.float32), np.eye(4)), path)
    return path, "the same value everywhere, or holds NaN"


def scale_that_overflows(folder):
    path = folder / "person1/scan.nii.gz"
    stored = nibabel.Nifti1Image(np.full((20, 16, 3), 30000, np.int16), np.eye(4))
    stored.header.set_slope_inter(3e38, 0)
    nibabel.save(stored, path)
    return path, "has a scale overflowed\\?"


@pytest.mark.parametrize("damage", [broken_gzip, four_d, not_a_number, constant, scale_that_overflows])
def test_a_broken_volume_is_left_out_by_name_and_the_others_go_on(tmp_path, damage):
    downloads.nifti(tmp_path)
    path, message = damage(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path)
    left_out = prepare(dataset, tmp_path / "out.h5").left_out
    assert set(left_out) == {"person1_scan"} and str(path) in left_out["person1_scan"]
    with pytest.raises(StudyError, match=message):
        raise StudyError(left_out["person1_scan"])
    assert sum(map(len, splits(tmp_path / "out.h5").values())) == 3
    assert prepare(dataset, tmp_path / "out.h5") == (False, left_out), "said again when nothing is made"


def knee_without_maps(folder):
    (folder / "coronal_pd/1/espirit2.mat").unlink()
    return r"coronal_pd/1/espirit2.mat: no such file"


def knee_of_another_shape(folder):
    downloads.save_matlab73(folder / "coronal_pd/1/rawdata2.mat", "rawdata", np.ones((4, 4, 4)) * 1j)
    return r"rawdata2.mat: k-space of shape \(4, 4, 4\), expected \(H, W, coils\) as in .*rawdata1.mat: \(20, 16, 4\)"


def knee_with_other_names(folder):
    downloads.save_matlab73(folder / "coronal_pd/1/rawdata2.mat", "data", np.ones((20, 16, 4)) * 1j)
    return r"rawdata2.mat: no array 'rawdata'; it has data"


def knee_of_real_numbers(folder):
    with h5py.File(folder / "coronal_pd/1/rawdata2.mat", "w", userblock_size=512) as file:
        file["rawdata"] = np.ones((4, 16, 20))
    with (folder / "coronal_pd/1/rawdata2.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return r"rawdata2.mat: values of type float64, expected complex numbers"


@pytest.mark.parametrize(
    "damage", [knee_without_maps, knee_of_another_shape, knee_with_other_names, knee_of_real_numbers]
)
def test_broken_knee_files(tmp_path, damage):
    downloads.knee(tmp_path)
    message = damage(tmp_path)
    options = {"combination": "sensitivity"}
    dataset = downloads.declared("knee_matlab", tmp_path, contrast="coronal_pd", options=options)
    left_out = prepare(dataset, tmp_path / "out.h5").left_out
    with pytest.raises(StudyError, match=message):
        raise StudyError(left_out["coronal_pd_1"])


def test_fastmri_files_that_are_undersampled_or_damaged(tmp_path):
    downloads.fastmri(tmp_path)
    with h5py.File(tmp_path / "multicoil_train/file3.h5", "r+") as file:
        file["mask"] = np.ones(16)
    with h5py.File(tmp_path / "multicoil_train/file1.h5", "r+") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = downloads.HEADER[:200]
    dataset = downloads.declared("fastmri", tmp_path)
    left_out = prepare(dataset, tmp_path / "out.h5").left_out
    assert "file3.h5: undersampled (it holds a mask)" in left_out["file3"]
    assert "file1.h5: its ISMRMRD header can't be read" in left_out["file1"]
    assert splits(tmp_path / "out.h5") == {"train": ["file2"], "validation": ["file10"], "test": ["file4"]}
    path = tmp_path / "multicoil_train/file10.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(
        StudyError, match=r"left for split 'validation' .*file10.h5: not a readable fastMRI file, or cut"
    ):
        prepare(dataset, tmp_path / "again.h5")


def dicom_of_mixed_shapes(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones((5, 5)), 40, series)
    return r"IM_z.dcm: \(5, 5\) pixels .* in a series that begins with .*IM_d.dcm: \(20, 16\)"


def dicom_twice_at_one_place(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones(downloads.SHAPE), -20, series)
    return "a second slice at the same position of its series"


def dicom_of_many_frames(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones(downloads.SHAPE), 60, series, NumberOfFrames=2)
    return "IM_z.dcm: a multi-frame file; expected a slice a file"


@pytest.mark.parametrize("damage", [dicom_of_mixed_shapes, dicom_twice_at_one_place, dicom_of_many_frames])
def test_broken_dicom_series(tmp_path, damage):
    import pydicom

    downloads.dicom(tmp_path)
    message = damage(tmp_path, pydicom.dcmread(tmp_path / "person1/IM_a.dcm").SeriesInstanceUID)
    left_out = prepare(downloads.declared("dicom_folder", tmp_path), tmp_path / "out.h5").left_out
    with pytest.raises(StudyError, match=message):
        raise StudyError(left_out["person1_series1"])


@contextmanager
def writing_elsewhere(path):
    """Another process has the HDF5 file open for writing while the block runs."""
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.stdin.close()


def test_a_file_that_may_not_be_read_and_one_that_is_being_written(tmp_path):
    downloads.fastmri(tmp_path)
    dataset = downloads.declared("fastmri", tmp_path, validation=2)
    with writing_elsewhere(tmp_path / "multicoil_train/file2.h5"):
        left_out = prepare(dataset, tmp_path / "out.h5").left_out
    assert list(left_out) == ["file2"] and "file2.h5: another program has it open for writing" in left_out["file2"]
    locked = tmp_path / "multicoil_val/file4.h5"
    locked.chmod(0)
    before = os.geteuid()
    try:
        if before == 0:  # who may read everything
            os.seteuid(65534)
        with pytest.raises(StudyError, match=r"file4.h5: no permission to read it"):
            datasets.source("fastmri").make(dataset, file=str(locked))
    finally:
        os.seteuid(before)


def test_splits_from_a_file(tmp_path):
    downloads.nifti(tmp_path)
    table = tmp_path / "splits.csv"
    table.write_text("subject,split\nperson10,train\nperson2,validation\nperson1,test\n")
    dataset = downloads.declared("nifti_folder", tmp_path, splits=str(table))
    prepare(dataset, tmp_path / "out.h5")
    assert splits(tmp_path / "out.h5") == {
        "train": ["person10_scan"],
        "validation": ["person2_scan"],
        "test": ["person1_scan"],
    }
    for row, message in {
        "person1,train": "line 5: subject person1 is in two splits, test and train",
        "person7,train": "line 5: no subject person7",
        "person3,tset": "line 5: expected columns subject, split with train, validation, test",
    }.items():
        table.write_text(f"subject,split\nperson10,train\nperson2,validation\nperson1,test\n{row}\n")
        with pytest.raises(StudyError, match=message):
            prepare(dataset, tmp_path / "again.h5")


def test_the_same_image_or_person_in_two_splits_is_refused(tmp_path):
    downloads.nifti(tmp_path)
    shutil.copy(tmp_path / "person1/scan.nii.gz", tmp_path / "person10/scan.nii.gz")
    with pytest.raises(StudyError, match="person1_scan in train and person10_scan in test are the same image"):
        prepare(downloads.declared("nifti_folder", tmp_path), tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
    both = (("a", "train"), ("b", "test"))
    volumes = [Volume(name, split, downloads.image(len(split)), {"kind": "x", "person": "p"}) for name, split in both]
    with pytest.raises(StudyError, match="a in train and b in test are the same person"):
        write_prepared(tmp_path / "out.h5", "{}", "code", volumes)
    downloads.acdc(tmp_path / "acdc")
    shutil.copytree(tmp_path / "acdc/training/patient001", tmp_path / "acdc/testing/patient001")
    with pytest.raises(StudyError, match="patient001 is there twice"):
        prepare(downloads.declared("acdc", tmp_path / "acdc"), tmp_path / "out.h5")


def test_a_stopped_preparation_goes_on_where_it_was(tmp_path, monkeypatch):
    downloads.nifti(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path)
    prepare(dataset, tmp_path / "whole.h5")
    module, made = datasets.source("nifti_folder"), []
    make = module.make

    def interrupted(declared, file):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(file)
        return make(declared, file)

    monkeypatch.setattr(module, "make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists(), "a half-made file isn't taken for a whole one"
    part = next((tmp_path / ".out.parts").glob("*.h5"))
    part.write_bytes(part.read_bytes()[:-50])
    monkeypatch.setattr(module, "make", lambda declared, file: made.append(file) or make(declared, file))
    prepare(dataset, tmp_path / "out.h5")
    assert len(made) == 2 + 3, "one of the two was damaged meanwhile"
    assert not (tmp_path / ".out.parts").exists()
    for a, b in zip(read_prepared(tmp_path / "whole.h5"), read_prepared(tmp_path / "out.h5"), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


def test_side_by_side_gives_the_same(tmp_path):
    downloads.nifti(tmp_path)
    broken_gzip(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path)
    assert prepare(dataset, tmp_path / "one.h5") == prepare(dataset, tmp_path / "two.h5", jobs=2)
    for a, b in zip(read_prepared(tmp_path / "one.h5"), read_prepared(tmp_path / "two.h5"), strict=True):
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 7}, r"4 subjects found \(4 train, 0 validation, 0 test\), expected 7 train, 1 validation, 1 test"),
        ({"folder": "/nowhere/at/all"}, "no folder /nowhere/at/all; data/README.md says how to get the images"),
        ({"folder": None}, "source nifti_folder needs folder"),
        ({"options": {"orentation": "axial"}}, "no option orentation; known: orientation, pixel"),
        ({"options": {"orientation": "oblique"}}, "unknown orientation 'oblique'"),
    ],
)
def test_bad_declarations(tmp_path, change, message):
    downloads.nifti(tmp_path)
    dataset = downloads.declared("nifti_folder", tmp_path).model_copy(update=change)
    with pytest.raises(StudyError, match=message):
        prepare(dataset, tmp_path / "out.h5")


def test_checking_says_what_is_there_beside_the_papers_numbers(tmp_path, capsys, monkeypatch):
    for name, fill in (("acdc", downloads.acdc), ("mrbrains", downloads.mrbrains_2013)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name)
    path = tmp_path / "mine.yaml"
    text = (PROJECT / "profiles" / "paper.yaml").read_text().replace("data/downloads", str(tmp_path))
    path.write_text(text.replace("train: 90, validation: 10, test: 50", "train: 2, validation: 1, test: 1"))
    monkeypatch.setattr(sys, "argv", ["kdmri", "check", "--profile", str(path)])
    assert main() == 1
    said = capsys.readouterr()
    assert "train 2 subjects, 4 volumes, 14 slices" in said.out
    assert "train and validation: 3 subjects, 20 slices; the paper has 100 and 1841" in said.out
    assert "left out: data set 'knee', whose folder" in said.out
    assert "brain (mrbrains): " in said.out and "4 subjects found (4 train, 0 validation, 0 test)" in said.out
    assert "not all is as declared: brain" in said.err
    next((tmp_path / "acdc").rglob("patient001_frame01.nii.gz")).write_bytes(b"not NIfTI")
    assert main() == 1
    said = capsys.readouterr()
    assert "can't be read, and would be left out: patient001_frame01: " in said.out
    assert "not all is as declared: patient001_frame01, brain" in said.err
