"""The viewer's pictures against NumPy's Fourier transform; its page, its widget; committed networks against their cards."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.masks import cartesian_mask, published_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.viewer.views import LookInside, Person, Setting, Views, write_page
from kdmri_study.models import FOLDER, committed, look_at_people, network

SHAPE = (24, 20)


def small_views(axis: int = 0, channels: int = 1) -> Views:
    rng = np.random.default_rng(0)
    mask = cartesian_mask(SHAPE, 4, axis=axis, centre=2)
    image = rng.random((3, *SHAPE)).astype(np.float32) ** 3
    if channels == 2:
        image = image * np.exp(2j * rng.random(image.shape)).astype(np.complex64)
    torch.manual_seed(0)  # some networks this small add nothing that is seen
    network = build_model("dccnn", mask, channels, cascades=1, convolutions=2, features=2).eval()
    people = {"one": Person(image, "the first </script>"), "two": Person(image[:1])}
    return Views(people, {"4x": Setting(mask, {"Student": network}), "of none": Setting(mask, {}, "a note")})


def planes(picture: dict) -> np.ndarray:
    sheet = np.asarray(Image.open(io.BytesIO(picture["png"])))
    assert sheet.dtype == np.uint8
    return sheet.reshape(-1, picture["height"], picture["width"]).astype(float)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_holds_the_slice_its_kspace_and_what_each_method_misses(axis, channels):
    views = small_views(axis, channels=channels)
    scanned, setting = views.people["one"].image[1].astype(np.complex128), views.index()["settings"][0]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[(setting["kept"], slice(None)) if setting["axis"] == 0 else (slice(None), setting["kept"])] = True
    image = np.abs(scanned)
    picture = views.picture("one", 1, "4x")
    truth, kspace, zero_filled, student = planes(picture)
    np.testing.assert_allclose(truth / 255 * image.max(), image, atol=image.max() / 509)

    spectrum = np.fft.fft2(scanned)
    expected = np.abs(np.fft.ifft2(spectrum * mask))
    step = picture["methods"][0]["step"]
    np.testing.assert_allclose((zero_filled - 128) * step, expected - image, atol=0.51 * step)
    error = np.mean((expected - image) ** 2)
    assert picture["methods"][0]["psnr"] == pytest.approx(10 * np.log10(image.max() ** 2 / error), abs=1e-3)
    assert [m["name"] for m in picture["methods"]] == ["Zero-filled", "Student"]
    assert not np.array_equal(student, zero_filled)

    brightest = np.unravel_index(kspace.argmax(), SHAPE)
    assert brightest == (12, 10) and kspace.max() == 255, "zero frequency is in the middle"
    away = np.log10(np.abs(spectrum[3, 4]) / np.abs(spectrum).max())
    assert kspace[15, 14] == pytest.approx(255 * (1 + away / 5), abs=1)


@pytest.mark.parametrize(
    ("held", "count", "chosen"), [(1, 3, [0]), (16, 1, [8]), (9, 3, [1, 4, 7]), (3, None, [0, 1, 2])]
)
def test_slices_about_the_middle_and_a_perfect_reconstruction_that_leaves_no_residue(held, count, chosen):
    image = np.random.default_rng(1).random((held, *SHAPE)).astype(np.float32)
    views = Views({"one": Person(image)}, {"1x": Setting(np.ones(SHAPE, dtype=bool), {})})
    assert views.index(count)["people"][0]["slices"] == chosen
    picture = views.picture("one", 0, "1x")
    assert (planes(picture)[2] == 128).all() and picture["scale"] > 0 and picture["methods"][0]["psnr"] is None


def test_what_is_not_there_is_said():
    views = small_views()
    points = Views({"one": Person(np.ones((1, 4, 4)))}, {"p": Setting(np.eye(4, dtype=bool), {})})
    for asked, said in (
        (lambda: views.picture("three", 0, "4x"), "nothing called 'three' to look at; there are one, two"),
        (lambda: views.picture("one", 0, "5x"), "nothing called '5x'"),
        (lambda: views.picture("two", 1, "4x"), "two: no slice 1; it has 0 to 0"),
        (lambda: Views({}, views.settings), "nothing to look at"),
        (lambda: Views({"one": Person(np.zeros((1, 8, 8)))}, views.settings), "several sizes"),
        (points.index, "p: a mask that isn't made of whole lines"),
    ):
        with pytest.raises(StudyError, match=said):
            asked()


def test_the_page_holds_every_picture_and_asks_for_nothing(tmp_path):
    views = small_views()
    page = write_page(tmp_path / "look.html", views, "A <title>", "words & more", count=2).read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page and "words &amp; more" in page
    assert not re.search(r"https?://|src=|@import|fetch\(|XMLHttp", page)
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert data["index"]["people"][0] == {"name": "one", "about": "the first </script>", "slices": [0, 2]}
    keys = [["one", 0], ["one", 2], ["two", 0]]
    assert [p["key"] for p in data["pictures"]] == [[*key, setting] for key in keys for setting in ("4x", "of none")]
    sent = base64.b64decode(data["pictures"][2]["png"].removeprefix("data:image/png;base64,"))
    assert sent == views.picture("one", 2, "4x")["png"]


def test_the_widget_reconstructs_what_is_chosen():
    widget = LookInside(small_views())
    assert widget.picture == {} and widget.index == small_views().index()
    widget.choice = {"person": "one", "slice": 2, "setting": "4x"}
    assert widget.picture["key"] == ["one", 2, "4x"] and widget.picture["png"].startswith(b"\x89PNG")
    assert "text/html" in widget._repr_mimebundle_()[0]


def test_the_committed_networks_reach_on_the_nine_people_what_their_card_says():
    """So they are the right weights, on the right mask, and the people are prepared as the test set was."""
    kept = network("brain", 4, "distilled")
    card = (FOLDER / "brain_4x_distilled.md").read_text()
    stated = float(re.search(r"\| people +\| real MR +\| +9 \| +([\d.]+)", card)[1])
    people = look_at_people(count=kept.run.dataset.slices_per_volume).people
    volumes = [Volume(name, "people", person.image, {"kind": "real MR"}) for name, person in people.items()]
    found, _ = evaluate(kept.network(), UndersamplingOperator(published_mask("brain", 4)), volumes)
    assert len(found) == 9 and found.psnr.mean() == pytest.approx(stated, abs=0.006)


def test_an_acceleration_without_networks_of_its_own_is_looked_at_by_others_and_says_so(monkeypatch):
    of_4x = [kept for kept in committed() if kept.run.undersampling.acceleration == 4]
    monkeypatch.setattr("kdmri_study.models.committed", lambda: of_4x)
    views = look_at_people(count=1)
    assert [*views.settings] == ["4x", "5x", "8x"] and len(views.people) == 9
    for name, setting in views.settings.items():
        unseen = f"At {name}: networks that were trained at 4x, on a mask that they never saw."
        assert setting.note == ("" if name == "4x" else unseen)
        assert setting.mask.mean() == pytest.approx(1 / float(name[:-1]), abs=0.01)
        assert "Teacher" in setting.networks and "Distilled student" in setting.networks
    with pytest.raises(StudyError, match="no weights for the data set liver"):
        look_at_people("liver")
