"""What the brain's data set has beside virtual subjects: nine people, the template, further contrasts, which only test."""

import numpy as np
import pytest
from scipy import ndimage

from kdmri_lib.datasets import people
from kdmri_lib.datasets.prepared import read_prepared, source_checksums
from kdmri_lib.datasets.preparing import members, prepare, source
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

NAMES = ["colin27", "tumour1", "tumour2", "r16", "r27", "r30", "r62", "r64", "r85"]
SMALL = Dataset(
    name="brain", source="embedded_brain", shape=(48, 48), train=1, validation=1, test=1, slices_per_volume=2
)


def made(name, shape=(240, 240), count=16):
    dataset = SMALL.model_copy(update={"shape": shape, "slices_per_volume": count})
    member = next(member for member in members(dataset) if member.volume == name)
    return source("embedded_brain").make(dataset, **member.how)


def test_nine_people_are_one_test_set():
    found = [member for member in members(SMALL) if member.split not in ("train", "validation", "test")]
    of_people = [m for m in found if m.split == "people"]
    assert [m.subject for m in of_people] == [m.volume for m in of_people] == NAMES
    assert {m.volume: m.split for m in found if m.subject not in NAMES} == {"mni152": "template", "s1045": "individual"}
    stated = (people.FOLDER / "PROVENANCE.md").read_text()
    assert all(name in stated for name in NAMES) and len({m.how["file"] for m in found if "file" in m.how}) == 9


@pytest.mark.parametrize(("name", "slices", "thickness"), [("colin27", 16, 1.0), ("tumour2", 16, 6.5), ("r64", 1, 1.0)])
def test_slices_attributes_and_spacing(name, slices, thickness):
    image, attributes = made(name)
    assert image.shape == (slices, 240, 240) and image.dtype == np.float32 and image.min() >= 0
    assert attributes["kind"] == "real MR" and attributes["spacing"] == (thickness, 1.0, 1.0)
    assert people.PEOPLE[name].file in attributes["origin"] and people.PEOPLE[name].licence in attributes["origin"]


@pytest.mark.parametrize("shape", [(96, 96), (240, 200)])
def test_other_shapes_cover_the_same_field_of_view(shape):
    whole, (image, attributes) = made("tumour1")[0], made("tumour1", shape)
    assert image.shape == (16, *shape) and attributes["spacing"] == (6.5, 240 / shape[0], 240 / shape[1])

    def centre(images):
        return (np.array(ndimage.center_of_mass(images)[1:]) + 0.5) / images.shape[1:]

    np.testing.assert_allclose(centre(image), centre(whole), atol=0.01)


def test_files_of_fewer_slices_than_are_asked_for_give_each_once():
    assert len(made("tumour1", count=40)[0]) == 16 and len(made("colin27", count=40)[0]) == 40
    assert len(people.make(str(people.FOLDER / "head_colin27.nii.gz"), None)[0]) == 97


def test_real_images_are_sets_of_their_own(tmp_path):
    prepare(SMALL, tmp_path / "b.h5")
    kinds = {v.split: v.attributes["kind"] for v in read_prepared(tmp_path / "b.h5")}
    virtual = dict.fromkeys(("train", "validation", "test"), "virtual subject")
    assert kinds == virtual | dict.fromkeys(("template", "individual", "people"), "real MR")
    assert source_checksums(tmp_path / "b.h5")["r16"].keys() == {"data/real/axial_r16.nii.gz"}, "below the project"
    # Nobody's phase is known; in a complex data set they have a simulated one, and say so.
    complex_set = SMALL.model_copy(update={"domain": "complex"})
    prepare(complex_set, tmp_path / "c.h5")
    for plain, both in zip(read_prepared(tmp_path / "b.h5"), read_prepared(tmp_path / "c.h5"), strict=True):
        np.testing.assert_allclose(np.abs(both.image), plain.image, atol=1e-6)
        if plain.split not in virtual:
            assert both.attributes["kind"] == "real MR, simulated phase"
            assert np.ptp(np.unwrap(np.angle(both.image[0, 24]))) > 0.05


def test_further_contrasts_are_test_sets_of_other_subjects_in_another_contrast():
    module = source("embedded_brain")
    dataset = SMALL.model_copy(update={"options": {"further_contrasts": "flair:2 ir:2"}, "train": 2, "test": 2})
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
