"""Networks from the committed weights (`results/models`), and the nine people to look at with them; nothing is trained."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdmri_lib.datasets import people
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.writing import checked_volume
from kdmri_lib.declarations import Dataset, Degradation, Network
from kdmri_lib.errors import StudyError
from kdmri_lib.looking.views import Person, Setting, Views
from kdmri_lib.masks import FACTORS
from kdmri_lib.models.base import Model, build_model
from kdmri_lib.storage import PROJECT
from kdmri_study.build import declared_mask
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import load_weights
from kdmri_study.study import Study

FOLDER = PROJECT / "results" / "models"
NAMED = re.compile(r"(?P<dataset>\w+)_(?P<factor>[\d.]+)x_(?P<method>[a-z]\w*)\.safetensors")
TRAINED = re.compile(r"^\| seed, profile \| \d+, (?P<profile>[\w.-]+) \|$", re.MULTILINE)
TITLE = "Look inside"
ABOUT = (
    "Nine real people, whom no network was trained on. Change the method in place, wipe between two, click where to zoom. "
    "PSNR and SSIM are of the slice shown, on its own maximum. Not for clinical use."
)
SLICES = 16  # of a person, to look at


class Committed(NamedTuple):
    """A committed network: its data set, acceleration and method, its architecture, where its weights lie, and the profile
    that trained it."""

    dataset: Dataset
    acceleration: float
    method: str
    network: Network
    weights: Path
    profile: str

    def model(self, acceleration: float | None = None) -> Model:
        """The network, in evaluation mode; with the mask of another acceleration, where one is given."""
        weights = load_weights(self.weights)
        return on_mask(self.network, weights, self.mask(acceleration), self.dataset.channels)

    def mask(self, acceleration: float | None = None) -> np.ndarray:
        """Its mask, boolean (H, W), unshifted; or that of another acceleration."""
        return declared_mask(self.dataset, Degradation(acceleration=acceleration or self.acceleration))


def on_mask(network: Network, weights: dict, mask: np.ndarray, channels: int) -> Model:
    """A network of these weights, for images of `channels`, with this mask, not only the one that they were trained on; in
    evaluation mode."""
    model = build_model(network.kind, mask, channels, **network.options)
    model.load_state_dict(weights)
    return model.eval()


def unseen(acceleration: float, trained_at: float) -> str:
    """What is to be known of networks that are used at another acceleration than their own."""
    return f"At {acceleration:g}x: networks that were trained at {trained_at:g}x, on a mask that they never saw."


def committed(folder: Path = FOLDER) -> Iterator[Committed]:
    """Every network in `folder` whose card says which profile it is from; the profile says what it looks like."""
    for weights in sorted(folder.glob("*.safetensors")):
        named, card = NAMED.fullmatch(weights.name), weights.with_suffix(".md")
        found = TRAINED.search(card.read_text(encoding="utf-8")) if card.exists() else None
        if not named or not found:
            raise StudyError(
                f"{weights}: expected a name such as brain_4x_teacher and a card beside it that says its profile"
            )
        study = _study(found["profile"])
        cell = study.cell(f"{named['dataset']}_{named['factor']}x")
        run = study.methods(cell, study.profile.seeds[0])[named["method"]]
        yield Committed(run.dataset, cell.acceleration, named["method"], run.network, weights, study.source)


@cache
def _study(profile: str) -> Study:
    return Study(profile)


def profile_of(dataset: str, acceleration: float, method: str) -> str:
    """The profile that trained a committed network; `StudyError` where there is none of that name."""
    known = {(f"{c.dataset.name} {c.acceleration:g}x", c.method): c.profile for c in committed()}
    cell = f"{dataset} {acceleration:g}x"
    if (cell, method) not in known:
        methods = [other for there, other in known if there == cell]
        there = f"of it there are {', '.join(methods)}"
        if not methods:
            there = f"there are {', '.join(dict.fromkeys(cell for cell, _ in known))}"
        raise StudyError(
            f"{FOLDER}: no '{method}' of {cell} is committed; {there} (--profile takes one of a study that was run here)"
        )
    return known[cell, method]


def networks(dataset: str, acceleration: float) -> dict[str, Model]:
    """The committed networks of a cell by what tables call them, in Table 1's order."""
    found = {c.method: c for c in committed() if (c.dataset.name, c.acceleration) == (dataset, acceleration)}
    if not found:
        raise StudyError(f"{FOLDER}: no weights for {dataset} {acceleration:g}x")
    return {label: found[method].model() for method, label in METHODS.items() if method in found}


def real_people(shape: tuple[int, int], count: int = SLICES) -> dict[str, Person]:
    """The nine people of `data/real`, each a volume (slices, *shape) over its maximum, of at most `count` slices: as a test
    set of that many slices has them."""
    found = {}
    for member in people.cohort():
        slices, attributes = people.make(member.how["file"], count)
        volume = checked_volume(member.subject, people.SPLIT, padded(slices, shape), attributes, shape)
        found[member.subject] = Person(volume.image, f"{member.subject}: {attributes['origin'].partition(': ')[2]}")
    return found


def look_at_people(dataset: str = "brain") -> Views:
    """The nine people by the committed networks of a data set, at 4x, 5x and 8x.

    Where an acceleration has no networks of its own, those of the nearest are used on its mask, and its note says so.
    """
    found = [c for c in committed() if c.dataset.name == dataset]
    if not found:
        raise StudyError(f"{FOLDER}: no weights for the data set {dataset}")
    settings = {}
    for factor in sorted({*FACTORS, *(c.acceleration for c in found)}):
        nearest = min((c.acceleration for c in found), key=lambda there: abs(there - factor))
        used = {c.method: c for c in found if c.acceleration == nearest}
        models = {label: used[method].model(factor) for method, label in METHODS.items() if method in used}
        note = "" if nearest == factor else unseen(factor, nearest)
        settings[f"{factor:g}x"] = Setting(found[0].mask(factor), models, note)
    return Views(real_people(found[0].dataset.shape), settings)
