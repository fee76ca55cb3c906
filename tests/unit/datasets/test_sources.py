"""Every source on a download in miniature: orientation, scale, crop, coil combination and split; and what is broken."""

import re
import shutil
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest

from kdmri_lib.datasets.prepared import read_prepared, splits
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.declarations import Degradation
from kdmri_lib.declared import declared_mask
from kdmri_lib.errors import StudyError
from tests import downloads, trees


def older_knee(folder):
    """The middle slices alone, since each older file is read in a process of its own."""
    return {name: downloads.normalised(v[1:2]) for name, v in downloads.knee(folder, older=True).items()}


KNEE = {"contrast": "coronal_pd"}
MAPS = KNEE | {"options": {"combination": "sensitivity"}}
RECONSTRUCTIONS = {"options": {"image": "reconstruction"}}
EVERY = {
    "acdc": ("acdc", downloads.acdc, {}),
    "mrbrains 2013": ("mrbrains", downloads.mrbrains_2013, {}),
    "mrbrains 2018": ("mrbrains", downloads.mrbrains_2018, {}),
    "knee, MATLAB 7.3": ("knee_matlab", downloads.knee, KNEE),
    "knee, older MATLAB": ("knee_matlab", older_knee, KNEE | {"slices_per_volume": 1}),
    "knee, sensitivities": ("knee_matlab", downloads.knee, MAPS),
    "fastMRI multicoil": ("fastmri", downloads.fastmri, {}),
    "fastMRI single coil": ("fastmri", partial(downloads.fastmri, multicoil=False), {}),
    "fastMRI reconstructions": ("fastmri", downloads.fastmri, RECONSTRUCTIONS),
    "Calgary-Campinas": ("calgary_campinas", downloads.calgary_nifti, {}),
    "Calgary-Campinas raw, 12 channels": ("calgary_campinas", downloads.calgary_raw, {}),
    "Calgary-Campinas raw, 1 channel": ("calgary_campinas", partial(downloads.calgary_raw, multichannel=False), {}),
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
    return expected, dataset, path, prepare(dataset, path, 1).left_out


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


@pytest.mark.parametrize("name", ["fastMRI single coil", "knee, MATLAB 7.3", "Calgary-Campinas raw, 1 channel"])
def test_a_complex_data_set_holds_the_complex_images_that_were_measured(tmp_path, monkeypatch, name):
    """Real and imaginary part in their places, without a sign or a shift too many."""
    plain, (source, fill, more) = downloads.image, EVERY[name]
    monkeypatch.setattr(downloads, "image", lambda seed: plain(seed) * np.exp(3j * plain(seed + 50)))
    monkeypatch.setattr(downloads, "normalised", lambda volume: volume / np.abs(volume).max())
    expected = fill(tmp_path)
    dataset = downloads.declared(source, tmp_path, domain="complex", **more)
    assert prepare(dataset, tmp_path / "out.h5", 1).left_out == {}
    for volume in read_prepared(tmp_path / "out.h5"):
        assert volume.image.dtype == np.complex64 and volume.attributes["kind"] == "real MR"
        np.testing.assert_allclose(volume.image, expected[volume.subject], atol=3e-6, err_msg=volume.subject)


@pytest.mark.parametrize("source", ["fastmri", "calgary_campinas"])
def test_coils_without_sensitivities_become_one_complex_image_at_the_first_ones_phase(tmp_path, monkeypatch, source):
    """Smooth coils, whose sensitivities the centre of k-space tells."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 36)), indexing="ij")
    maps = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2 + 1j * (a * x - b * y)) for a in (-1, 1) for b in (-1, 1)])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    disc = np.exp(-((y**2 + x**2) ** 4) * 3) * np.exp(1.5j * (y + x**2))
    volume = (disc * (1 + 0.1 * np.sin(9 * y)))[None].repeat(2, axis=0)
    for number in range(4):
        coil_images = (1 + number) * volume[:, None] * maps
        if source == "fastmri":
            path = tmp_path / "multicoil_train" / f"f{number}.h5"
            kspace = downloads.centred_kspace(coil_images)
        else:
            path = tmp_path / "Train" / f"e{number}.h5"
            kspace = np.moveaxis(np.fft.fft2(coil_images), 1, 3)
            kspace = np.stack([kspace.real, kspace.imag], axis=-1).reshape(2, 40, 36, 8).astype(np.float32)
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace * np.float32(1 + 0.01 * number)
    dataset = downloads.declared(source, tmp_path, domain="complex", shape=(40, 36))
    prepare(dataset, tmp_path / "out.h5", 1)
    expected = (volume * np.exp(1j * np.angle(maps[0])))[0] / np.abs(volume).max()
    for found in read_prepared(tmp_path / "out.h5"):
        inside = np.abs(expected) > 0.3
        np.testing.assert_allclose(np.abs(found.image[0][inside]), np.abs(expected[inside]), atol=0.02)
        # Far from the first coil its phase is less well known.
        off = np.abs(found.image[0][inside] - expected[inside])
        assert np.percentile(off, 90) < 0.05 and off.max() < 0.2


def test_images_without_a_phase_are_no_complex_data_set(tmp_path):
    downloads.fastmri(tmp_path / "fastmri")
    downloads.knee(tmp_path / "knee")
    downloads.nifti(tmp_path / "nifti")
    for source, more, message in [
        ("fastmri", RECONSTRUCTIONS, "reconstructions are magnitudes"),
        ("knee_matlab", KNEE | {"options": {"combination": "rss"}}, "root sum of squares has no phase"),
        ("nifti_folder", {}, "values of type float32, expected complex numbers"),
    ]:
        folder = tmp_path / source.split("_")[0]
        with pytest.raises(StudyError, match=message):
            prepare(downloads.declared(source, folder, domain="complex", **more), tmp_path / "out.h5", 1)


def test_counting_agrees_with_preparing(download):
    _, dataset, path, _ = download
    for headers in (False, True):
        found = survey(dataset, headers=headers)
        for split, subjects in splits(path).items():
            assert found.volumes[split] == len(subjects)
            assert found.slices[split] == sum(len(v.image) for v in read_prepared(path, split))
        assert found.problems == {}


def test_a_second_start_finds_every_source_unchanged(download):
    _, dataset, path, _ = download
    before = path.read_bytes()
    assert prepare(dataset, path, 1) == (False, {})
    assert path.read_bytes() == before


def test_two_scans_of_a_patient_stay_together(tmp_path):
    downloads.fastmri(tmp_path)
    prepare(downloads.declared("fastmri", tmp_path, train=1, validation=2), tmp_path / "out.h5", 1)
    assert splits(tmp_path / "out.h5")["train"] == ["file1", "file2"]
    (volume,) = read_prepared(tmp_path / "out.h5", "test")
    np.testing.assert_allclose(volume.attributes["spacing"], (4.5, 7.0, 140 / 16))
    assert volume.attributes["coils"] == 4 and volume.attributes["acquisition"] == "CORPD_FBK"


def test_the_cine_on_request(tmp_path):
    downloads.acdc(tmp_path)
    for series in tmp_path.rglob("*_4d.nii.gz"):
        rng = np.random.default_rng(len(str(series)) + int(series.name[7:10]))
        nibabel.save(nibabel.Nifti1Image(rng.random((4, 4, 2, 5), dtype=np.float32), np.diag([1, 1, 8, 1])), series)
    prepare(downloads.declared("acdc", tmp_path, shape=(4, 4), options={"cine": True}), tmp_path / "out.h5", 1)
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


def reals(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["rawdata"] = np.ones((4, 16, 20))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def matlab(name, shape):
    return lambda path: downloads.save_matlab73(path, name, np.ones(shape) * 1j)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("espirit2.mat", Path.unlink, "no such file"),
        (
            "rawdata2.mat",
            matlab("rawdata", (4, 4, 4)),
            r"k-space of shape \(4, 4, 4\), expected \(H, W, coils\) as in .*rawdata1.mat: \(20, 16, 4\)",
        ),
        (
            "espirit2.mat",
            matlab("sensitivities", (4, 4, 4)),
            r"sensitivities of shape \(4, 4, 4\), expected \(20, 16, 4\)",
        ),
        ("rawdata2.mat", matlab("data", (20, 16, 4)), "no array 'rawdata'; it has data"),
        ("rawdata2.mat", reals, "values of type float64, expected complex numbers"),
    ],
)
def test_broken_knee_files(tmp_path, name, damage, message):
    downloads.knee(tmp_path)
    damage(tmp_path / "coronal_pd/1" / name)
    left_out = prepare(downloads.declared("knee_matlab", tmp_path, **MAPS), tmp_path / "out.h5", 1).left_out
    assert re.search(rf"coronal_pd/1/{name}: {message}", left_out["coronal_pd_1"])


def test_fastmri_files_that_are_undersampled_or_damaged(tmp_path):
    downloads.fastmri(tmp_path)
    with h5py.File(tmp_path / "multicoil_train/file3.h5", "r+") as file:
        file["mask"] = np.ones(16)
    with h5py.File(tmp_path / "multicoil_train/file1.h5", "r+") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = downloads.HEADER[:200]
    dataset = downloads.declared("fastmri", tmp_path)
    left_out = prepare(dataset, tmp_path / "out.h5", 1).left_out
    assert "file3.h5: undersampled (it holds a mask)" in left_out["file3"]
    assert "file1.h5: its ISMRMRD header can't be read" in left_out["file1"]
    assert splits(tmp_path / "out.h5") == {"train": ["file2"], "validation": ["file10"], "test": ["file4"]}
    path = tmp_path / "multicoil_train/file10.h5"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(
        StudyError, match=r"left for split 'validation' .*file10.h5: not a readable fastMRI file, or cut"
    ):
        prepare(dataset, tmp_path / "again.h5", 1)


def test_a_dicom_series_of_mixed_shapes(tmp_path):
    downloads.dicom(tmp_path)
    series = pydicom.dcmread(tmp_path / "person1/IM_a.dcm").SeriesInstanceUID
    downloads.save_dicom(tmp_path / "person1/IM_z.dcm", np.ones((5, 5)), 40, series)
    left_out = prepare(downloads.declared("dicom_folder", tmp_path), tmp_path / "out.h5", 1).left_out
    message = r"IM_z.dcm: \(5, 5\) pixels .* in a series that begins with .*IM_d.dcm: \(20, 16\)"
    assert re.search(message, left_out["person1_series1"])


def left_out(source, folder, out, **more):
    """Reasons by volume, of `prepare` and of `survey` alike."""
    _, reasons, error = trees.agreed(downloads.declared(source, folder, **more), out)
    assert not error, error
    return reasons


def emptied(file, name, shape):
    """An array of no slices, as a writer leaves it that was interrupted before the first."""
    with h5py.File(file, "r+") as data:
        kind = data[name].dtype
        del data[name]
        data.create_dataset(name, shape, kind, maxshape=(None, *shape[1:]))


@pytest.mark.parametrize(
    ("source", "file", "name", "shape"),
    [
        ("fastMRI multicoil", "multicoil_train/file3.h5", "kspace", (0, 4, 40, 16)),
        ("fastMRI multicoil", "multicoil_train/file3.h5", "kspace", (3, 0, 40, 16)),
        ("fastMRI reconstructions", "multicoil_train/file3.h5", "reconstruction_rss", (0, 20, 16)),
        ("Calgary-Campinas raw, 12 channels", "Train/e1_P1.7.h5", "kspace", (0, 20, 16, 8)),
        ("published code", "train/acc_4x/1.h5", "volfs", (20, 16, 0)),
        ("knee, MATLAB 7.3", "coronal_pd/1/rawdata2.mat", "rawdata", (0, 16, 20)),
    ],
)
def test_arrays_that_hold_nothing_are_left_out_by_name(tmp_path, source, file, name, shape):
    source, fill, more = EVERY[source]
    (tmp_path / "download").mkdir()
    fill(tmp_path / "download")
    emptied(tmp_path / "download" / file, name, shape)
    reasons = left_out(source, tmp_path / "download", tmp_path / "out.h5", **more)
    ((reason, *others),) = [list(reasons.values())]
    assert not others and file in reason and "0" in reason and "expected" in reason


def undersampled(file, factor=4):
    with h5py.File(file, "r+") as data:
        values = data["kspace"][:]
        values[..., np.arange(values.shape[-1]) % factor > 0] = 0
        data["kspace"][...] = values


def test_k_space_that_is_undersampled_without_saying_so_is_refused(tmp_path):
    for multicoil in (True, False):
        folder = tmp_path / str(multicoil)
        downloads.fastmri(folder, multicoil)
        kind = "multicoil" if multicoil else "singlecoil"
        undersampled(folder / f"{kind}_train/file3.h5")
        reasons = left_out("fastmri", folder, tmp_path / f"{multicoil}.h5")
        assert list(reasons) == ["file3"] and "file3.h5: undersampled (69% of its k-space" in reasons["file3"]
    # Its reconstruction is the truth all the same.
    assert not left_out("fastmri", folder, tmp_path / "esc.h5", options={"image": "reconstruction"})
    downloads.calgary_raw(tmp_path / "calgary")
    with h5py.File(tmp_path / "calgary/Train/e1_P1.7.h5", "r+") as data:
        values = data["kspace"][:]
        values[:, np.random.default_rng(0).random(values.shape[1:3]) < 0.8] = 0
        data["kspace"][...] = values
    reasons = left_out("calgary_campinas", tmp_path / "calgary", tmp_path / "calgary.h5")
    assert list(reasons) == ["e1_P1.7"] and "e1_P1.7.h5: undersampled" in reasons["e1_P1.7"]
    downloads.knee(tmp_path / "knee")
    with h5py.File(tmp_path / "knee/coronal_pd/1/rawdata2.mat", "r+") as data:
        values = data["rawdata"][:]
        values[:, ::2] = 0
        data["rawdata"][...] = values
    reasons = left_out("knee_matlab", tmp_path / "knee", tmp_path / "knee.h5", contrast="coronal_pd")
    assert list(reasons) == ["coronal_pd_1"] and "rawdata2.mat: undersampled" in reasons["coronal_pd_1"]


def test_fastmris_folders_as_its_archives_name_them(tmp_path):
    downloads.fastmri(tmp_path / "plain")
    for part in ("train", "val", "test"):
        shutil.move(tmp_path / f"plain/multicoil_{part}", tmp_path / f"download/knee_multicoil_{part}_batch_0")
    with h5py.File(tmp_path / "download/knee_multicoil_train_batch_0/file10.h5", "r+") as file:
        file.attrs["patient_id"] = ""
    dataset = downloads.declared("fastmri", tmp_path / "download")
    prepare(dataset, tmp_path / "out.h5", 1)
    people = {v.subject: v.attributes["person"] for v in read_prepared(tmp_path / "out.h5")}
    assert splits(tmp_path / "out.h5")["test"] == ["file4"] and "file5" not in people
    assert people["file10"] == "file10", "an empty patient is nobody's name"


def test_a_slice_of_a_knee_that_is_missing_is_named(tmp_path):
    downloads.knee(tmp_path / "knee")
    (tmp_path / "knee/coronal_pd/1/rawdata2.mat").unlink()
    reasons = left_out("knee_matlab", tmp_path / "knee", tmp_path / "out.h5", contrast="coronal_pd")
    assert "rawdata3.mat: follows rawdata1; expected rawdata2: a slice is missing" in reasons["coronal_pd_1"]


def test_mrbrains_2018_as_it_is(tmp_path):
    """Beside the registered T1 and IR lie those that were registered, and segm."""
    expected = downloads.mrbrains_2018(tmp_path / "mrb")
    for number in (1, 4, 5, 14):
        place = tmp_path / "mrb/training" / str(number)
        for name, seed in (("T1", 70), ("IR", 71), ("reg_IR", 72), ("FLAIR", 73)):
            downloads.save_nifti(place / "pre" / f"{name}.nii.gz", downloads.image(number + seed), "RAS", (1, 1, 3))
        downloads.save_nifti(place / "segm.nii.gz", np.round(downloads.image(number)), "RAS", (1, 1, 3))
    found, reasons, _ = trees.agreed(downloads.declared("mrbrains", tmp_path / "mrb"), tmp_path / "t1.h5")
    assert not reasons
    for name, image in found.items():
        np.testing.assert_allclose(image, expected[name], atol=2e-6)
    for contrast, seed in (("ir", 72), ("flair", 73)):
        dataset = downloads.declared("mrbrains", tmp_path / "mrb", contrast=contrast)
        found, reasons, _ = trees.agreed(dataset, tmp_path / f"{contrast}.h5")
        right = downloads.normalised(downloads.image(14 + seed))
        np.testing.assert_allclose(found[f"training_14_{contrast}"], right, atol=2e-6)
    downloads.save_nifti(tmp_path / "mrb/training/4/pre/T2_FLAIR.nii.gz", downloads.image(5))
    with pytest.raises(StudyError, match=r"2 flair volumes of training_4, expected one: .*FLAIR.nii.gz and .*T2_FLAIR"):
        survey(dataset)


def test_acdc_as_it_is_passed_around(tmp_path):
    """Each file is a folder, with a file of another name in it; and all patients in one folder."""
    expected = downloads.acdc(tmp_path / "acdc")
    for file in list((tmp_path / "acdc").rglob("*.nii.gz")):
        place = file.with_name(file.name.removesuffix(".gz"))
        place.mkdir()
        file.rename(place / f"patient_{len(file.name)}.nii.gz")
    shutil.move(tmp_path / "acdc/testing/patient101", tmp_path / "acdc/training/patient101")
    dataset = downloads.declared("acdc", tmp_path / "acdc")
    found, reasons, _ = trees.agreed(dataset, tmp_path / "out.h5")
    assert not reasons and set(found) == set(expected)
    for name, image in found.items():
        np.testing.assert_allclose(image, expected[name], atol=2e-6)
    phases = {v.subject: v.attributes["phase"] for v in read_prepared(tmp_path / "out.h5")}
    assert phases["patient001_frame01"] == "ED" and phases["patient101_frame12"] == "ES"
    assert len(survey(dataset).label_maps) == 8
    (tmp_path / "flat").mkdir()
    for file in (tmp_path / "acdc").rglob("*frame*.nii"):
        shutil.copytree(file, tmp_path / "flat" / file.name)
    found, _, _ = trees.agreed(downloads.declared("acdc", tmp_path / "flat"), tmp_path / "flat.h5")
    assert set(found) == set(expected)


def test_the_published_files_of_another_factor_may_be_links(tmp_path):
    expected = downloads.published(tmp_path)
    for part in ("train", "validation"):
        (tmp_path / part / "acc_8x").symlink_to("acc_4x")
        (tmp_path / part / "acc_4x" / "._1.h5").write_bytes(b"side-car")
    found, reasons, _ = trees.agreed(downloads.declared("kdmri_h5", tmp_path), tmp_path / "out.h5")
    assert set(found) == set(expected) and not reasons


def test_masks_that_are_passed_around_with_calgary_campinas_are_no_heads(tmp_path):
    expected = downloads.calgary_nifti(tmp_path / "calgary")
    for file in list((tmp_path / "calgary").rglob("*.nii.gz")):
        for kind in ("staple", "ss", "manual"):
            mask = file.with_name(file.name.replace(".nii.gz", f"_{kind}.nii.gz"))
            downloads.save_nifti(mask, np.round(downloads.image(1)))
    found, reasons, error = trees.agreed(
        downloads.declared("calgary_campinas", tmp_path / "calgary"), tmp_path / "out.h5"
    )
    assert set(found) == set(expected) and not reasons and not error


@pytest.mark.parametrize(
    ("source", "option", "value", "message"),
    [
        ("NIfTI", "pixel", 0, "Input should be greater than 0, found 0"),
        ("NIfTI", "pixel", -0.8, "Input should be greater than 0, found -0.8"),
        ("NIfTI", "pixel", float("nan"), "Input should be a finite number"),
        ("NIfTI", "pixel", "0.8 mm", "Input should be a valid number"),
        ("NIfTI", "pixel", True, "Input should be a valid number"),
        ("DICOM", "pixel", 0, "Input should be greater than 0, found 0"),
        ("acdc", "cine", "no", "Input should be a valid boolean, found 'no'"),
        ("fastMRI multicoil", "image", "rss", "Input should be 'kspace' or 'reconstruction'"),
        ("fastMRI multicoil", "acquisition", 3, "Input should be a valid string"),
        ("knee, MATLAB 7.3", "combination", "sos", "Input should be 'rss' or 'sens"),
        ("mrbrains 2018", "stage", "raw", "Input should be 'pre' or 'orig'"),
        ("Calgary-Campinas", "orientation", 2, "Input should be 'axial'"),
        ("published code", "masks", 4, "Input should be a valid string"),
        ("NIfTI", "pixels", 1.0, "known: orientation, pixel"),
    ],
)
def test_options_that_can_not_be_are_said_before_anything_is_read(tmp_path, source, option, value, message):
    source, fill, _ = EVERY[source]
    fill(tmp_path)
    dataset = downloads.declared(source, tmp_path, options={option: value})
    said = f"no option {option}; " if option == "pixels" else f"option '{option}': "
    for function in (survey, lambda d: prepare(d, tmp_path / "out.h5", 1)):
        with pytest.raises(StudyError, match=f"data set 'mine'[,:] {said}{message}"):
            function(dataset)


@pytest.mark.parametrize("source", ["acdc", "mrbrains", "fastmri", "calgary_campinas", "nifti_folder", "dicom_folder"])
def test_a_folder_of_something_else_is_said(tmp_path, source):
    (tmp_path / "notes.txt").write_text("nothing here")
    for pattern in (None, "*/x*"):
        message = f"0 subjects found, as source {source} knows them.*; data/README.md says how"
        with pytest.raises(StudyError, match=message):
            survey(downloads.declared(source, tmp_path, pattern=pattern))
