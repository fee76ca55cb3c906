"""NIfTI volumes: slices in a known orientation whatever the header says; and files that are damaged."""

import gzip

import nibabel
import numpy as np
import pytest

from kdmri_lib.datasets.nifti import framed_slices, read_magnitudes, read_nifti, slices_in
from kdmri_lib.errors import StudyError
from tests import downloads


def ras_volume():
    """Known content in right-anterior-superior order: a value that tells where it is."""
    x, y, z = np.meshgrid(np.arange(5), np.arange(6), np.arange(4), indexing="ij")
    return (100 * z + 10 * y + x + 1).astype(np.float32)


def save_turned(path, orientation):
    image = nibabel.Nifti1Image(ras_volume(), np.eye(4))
    current = nibabel.io_orientation(image.affine)
    wanted = nibabel.orientations.axcodes2ornt(orientation)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(current, wanted)), path)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_axial_slices_are_axial_whatever_the_header_says(tmp_path, orientation):
    save_turned(tmp_path / "x.nii.gz", orientation)
    slices = read_nifti(tmp_path / "x.nii.gz")[0]
    assert slices.shape == (4, 6, 5)
    # Front (large y) at the top, the subject's right (small x in RAS is left, so large x) at the left.
    assert slices[2, 0, 0] == 100 * 2 + 10 * 5 + 4 + 1
    assert slices[0, -1, -1] == 1


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_coronal_and_sagittal_slices_stand_on_their_feet(tmp_path, orientation):
    save_turned(tmp_path / "x.nii.gz", orientation)
    coronal = read_nifti(tmp_path / "x.nii.gz", "coronal")[0]
    assert coronal.shape == (6, 4, 5), "back to front; head to feet; the subject's right to left"
    assert coronal[1, 0, 0] == 100 * 3 + 10 * 1 + 4 + 1
    sagittal = read_nifti(tmp_path / "x.nii.gz", "sagittal")[0]
    assert sagittal.shape == (5, 4, 6), "left to right; head to feet; front to back"
    assert sagittal[1, 0, 0] == 100 * 3 + 10 * 5 + 1 + 1
    assert [slices_in(tmp_path / "x.nii.gz", name) for name in ("axial", "coronal", "sagittal")] == [4, 6, 5]
    with pytest.raises(StudyError, match="unknown orientation 'oblique'; known: axial, coronal, sagittal, thickest"):
        read_nifti(tmp_path / "x.nii.gz", "oblique")


def test_pixels_are_resampled_only_when_asked(tmp_path):
    image = np.random.default_rng(0).random((10, 12, 3), np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2, 2, 5, 1])), tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii")[0].shape == (3, 12, 10)
    slices, spacing = read_nifti(tmp_path / "x.nii", pixel=1.0)
    assert slices.shape == (3, 24, 20) and spacing == (5, 1, 1)
    assert framed_slices(tmp_path / "x.nii", (16, 16), 2)[0].shape == (2, 16, 16)
    assert read_nifti(tmp_path / "x.nii", "thickest")[1] == (5, 2, 2)


@pytest.mark.parametrize("content", [b"", b"not nifti", None, np.nan, 0.0])
def test_bad_nifti_files_are_named(tmp_path, content):
    path = tmp_path / "scan.nii"
    if isinstance(content, float):
        nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), content, np.float32), np.eye(4)), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=r"scan.nii: (no such file|not a readable NIfTI|the same value everywhere)"):
        read_nifti(path)


def test_a_gzip_nifti_cut_short(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((20, 20, 20)), np.eye(4)), tmp_path / "x.nii.gz")
    (tmp_path / "x.nii.gz").write_bytes((tmp_path / "x.nii.gz").read_bytes()[:5000])
    with pytest.raises(StudyError, match="cut short"):
        read_nifti(tmp_path / "x.nii.gz")[0]


def test_a_series_is_taken_only_where_times_are_asked_for(tmp_path):
    stored = np.random.default_rng(0).random((4, 5, 2, 3), np.float32)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(StudyError, match=r"x.nii: 4-D image of shape \(4, 5, 2, 3\), expected one 3-D volume"):
        read_nifti(tmp_path / "x.nii")
    slices = read_nifti(tmp_path / "x.nii", times=True)[0]
    assert slices.shape == (6, 5, 4) and slices_in(tmp_path / "x.nii", times=True) == 6
    np.testing.assert_array_equal(slices[3], stored[::-1, ::-1, 1, 1].T)
    downloads.save_nifti(tmp_path / "one.nii", downloads.image(1))
    assert read_nifti(tmp_path / "one.nii", times=True)[0].shape == (3, *downloads.SHAPE)


def save_in(path, unit, zooms):
    image = nibabel.Nifti1Image(ras_volume(), np.diag([*zooms, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000), ("mm", 1), ("meter", 0.001), ("unknown", 1)])
def test_sizes_are_in_mm_whichever_unit_the_header_says(tmp_path, unit, factor):
    save_in(tmp_path / "x.nii", unit, (1.6 * factor, 1.6 * factor, 4 * factor))
    slices, spacing = read_nifti(tmp_path / "x.nii", pixel=0.8)
    assert slices.shape == (4, 12, 10) and spacing == pytest.approx((4, 0.8, 0.8))
    assert read_nifti(tmp_path / "x.nii")[1] == pytest.approx((4, 1.6, 1.6))


@pytest.mark.parametrize(
    ("unit", "size", "pixel", "found"),
    [
        ("meter", 1.0, 0.8, "1000 x 1000 mm resampled to 0.8 mm give slices of 7.5e.03 x 6.25e.03"),
        ("micron", 1.0, 0.8, "0.001 x 0.001 mm resampled to 0.8 mm give slices of 0.0075 x 0.00625"),
        ("mm", 1.0, 1e-4, "1 x 1 mm resampled to 0.0001 mm give slices of 6e.04 x 5e.04"),
    ],
)
def test_a_unit_or_a_pixel_that_can_not_be_right_is_said_before_memory_is_asked_for(tmp_path, unit, size, pixel, found):
    save_in(tmp_path / "x.nii", unit, (size, size, size))
    for function in (read_nifti, read_magnitudes, slices_in):
        with pytest.raises(StudyError, match=rf"x.nii: pixels of {found}; expected 1 to 2048 \(is the unit"):
            function(tmp_path / "x.nii", pixel=pixel)


def test_sizes_that_are_none_are_said_where_they_count(tmp_path):
    save_in(tmp_path / "x.nii", "mm", (1, 1, 1))
    content = bytearray((tmp_path / "x.nii").read_bytes())
    content[80:92] = np.array([np.nan, 1, 1], "<f4").tobytes()  # pixdim
    (tmp_path / "x.nii").write_bytes(content)
    assert read_nifti(tmp_path / "x.nii")[0].shape == (4, 6, 5)
    with pytest.raises(StudyError, match=r"x.nii: voxels of nan x 1 x 1 mm by its header; which is thickest\?"):
        read_nifti(tmp_path / "x.nii", "thickest")
    with pytest.raises(StudyError, match=r"x.nii: pixels of .*nan"):
        read_nifti(tmp_path / "x.nii", pixel=0.8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (ras_volume()[0], r"2-D image of shape \(6, 4\), expected one 3-D volume"),
        (ras_volume()[0, 0], r"1-D image of shape \(4,\), expected one 3-D volume"),
        (ras_volume()[:, :, :0], r"image of shape \(5, 6, 0\), which holds no slices"),
        (np.stack([ras_volume()] * 2, axis=3)[:, :, :, None], r"5-D image of shape \(5, 6, 4, 1, 2\)"),
        (ras_volume().astype(np.complex64), "values of type complex64, expected real numbers"),
        (np.zeros((5, 6, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "values of type .*'R'.*, expected real numbers"),
    ],
)
def test_files_that_hold_no_volume_are_refused_by_their_headers(tmp_path, values, message):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "x.nii")
    for function in (read_nifti, read_magnitudes, slices_in):
        with pytest.raises(StudyError, match=rf"x.nii: {message}"):
            function(tmp_path / "x.nii")


def test_axes_of_one_that_programs_add_and_names_in_capitals(tmp_path):
    nibabel.save(nibabel.Nifti1Image(ras_volume()[..., None, None], np.eye(4)), tmp_path / "x.nii.gz")
    (tmp_path / "x.nii.gz").rename(tmp_path / "X.NII.GZ")
    np.testing.assert_array_equal(read_nifti(tmp_path / "X.NII.GZ")[0], ras_volume()[::-1, ::-1].T)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_promises_more_than_the_file_holds(tmp_path, name):
    """Else 150 GiB would be asked for."""
    downloads.save_nifti(tmp_path / "right.nii", downloads.image(1))
    content = bytearray((tmp_path / "right.nii").read_bytes())
    content[42:48] = np.array([3000, 3600, 3700], "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for function in (read_nifti, read_magnitudes, slices_in):
        with pytest.raises(StudyError, match=rf"{name}: cut short, or its header is damaged: \d+ bytes of values in a"):
            function(tmp_path / name)


def test_an_image_that_compresses_well_is_read(tmp_path):
    image = np.zeros((200, 200, 100), np.uint8)
    image[100, 100, 40:80] = np.arange(40)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "x.nii")
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress((tmp_path / "x.nii").read_bytes(), 9))
    assert (tmp_path / "x.nii.gz").stat().st_size < image.nbytes / 700
    assert read_magnitudes(tmp_path / "x.nii.gz")[0].sum() == image.sum()


def test_headers_are_read_without_the_values(tmp_path, monkeypatch):
    downloads.save_nifti(tmp_path / "x.nii.gz", downloads.image(1), "AIR")
    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "__array__", None)
    assert slices_in(tmp_path / "x.nii.gz") == 3


def test_an_orientation_that_is_none_is_said(tmp_path):
    nibabel.save(nibabel.Nifti1Image(ras_volume(), np.eye(4)), tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    content[312:328] = bytes(16)  # srow_z
    (tmp_path / "x.nii").write_bytes(content)
    for function in (read_nifti, slices_in):
        with pytest.raises(StudyError, match=r"x.nii: an axis leads nowhere by its header"):
            function(tmp_path / "x.nii")
