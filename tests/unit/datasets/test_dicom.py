"""DICOM series as scanners and archives write them: what makes a volume, and what is named and refused."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from kdmri_lib.datasets.preparing import members
from kdmri_lib.datasets.sources import dicom_folder
from kdmri_lib.errors import StudyError
from tests import downloads, trees

NIBABELS = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
PIXELS = (1000 * downloads.image(1, 6)).astype(np.uint16)


def series(folder: Path, positions=(0, 5, 10, 15), number: str = "1.2.3", each=lambda n: {}, **more) -> list[str]:
    """Files of one series at these positions in mm; `each` says what a slice's header holds beside."""
    files = [folder / f"{n}.dcm" for n in range(len(positions))]
    for n, (file, position) in enumerate(zip(files, positions, strict=True)):
        downloads.save_dicom(file, PIXELS[n % len(PIXELS)], position, number, **more | each(n))
    return [str(file) for file in files]


def refused(files: list[str], message: str, **options) -> None:
    """Both by their headers and when their pixels are read."""
    dataset = downloads.declared("dicom_folder", Path(files[0]).parent, options=options)
    for function in (dicom_folder.count, dicom_folder.make):
        with pytest.raises(StudyError, match=message):
            function(dataset, files)


def made(files: list[str]) -> tuple[np.ndarray, dict]:
    dataset = downloads.declared("dicom_folder", Path(files[0]).parent)
    image, attributes = dicom_folder.make(dataset, files)
    assert dicom_folder.count(dataset, files) == len(image)
    return image, attributes


def changed(files: list[str], change) -> list[str]:
    """The same files with `change(data, number)` of each made to its header."""
    for number, file in enumerate(files):
        data = pydicom.dcmread(file)
        change(data, number)
        data.save_as(file)
    return files


def empty(files: list[str], *names: str) -> list[str]:
    """The same files with these fields there and empty."""
    return changed(files, lambda data, _: [setattr(data, name, None) for name in names])


def test_orientations_that_are_rounded_differently_are_one_series(tmp_path):
    """As a scanner wrote 32 roundings of one orientation in a series of 130 slices."""
    rng, angle = np.random.default_rng(0), 0.3
    exact = np.array([1, 0, 0, 0, np.cos(angle), np.sin(angle)])
    normal = np.cross(exact[:3], exact[3:])

    def rounded(n):
        return {
            "ImageOrientationPatient": [f"{c:.6f}" for c in exact + rng.uniform(-2e-6, 2e-6, 6)],
            "ImagePositionPatient": [f"{p:.4f}" for p in 1.4 * n * normal + rng.uniform(-1e-4, 1e-4, 3)],
            "PixelSpacing": ["0.859400", "0.859375" if n % 2 else "0.8594"],
        }

    files = series(tmp_path, range(30), each=rounded)
    image, attributes = made(files[::-1])
    assert len(image) == 30 and attributes["spacing"][0] == pytest.approx(1.4, abs=1e-3)
    np.testing.assert_allclose(image[1], 0.5 * PIXELS[1].astype(np.float32) + 3)


def test_localisers_and_projections_are_refused(tmp_path):
    place = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "98892003"
    for files in (("MR2/4950", "MR2/4981", "MR2/5011"), ("MR2/6273", "MR2/6605", "MR2/6935")):
        refused(
            [str(place / file) for file in files], r"\d: its slice isn't parallel to that of .*\d in the same series"
        )
    refused([str(file) for file in sorted((place / "MR700").iterdir())], "isn't parallel to that of")
    image, attributes = made([str(place / "MR1" / "15820")])
    assert len(image) == 1 and attributes["spacing"] == (0, 1.367188, 1.367188)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "not a readable DICOM file, or cut short"),
        ("CT_small.dcm", "modality CT, expected MR"),
        ("siemens_dwi_0.dcm.gz", "a mosaic, many slices in one image; expected one slice per file"),
        ("decimal_rescale.dcm", "of image type ORIGINAL, PRIMARY, R, ND, MAGNITUDE; expected magnitudes"),
        ("philips_mprage.dcm.gz", "a multi-frame file"),
    ],
)
def test_pydicoms_and_nibabels_other_files_are_refused(tmp_path, name, message):
    found = Path(get_testdata_file(name, download=False) or NIBABELS / name)
    if not found.exists():
        pytest.skip("this nibabel carries no test files")
    file = tmp_path / name.removesuffix(".gz")
    file.write_bytes(gzip.decompress(found.read_bytes()) if name.endswith(".gz") else found.read_bytes())
    with pytest.raises(StudyError, match=f"{file.name}: {message}"):
        made([str(file)])


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ((0, 5, 10, 20, 25), "3.dcm: 10 mm from the slice before it, where 5 mm are usual in its series; .*missing"),
        ((0, 5, 5.4, 10, 15, 20), "2.dcm: 0.4 mm from the slice before it, where 5 mm are usual"),
        ((0, 5, 5, 10), "2.dcm: a second slice at the same position of its series"),
    ],
)
def test_slices_that_are_missing_or_doubled_are_named(tmp_path, positions, message):
    refused(series(tmp_path, positions), message)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "of image type ORIGINAL, PRIMARY, P, ND"),
        ({"ComplexImageComponent": "PHASE"}, "of image type PHASE; expected magnitudes"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "pixels are MONOCHROME1, expected grey values"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "orientation .*, expected two directions at a right angle"),
        ({"RescaleIntercept": -4096}, "negative values"),
    ],
)
def test_images_that_are_no_magnitude_slices_are_refused(tmp_path, header, message):
    with pytest.raises(StudyError, match=rf"\d.dcm: {message}"):
        made(series(tmp_path, **header))


@pytest.mark.filterwarnings("ignore:A value of .None. for")
def test_empty_fields_are_as_if_they_were_not_there(tmp_path):
    image, _ = made(empty(series(tmp_path), "RescaleSlope", "RescaleIntercept", "NumberOfFrames", "ImageType"))
    np.testing.assert_array_equal(image, PIXELS[:4])
    files = empty(series(tmp_path), "PixelSpacing")
    assert "spacing" not in made(files)[1]
    refused(files, r"0.dcm: pixels of nan x nan mm resampled to 0.8 mm", pixel=0.8)
    refused(empty(files, "ImagePositionPatient"), "no position or orientation; its place in the series isn't known")


def no_image(data, kind: str) -> None:
    del data.Rows, data.PixelData
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind


def test_what_is_no_image_is_passed_over(tmp_path):
    expected = downloads.dicom(tmp_path)
    kinds = {"SR": "1.2.840.10008.5.1.4.1.1.88.11", "PR": "1.2.840.10008.5.1.4.1.1.11.1"}
    for name, modality in (("report", "SR"), ("state", "PR"), ("segmentation", "SEG")):
        file = tmp_path / "person1" / f"{name}.dcm"
        downloads.save_dicom(file, PIXELS[0], 0, "1.2.9", Modality=modality)
        if modality != "SEG":
            changed([file], lambda data, _, kind=kinds[modality]: no_image(data, kind))
    directory = get_testdata_file("DICOMDIR", download=False)
    (tmp_path / "DICOMDIR").write_bytes(Path(directory).read_bytes())
    found, left_out, _ = trees.agreed(downloads.declared("dicom_folder", tmp_path), tmp_path.parent / "out.h5")
    assert set(found) == set(expected) and left_out == {}


def test_a_damaged_header_is_said_whatever_the_files_name(tmp_path):
    downloads.dicom(tmp_path)
    whole = (tmp_path / "person1/IM_a.dcm").read_bytes()
    (tmp_path / "person1/notes").write_bytes(b"not DICOM")
    dataset = downloads.declared("dicom_folder", tmp_path)
    for size in (140, 600):
        (tmp_path / "person1/IM0001").write_bytes(whole[:size])
        _, left_out, _ = trees.agreed(dataset, tmp_path.parent / f"{size}.h5")
        (reason,) = left_out.values()
        assert f"{tmp_path}/person1/IM0001: " in reason, "however much of its header is there"


def test_series_without_a_number_go_by_their_folders_and_patients_without_one_are_one(tmp_path):
    for n in range(4):
        for folder in ("first", "second"):
            empty(series(tmp_path / f"person{n}" / folder, PatientID=f"{n}"), "SeriesInstanceUID")
    found = members(downloads.declared("dicom_folder", tmp_path))
    assert [m.volume for m in found][:2] == ["person0_series1", "person0_series2"] and len(found) == 8
    loose = tmp_path / "loose"
    empty(series(loose), "PatientID")
    with pytest.raises(StudyError, match=r"1 subjects found \(1 train, 0 validation, 0 test\)"):
        members(downloads.declared("dicom_folder", loose))


def test_a_series_with_one_slice_that_is_not_of_it_is_left_out(tmp_path):
    downloads.dicom(tmp_path)
    number = pydicom.dcmread(tmp_path / "person1/IM_a.dcm").SeriesInstanceUID
    downloads.save_dicom(tmp_path / "person1/IM_z.dcm", PIXELS[0][:5, :5], 0, number)
    _, left_out, _ = trees.agreed(downloads.declared("dicom_folder", tmp_path), tmp_path.parent / "out.h5")
    assert set(left_out) == {"person1_series1"} and "(5, 5) pixels of" in left_out["person1_series1"]


def test_a_patient_in_several_folders_is_one_subject_by_the_headers(tmp_path):
    """Folders b and d share an ID, c and d another: three folders of one person; of a fourth nothing is known."""
    folders = {"a": ["1"], "b": ["2"], "c": ["3"], "d": ["2", "3"], "e": [""], "f": [""]}
    for folder, patients in folders.items():
        for patient in patients:
            series(tmp_path / folder / f"of{patient}", number=f"1.2.{folder.encode()[0]}{patient}", PatientID=patient)
    dataset = downloads.declared("dicom_folder", tmp_path)
    found = {m.volume[0]: (m.split, m.subject) for m in members(dataset)}
    one = ("train", "b")
    assert found == {"a": ("train", "a"), "b": one, "c": one, "d": one, "e": ("validation", "e"), "f": ("test", "f")}
    with pytest.raises(
        StudyError, match=r"4 subjects found .*; by their headers c is b, d is b \(option subject: folder"
    ):
        members(dataset.model_copy(update={"test": 2}))
    apart = members(dataset.model_copy(update={"test": 3, "options": {"subject": "folder"}}))
    assert [m.subject for m in apart] == ["a", "b", "c", "d", "d", "e", "f"]
    (tmp_path / "splits.csv").write_text("subject,split\na,train\nb,validation\nd,test\n")
    with pytest.raises(StudyError, match=r"b_series1 in validation and d_series1 in test are the same person .*, 2 \("):
        members(dataset.model_copy(update={"splits": str(tmp_path / "splits.csv")}))
