"""DICOM series as scanners and archives write them: what makes a volume, and what is named and refused."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from kdmri_lib.datasets.preparing import members, prepare, survey
from kdmri_lib.datasets.sources import dicom_folder
from kdmri_lib.errors import StudyError
from tests import downloads, trees

NIBABELS = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
PIXELS = (1000 * downloads.image(1, 6)).astype(np.uint16)


def series(folder: Path, positions=(0, 5, 10, 15), number: str = "1.2.3", each=lambda n: {}, **more) -> list[str]:
    """Files of one series at these positions in mm; `each` says what a slice's header holds beside."""
    files = [folder / f"{n}.dcm" for n in range(len(positions))]
    for n, (file, position) in enumerate(zip(files, positions, strict=True)):
        downloads.save_dicom(file, PIXELS[n % len(PIXELS)], position, number, **({} | more | each(n)))
    return [str(file) for file in files]


def refused(files: list[str], message: str, **options) -> None:
    """Both by their headers and when their pixels are read."""
    dataset = downloads.declared("dicom_folder", Path(files[0]).parent, options=options)
    for function in (dicom_folder.count, dicom_folder.make):
        with pytest.raises(StudyError, match=message):
            function(dataset, files)


def made(files: list[str], **options) -> tuple[np.ndarray, dict]:
    dataset = downloads.declared("dicom_folder", Path(files[0]).parent, options=options)
    image, attributes = dicom_folder.make(dataset, files)
    assert dicom_folder.count(dataset, files) == len(image)
    return image, attributes


def empty(files: list[str], *names: str) -> list[str]:
    """The same files with these fields there and empty."""
    for file in files:
        data = pydicom.dcmread(file)
        for name in names:
            setattr(data, name, None)
        data.save_as(file)
    return files


def test_orientations_that_are_rounded_differently_are_one_series(tmp_path):
    """As a scanner wrote 32 roundings of one orientation in a series of 130 slices."""
    rng = np.random.default_rng(0)
    angle = 0.3
    exact = np.array([1, 0, 0, 0, np.cos(angle), np.sin(angle)])
    normal = np.cross(exact[:3], exact[3:])

    def rounded(n):
        where = 1.4 * n * normal + rng.uniform(-1e-4, 1e-4, 3)
        cosines = exact + rng.uniform(-2e-6, 2e-6, 6)
        return {
            "ImageOrientationPatient": [f"{c:.6f}" for c in cosines],
            "ImagePositionPatient": [f"{p:.4f}" for p in where],
            "PixelSpacing": ["0.859400", "0.859375" if n % 2 else "0.8594"],
        }

    files = series(tmp_path, range(30), each=rounded)
    image, attributes = made(files[::-1])
    assert len(image) == 30 and attributes["spacing"][0] == pytest.approx(1.4, abs=1e-3)
    np.testing.assert_allclose(image[1], 0.5 * PIXELS[1].astype(np.float32) + 3)


def test_planes_that_are_not_parallel_are_refused(tmp_path):
    planes = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1])
    files = series(tmp_path, range(9), each=lambda n: {"ImageOrientationPatient": planes[n // 3]})
    refused(files, r"\d.dcm: its slice isn't parallel to that of .*\d.dcm in the same series \(a localiser\?\)")
    for number, file in enumerate(files):  # planes around an axis
        data = pydicom.dcmread(file)
        data.ImageOrientationPatient = [np.cos(number / 5), np.sin(number / 5), 0, 0, 0, -1]
        data.save_as(file)
    refused(files, "isn't parallel")


def test_pydicoms_localiser_and_projections_are_refused():
    place = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "98892003"
    for names in (("4950", "4981", "5011"), ("6273", "6605", "6935")):
        refused([str(place / "MR2" / name) for name in names], "isn't parallel to that of")
    refused([str(file) for file in sorted((place / "MR700").iterdir())], "isn't parallel to that of")
    image, attributes = made([str(place / "MR1" / "15820")])
    assert len(image) == 1 and attributes["spacing"] == (0, 1.367188, 1.367188)


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"]
)
def test_pydicoms_slices_are_read_however_they_are_coded(name):
    image, attributes = made([get_testdata_file(name, download=False)])
    stored = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
    np.testing.assert_array_equal(image[0], stored[22:42, 24:40])
    assert attributes["spacing"] == (0, 0.3125, 0.3125)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "not a readable DICOM file, or cut short"),
        ("CT_small.dcm", "modality CT, expected MR"),
        ("rtdose.dcm", "modality RTDOSE, expected MR"),
        ("SC_rgb_rle.dcm", "modality OT, expected MR"),
    ],
)
def test_pydicoms_other_files_are_refused(name, message):
    file = get_testdata_file(name, download=False)
    with pytest.raises(StudyError, match=f"{name}: {message}"):
        made([file])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("siemens_dwi_0.dcm.gz", "a mosaic, many slices in one image; expected one slice per file"),
        ("0.dcm", "a mosaic"),
        ("decimal_rescale.dcm", "of image type ORIGINAL, PRIMARY, R, ND, MAGNITUDE; expected magnitudes"),
        ("philips_mprage.dcm.gz", "a multi-frame file"),
    ],
)
def test_nibabels_own_files(tmp_path, name, message):
    if not (NIBABELS / name).exists():
        pytest.skip("this nibabel carries no test files")
    content = (NIBABELS / name).read_bytes()
    file = tmp_path / name.removesuffix(".gz")
    file.write_bytes(gzip.decompress(content) if name.endswith(".gz") else content)
    refused([str(file)], f"{file.name}: {message}")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (
            (0, 5, 10, 20, 25, 30),
            "3.dcm: 10 mm from the slice before it, where 5 mm are usual in its series; .*missing",
        ),
        ((0, 5, 15), "2.dcm: 10 mm from the slice before it|1.dcm: 5 mm from the slice before it"),
        ((0, 3, 6, 50, 53, 56), "3.dcm: 44 mm from the slice before it, where 3 mm are usual"),
        ((0, 5, 5.4, 10, 15, 20), "2.dcm: 0.4 mm from the slice before it, where 5 mm are usual"),
        ((0, 5, 5, 10), "2.dcm: a second slice at the same position of its series"),
    ],
)
def test_slices_that_are_missing_or_doubled_are_named(tmp_path, positions, message):
    refused(series(tmp_path, positions), message)


def test_distances_that_are_rounded_are_even(tmp_path):
    assert made(series(tmp_path, (0, 5.001, 9.999, 15.002, 20)))[1]["spacing"][0] == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "a mosaic"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "of image type ORIGINAL, PRIMARY, P, ND"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}, "of image type .*PHASE MAP"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]}, "of image type .*R_IR, R"),
        ({"ComplexImageComponent": "PHASE"}, "of image type PHASE; expected magnitudes"),
        (
            {"PhotometricInterpretation": "MONOCHROME1"},
            "pixels are MONOCHROME1, expected grey values",
        ),
        ({"Modality": "CT"}, "modality CT, expected MR"),
        ({"NumberOfFrames": 4}, "a multi-frame file; expected one slice per file"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "orientation .*, expected two directions at a right angle"),
        ({"RescaleIntercept": -4096}, "negative values"),
    ],
)
def test_images_that_are_no_magnitude_slices_are_refused(tmp_path, header, message):
    with pytest.raises(StudyError, match=rf"\d.dcm: {message}"):
        made(series(tmp_path, **header))


@pytest.mark.filterwarnings("ignore:A value of .None. for")
def test_empty_fields_are_as_if_they_were_not_there(tmp_path):
    names = (
        "RescaleSlope",
        "RescaleIntercept",
        "NumberOfFrames",
        "ImageType",
        "PatientID",
        "PhotometricInterpretation",
    )
    image, _ = made(empty(series(tmp_path), *names[:4]))
    np.testing.assert_array_equal(image, PIXELS[:4])
    files = empty(series(tmp_path), "PixelSpacing")
    assert "spacing" not in made(files)[1]
    refused(files, r"0.dcm: pixels of nan x nan mm resampled to 0.8 mm", pixel=0.8)
    refused(empty(files, "ImagePositionPatient"), "no position or orientation; its place in the series isn't known")


def test_what_is_no_image_is_passed_over(tmp_path):
    expected = downloads.dicom(tmp_path)
    kinds = {"SR": "1.2.840.10008.5.1.4.1.1.88.11", "PR": "1.2.840.10008.5.1.4.1.1.11.1"}
    for name, modality in (("report", "SR"), ("state", "PR"), ("segmentation", "SEG")):
        file = tmp_path / "person1" / f"{name}.dcm"
        downloads.save_dicom(file, PIXELS[0], 0, "1.2.9", Modality=modality)
        if modality != "SEG":
            data = pydicom.dcmread(file)
            del data.Rows, data.PixelData
            data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kinds[modality]
            data.save_as(file)
    directory = get_testdata_file("DICOMDIR", download=False)
    (tmp_path / "DICOMDIR").write_bytes(Path(directory).read_bytes())
    found, left_out, _ = trees.agreed(downloads.declared("dicom_folder", tmp_path), tmp_path.parent / "out.h5")
    assert set(found) == set(expected) and left_out == {}


def test_a_damaged_header_is_said_whatever_the_files_name(tmp_path):
    downloads.dicom(tmp_path)
    whole = (tmp_path / "person1/IM_a.dcm").read_bytes()
    (tmp_path / "person1/notes").write_bytes(b"not DICOM")
    dataset = downloads.declared("dicom_folder", tmp_path)
    for size in (140, 200, 400, 600):
        (tmp_path / "person1/IM0001").write_bytes(whole[:size])
        _, left_out, _ = trees.agreed(dataset, tmp_path.parent / f"{size}.h5")
        (reason,) = left_out.values()
        assert f"{tmp_path}/person1/IM0001: " in reason, "however much of its header is there"


def test_series_without_a_number_go_by_their_folders_and_patients_without_one_are_one(tmp_path):
    for n in range(4):
        empty(series(tmp_path / f"person{n}" / "first"), "SeriesInstanceUID")
        empty(series(tmp_path / f"person{n}" / "second"), "SeriesInstanceUID")
    found = members(downloads.declared("dicom_folder", tmp_path))
    assert [m.volume for m in found][:2] == ["person0_series1", "person0_series2"] and len(found) == 8
    loose = tmp_path / "loose"
    empty(series(loose), "PatientID")
    with pytest.raises(StudyError, match=r"1 subjects found \(1 train, 0 validation, 0 test\)"):
        members(downloads.declared("dicom_folder", loose))


@pytest.mark.parametrize("broken", ["gap", "localiser", "mosaic"])
def test_check_says_what_prepare_leaves_out(tmp_path, broken):
    downloads.dicom(tmp_path)
    number = pydicom.dcmread(tmp_path / "person1/IM_a.dcm").SeriesInstanceUID
    more = {
        "gap": {},
        "localiser": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        "mosaic": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]},
    }
    downloads.save_dicom(tmp_path / "person1/IM_z.dcm", PIXELS[0][:20, :16], 30, number, **more[broken])
    dataset = downloads.declared("dicom_folder", tmp_path)
    _, left_out, _ = trees.agreed(dataset, tmp_path.parent / "out.h5")
    assert set(left_out) == {"person1_series1"}
    assert set(survey(dataset, headers=True).problems) == {"person1_series1"}
    assert not prepare(dataset, tmp_path.parent / "out.h5", 1).made
