"""Downloads in miniature, written by code byte for byte as their distributors write them, with known content.

Each function fills a folder and returns what preparing it must give: the normalised (slices, H, W) images by volume.
"""

from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.io
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from kdmri_lib.declarations import Dataset

SHAPE = (20, 16)


def image(seed: int, slices: int = 3, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(slices, H, W) magnitudes without any symmetry, so that a wrong flip or transposition shows."""
    return (1 + np.random.default_rng(seed).random((slices, *shape))).astype(np.float32)


def normalised(volume: np.ndarray) -> np.ndarray:
    return volume / volume.max()


def centred_kspace(images: np.ndarray) -> np.ndarray:
    """Centred orthonormal k-space over the last two axes."""
    shifted = np.fft.ifftshift(images, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1)).astype(np.complex64)


def coils(volume: np.ndarray, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(slices, coils, H, W) complex coil images whose root sum of squares is `volume`, and their sensitivities."""
    rng = np.random.default_rng(9)
    maps = rng.standard_normal((count, *volume.shape[1:])) + 1j * rng.standard_normal((count, *volume.shape[1:]))
    maps /= np.sqrt((abs(maps) ** 2).sum(axis=0))
    return volume[:, None] * maps, maps


def reoriented(canonical: np.ndarray, affine: np.ndarray, code: str) -> nibabel.Nifti1Image:
    """(X, Y, Z) to right, front and head, stored in the orientation `code`, with the affine that says so."""
    ras, wanted = (nibabel.orientations.axcodes2ornt(axes) for axes in ("RAS", code))
    return nibabel.Nifti1Image(canonical, affine).as_reoriented(nibabel.orientations.ornt_transform(ras, wanted))


def save_nifti(path: Path, volume: np.ndarray, code="LAS", zooms=(1.4, 1.4, 8.0), axes=(2, 1, 0)) -> None:
    """Write (slices, H, W), axial in radiological view, in the orientation `code`; or where other `axes` are X, Y, Z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(reoriented(volume[:, ::-1, ::-1].transpose(axes), np.diag([*zooms, 1.0]), code), path)


def declared(source: str, folder: Path, **more) -> Dataset:
    usual = {"name": "mine", "shape": SHAPE, "train": 2, "validation": 1, "test": 1}
    return Dataset(source=source, folder=str(folder), **usual | more)


def acdc(folder: Path) -> dict[str, np.ndarray]:
    """Three patients to train on, one of the test set; two frames each, their segmentations, a 4-D cine and Info.cfg."""
    expected = {}
    for number, part in ((1, "training"), (2, "training"), (10, "training"), (101, "testing")):
        place = folder / part / f"patient{number:03d}"
        for frame in (1, 12):
            name = f"{place.name}_frame{frame:02d}"
            volume = image(100 * number + frame, 2 + number % 3)
            save_nifti(place / f"{name}.nii.gz", volume, ("LAS", "RAS", "LPI", "AIR")[number % 4])
            save_nifti(place / f"{name}_gt.nii.gz", np.ones_like(volume))
            expected[name] = normalised(volume)
        cine = nibabel.Nifti1Image(np.ones((4, 4, 2, 30), np.float32), np.eye(4))
        nibabel.save(cine, place / f"{place.name}_4d.nii.gz")
        (place / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n")
    return expected


def mrbrains_2013(folder: Path) -> dict[str, np.ndarray]:
    for number in (1, 2, 3, 10):
        for name, seed in (("T1", 0), ("T2_FLAIR", 50)):
            save_nifti(folder / str(number) / f"{name}.nii", image(number + seed), "LPS", (1.0, 1.0, 3.0))
    return {f"{number}_t1": normalised(image(number)) for number in (1, 2, 3, 10)}


def mrbrains_2018(folder: Path) -> dict[str, np.ndarray]:
    for number in (1, 4, 5, 14):
        for stage, seed in (("pre", 0), ("orig", 9)):
            path = folder / "training" / str(number) / stage / "reg_T1.nii.gz"
            save_nifti(path, image(number + seed), "RAS", (1.0, 1.0, 3.0))
    return {f"training_{number}_t1": normalised(image(number)) for number in (1, 4, 5, 14)}


def save_matlab73(path: Path, name: str, value: np.ndarray) -> None:
    """As MATLAB's save -v7.3: a 512-byte user block that says so, axes reversed, complex numbers as compounds."""
    stored = np.ascontiguousarray(value.T, "<c16").view([("real", "<f8"), ("imag", "<f8")])
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=stored).attrs["MATLAB_class"] = np.bytes_("double")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Jan 01 00:00:00 2019 HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(header.ljust(124) + b"\x00\x02IM")


def knee(folder: Path, older: bool = False) -> dict[str, np.ndarray]:
    """Four subjects of three slices, 4 coils: rawdataN.mat (H, W, coils) and espiritN.mat, v7.3 or older."""
    expected = {}
    for subject in (1, 2, 3, 11):
        place = folder / "coronal_pd" / str(subject)
        place.mkdir(parents=True)
        volume = image(subject)
        coil_images, maps = coils(volume)
        for number, single in enumerate(coil_images, 1):
            rawdata, sensitivities = (np.moveaxis(v, 0, 2) for v in (centred_kspace(single), maps))
            for name, key, value in (("rawdata", "rawdata", rawdata), ("espirit", "sensitivities", sensitivities)):
                path = place / f"{name}{number}.mat"
                if older:
                    scipy.io.savemat(path, {key: value})
                else:
                    save_matlab73(path, key, value)
        expected[f"coronal_pd_{subject}"] = normalised(volume)
    (folder / "coronal_pd" / "masks").mkdir()
    return expected


HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>40</x><y>16</y><z>1</z></matrixSize>
<fieldOfView_mm><x>280</x><y>140</y><z>4.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>20</x><y>16</y><z>1</z></matrixSize>
<fieldOfView_mm><x>140</x><y>140</y><z>4.5</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""


def fastmri(folder: Path, multicoil: bool = True) -> dict[str, np.ndarray]:
    """Readout twice as long as the image: the k-space of the padded field of view. One patient has two scans."""
    kind, expected = ("multicoil" if multicoil else "singlecoil"), {}
    parts = ["train"] * 4 + ["val", "test"]
    for part, number, patient in zip(parts, (1, 2, 3, 10, 4, 5), "aabcde", strict=True):
        volume = image(number)
        wide = np.pad(volume, [(0, 0), (10, 10), (0, 0)])
        path = folder / f"{kind}_{part}" / f"file{number}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["kspace"] = centred_kspace(coils(wide)[0] if multicoil else wide)
            file["ismrmrd_header"] = HEADER
            file["reconstruction_rss" if multicoil else "reconstruction_esc"] = volume * np.float32(1e-4)
            file.attrs.update({"acquisition": "CORPD_FBK", "patient_id": patient, "max": 2.0, "norm": 9.0})
            if part == "test":
                file["mask"] = np.ones(16, dtype=bool)
        if part != "test":
            expected[f"file{number}"] = normalised(volume)
    return expected


def calgary_nifti(folder: Path) -> dict[str, np.ndarray]:
    """Sagittal volumes: what is seen from the subject's left to right, head up, nose to the left."""
    expected = {}
    for number, part in ((1, "Train"), (2, "Train"), (3, "Train"), (4, "Val")):
        volume = image(number)
        path = folder / part / f"CC{number:04d}_philips_15_55_M.nii.gz"
        save_nifti(path, volume, "PIR", (1, 1, 1), axes=(0, 2, 1))
        expected[path.name.removesuffix(".nii.gz")] = normalised(volume)
    return expected


def calgary_raw(folder: Path, multichannel: bool = True) -> dict[str, np.ndarray]:
    expected = {}
    for number, part in ((1, "Train"), (2, "Train"), (3, "Train"), (4, "Val")):
        volume = image(number)
        values = coils(volume)[0] if multichannel else volume[:, None]
        kspace = np.moveaxis(np.fft.fft2(values), 1, 3)  # channels last, no shift
        stored = np.ascontiguousarray(kspace, np.complex64).view(np.float32)
        path = folder / part / f"e{number}_P{number}.7.{'h5' if multichannel else 'npy'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if multichannel:
            with h5py.File(path, "w") as file:
                file["kspace"] = stored
        else:
            np.save(path, stored)
        expected[path.name.rsplit(".", 1)[0]] = normalised(volume)
    return expected


def published(folder: Path) -> dict[str, np.ndarray]:
    """The published code's own files, with its masks."""
    expected, rng = {}, np.random.default_rng(5)
    mask = np.zeros(SHAPE)
    mask[rng.choice(SHAPE[0], 5, replace=False)] = 1
    mask[0] = 1
    np.save(folder / "mask_4x.npy", mask)
    for part, numbers in (("train", (1, 2, 10)), ("validation", (1,))):
        place = folder / part / "acc_4x"
        place.mkdir(parents=True)
        for number in numbers:
            volume = normalised(image(number + 70 * len(part)))
            with h5py.File(place / f"{number}.h5", "w") as file:
                file["volfs"] = volume.transpose(1, 2, 0)
                kspace = np.fft.fft2(volume, norm="ortho") * mask
                file["kspace_volus_4x"] = kspace.transpose(1, 2, 0)
                file["img_volus_4x"] = abs(np.fft.ifft2(kspace, norm="ortho")).transpose(1, 2, 0)
            expected[f"{part}_{number}"] = volume
    return expected


def nifti(folder: Path) -> dict[str, np.ndarray]:
    expected = {}
    for number in (1, 2, 3, 10):
        volume = image(number)
        save_nifti(folder / f"person{number}" / "scan.nii.gz", volume, ("RAS", "LPS", "SLP", "AIR")[number % 4])
        expected[f"person{number}_scan"] = normalised(volume)
    return expected


def save_dicom(path: Path, pixels: np.ndarray, position: float, series: str, slope: float = 0.5, **more) -> None:
    """One axial MR slice of 16-bit pixels at `position` mm, values = slope x pixels + 3."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    values = dict(SOPClassUID=MRImageStorage, SOPInstanceUID=meta.MediaStorageSOPInstanceUID, Modality="MR")
    values |= dict(PatientID="somebody", SeriesInstanceUID=series, Rows=pixels.shape[0], Columns=pixels.shape[1])
    values |= dict(PixelSpacing=[0.9, 0.8], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    values |= dict(ImagePositionPatient=[0, 0, position], RescaleSlope=slope, RescaleIntercept=3, SamplesPerPixel=1)
    values |= dict(BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0)
    values |= dict(PhotometricInterpretation="MONOCHROME2", PixelData=pixels.astype("<u2").tobytes())
    for key, value in (values | more).items():
        setattr(data, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def dicom(folder: Path) -> dict[str, np.ndarray]:
    """A series each of four people; the files' names don't say the slices' order."""
    expected = {}
    for number in (1, 2, 3, 10):
        pixels = (1000 * image(number, 4)).astype(np.uint16)
        series = generate_uid()
        for name, n in zip(("d", "a", "c", "b"), range(4), strict=True):
            save_dicom(
                folder / f"person{number}" / f"IM_{name}.dcm", pixels[n], 5.0 * n - 20, series, PatientID=f"P{number}"
            )
        expected[f"person{number}_series1"] = normalised(0.5 * pixels.astype(np.float32) + 3)
    return expected


# By name: the source, what fills its folder, and what is declared beside. Data sets that the paper's settings are of first.
SOURCES = {
    "cardiac": ("acdc", acdc, {}),
    "mrbrains": ("mrbrains", mrbrains_2013, {}),
    "mrbrains_2018": ("mrbrains", mrbrains_2018, {}),
    "knee_raw": ("knee_matlab", knee, {"contrast": "coronal_pd"}),
    "fastmri": ("fastmri", fastmri, {}),
    "calgary": ("calgary_campinas", calgary_nifti, {}),
    "published": ("kdmri_h5", published, {}),
    "nifti": ("nifti_folder", nifti, {}),
    "dicom": ("dicom_folder", dicom, {}),
}
