"""What values are: magnitudes, or z-scores, phases and labels; k-space that was measured whole, or has holes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from kdmri_lib.datasets.nifti import read_nifti
from kdmri_lib.datasets.values import magnitudes, measured_whole
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from tests import downloads

REAL = sorted((PROJECT / "data" / "real").glob("*.nii.gz"))
WHERE = Path("x.nii")
OF_EACH = pytest.mark.parametrize("file", REAL, ids=lambda file: file.name.split(".")[0])


def values_of(file):
    return np.asarray(nibabel.load(file).dataobj, dtype=np.float32)


@OF_EACH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x, ""),
        (lambda x: (x - x.mean()) / x.std(), r"negative values \(down to -.* of the signal\); expected a magnitude im"),
        (lambda x: (x - x[x > 0].mean()) * (x > 0), "negative values"),
        (lambda x: (x > x.mean()).astype(np.float32), r"only 2 different values \(a label map\?\)"),
        (lambda x: (x / x.max() * 40000).astype(np.uint16).view(np.int16), "negative values .*uint16"),
        (lambda x: np.minimum(x / np.percentile(x, 95), 1) * (x > x.mean()) * 4095, ""),  # bright, in 12 bits, masked
        (lambda x: np.digitize(x, np.linspace(0, x.max(), 12)), r"only 1\d different values"),
    ],
    ids=["as it is", "z-scored", "z-scored within the head", "mask", "wrapped", "clipped", "labels"],
)
def test_real_people_are_taken_as_they_are_and_what_is_made_of_them_and_is_no_image_is_refused(file, change, message):
    values = change(values_of(file))
    if message:
        with pytest.raises(StudyError, match=f"{file.name}: {message}"):
            magnitudes(values, file)
    else:
        found, attributes = magnitudes(values, file)
        assert found is values and attributes == {}


@pytest.mark.parametrize("period", [2 * np.pi, 360, 4095, 4096])
def test_a_phase_without_negatives_is_no_magnitude(period):
    """Of an object with a smooth phase in the middle of air, whose phase is any."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, 64)] * 2, indexing="ij")
    noise = 0.02 * (rng.standard_normal((64, 64)) + 1j * rng.standard_normal((64, 64)))
    image = (rows**2 + columns**2 < 0.3) * np.exp(1j * (2 * rows + columns)) + noise
    phase = np.angle(image) % (2 * np.pi) / (2 * np.pi) * period
    inside = (phase * (rows**2 + columns**2 < 0.3)).astype(np.float32)  # 0 around the object
    for values in (phase.astype(np.float32), inside, np.stack([inside, inside])):
        with pytest.raises(StudyError, match=r"x.nii: values spread evenly, .*, from .* to .*, as a phase's"):
            magnitudes(values, WHERE)
    magnitude = np.abs(image) / np.abs(image).max() * period
    assert magnitudes(magnitude, WHERE)[0] is magnitude


def test_a_phase_that_never_wraps_is_told_where_phase_0_is_around_it():
    """In 12 bits; with 0 around it, nothing says that it is none."""
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, 64)] * 2, indexing="ij")
    inside = rows**2 + columns**2 < 0.3
    phase = np.rint(2048 * (1 + inside * (2 * rows + columns) / np.pi)).astype(np.int16)
    with pytest.raises(StudyError, match=r"x.nii: values .* about 2048, from .* as a phase's"):
        magnitudes(phase, WHERE)
    assert magnitudes(phase * inside, WHERE)[0].any()


def test_names_that_say_phase_by_the_conventions_of_bids_and_dcm2niix():
    for name in ("a_part-phase_T1w.nii.gz", "a_part-imag_T1w.nii", "scan_e1_ph.nii.gz", "SCAN_IMAGINARY.NII.GZ"):
        with pytest.raises(StudyError, match=f"{name}: a phase, a real or an imaginary part by its name"):
            magnitudes(downloads.image(1), Path(name))
    for name in ("sub-01_part-mag_T1w.nii.gz", "venous_phase.nii.gz", "graph.nii"):
        magnitudes(downloads.image(1), Path(name))


@OF_EACH
def test_real_people_after_interpolation_are_images(tmp_path, file):
    """By splines of degree 3, which leave 0.01 to 0.2% of the signal below 0; and by sinc, 0.1 to 0.7%."""
    stored = nibabel.load(file)
    stored = stored.slicer[::2, ::2, :: min(4, stored.shape[2])]
    values = np.asarray(stored.dataobj, dtype=np.float32)
    low = np.fft.fft2(values, axes=(0, 1))
    low[values.shape[0] // 4 : -(values.shape[0] // 4)] = 0
    for moved in (ndimage.zoom(values, (1.3, 1.3, 1), order=3), np.fft.ifft2(low, axes=(0, 1)).real):
        nibabel.save(nibabel.Nifti1Image(moved.astype(np.float32), stored.affine), tmp_path / "x.nii")
        slices, _, attributes = read_nifti(tmp_path / "x.nii")
        assert slices.min() == 0 and 0 < attributes["below_zero"] < 0.01


def test_the_share_below_zero_is_told():
    values = np.arange(100, dtype=np.float32).reshape(4, 5, 5)
    values[0, 0, :2] = -7, -8
    found, attributes = magnitudes(values, WHERE)
    assert attributes == {"below_zero": pytest.approx(15 / (15 + sum(range(2, 100))), abs=1e-6)}
    np.testing.assert_array_equal(found, np.maximum(values, 0))
    values[0, 0, :2] = -700
    with pytest.raises(StudyError, match=r"x.nii: negative values \(down to -700; 22% of the signal\)"):
        magnitudes(values, WHERE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3)), "the same value everywhere"),
        (np.full((2, 3), np.nan), "holds NaN"),
        (np.ones((0, 3, 3)), r"an image of shape \(0, 3, 3\), which holds nothing"),
        (np.arange(40) * 1j, "values of type complex128, expected real numbers"),
    ],
)
def test_values_that_are_no_image(values, message):
    with pytest.raises(StudyError, match=f"x.nii: .*{message}"):
        magnitudes(values, WHERE)


def kspace(shape=(24, 20)):
    rng = np.random.default_rng(3)
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def lines(kept):
    return np.where(kept, kspace(), 0)


COLUMN, ROW = np.arange(20), np.arange(24)[:, None]
WHOLE = {
    "all": lines(True),
    "zero-filled at both sides": lines((COLUMN > 2) & (COLUMN < 16)),
    "partial Fourier, both ways": lines((COLUMN > 6) & (ROW < 18)),
    "corners cut": lines((COLUMN - 10) ** 2 / 100 + (ROW - 12) ** 2 / 144 < 1),
    "a point is 0 by chance": lines((COLUMN != 4) | (ROW != 4)),
}
HOLED = {
    "every second line": lines(COLUMN % 2 == 0),
    "lines along the other axis": lines(ROW % 3 == 0),
    "points at random": lines(np.random.default_rng(1).random((24, 20)) < 0.4),
    "one line in twenty": lines(COLUMN != 7),
}


@pytest.mark.parametrize("centred", [True, False])
def test_holes_in_k_space_are_seen_and_what_was_not_measured_around_it_is_none(centred):
    def stored(values):
        values = values if centred else np.fft.ifftshift(values)
        return np.stack([values, 0 * values])

    for values in WHOLE.values():
        measured_whole(stored(values), WHERE, centred)
    for values in HOLED.values():
        with pytest.raises(StudyError, match=r"x.nii: undersampled \(\d+% of its k-space is empty\); expected fully"):
            measured_whole(stored(values), WHERE, centred)
