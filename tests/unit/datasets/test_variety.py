"""Various images: seeded, in range, each kind of variety there or left out by name; without it the images of before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.datasets.fields import typical
from kdmri_lib.datasets.phantoms.embedded_brain import stripped, with_lesions
from kdmri_lib.datasets.preparing import members, source
from kdmri_lib.datasets.relaxation import TISSUES
from kdmri_lib.datasets.variety import KINDS, PLAIN, Variety
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

SHAPES = {"embedded_brain": (64, 64), "cardiac_phantom": (64, 64), "knee_phantom": (96, 60)}


def declared(name: str, **more) -> Dataset:
    split = {"train": 2, "validation": 1, "test": 1, "slices_per_volume": 2, "seed": 3}
    return Dataset(**{"name": "x", "source": name, "shape": SHAPES[name]} | split | more)


def made(name: str, number: int = 1, how: dict | None = None, **more) -> np.ndarray:
    return source(name).make(declared(name, **more), number=number, **(how or {}))[0]


def summary(image: np.ndarray) -> list[float]:
    """Mean and standard deviation of the magnitude; parts of a value in the first slice, of one in the last."""
    size, (rows, columns) = np.abs(image), image.shape[1:]
    one, other = image[0, rows // 2, columns // 2], image[-1, rows // 3, columns // 2]
    return [size.mean(), size.std(), one.real, one.imag, other.real, other.imag]


FLAIR, COMPLEX = {"protocol": "flair"}, {"domain": "complex"}
BSSFP, THREE = {"contrast": "bssfp", "shape": (48, 64)}, {"slices_per_volume": 3}
# By the code before there was variety: the evidence rests on these images.
PLAIN_IMAGES = [
    ("embedded_brain", 1, {}, {}, [0.1589491, 0.2157091, 0.3850885, 0, 0.1313017, 0]),
    ("embedded_brain", 5, FLAIR, COMPLEX, [0.143687, 0.2201543, 0.4013227, -0.04775169, 0.1031415, 0.5442955]),
    ("embedded_brain", 2, {}, BSSFP, [0.1390333, 0.2080067, 0.552814, 0, 0.658529, 0]),
    ("cardiac_phantom", 1, {}, {}, [0.04963627, 0.05512946, 0.1455732, 0, 0.09307949, 0]),
    ("cardiac_phantom", 2, {}, COMPLEX | THREE, [0.0446247, 0.0441890, -0.00703075, 0.148637, 0.00279645, 0.0137815]),
    ("knee_phantom", 1, {}, {}, [0.08009267, 0.08505337, 0.07987566, 0, 0.2699758, 0]),
    ("knee_phantom", 2, {}, COMPLEX, [0.06197026, 0.08206736, 0.04937249, 0.1331986, 0.1945458, 0.09402329]),
]


@pytest.mark.parametrize(("name", "number", "how", "more", "known"), PLAIN_IMAGES)
def test_without_variety_images_are_what_they_were(name, number, how, more, known):
    np.testing.assert_allclose(summary(made(name, number, how, **more)), known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_various_images_are_seeded_in_range_and_differ_from_plain_ones(name):
    various = {"various": True}
    image, again = (made(name, options=various) for _ in range(2))
    complex_one, plain = made(name, options=various, domain="complex"), made(name)
    np.testing.assert_array_equal(image, again)
    assert image.shape == (2, *SHAPES[name]) and image.dtype == np.float32 and complex_one.dtype == np.complex64
    for each in (image, complex_one):
        assert np.isfinite(each).all() and np.abs(each).max() == pytest.approx(1, abs=1e-6)
    assert image.min() >= 0 and image.mean() > 0.02 and (image > 0.95).mean() < 0.2
    assert np.abs(image - plain / plain.max()).mean() > 0.01
    assert np.corrcoef(image.ravel(), np.abs(complex_one).ravel())[0, 1] > 0.8, "the same subject"
    np.testing.assert_array_equal(made(name, 1, {"plain": True}, options=various), plain)


def test_options_are_checked_and_add_test_sets():
    name = "cardiac_phantom"
    sets = declared(name, options={"various": True, "without": "noise", "plain_subjects": 2, "strangers": 3})
    found = members(sets)
    numbers = [m.how["number"] for m in found if "number" in m.how]
    assert sorted(numbers) == list(range(1, 4 + 2 + 3 + 1)), "nobody is in two sets"
    assert [m.how["plain"] for m in found if m.split == "plain"] == [True, True]
    names = {m.volume: m.how["snr"] for m in found if m.split == "strangers"}
    assert names == {"stranger007_clean": np.inf, "stranger008_snr80": 80, "stranger009_snr5": 5}
    with pytest.raises(StudyError, match=r"without.*'contrast'.*'noise'"):
        members(declared(name, options={"various": True, "without": "noises"}))
    with pytest.raises(StudyError, match="'without' needs the option various"):
        members(declared(name, options={"without": "noise"}))


def test_a_kind_that_is_left_out_is_as_usual_and_changes_no_other():
    signal, ramp = np.ones(50), np.linspace(0, 1, 50)
    here, middle = np.random.default_rng(0).random((3, 1, 4, 4)) * 99, np.full((3, 1, 1, 1), 50)
    drawn = {
        "contrast": lambda v: [*v.signals("t1", TISSUES).values(), v.flow(1.3)],
        "warp": lambda v: v.placed(here, middle),
        "resolution": lambda v: [v.between("resolution", 1, 1.5, 0.9, 2.2), *v.thickness()],
        "noise": lambda v: v.noise(0.02, signal),
        "bias": lambda v: v.between("bias", 1, 0.2, 0.05, 0.65),
    }
    for kind, values in drawn.items():
        full, less = Variety((3, 1), KINDS), Variety((3, 1), tuple(k for k in KINDS if k != kind))
        np.testing.assert_array_equal(values(less), values(PLAIN))
        assert not np.array_equal(values(full), values(PLAIN)), kind
        for other in drawn.keys() - {kind}:
            np.testing.assert_array_equal(drawn[other](full), drawn[other](less))
    np.testing.assert_array_equal(Variety((3, 1), ("contrast",)).shown(ramp), ramp)
    assert (np.floor(full.levels(ramp, 0, 10) * 5) == np.arange(50)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["t1", "flair", "pd", "bssfp"]))
def test_what_is_drawn_keeps_its_limits(seed, protocol):
    variety = Variety((seed, 1), KINDS)
    signals = variety.signals(protocol, TISSUES)
    assert signals.keys() == TISSUES.keys() and all(0 <= s <= 1.3 for s in signals.values())
    assert signals["bone"] < max(signals.values())
    assert 1 / 400 <= variety.noise(9.0, np.full(50, 1.0)) <= 1 / 5 + 1e-12
    assert np.ptp(variety.thickness()) <= 7 and 0.9 <= variety.between("resolution", 1, 9.0, 0.9, 2.2) <= 2.2
    image = np.random.default_rng(seed).random((2, 5, 5))
    shown = variety.shown(image)
    assert shown.max() == 1 and shown.min() >= 0
    order = image.ravel().argsort()
    assert (np.diff(shown.ravel()[order]) >= 0).all(), "gamma and rounding keep the order of brightness"
    turned = variety.shown(image * np.exp(1j))
    np.testing.assert_allclose(turned, shown * np.exp(1j), atol=1e-6)


def test_what_is_left_out_of_training_subjects_is_in_those_that_judge():
    """Subjects 1 and 2 train, 3 validates."""
    for number, same in ((2, False), (3, True)):
        whole, left_out = (
            made("cardiac_phantom", number, options={"various": True} | o) for o in ({}, {"without": "all"})
        )
        assert np.array_equal(whole, left_out) == same


def test_brains_are_stripped_in_some_subjects_and_have_lesions_in_some():
    axes = np.meshgrid(np.arange(2), *[np.arange(-40, 40)] * 2, indexing="ij")
    here = np.stack(axes).astype(np.float32)
    depth = 30 - np.hypot(*axes[1:])
    signal, flat = np.ones(depth.shape), np.zeros(depth.shape)
    found = [stripped(np.random.default_rng(n), signal, depth, flat) for n in range(40)]
    without = [image for image in found if not image.all()]
    assert 8 <= len(without) <= 24
    assert all((image[depth > 3] == 1).all() and (image[depth < -6] == 0).all() for image in without)
    found = [with_lesions(np.random.default_rng(n), signal, here, depth, flat, 1.0) for n in range(40)]
    ill = [image for image in found if (image != 1).any()]
    assert 10 <= len(ill) <= 30 and min(image.min() for image in ill) < 0.5 and max(image.max() for image in ill) > 1.2
    assert all((image[depth < -1] == 1).all() for image in ill), "inside the brain alone"
    assert stripped(None, signal, depth, flat) is signal
    assert with_lesions(None, signal, here, depth, flat, 1.0) is signal


def test_strangers_are_seeded_unlike_one_another_and_as_noisy_as_they_say():
    shape = SHAPES["knee_phantom"]
    clean, again, other = (made("knee_phantom", n, {"snr": np.inf}) for n in (7, 7, 8))
    np.testing.assert_array_equal(clean, again)
    assert clean.shape == (2, *shape) and clean.min() == 0 and np.isfinite(clean).all() and clean.max() < 2
    assert np.corrcoef(clean.ravel(), other.ravel())[0, 1] < 0.9 and clean.mean() > 0.02
    noisy = made("knee_phantom", 7, {"snr": 5}, domain="complex")
    phase = np.exp(1j * np.angle(made("knee_phantom", 7, {"snr": 1e6}, domain="complex")))
    noise = (noisy - clean * phase)[clean > 0.1]
    assert typical(clean) / noise.real.std() == pytest.approx(5, rel=0.1)
