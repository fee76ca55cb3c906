"""Every source on a download in miniature: orientation, scale, crop, coil combination and split; and what is broken."""

import re
import shutil
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest

from kdmri_lib.datasets.prepared import read_prepared, splits
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.declarations import Undersampling
from kdmri_lib.declared import declared_mask
from kdmri_lib.errors import StudyError
from tests import downloads, trees
from tests.unit.deployment import scans


def older_knee(folder):
    """The middle slices alone, since each older file is read in a process of its own."""
    return {name: downloads.normalised(v[1:2]) for name, v in downloads.knee(folder, older=True).items()}


KNEE = {"contrast": "coronal_pd"}
EVERY = downloads.SOURCES | {
    "knee, older MATLAB": ("knee_matlab", older_knee, KNEE | {"slices_per_volume": 1}),
    "knee, sensitivities": ("knee_matlab", downloads.knee, KNEE | {"options": {"combination": "sensitivity"}}),
    "fastmri, single coil": ("fastmri", partial(downloads.fastmri, multicoil=False), {}),
    "fastmri, reconstructions": ("fastmri", downloads.fastmri, {"options": {"image": "reconstruction"}}),
    "calgary, 12 channels": ("calgary_campinas", downloads.calgary_raw, {}),
    "calgary, 1 channel": ("calgary_campinas", partial(downloads.calgary_raw, multichannel=False), {}),
}


def filled(folder, name, **other):
    """A download of `EVERY` in a folder: what must come of it, and its declaration."""
    source, fill, more = EVERY[name]
    folder.mkdir(exist_ok=True)
    return fill(folder), downloads.declared(source, folder, **more | other)


def agrees(dataset, path, expected):
    """`check` promises what `prepare` does, and it is what was written."""
    found, left_out, error = trees.agreed(dataset, path)
    assert not left_out and not error and found
    for name, image in found.items():
        np.testing.assert_allclose(image, expected[name], atol=2e-6, err_msg=name)
    return set(found)


@pytest.mark.parametrize("name", EVERY)
def test_every_source_gives_the_images_that_were_written(tmp_path, name):
    expected, dataset = filled(tmp_path / "download", name)
    path = tmp_path / "out.h5"
    agrees(dataset, path, expected)
    people = {split: {v.attributes["person"] for v in read_prepared(path, split)} for split in splits(path)}
    assert {v.attributes["kind"] for v in read_prepared(path)} == {"real MR"}
    assert [len(people[s]) for s in ("train", "validation", "test")] == [2, 1, 1]
    assert len(set.union(*people.values())) == 4, "nobody is in two splits"
    assert prepare(dataset, path) == (False, {})


@pytest.mark.parametrize("name", ["fastmri, single coil", "knee_raw", "calgary, 1 channel"])
def test_a_complex_data_set_holds_the_complex_images_that_were_measured(tmp_path, monkeypatch, name):
    """Real and imaginary part in their places, without a sign or a shift too many."""
    plain = downloads.image
    monkeypatch.setattr(downloads, "image", lambda seed: plain(seed) * np.exp(3j * plain(seed + 50)))
    monkeypatch.setattr(downloads, "normalised", lambda volume: volume / np.abs(volume).max())
    expected, dataset = filled(tmp_path / "download", name, domain="complex")
    assert prepare(dataset, tmp_path / "out.h5").left_out == {}
    for volume in read_prepared(tmp_path / "out.h5"):
        assert volume.image.dtype == np.complex64
        np.testing.assert_allclose(volume.image, expected[volume.subject], atol=3e-6, err_msg=volume.subject)


def test_coils_without_sensitivities_become_one_complex_image_at_the_first_ones_phase(tmp_path):
    """Smooth coils, whose sensitivities the centre of k-space tells."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 36)), indexing="ij")
    maps = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2 + 1j * (a * x - b * y)) for a in (-1, 1) for b in (-1, 1)])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    disc = np.exp(-((y**2 + x**2) ** 4) * 3) * np.exp(1.5j * (y + x**2))
    volume = (disc * (1 + 0.1 * np.sin(9 * y)))[None].repeat(2, axis=0)
    kspace = downloads.centred_kspace(volume[:, None] * maps)
    for number in range(4):
        with h5py.File(tmp_path / f"f{number}.h5", "w") as file:
            file["kspace"] = kspace * np.float32(1 + number)
            file["kspace"][0, 0, 0] *= 1 + 1e-3 * number  # else they were one image
    dataset = downloads.declared("fastmri", tmp_path, domain="complex", shape=(40, 36))
    prepare(dataset, tmp_path / "out.h5")
    expected = (volume * np.exp(1j * np.angle(maps[0])))[0] / np.abs(volume).max()
    inside = np.abs(expected) > 0.3
    for found in read_prepared(tmp_path / "out.h5"):
        np.testing.assert_allclose(np.abs(found.image[0][inside]), np.abs(expected[inside]), atol=0.02)
        # Far from the first coil its phase is less well known.
        off = np.abs(found.image[0][inside] - expected[inside])
        assert np.percentile(off, 90) < 0.05 and off.max() < 0.2


FORMS = {name: (form, "") for name, form in scans.FORMATS.items()} | {
    "along slices": (lambda image: np.fft.fftn(image, axes=(0, 2, 3)), "is along the slices k-space still: most of"),
    "along columns": (lambda image: np.fft.fft(image, axis=-1), r"is along axis H \(rows\) an image already"),
    "an image": (lambda image: image, "holds images"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_called_k_space_is_read_as_what_it_is(tmp_path, monkeypatch, form):
    """The same images of every order; what isn't k-space along both axes of slices is said, as in `reconstruct`."""

    def objects(seed, slices=16, shape=downloads.SHAPE):
        """An object in an empty field, between empty slices; another by each seed."""
        ramp, there = 1 + seed / 100 * np.linspace(-1, 1, shape[1]), abs(np.arange(slices) - 7.5) < 6
        return (scans.objects(slices, shape) * ramp * there[:, None, None]).astype(np.float32)

    def channels(values):
        kspace = np.moveaxis(change(np.fft.ifft2(np.moveaxis(values[..., ::2] + 1j * values[..., 1::2], 3, 1))), 1, 3)
        return np.stack([kspace.real, kspace.imag], axis=-1).reshape(values.shape).astype(np.float32)

    monkeypatch.setattr(downloads, "image", objects)
    monkeypatch.setattr(downloads, "coils", lambda v: (v[:, None] * (maps := scans.sensitivities(v.shape[1:])), maps))
    expected, dataset = filled(tmp_path / "download", "calgary, 12 channels")
    change, message = FORMS[form]
    for file in (tmp_path / "download").rglob("*.h5"):
        array("kspace", channels)(file)
    if message:
        with pytest.raises(StudyError, match=f"no volume left for split 'train' .*{message}"):
            prepare(dataset, tmp_path / "out.h5")
    else:
        assert agrees(dataset, tmp_path / "out.h5", expected) == set(expected)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("fastmri, reconstructions", {}, "reconstructions are magnitudes"),
        ("knee_raw", {"options": {"combination": "rss"}}, "root sum of squares has no phase"),
        ("nifti", {}, "values of type float32, expected complex numbers"),
    ],
)
def test_images_without_a_phase_are_no_complex_data_set(tmp_path, name, more, message):
    _, dataset = filled(tmp_path / "download", name, domain="complex", **more)
    with pytest.raises(StudyError, match=message):
        prepare(dataset, tmp_path / "out.h5")


def test_fastmris_folders_as_its_archives_name_them_and_two_scans_of_a_patient(tmp_path):
    _, dataset = filled(tmp_path / "download", "fastmri", train=1, validation=2)
    for part in ("train", "val", "test"):
        (tmp_path / f"download/multicoil_{part}").rename(tmp_path / f"download/knee_multicoil_{part}_batch_0")
    with h5py.File(tmp_path / "download/knee_multicoil_train_batch_0/file10.h5", "r+") as file:
        file.attrs["patient_id"] = ""
        file.attrs["acquisition"] = np.bytes_("CORPD_FBK")
    with h5py.File(tmp_path / "download/knee_multicoil_train_batch_0/file1.h5", "r+") as file:
        file.attrs["patient_id"] = [b"a"]  # as other writers store the text that file2 has
    with h5py.File(tmp_path / "download/knee_multicoil_train_batch_0/file3.h5", "r+") as file:
        del file.attrs["patient_id"], file["ismrmrd_header"]
        named = "<subjectInformation><patientID>b </patientID></subjectInformation><encoding>"
        file["ismrmrd_header"] = downloads.HEADER.replace("<encoding>", named)
    dataset = dataset.model_copy(update={"options": {"acquisition": "CORPD_FBK"}})
    prepare(dataset, path := tmp_path / "out.h5")
    expected = {"train": ["file1", "file2"], "validation": ["file10", "file3"], "test": ["file4"]}
    assert splits(path) == expected, "file5 is of the challenge"
    people = {v.subject: v.attributes["person"] for v in read_prepared(path)}
    assert people["file10"] == "file10", "an empty patient is nobody's name"
    assert people["file1"] == people["file2"] == "a" and people["file3"] == "b"
    (volume,) = read_prepared(path, "test")
    np.testing.assert_allclose(volume.attributes["spacing"], (4.5, 7.0, 140 / 16))
    assert volume.attributes["coils"] == 4 and volume.attributes["acquisition"] == "CORPD_FBK"


def test_the_cine_on_request(tmp_path):
    _, dataset = filled(tmp_path / "download", "cardiac", shape=(4, 4), options={"cine": True})
    for series in (tmp_path / "download").rglob("*_4d.nii.gz"):
        rng = np.random.default_rng(int(series.name[7:10]))
        nibabel.save(nibabel.Nifti1Image(rng.random((4, 4, 2, 5), dtype=np.float32), np.diag([1, 1, 8, 1])), series)
    prepare(dataset, tmp_path / "out.h5")
    (volume,) = read_prepared(tmp_path / "out.h5", "test")
    stored = nibabel.load(tmp_path / "download/testing/patient101/patient101_4d.nii.gz").get_fdata()
    assert volume.subject == "patient101_4d" and volume.image.shape == (10, 4, 4)
    np.testing.assert_allclose(volume.image[2], (stored[::-1, ::-1, 0, 1].T / stored.max()), atol=1e-6)


def test_published_files_of_another_factor_may_be_links_and_masks_are_used_as_they_are(tmp_path):
    masks = {"masks": str(tmp_path / "download/mask_{factor}x.npy")}
    expected, dataset = filled(tmp_path / "download", "published", options=masks)
    for part in ("train", "validation"):
        (tmp_path / "download" / part / "acc_8x").symlink_to("acc_4x")
    assert agrees(dataset, tmp_path / "out.h5", expected) == set(expected)
    mask = np.load(tmp_path / "download/mask_4x.npy").astype(bool)
    np.testing.assert_array_equal(declared_mask(dataset, Undersampling(acceleration=4)), mask)
    with pytest.raises(StudyError, match=r"mask_8x.npy: no such file"):
        declared_mask(dataset, Undersampling(acceleration=8))


def array(name, change):
    """What replaces an array of an HDF5 file by `change` of it, or adds one of that content."""

    def spoil(path):
        with h5py.File(path, "r+") as data:
            found = data[name][()] if name in data else None
            data.pop(name, None)
            data[name] = change(found)

    return spoil


def without(*lines):
    """What sets these points of k-space to 0."""

    def holed(values):
        values = values.copy()
        values[lines] = 0
        return values

    return holed


def of_nothing(axis):
    """An array of no slices, as a writer leaves it that was interrupted before the first, or of no coils."""
    return lambda values: values.take([], axis)


def matlab(name, shape):
    return lambda path: downloads.save_matlab73(path, name, np.ones(shape) * 1j)


HOLED, SMALL = without(..., np.arange(16) % 4 > 0), (4, 4, 4)
KNEE_FILE, SCAN, HEAD = "coronal_pd/1/rawdata2.mat", "multicoil_train/file3.h5", "Train/e1_P1.7.h5"
SENSITIVITIES = "coronal_pd/1/espirit2.mat"
BROKEN = [
    ("knee, sensitivities", SENSITIVITIES, Path.unlink, "espirit2.mat: no such file"),
    ("knee, sensitivities", SENSITIVITIES, matlab("sensitivities", SMALL), "sensitivities of shape"),
    ("knee_raw", KNEE_FILE, matlab("rawdata", SMALL), r"\(4, 4, 4\), expected \(H, W, coils\) as in .*1.mat"),
    ("knee_raw", KNEE_FILE, matlab("data", (20, 16, 4)), "rawdata2.mat: no array 'rawdata'; it has data"),
    ("knee_raw", KNEE_FILE, array("rawdata", lambda v: v["real"]), "values of type float64, expected complex numbers"),
    ("knee_raw", KNEE_FILE, array("rawdata", without(slice(None), slice(None, None, 2))), "2.mat: undersampled"),
    ("knee_raw", KNEE_FILE, Path.unlink, "rawdata3.mat: follows rawdata1; expected rawdata2: a slice is missing"),
    ("fastmri", SCAN, array("mask", lambda _: np.ones(16)), r"file3.h5: undersampled \(it holds a mask\)"),
    ("fastmri", SCAN, array("kspace", HOLED), r"file3.h5: undersampled \(69% of its k-space"),
    ("fastmri", SCAN, array("ismrmrd_header", lambda text: text[:200]), "its ISMRMRD header can't be read"),
    ("fastmri", SCAN, array("kspace", of_nothing(1)), r"kspace of shape \(3, 0, 40, 16\), expected"),
    ("calgary, 12 channels", HEAD, array("kspace", of_nothing(0)), r"k-space of shape \(0, 20, 16, 8\), .*, expected"),
    ("published", "train/acc_4x/1.h5", array("volfs", of_nothing(2)), r"volfs of shape \(20, 16, 0\), expected"),
]


@pytest.mark.parametrize(("name", "file", "damage", "message"), BROKEN)
def test_what_is_broken_undersampled_or_empty_is_left_out_by_name(tmp_path, name, file, damage, message):
    _, dataset = filled(tmp_path / "download", name)
    damage(tmp_path / "download" / file)
    _, left_out, error = trees.agreed(dataset, tmp_path / "out.h5")
    (reason,) = left_out.values()
    assert not error and str((tmp_path / "download" / file).parent) in reason and re.search(message, reason)


def test_a_reconstruction_is_the_truth_though_its_k_space_has_holes(tmp_path):
    expected, dataset = filled(tmp_path / "download", "fastmri, reconstructions")
    array("kspace", HOLED)(tmp_path / "download" / SCAN)
    assert "file3" in agrees(dataset, tmp_path / "out.h5", expected)


def test_mrbrains_2018_as_it_is(tmp_path):
    """Beside the registered T1 and IR lie those that were registered, and segm."""
    expected, dataset = filled(tmp_path / "download", "mrbrains_2018")
    for number in (1, 4, 5, 14):
        place = tmp_path / "download/training" / str(number)
        for name, seed in (("T1", 70), ("IR", 71), ("reg_IR", 72), ("FLAIR", 73)):
            downloads.save_nifti(place / "pre" / f"{name}.nii.gz", downloads.image(number + seed), "RAS", (1, 1, 3))
        downloads.save_nifti(place / "segm.nii.gz", np.round(downloads.image(number)), "RAS", (1, 1, 3))
    agrees(dataset, tmp_path / "t1.h5", expected)
    for contrast, seed in (("ir", 72), ("flair", 73)):
        written = {f"training_{n}_{contrast}": downloads.normalised(downloads.image(n + seed)) for n in (1, 4, 5, 14)}
        dataset = dataset.model_copy(update={"contrast": contrast})
        agrees(dataset, tmp_path / f"{contrast}.h5", written)
    downloads.save_nifti(tmp_path / "download/training/4/pre/T2_FLAIR.nii.gz", downloads.image(5))
    with pytest.raises(StudyError, match=r"2 flair volumes of training_4, expected one: .*FLAIR.nii.gz and .*T2_FLAIR"):
        survey(dataset)


def test_acdc_as_it_is_passed_around(tmp_path):
    """Each file is a folder, with a file of another name in it; and all patients in one folder."""
    expected, dataset = filled(tmp_path / "acdc", "cardiac")
    for file in list((tmp_path / "acdc").rglob("*.nii.gz")):
        place = file.with_name(file.name.removesuffix(".gz"))
        place.mkdir()
        file.rename(place / f"patient_{len(file.name)}.nii.gz")
    shutil.move(tmp_path / "acdc/testing/patient101", tmp_path / "acdc/training/patient101")
    assert agrees(dataset, tmp_path / "out.h5", expected) == set(expected)
    phases = {v.subject: v.attributes["phase"] for v in read_prepared(tmp_path / "out.h5")}
    assert phases["patient001_frame01"] == "ED" and phases["patient101_frame12"] == "ES"
    assert len(survey(dataset).label_maps) == 8


def test_masks_that_are_passed_around_with_calgary_campinas_are_no_heads(tmp_path):
    expected, dataset = filled(tmp_path / "download", "calgary")
    for file in list((tmp_path / "download").rglob("*.nii.gz")):
        for kind in ("staple", "ss", "manual"):
            shutil.copy(file, file.with_name(file.name.replace(".nii.gz", f"_{kind}.nii.gz")))
    assert agrees(dataset, tmp_path / "out.h5", expected) == set(expected)


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("nifti", "pixel", -0.8, "option 'pixel': Input should be greater than 0, found -0.8"),
        ("cardiac", "cine", "no", "option 'cine': Input should be a valid boolean, found 'no'"),
        ("knee_raw", "combination", "sos", "option 'combination': Input should be 'rss' or 'sens"),
        ("nifti", "pixels", 1.0, "no option pixels; known: orientation, pixel"),
    ],
)
def test_options_that_can_not_be_are_said_before_anything_is_read(tmp_path, name, option, value, message):
    _, dataset = filled(tmp_path / "download", name, options={option: value})
    with pytest.raises(StudyError, match=f"data set 'mine'[,:] {message}"):
        survey(dataset)


@pytest.mark.parametrize("source", ["acdc", "mrbrains", "fastmri", "calgary_campinas", "nifti_folder", "dicom_folder"])
def test_a_folder_of_something_else_is_said(tmp_path, source):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(StudyError, match=f"0 subjects found, as source {source} knows them.*; data/README.md says how"):
        survey(downloads.declared(source, tmp_path))


def test_a_source_that_there_is_not():
    with pytest.raises(StudyError, match="unknown source of images 'acdcc'; known: acdc, "):
        survey(downloads.declared("acdcc", Path()))
