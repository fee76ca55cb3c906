"""NIfTI volumes: slices in a known orientation whatever the header says; and files that are damaged."""

import gzip

import nibabel
import numpy as np
import pytest

from kdmri_lib.datasets.nifti import count, make, read_nifti
from kdmri_lib.errors import StudyError
from tests import downloads


def ras_volume():
    """Known content in right-anterior-superior order: a value that tells where it is."""
    x, y, z = np.meshgrid(np.arange(5), np.arange(6), np.arange(4), indexing="ij")
    return (100 * z + 10 * y + x + 1).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.nii"


def save(path, values, zooms=(1, 1, 1), unit="mm", code="RAS"):
    image = downloads.reoriented(values, np.diag([*zooms, 1]), code)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


def overwritten(path, place, content):
    """Bytes of the header that programs left wrong."""
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)


def counted(path, **how):
    """How many slices there are, by the header."""
    return count(downloads.declared("nifti_folder", path.parent), str(path), **how)


def refused(path, message, headers=True, **how):
    """Whether read, or counted by the header."""
    for function in (read_nifti, counted)[: 2 if headers else 1]:
        with pytest.raises(StudyError, match=rf"{path.name}: {message}"):
            function(path, **how)


@pytest.mark.parametrize("code", ["RAS", "LPS", "PIR", "SAL"])
def test_slices_are_of_their_orientation_whatever_the_header_says(path, code):
    save(path, ras_volume(), code=code)
    expected = {  # shape; and a slice's value at the upper left
        # Front (large y) at the top, the subject's right (small x in RAS is left, so large x) at the left.
        "axial": ((4, 6, 5), 2, 100 * 2 + 10 * 5 + 4 + 1),
        # Back to front; head to feet; the subject's right to left.
        "coronal": ((6, 4, 5), 1, 100 * 3 + 10 * 1 + 4 + 1),
        # Left to right; head to feet; front to back.
        "sagittal": ((5, 4, 6), 1, 100 * 3 + 10 * 5 + 1 + 1),
    }
    for orientation, (shape, number, value) in expected.items():
        slices = read_nifti(path, orientation)[0]
        assert slices.shape == shape and slices[number, 0, 0] == value
        assert counted(path, orientation=orientation) == shape[0]


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000), ("mm", 1), ("meter", 0.001), ("unknown", 1)])
def test_pixels_are_resampled_when_asked_and_sizes_are_in_mm_whichever_unit_the_header_says(path, unit, factor):
    save(path, ras_volume(), (1.6 * factor, 1.6 * factor, 4 * factor), unit)
    slices, spacing, _ = read_nifti(path, pixel=0.8)
    assert slices.shape == (4, 12, 10) and spacing == pytest.approx((4, 0.8, 0.8))
    slices, spacing, _ = read_nifti(path, "thickest")
    assert slices.shape == (4, 6, 5) and spacing == pytest.approx((4, 1.6, 1.6))
    dataset = downloads.declared("nifti_folder", path.parent, shape=(16, 8), slices_per_volume=2)
    assert make(dataset, str(path), pixel=0.8)[0].shape == (2, 16, 8) and count(dataset, str(path)) == 2


def test_a_unit_or_a_pixel_that_can_not_be_right_is_said_before_memory_is_asked_for(path):
    save(path, ras_volume(), unit="meter")
    found = "1000 x 1000 mm resampled to 0.8 mm give slices of 7.5e.03 x 6.25e.03"
    refused(path, rf"pixels of {found}; expected 1 to 2048 \(is the unit", pixel=0.8)


def test_sizes_that_are_none_are_said_where_they_count(path):
    save(path, ras_volume())
    overwritten(path, 80, np.array([np.nan, 1, 1], "<f4").tobytes())  # pixdim
    assert read_nifti(path)[0].shape == (4, 6, 5)
    refused(path, r"voxels of nan x 1 x 1 mm by its header; which is thickest\?", orientation="thickest")
    refused(path, "pixels of .*nan", pixel=0.8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (ras_volume()[0], r"2-D image of shape \(6, 4\), expected one 3-D volume"),
        (ras_volume()[:, :, :0], r"image of shape \(5, 6, 0\), which holds no slices"),
        (np.stack([ras_volume()] * 2, axis=3), r"4-D image of shape \(5, 6, 4, 2\), expected one 3-D volume"),
        (np.stack([ras_volume()] * 2, axis=3)[:, :, :, None], r"5-D image of shape \(5, 6, 4, 1, 2\)"),
        (ras_volume().astype(np.complex64), "values of type complex64, expected real numbers"),
        (np.zeros((5, 6, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "values of type .*'R'.*, expected real numbers"),
    ],
)
def test_files_that_hold_no_volume_are_refused_by_their_headers(path, values, message):
    save(path, values)
    refused(path, message)


def test_files_that_are_damaged_are_named(path, tmp_path):
    refused(path, "no such file")
    for content in (b"", b"not nifti"):
        path.write_bytes(content)
        refused(path, "not a readable NIfTI")
    for value in (np.nan, 7):
        save(path, np.full((4, 4, 4), value, np.float32))
        refused(path, "the same value everywhere, or holds NaN", headers=False)
    stored = nibabel.Nifti1Image(np.full((20, 16, 3), 30000, np.int16), np.eye(4))
    stored.header.set_slope_inter(3e38, 0)
    nibabel.save(stored, path)
    refused(path, r".*has a scale overflowed\?", headers=False)
    save(tmp_path / "y.nii.gz", np.random.default_rng(0).random((20, 20, 20)))
    (tmp_path / "y.nii.gz").write_bytes((tmp_path / "y.nii.gz").read_bytes()[:5000])
    refused(tmp_path / "y.nii.gz", ".*cut short", headers=False)
    save(tmp_path / "y.nii.gz", np.arange(8000, dtype=np.int16).reshape(20, 20, 20))
    whole = (tmp_path / "y.nii.gz").read_bytes()
    for place in range(300, len(whole) - 8, len(whole) // 20):  # a bit flipped: nibabel takes some of these for images
        (tmp_path / "y.nii.gz").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        refused(tmp_path / "y.nii.gz", ".*(not a readable NIfTI|damaged)", headers=False)
    save(path, ras_volume())
    overwritten(path, 312, bytes(16))  # srow_z
    refused(path, "an axis leads nowhere by its header")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_promises_more_than_the_file_holds(tmp_path, name):
    """Else 150 GiB would be asked for."""
    save(tmp_path / "right.nii", ras_volume())
    overwritten(tmp_path / "right.nii", 42, np.array([3000, 3600, 3700], "<i2").tobytes())
    content = (tmp_path / "right.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    refused(tmp_path / name, r"cut short, or its header is damaged: \d+ bytes of values in a")


def test_an_image_that_compresses_well_is_read(tmp_path):
    image = np.zeros((200, 200, 100), np.uint8)
    image[100, 100, 40:80] = np.arange(40)
    save(tmp_path / "x.nii", image)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress((tmp_path / "x.nii").read_bytes(), 9))
    assert (tmp_path / "x.nii.gz").stat().st_size < image.nbytes / 700
    assert read_nifti(tmp_path / "x.nii.gz")[0].sum() == image.sum()


def test_a_series_is_taken_where_times_are_asked_for_and_axes_of_one_count_for_nothing(path):
    stored = np.random.default_rng(0).random((4, 5, 2, 3), np.float32)
    save(path, stored)
    slices = read_nifti(path, times=True)[0]
    assert slices.shape == (6, 5, 4) and counted(path, times=True) == 6
    np.testing.assert_array_equal(slices[3], stored[::-1, ::-1, 1, 1].T)
    save(path, ras_volume()[..., None, None])
    for times in (True, False):
        np.testing.assert_array_equal(read_nifti(path, times=times)[0], ras_volume()[::-1, ::-1].T)
