"""Where images come from: the prepared format, the embedded sources, NIfTI in any orientation; and bad files."""

import h5py
import nibabel
import numpy as np
import pytest
from kdmri_lib.sampling import declared_mask

from kdmri_lib.datasets.fields import diffeomorphic_displacement, rician, sheet_distance
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.nifti import framed_slices, read_nifti
from kdmri_lib.datasets.phantoms.embedded_brain import individual_slice, template_slices
from kdmri_lib.datasets.phantoms.knee_phantom import COILS, coil_sensitivities
from kdmri_lib.datasets.prepared import Volume, read_prepared, splits
from kdmri_lib.datasets.preparing import prepare, source
from kdmri_lib.datasets.relaxation import TISSUES, Tissue, balanced_steady_state, contrast, spoiled_gradient_echo
from kdmri_lib.datasets.writing import checked_volume, write_prepared
from kdmri_lib.declarations import Dataset, Degradation
from kdmri_lib.errors import StudyError
from kdmri_lib.figures import radial_power

BRAIN = Dataset(
    name="brain", source="embedded_brain", shape=(120, 120), train=2, validation=1, test=1, slices_per_volume=4
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.h5"
    first, second = np.random.default_rng(0).random((2, 3, 8, 6)).astype(np.float32)
    volumes = [Volume("a", "train", second, {"kind": "phantom"}), Volume("b", "test", first, {"kind": "phantom"})]
    write_prepared(path, "{}", "code", volumes)
    return path


def test_prepared_files_are_read_as_written(file):
    assert splits(file) == {"train": ["a"], "test": ["b"]}
    (volume,) = read_prepared(file, "test")
    assert volume.subject == "b" and volume.attributes["kind"] == "phantom"
    np.testing.assert_array_equal(volume.image, np.random.default_rng(0).random((3, 8, 6)).astype(np.float32))
    with h5py.File(file) as data:
        assert data["volumes/a"].chunks == (1, 8, 6)


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_prepared_file_cut_short_is_refused(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StudyError, match=r"x.h5: not a readable prepared file, or cut short"):
        list(read_prepared(file))


def test_other_bad_prepared_files(file, tmp_path):
    with pytest.raises(StudyError, match=r"none.h5: no such file"):
        list(read_prepared(tmp_path / "none.h5"))
    with pytest.raises(StudyError, match="no volume in split 'validation'"):
        list(read_prepared(file, "validation"))
    with h5py.File(file, "r+") as data:
        data["volumes/a"][0, 0, 0] += 1
    with pytest.raises(StudyError, match="volume a was altered"):
        list(read_prepared(file))
    with h5py.File(tmp_path / "other.h5", "w") as data:
        data["x"] = 1
    with pytest.raises(StudyError, match="format None, expected 'kdmri-prepared-1'"):
        list(read_prepared(tmp_path / "other.h5"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 4, 4)), "volume sick: all zero"),
        (np.full((2, 4, 4), np.nan), "volume sick: 32 values are NaN or infinite"),
        (-np.ones((2, 4, 4)), "volume sick: negative values"),
        (np.ones((2, 4, 5)), r"volume sick: shape \(2, 4, 5\), expected \(slices, 4, 4\)"),
    ],
)
def test_volumes_that_are_no_images_are_refused(image, message):
    with pytest.raises(StudyError, match=message):
        checked_volume("sick", "train", image, {}, (4, 4))


def test_a_failing_source_leaves_no_file(tmp_path, monkeypatch):
    module = source("cardiac_phantom")
    dataset = Dataset(
        name="c", source="cardiac_phantom", shape=(40, 40), train=1, validation=1, test=1, slices_per_volume=2
    )
    make = module.make
    monkeypatch.setattr(
        module,
        "make",
        lambda d, number: make(d, number) if number < 3 else (np.full((2, 40, 40), np.nan), {"kind": "phantom"}),
    )
    with pytest.raises(StudyError, match=r"no volume left for split 'test' \(volume phantom003: 3200 values are NaN"):
        prepare(dataset, tmp_path / "c.h5")
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize("name", ["embedded_brain", "cardiac_phantom", "knee_phantom"])
def test_generated_subjects_are_seeded_and_differ(name):
    module, shape = source(name), (96, 60) if name == "knee_phantom" else (96, 96)
    dataset = Dataset(name="x", source=name, shape=shape, train=2, validation=1, test=1, slices_per_volume=2, seed=3)
    first, again, second = (module.make(dataset, number=n)[0] for n in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, *shape) and np.isfinite(first).all() and first.min() >= 0
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.97
    parts = [part for part, *_ in module.cohort(dataset)]
    assert parts[:4] == ["train", "train", "validation", "test"]


def test_the_cohort_has_the_detail_that_the_template_lacks():
    module = source("embedded_brain")
    dataset = BRAIN.model_copy(update={"shape": (240, 240)})
    frequency, cohort = radial_power(module.make(dataset, number=1)[0])
    template = radial_power(template_slices(4))[1]
    band = (frequency > 0.15) & (frequency < 0.35)
    assert (cohort[band] > 3 * template[band]).all()


def test_real_images_are_sets_of_their_own(tmp_path):
    prepare(BRAIN, tmp_path / "b.h5")
    assert {*splits(tmp_path / "b.h5")} == {"individual", "template", "train", "validation", "test"}
    kinds = {v.split: v.attributes["kind"] for v in read_prepared(tmp_path / "b.h5")}
    assert kinds["template"] == kinds["individual"] == "real MR" and kinds["test"] == "virtual subject"
    assert not prepare(BRAIN, tmp_path / "b.h5").made, "up to date"
    assert individual_slice((240, 240)).shape == (1, 240, 240)


def test_signal_equations_in_their_limits():
    """At full recovery a 90 degree pulse gives the proton density; bSSFP at short TR gives M0 / (1 + T1 / T2) sin-like."""
    tissue = Tissue(0.8, 500, 50)
    assert spoiled_gradient_echo(tissue, tr=1e5, te=0, flip=90) == pytest.approx(0.8)
    ernst = np.degrees(np.arccos(np.exp(-10 / 500)))
    signals = [spoiled_gradient_echo(tissue, tr=10, te=0, flip=ernst + d) for d in (-1, 0, 1)]
    assert max(signals) == signals[1], "the Ernst angle gives most"
    assert balanced_steady_state(tissue, tr=0.01, flip=90) == pytest.approx(0.8 / (1 + 500 / 50), rel=1e-3)
    assert contrast("t1", TISSUES["white"]) > contrast("t1", TISSUES["grey"]) > contrast("t1", TISSUES["csf"])
    assert contrast("flair", TISSUES["csf"]) < 0.01
    with pytest.raises(StudyError, match="unknown contrast 't9'"):
        contrast("t9", TISSUES["white"])


def test_rician_noise_has_rayleigh_mean_without_signal():
    noise = rician(np.random.default_rng(0), np.zeros((200, 200), np.float32), 2.0)
    assert noise.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.01)


def test_warps_are_invertible():
    displacement = diffeomorphic_displacement(np.random.default_rng(0), (20, 20, 20), smoothness=4, amplitude=1.5)
    jacobian = np.stack([np.stack(np.gradient(d)) for d in displacement]) + np.eye(3)[:, :, None, None, None]
    assert np.linalg.det(jacobian.transpose(2, 3, 4, 0, 1)).min() > 0


def test_sheet_distance_of_a_plane():
    x = np.arange(10.0) * np.ones((10, 1))
    np.testing.assert_allclose(sheet_distance(0.3 * (x - 4), 1.0), np.abs(x - 4))


def test_coil_maps_are_smooth_complex_and_different():
    maps = coil_sensitivities(np.random.default_rng(0), 25.0, (64, 36), 5.0)
    assert maps.shape == (COILS, 64, 36) and np.iscomplexobj(maps)
    correlation = np.abs(np.corrcoef(np.abs(maps).reshape(COILS, -1)))
    assert correlation[~np.eye(COILS, dtype=bool)].max() < 0.9999
    assert np.abs(np.diff(np.abs(maps), axis=1)).max() < 0.1


def ras_volume():
    """Known content in right-anterior-superior order: a value that tells where it is."""
    x, y, z = np.meshgrid(np.arange(5), np.arange(6), np.arange(4), indexing="ij")
    return (100 * z + 10 * y + x + 1).astype(np.float32)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_axial_slices_are_axial_whatever_the_header_says(tmp_path, orientation):
    image = nibabel.Nifti1Image(ras_volume(), np.eye(4))
    current = nibabel.io_orientation(image.affine)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(current, nibabel.orientations.axcodes2ornt(orientation))
    )
    nibabel.save(turned, tmp_path / "x.nii.gz")
    slices = read_nifti(tmp_path / "x.nii.gz")[0]
    assert slices.shape == (4, 6, 5)
    # Front (large y) at the top, the subject's right (small x in RAS is left, so large x) at the left.
    assert slices[2, 0, 0] == 100 * 2 + 10 * 5 + 4 + 1
    assert slices[0, -1, -1] == 1


def test_pixels_are_resampled_only_when_asked(tmp_path):
    image = np.random.default_rng(0).random((10, 12, 3), np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2, 2, 5, 1])), tmp_path / "x.nii")
    assert read_nifti(tmp_path / "x.nii")[0].shape == (3, 12, 10)
    assert read_nifti(tmp_path / "x.nii", pixel=1.0)[0].shape == (3, 24, 20)
    assert framed_slices(tmp_path / "x.nii", (16, 16), 2)[0].shape == (2, 16, 16)


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


def test_unknown_source():
    with pytest.raises(StudyError, match="unknown source of images 'acdcc'; known: acdc, "):
        source("acdcc")


def test_padding_and_cropping_keep_the_centre():
    image = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(padded(padded(image, (7, 6)), (4, 4)), image)
    assert padded(image, (2, 6)).shape == (1, 2, 6)


def test_a_mask_of_ones_own(tmp_path):
    path = tmp_path / "mask.npy"
    degradation = Degradation(acceleration=4, mask=str(path))
    with pytest.raises(StudyError, match=r"mask.npy: no such file"):
        declared_mask(BRAIN, degradation)
    mask = np.zeros((120, 120), np.uint8)
    mask[:30] = 1
    np.save(path, mask)
    np.testing.assert_array_equal(declared_mask(BRAIN, degradation), mask.astype(bool))
    np.save(path, mask[:50])
    with pytest.raises(StudyError, match=r"mask.npy: shape \(50, 120\), expected \(120, 120\)"):
        declared_mask(BRAIN, degradation)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StudyError, match=r"mask.npy: not a readable .npy mask"):
        declared_mask(BRAIN, degradation)
