"""The command `reconstruct`: from file to file, in the file's units and place; what doesn't fit leaves no output."""

import hashlib
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pytest

from kdmri_lib.deployment import Model
from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from kdmri_lib.deployment.volumes import open_input
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import ORDERS
from kdmri_lib.storage import PROJECT
from tests import downloads


@pytest.mark.parametrize("made", ["fft2", "fftshift(fft2)"])
def test_k_space_from_file_to_file(model, kspace, tmp_path, made):
    kspace = 50 * kspace
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = np.fft.fftshift(kspace, axes=(1, 2)) if "shift" in made else kspace
        file.attrs["patient"] = "somebody"
    pictures = tmp_path / "pictures"
    order, slices = reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", How(batch=3), figures=pictures)
    assert order.startswith(
        f"kspace: order {'shifted' if 'shift' in made else 'unshifted'}, found from the data (zero freq"
    )
    assert slices == f"kspace: {len(kspace)} slices of 72x72"
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_allclose(file["image"][:], model.reconstruct(kspace), atol=2e-4)
        assert file["image"].attrs["patient"] == "somebody" and file.attrs["model_run"] == model.about["run"]
        assert file.attrs["source_sha256"] == hashlib.sha256((tmp_path / "in.h5").read_bytes()).hexdigest()
    assert (tmp_path / "pictures/in_kspace.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(StudyError, match=r"out.h5: exists already; --force replaces it"):
        reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == before
    reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", force=True)


def test_a_prepared_file_and_a_nifti_volume_as_a_trial(model, deployed, kspace, tmp_path):
    folder, _, volumes = deployed
    prepared = folder.study.prepared("cardiac")
    with pytest.raises(StudyError, match="holds images, expected k-space; --undersample takes them for fully sampled"):
        reconstruct_file(model, prepared, tmp_path / "out.h5")
    reconstruct_file(model, prepared, tmp_path / "out.h5", How(undersample=True))
    expected = model.reconstruct(kspace)
    with h5py.File(tmp_path / "out.h5") as file:
        found = file[f"volumes/{volumes[0].subject}"]
        np.testing.assert_allclose(found[:], expected, atol=1e-5)
        assert found.attrs["split"] == "test"
    downloads.save_nifti(tmp_path / "scan.nii.gz", 1000 * volumes[0].image, "LPS")
    reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.nii.gz", How(undersample=True))
    with open_input(tmp_path / "recon.nii.gz") as (again,):
        np.testing.assert_allclose(again.read(0, 99), np.maximum(1000 * expected, 0), atol=0.05)
    same = nibabel.as_closest_canonical(nibabel.load(tmp_path / "scan.nii.gz")).affine
    np.testing.assert_allclose(nibabel.load(tmp_path / "recon.nii.gz").affine, same)
    with pytest.raises(StudyError, match="a NIfTI volume becomes a NIfTI volume"):
        reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.h5", How(undersample=True))


def test_pictures_of_files_with_long_names(model, kspace, tmp_path):
    for end in "ab":  # names that differ at their end alone
        source = tmp_path / f"{'é' * 100}{end}.h5"
        with h5py.File(source, "w") as file:
            file["kspace"] = kspace
        reconstruct_file(model, source, tmp_path / f"{end}.h5", figures=tmp_path / "pictures")
    names = [path.name for path in (tmp_path / "pictures").iterdir()]
    assert len(names) == 2 and max(len(name.encode()) for name in names) < 170


def other_mask(file, kspace, model):
    file["kspace"] = np.roll(kspace, 3, axis=1)


def whole(file, kspace, model):
    file["kspace"] = kspace + 1e-3


def of_another_size(file, kspace, model):
    file["kspace"] = kspace[:, :70]


def with_nan(file, kspace, model):
    file["kspace"] = np.where(np.arange(72)[:, None] == 0, np.nan, kspace)


def of_real_numbers(file, kspace, model):
    file["kspace"] = kspace.real


def of_another_name(file, kspace, model):
    file["data"] = kspace


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (other_mask, r"9 of 72 lines along axis 0 are measured, \d of them among the 9 that student.onnx was made for"),
        (whole, "72 of 72 lines along axis 0 are measured, 9 of them among the 9"),
        (of_another_size, "slices of 70x72, but student.onnx was made for 72 x any"),
        (with_nan, "holds NaN or infinite values|NaN or infinite values in slices"),
        (of_real_numbers, "values of type float32, expected complex numbers"),
        (of_another_name, "no array 'kspace' or 'image' and no volumes; it has data"),
    ],
)
def test_inputs_that_are_refused_leave_no_output(model, kspace, tmp_path, fill, message):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        fill(file, kspace, model)
    with pytest.raises(StudyError, match=message):
        reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", How(order="unshifted"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5"]


def test_fully_sampled_k_space_on_request(model, deployed, kspace, tmp_path):
    volume = deployed[2][0]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = np.fft.fft2(volume.image, norm="ortho").astype(np.complex64)
    reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", How(undersample=True))
    with h5py.File(tmp_path / "out.h5") as file:
        expected = model.reconstruct(kspace)
        np.testing.assert_allclose(file["image"][:], expected, atol=1e-5)


def test_a_complex_network_from_file_to_file(complex_deployed, tmp_path):
    """In the convention of scanners' files, with its phase and without; and coil by coil."""
    _, path, (volume, *_) = complex_deployed
    model = Model(path, engine="onnxruntime", precision="float32", threads=1)
    kspace = (np.fft.fft2(volume.image, norm="ortho") * model.mask).astype(np.complex64)
    image = np.fft.ifftshift(volume.image, axes=(1, 2))
    mask = np.fft.fftshift(model.mask)
    centred = np.fft.fftshift(np.fft.fft2(image, norm="ortho"), axes=(1, 2)) * mask
    np.save(tmp_path / "in.npy", centred.astype(np.complex64))
    expected = model.reconstruct(kspace, phase=True)
    for as_complex in (True, False):
        how = How(order="centred", complex=as_complex)
        reconstruct_file(model, tmp_path / "in.npy", tmp_path / "out.h5", how, force=True)
        with h5py.File(tmp_path / "out.h5") as file:
            np.testing.assert_allclose(file["image"][:], expected if as_complex else np.abs(expected), atol=1e-5)
    both = np.stack([centred, 0.5j * centred], axis=1)
    np.save(tmp_path / "in.npy", both.astype(np.complex64))
    reconstruct_file(model, tmp_path / "in.npy", tmp_path / "out.h5", How(order="centred"), force=True)
    with h5py.File(tmp_path / "out.h5") as file:  # the second coil is the first, turned and halved
        np.testing.assert_allclose(file["image"][:], np.sqrt(1.25) * np.abs(expected), atol=1e-4)


def test_the_command_knows_every_order():
    told = subprocess.run(
        [sys.executable, "-m", "kdmri_lib", "reconstruct", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "{" + ",".join(["auto", *ORDERS]) + "}" in told.stdout.replace("\n", "").replace(" ", "")
