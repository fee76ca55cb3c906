"""Every source on a download in miniature: orientation, scale, crop, coil combination and split; and what is broken."""

import h5py
import nibabel
import numpy as np
import pydicom
import pytest

from kdmri_lib.datasets.prepared import read_prepared, splits
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.declarations import Degradation
from kdmri_lib.errors import StudyError
from kdmri_study.build import declared_mask
from tests import downloads


def older_knee(folder):
    """The middle slices alone, since each older file is read in a process of its own."""
    return {name: downloads.normalised(v[1:2]) for name, v in downloads.knee(folder, older=True).items()}


EVERY = {
    "acdc": ("acdc", downloads.acdc, {}),
    "mrbrains 2013": ("mrbrains", downloads.mrbrains_2013, {}),
    "mrbrains 2018": ("mrbrains", downloads.mrbrains_2018, {}),
    "knee, MATLAB 7.3": ("knee_matlab", downloads.knee, {"contrast": "coronal_pd"}),
    "knee, older MATLAB": ("knee_matlab", older_knee, {"contrast": "coronal_pd", "slices_per_volume": 1}),
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


@pytest.fixture(scope="module", params=sorted(EVERY))
def download(request, tmp_path_factory):
    """A download's declaration, what must come of it, and what came: the prepared file and the reasons."""
    source, fill, more = EVERY[request.param]
    folder, path = tmp_path_factory.mktemp("download"), tmp_path_factory.mktemp("prepared") / "out.h5"
    expected, dataset = fill(folder), downloads.declared(source, folder, **more)
    return expected, dataset, path, prepare(dataset, path, "code").left_out


def test_every_source_gives_the_images_that_were_written(download):
    expected, _, path, left_out = download
    assert left_out == {}
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
    _, dataset, path, _ = download
    found = survey(dataset)
    for split, subjects in splits(path).items():
        assert found.volumes[split] == len(subjects)
        assert found.slices[split] == sum(len(v.image) for v in read_prepared(path, split))
    assert found.problems == {}


def test_a_second_start_finds_every_source_unchanged(download):
    _, dataset, path, _ = download
    before = path.read_bytes()
    assert prepare(dataset, path, "code") == (False, {})
    assert path.read_bytes() == before


def test_two_scans_of_a_patient_stay_together(tmp_path):
    downloads.fastmri(tmp_path)
    prepare(downloads.declared("fastmri", tmp_path, train=1, validation=2), tmp_path / "out.h5", "code")
    assert splits(tmp_path / "out.h5")["train"] == ["file1", "file2"]
    (volume,) = read_prepared(tmp_path / "out.h5", "test")
    np.testing.assert_allclose(volume.attributes["spacing"], (4.5, 7.0, 140 / 16))
    assert volume.attributes["coils"] == 4 and volume.attributes["acquisition"] == "CORPD_FBK"


def test_the_cine_on_request(tmp_path):
    downloads.acdc(tmp_path)
    for series in tmp_path.rglob("*_4d.nii.gz"):
        rng = np.random.default_rng(len(str(series)) + int(series.name[7:10]))
        nibabel.save(nibabel.Nifti1Image(rng.random((4, 4, 2, 5), dtype=np.float32), np.diag([1, 1, 8, 1])), series)
    prepare(downloads.declared("acdc", tmp_path, shape=(4, 4), options={"cine": True}), tmp_path / "out.h5", "code")
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


def knee_without_maps(folder):
    (folder / "coronal_pd/1/espirit2.mat").unlink()
    return r"coronal_pd/1/espirit2.mat: no such file"


def knee_of_another_shape(folder):
    downloads.save_matlab73(folder / "coronal_pd/1/rawdata2.mat", "rawdata", np.ones((4, 4, 4)) * 1j)
    return r"rawdata2.mat: k-space of shape \(4, 4, 4\), expected \(H, W, coils\) as in .*rawdata1.mat: \(20, 16, 4\)"


def knee_with_maps_of_another_shape(folder):
    downloads.save_matlab73(folder / "coronal_pd/1/espirit2.mat", "sensitivities", np.ones((4, 4, 4)) * 1j)
    return r"espirit2.mat: sensitivities of shape \(4, 4, 4\), expected \(20, 16, 4\)"


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
    "damage",
    [
        knee_without_maps,
        knee_of_another_shape,
        knee_with_maps_of_another_shape,
        knee_with_other_names,
        knee_of_real_numbers,
    ],
)
def test_broken_knee_files(tmp_path, damage):
    downloads.knee(tmp_path)
    message = damage(tmp_path)
    options = {"combination": "sensitivity"}
    dataset = downloads.declared("knee_matlab", tmp_path, contrast="coronal_pd", options=options)
    left_out = prepare(dataset, tmp_path / "out.h5", "code").left_out
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
    left_out = prepare(dataset, tmp_path / "out.h5", "code").left_out
    assert "file3.h5: undersampled (it holds a mask)" in left_out["file3"]
    assert "file1.h5: its ISMRMRD header can't be read" in left_out["file1"]
    assert splits(tmp_path / "out.h5") == {"train": ["file2"], "validation": ["file10"], "test": ["file4"]}
    path = tmp_path / "multicoil_train/file10.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(
        StudyError, match=r"left for split 'validation' .*file10.h5: not a readable fastMRI file, or cut"
    ):
        prepare(dataset, tmp_path / "again.h5", "code")


def dicom_of_mixed_shapes(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones((5, 5)), 40, series)
    return r"IM_z.dcm: \(5, 5\) pixels .* in a series that begins with .*IM_d.dcm: \(20, 16\)"


def dicom_twice_at_one_place(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones(downloads.SHAPE), -20, series)
    return "a second slice at the same position of its series"


def dicom_of_many_frames(folder, series):
    downloads.save_dicom(folder / "person1/IM_z.dcm", np.ones(downloads.SHAPE), 60, series, NumberOfFrames=2)
    return "IM_z.dcm: a multi-frame file; expected one slice per file"


@pytest.mark.parametrize("damage", [dicom_of_mixed_shapes, dicom_twice_at_one_place, dicom_of_many_frames])
def test_broken_dicom_series(tmp_path, damage):
    downloads.dicom(tmp_path)
    message = damage(tmp_path, pydicom.dcmread(tmp_path / "person1/IM_a.dcm").SeriesInstanceUID)
    left_out = prepare(downloads.declared("dicom_folder", tmp_path), tmp_path / "out.h5", "code").left_out
    with pytest.raises(StudyError, match=message):
        raise StudyError(left_out["person1_series1"])
