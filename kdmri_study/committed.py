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
from kdmri_study.cards import preferred
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import load_weights
from kdmri_study.study import Study

FOLDER = PROJECT / "results" / "models"
NAMED = re.compile(r"(?P<dataset>\w+)_(?P<factor>[\d.]+)x_(?P<method>[a-z]\w*)\.safetensors")
CARD = re.compile(
    r"^\| checkpoint chosen on \| \d+ subjects, PSNR (?P<validation>[\d.]+) dB \|$.*"
    r"^\| seed, profile \| \d+, (?P<profile>[\w.-]+) \|$",
    re.MULTILINE | re.DOTALL,
)
TITLE = "Look inside"
ABOUT = (
    "Nine real people, whom no network was trained on. Change the method in place, wipe between two, click where to zoom. "
    "PSNR and SSIM are of the slice shown, on its own maximum. Not for clinical use."
)
SLICES = 16  # of a person, to look at


class Committed(NamedTuple):
    """A committed network: its data set, acceleration and method, its architecture, where its weights lie, the profile that
    trained it, and its PSNR (dB) on the validation subjects."""

    dataset: Dataset
    acceleration: float
    method: str
    network: Network
    weights: Path
    profile: str
    validation: float

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
    """Every network in `folder`; its card says which profile it is from, and the profile what it looks like."""
    for weights in sorted(folder.glob("*.safetensors")):
        named, card = NAMED.fullmatch(weights.name), weights.with_suffix(".md")
        found = CARD.search(card.read_text(encoding="utf-8")) if card.exists() else None
        if not named or not found:
            raise StudyError(
                f"{weights}: expected a name such as brain_4x_teacher and a card beside it that says its profile and PSNR"
            )
        study = _study(found["profile"])
        cell = study.cell(f"{named['dataset']}_{named['factor']}x")
        run = study.methods(cell, study.profile.seeds[0])[named["method"]]
        about = study.source, float(found["validation"])
        yield Committed(run.dataset, cell.acceleration, named["method"], run.network, weights, *about)


@cache
def _study(profile: str) -> Study:
    return Study(profile)


def network(dataset: str, acceleration: float, method: str = "") -> Committed:
    """The committed network of a cell; without a method, of its students the one that is best on the validation subjects.

    `StudyError` where there is none of that name.
    """
    known = list(committed())
    of = {c.method: c for c in known if (c.dataset.name, c.acceleration) == (dataset, acceleration)}
    if of and not method:
        method = preferred({name: c.validation for name, c in of.items()})
    if method in of:
        return of[method]
    cell = f"{dataset} {acceleration:g}x"
    there = f"of it there are {', '.join(of)}"
    if not of:
        there = f"there are {', '.join(dict.fromkeys(f'{c.dataset.name} {c.acceleration:g}x' for c in known))}"
    what = f"no '{method}'" if method else "nothing"
    raise StudyError(
        f"{FOLDER}: {what} of {cell} is committed; {there} (--profile takes one of a study that was run here)"
    )


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
