"""Generated images: seeded, different from subject to subject, of the detail that they are meant to have."""

import numpy as np
import pytest

from kdmri_lib.datasets.phantoms.embedded_brain import individual_slice, template_slices
from kdmri_lib.datasets.phantoms.knee_phantom import COILS, coil_sensitivities
from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.datasets.preparing import members, prepare, source
from kdmri_lib.datasets.spectrum import relative_to_zero
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

BRAIN = Dataset(
    name="brain", source="embedded_brain", shape=(120, 120), train=2, validation=1, test=1, slices_per_volume=4
)


@pytest.mark.parametrize("name", ["embedded_brain", "cardiac_phantom", "knee_phantom"])
def test_subjects_are_seeded_and_differ_and_a_complex_one_is_the_same_at_a_smooth_phase(name):
    module, shape = source(name), (96, 60) if name == "knee_phantom" else (96, 96)
    dataset = BRAIN.model_copy(update={"source": name, "shape": shape, "slices_per_volume": 2, "seed": 3})
    plain, again, second = (module.make(dataset, number=n)[0] for n in (1, 1, 2))
    np.testing.assert_array_equal(plain, again)
    assert plain.shape == (2, *shape) and np.isfinite(plain).all() and plain.min() >= 0
    assert np.corrcoef(plain.ravel(), second.ravel())[0, 1] < 0.97
    image, other = (module.make(dataset.model_copy(update={"domain": "complex"}), number=n)[0] for n in (1, 2))
    assert image.dtype == np.complex64
    if name == "knee_phantom":  # the root sum of squares has a floor of noise, which combined coils have not
        signal = plain > 0.2 * plain.max()
        np.testing.assert_allclose(np.abs(image)[signal], plain[signal], rtol=0.1)
        assert np.abs(image)[~signal].mean() < plain[~signal].mean()
    else:
        np.testing.assert_allclose(np.abs(image), plain, atol=1e-6 * plain.max())
    # Between neighbours the phase differs by little; without noise, by the slope of a few radians over the field.
    steps = np.angle(image[:, 1:] * image[:, :-1].conj())[np.abs(image[:, 1:]) > 0.3 * np.abs(image).max()]
    assert np.median(np.abs(steps)) < 0.2
    assert abs(np.angle((image / other).mean())) > 0.05, "each at a phase of its own"


def test_the_cohort_has_the_detail_that_the_template_lacks():
    module = source("embedded_brain")
    dataset = BRAIN.model_copy(update={"shape": (240, 240)})
    frequency, cohort = relative_to_zero(module.make(dataset, number=1)[0])
    template = relative_to_zero(template_slices(4))[1]
    band = (frequency > 0.15) & (frequency < 0.35)
    assert (cohort[band] > template[band]).all()


def test_real_images_are_sets_of_their_own(tmp_path):
    dataset = BRAIN.model_copy(update={"train": 1, "slices_per_volume": 2})
    prepare(dataset, tmp_path / "b.h5", 1)
    kinds = {v.split: v.attributes["kind"] for v in read_prepared(tmp_path / "b.h5")}
    virtual, real = (
        dict.fromkeys(("train", "validation", "test"), "virtual subject"),
        ("template", "individual", "people"),
    )
    assert kinds == virtual | dict.fromkeys(real, "real MR")
    assert not prepare(dataset, tmp_path / "b.h5", 1).made, "up to date"
    # Nobody's phase is known; in a complex data set they have a simulated one, and say so.
    complex_set = dataset.model_copy(update={"domain": "complex"})
    prepare(complex_set, tmp_path / "c.h5", 1)
    for plain, both in zip(read_prepared(tmp_path / "b.h5"), read_prepared(tmp_path / "c.h5"), strict=True):
        np.testing.assert_allclose(np.abs(both.image), plain.image, atol=1e-6)
        if plain.split not in virtual:
            assert both.attributes["kind"] == "real MR, simulated phase"
            assert np.ptp(np.unwrap(np.angle(both.image[0, 60]))) > 0.05
    assert individual_slice((240, 240)).shape == (1, 240, 240)


def test_further_contrasts_are_test_sets_of_other_subjects_in_another_contrast():
    module = source("embedded_brain")
    dataset = BRAIN.model_copy(update={"options": {"further_contrasts": "flair:2 ir:2"}, "test": 2})
    found = members(dataset)
    usual = [m for m in found if m.split in ("train", "validation", "test")]
    assert [m.volume for m in found if m.split == "flair"] == ["flair006", "flair007"]
    assert [m.how for m in found if m.split == "ir"] == [{"number": n, "protocol": "ir"} for n in (8, 9)]
    assert {m.how["number"] for m in usual} == {1, 2, 3, 4, 5}
    in_t1, in_flair = (module.make(dataset, number=6, protocol=p)[0] for p in ("t1", "flair"))
    assert np.corrcoef(in_t1.ravel(), in_flair.ravel())[0, 1] < 0.9
    np.testing.assert_array_equal(module.make(dataset, number=6)[0], in_t1)
    with pytest.raises(StudyError, match="option 'further_contrasts'"):
        members(dataset.model_copy(update={"options": {"further_contrasts": "t3:2"}}))


def test_coil_maps_are_smooth_complex_and_different():
    maps = coil_sensitivities(np.random.default_rng(0), 25.0, (64, 36), 5.0)
    assert maps.shape == (COILS, 64, 36) and np.iscomplexobj(maps)
    correlation = np.abs(np.corrcoef(np.abs(maps).reshape(COILS, -1)))
    assert correlation[~np.eye(COILS, dtype=bool)].max() < 0.9999
    assert np.abs(np.diff(np.abs(maps), axis=1)).max() < 0.1
