"""The nine people: in one test set, front at the top, framed as the networks' images are, and never trained on."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from kdmri_lib.datasets import people
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.phantoms import embedded_brain
from kdmri_lib.datasets.prepared import source_checksums
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


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """One person's file where a test may change it."""
    monkeypatch.setattr(people, "PEOPLE", {"r16": people.PEOPLE["r16"]})
    (tmp_path / "axial_r16.nii.gz").write_bytes((people.FOLDER / "axial_r16.nii.gz").read_bytes())
    monkeypatch.setattr(people, "FOLDER", tmp_path)
    return tmp_path


def test_nine_people_are_one_test_set():
    found = [member for member in members(SMALL) if member.split not in ("train", "validation", "test")]
    of_people = [m for m in found if m.split == "people"]
    assert [m.subject for m in of_people] == [m.volume for m in of_people] == NAMES
    assert {m.volume: m.split for m in found if m.subject not in NAMES} == {"mni152": "template", "s1045": "individual"}
    stated = (people.FOLDER / "PROVENANCE.md").read_text()
    assert all(name in stated for name in NAMES) and len({m.how["file"] for m in found if "file" in m.how}) == 9


def boxed(picture):
    """A head's or brain's own detail in its bounding box, (96, 80): wherever it lies, however large and bright it is."""
    labels, _ = ndimage.label(picture > 0.15 * np.percentile(picture, 99))
    rows, columns = ndimage.find_objects(labels)[np.bincount(labels.ravel())[1:].argmax()]
    detail = resize(picture[rows, columns], (96, 80), anti_aliasing=True)
    return (detail - ndimage.gaussian_filter(detail, 8)).ravel()


@pytest.mark.parametrize("name", NAMES)
def test_front_is_up_as_in_the_template(name):
    """The template's ventricles and fissures lie better on a person's than on the same upside down."""
    slices = made(name)[0]
    middle = slices[len(slices) // 3 : len(slices) // 3 + 6]

    def likeness(pictures):
        template = embedded_brain.template_slices(97)[30:70:4]
        return np.corrcoef([boxed(a) for a in template], [boxed(b) for b in pictures])[:10, 10:].max()

    assert likeness(middle) > likeness(middle[:, ::-1]) + 0.05


@pytest.mark.parametrize(("name", "slices", "thickness"), [("colin27", 16, 1.0), ("tumour2", 16, 6.5), ("r64", 1, 1.0)])
def test_slices_attributes_and_spacing(name, slices, thickness):
    image, attributes = made(name)
    assert image.shape == (slices, 240, 240) and image.dtype == np.float32 and image.min() >= 0
    assert attributes["kind"] == "real MR" and attributes["spacing"] == (thickness, 1.0, 1.0)
    assert people.PEOPLE[name].file in attributes["origin"] and people.PEOPLE[name].licence in attributes["origin"]


@pytest.mark.parametrize("shape", [(96, 96), (128, 128), (256, 256), (240, 200)])
def test_other_shapes_cover_the_same_field_of_view(shape):
    whole, (image, attributes) = made("tumour1")[0], made("tumour1", shape)
    assert image.shape == (16, *shape) and attributes["spacing"] == (6.5, 240 / shape[0], 240 / shape[1])

    def centre(images):
        return (np.array(ndimage.center_of_mass(images)[1:]) + 0.5) / images.shape[1:]

    np.testing.assert_allclose(centre(image), centre(whole), atol=0.01)


def test_files_of_fewer_slices_than_are_asked_for_give_each_once():
    assert len(made("tumour1", count=40)[0]) == 16 and len(made("colin27", count=40)[0]) == 40
    assert len(people.make(str(people.FOLDER / "head_colin27.nii.gz"), None)[0]) == 97
    with pytest.raises(StudyError, match=r"mine.nii.gz: not a file of one of the people: head_colin27.nii.gz, "):
        people.make("mine.nii.gz", 4)


def test_files_are_named_by_their_path_below_the_project_which_may_be_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(people, "PEOPLE", {"r16": people.PEOPLE["r16"]})
    prepare(SMALL, tmp_path / "b.h5", 1)
    assert list(source_checksums(tmp_path / "b.h5")["r16"]) == ["data/real/axial_r16.nii.gz"]


@pytest.mark.parametrize("what", ["person", "image"])
def test_a_person_who_trains_too_is_an_error(elsewhere, tmp_path, monkeypatch, what):
    cohort = embedded_brain.cohort
    how = {"file": str(elsewhere / "axial_r16.nii.gz")} if what == "image" else {"number": 9}
    again = Member("train", "r16" if what == "person" else "someone", "again", how)
    monkeypatch.setattr(embedded_brain, "cohort", lambda dataset: [again, *cohort(dataset)])
    with pytest.raises(StudyError, match=f"again in train and r16 in people are the same {what}"):
        prepare(SMALL, tmp_path / "b.h5", 1)
    assert not (tmp_path / "b.h5").exists()
