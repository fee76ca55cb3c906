"""Volumes in files: what a file holds, where its zero frequency is, and what is refused."""

import h5py
import nibabel
import numpy as np
import pytest

from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.deployment.volumes import open_input, write_nifti
from kdmri_lib.errors import StudyError
from tests import downloads
from tests.unit.deployment import scans


def kspace(shape=(20, 16)):
    return np.fft.fft2(scans.objects(3, shape), norm="ortho").astype(np.complex64)


@pytest.mark.parametrize("order", ["auto", "shifted"])
def test_k_space_is_read_unshifted(tmp_path, order):
    values = kspace((21, 15))
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = np.fft.fftshift(values, axes=(1, 2))
        file.attrs["patient"] = "somebody"
    with open_input(tmp_path / "in.h5", order) as (volume,):
        found = (volume.kind, volume.name, len(volume), volume.coils, volume.shape)
        assert found == ("kspace", "kspace", 3, 1, (21, 15))
        assert volume.attributes == {"patient": "somebody"}
        np.testing.assert_array_equal(volume.read(1, 5)[:, 0], values[1:])
    with open_input(tmp_path / "in.h5", "unshifted") as (volume,):
        np.testing.assert_array_equal(volume.read(0, 3)[:, 0], np.fft.fftshift(values, axes=(1, 2)))


def test_matlabs_complex_numbers_are_read(tmp_path):
    values = kspace()
    stored = np.empty(values.shape, [("real", "<f4"), ("imag", "<f4")])
    stored["real"], stored["imag"] = values.real, values.imag
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = stored
    with open_input(tmp_path / "in.h5") as (volume,):
        np.testing.assert_array_equal(volume.read(0, 3)[:, 0], values)


def test_every_volume_of_a_prepared_file_and_images_are_read(tmp_path):
    images = {name: downloads.image(n) for n, name in enumerate("ab")}
    volumes = [Volume(name, "test", image, {"kind": "x"}) for name, image in images.items()]
    write_prepared(tmp_path / "prepared.h5", "{}", "code", volumes)
    with open_input(tmp_path / "prepared.h5") as found:
        assert [v.name for v in found] == ["volumes/a", "volumes/b"] and {v.kind for v in found} == {"image"}
        assert found[0].attributes["split"] == "test"
        np.testing.assert_array_equal(found[1].read(0, 3), images["b"])
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["image"] = 1000 * images["a"].astype(np.float64)
    with open_input(tmp_path / "image.h5") as (volume,):
        np.testing.assert_array_equal(volume.read(2, 1), np.float32(1000 * images["a"].astype(np.float64))[2:])
        assert volume.read(0, 1).dtype == np.float32


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAL", "PIR"])
def test_a_nifti_volume_that_is_written_lies_where_its_source_does(tmp_path, code):
    image = downloads.image(4)
    downloads.save_nifti(tmp_path / "in.nii.gz", image, code)
    with open_input(tmp_path / "in.nii.gz") as (volume,):
        np.testing.assert_allclose(volume.read(0, 3), image, rtol=1e-6)
        assert volume.attributes["spacing"] == (8.0, pytest.approx(1.4), pytest.approx(1.4))
    write_nifti(tmp_path / "out.nii.gz", tmp_path / "in.nii.gz", 2 * image)
    before, after = (nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{n}.nii.gz")) for n in ("in", "out"))
    np.testing.assert_allclose(after.affine, before.affine)
    np.testing.assert_allclose(after.get_fdata(), 2 * before.get_fdata(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "kspace",
            kspace()[0],
            r"'kspace' of shape \(20, 16\), expected slices x H x W \(--axes says which axis is what\)$",
        ),
        ("image", np.ones((20, 16)), r"'image' of shape \(20, 16\), expected \(slices, H, W\)"),
        ("image", np.ones((0, 20, 16)), r"'image' of shape \(0, 20, 16\), expected \(slices, H, W\)"),
        ("kspace", kspace()[:0], r"'kspace' of shape \(0, 20, 16\), expected slices x H x W"),
        ("volumes/a", np.ones((20, 16)), r"'volumes/a' of shape \(20, 16\), expected \(slices, H, W\)"),
        ("volumes/a/b", np.ones((2, 20, 16)), "'volumes/a' of shape none: it is a group, expected"),
        ("images", np.ones((2, 20, 16)), "no array 'kspace' or 'image' and no volumes; it has images"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, values, message):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file[name] = values
    with pytest.raises(StudyError, match=rf"in.h5: {message}"), open_input(tmp_path / "in.h5"):
        pass


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("image", np.full((3, 4, 4), np.nan), "NaN or infinite values in slices 0 to 2 of 'image'"),
        ("image", np.ones((3, 4, 4)) * 1j, "'image' of type complex128, expected real numbers \\(magnitudes\\)"),
        ("image", -np.ones((3, 4, 4)), "negative values in 'image'; expected magnitude images"),
    ],
)
def test_values_that_are_none_are_refused_when_they_are_read(tmp_path, name, values, message):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file[name] = values
    with open_input(tmp_path / "in.h5") as (volume,), pytest.raises(StudyError, match=rf"in.h5: {message}"):
        volume.read(0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x - x.mean(), "negative values"),
        (lambda x: np.round(x), "only 2 different values"),
        (lambda x: x[0], "2-D image"),
    ],
)
def test_nifti_files_that_are_no_images_are_refused(tmp_path, change, message):
    stored = nibabel.Nifti1Image(change(downloads.image(1)), np.eye(4))
    nibabel.save(stored, tmp_path / "x.nii.gz")
    with pytest.raises(StudyError, match=rf"x.nii.gz: {message}"), open_input(tmp_path / "x.nii.gz"):
        pass


def test_a_nifti_file_in_a_folder_of_its_name_and_one_in_capitals(tmp_path):
    image = downloads.image(4)
    downloads.save_nifti(tmp_path / "scan.nii" / "any.nii.gz", image)
    (tmp_path / "scan.nii" / "._any.nii.gz").write_bytes(b"side-car")
    downloads.save_nifti(tmp_path / "x.nii.gz", image)
    (tmp_path / "x.nii.gz").rename(tmp_path / "X.NII.GZ")
    for name in ("scan.nii", "X.NII.GZ"):
        with open_input(tmp_path / name) as (volume,):
            np.testing.assert_allclose(volume.read(0, 3), image, rtol=1e-6)
        write_nifti(tmp_path / "out.nii.gz", tmp_path / name, image)
        np.testing.assert_allclose(
            nibabel.load(tmp_path / "out.nii.gz").affine,
            nibabel.as_closest_canonical(nibabel.load(tmp_path / "scan.nii/any.nii.gz")).affine,
        )


@pytest.mark.parametrize("name", ["x.h5", "x.nii"])
def test_files_that_are_missing_or_no_files_of_their_kind(tmp_path, name):
    with pytest.raises(StudyError, match=rf"{name}: no such file"), open_input(tmp_path / name):
        pass
    (tmp_path / name).write_bytes(b"neither")
    with pytest.raises(StudyError, match=rf"{name}: not a readable"), open_input(tmp_path / name):
        pass


def test_complex_images_are_read_for_a_complex_model_alone(tmp_path):
    images = scans.objects(2) * scans.smooth_phase((48, 40), 2)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["image"] = images
    with open_input(tmp_path / "in.h5", domain="complex") as (volume,):
        np.testing.assert_array_equal(volume.read(0, 2), images.astype(np.complex64))
    with open_input(tmp_path / "in.h5") as (volume,), pytest.raises(StudyError, match="expected real numbers"):
        volume.read(0, 2)
