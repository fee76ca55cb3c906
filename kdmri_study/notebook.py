"""What the study's notebooks share: a study at hand, rows trained and compared, figures kept, a look inside.

A notebook makes a recipe, of it a dictionary of rows, trains them and compares them::

    study = open_study("quick")
    recipe = study.recipe(study.setting("brain_4x"), seed=0)
    rows = {
        "teacher": Row("teacher", recipe.teacher),
        "student": Row("student", recipe.student),
        "distilled": Row("distilled, α = 0.8", recipe.distilled(recipe.pretrained(), alpha=0.8)),
    }
    networks = trained_networks(study, rows)
    compared(study, rows)
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd
from IPython.display import Code, Image, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from kdmri_lib import figures
from kdmri_lib.datasets import nifti
from kdmri_lib.datasets.fields import at_declared_phase
from kdmri_lib.datasets.phantoms import embedded_brain
from kdmri_lib.datasets.prepared import Volume, checked_volume, test_volumes
from kdmri_lib.declarations import Dataset, Run, Undersampling
from kdmri_lib.declared import declared_mask, declared_network
from kdmri_lib.devices import use_threads
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_lib.masks import FACTORS
from kdmri_lib.models.base import Model
from kdmri_lib.viewer.views import LookInside, Person, Setting, Views
from kdmri_study.evidence import Evidence
from kdmri_study.models import Kept, committed, kept_run, unseen
from kdmri_study.plots import drawn
from kdmri_study.profile import Study, with_needs
from kdmri_study.recipes import PARTS, Part, Recipe, Row, Rows, with_controls
from kdmri_study.runs import RunFolder, asked_to_stop, prepare_dataset, trained
from kdmri_study.tables import Measured, beside_baselines, markdown, measured_rows, of_rows, seeds_there, shown

__all__ = ["Code", "beside_baselines", "markdown", "shown"]

pd.set_option("display.max_colwidth", None)  # labels are shown whole

ONLY = "only evidence is here, no weights; a profile without evidence, such as smoke, trains these networks"

# What IPython shows of an error: one that says what is wrong needs no page of internals.
for known in (StudyError, StoppedError):
    known._render_traceback_ = lambda error: [f"kdmri: {error}"]


def open_study(profile: str = "quick", folder: str = "") -> Study:
    """The study of a profile; says which, and that it is a trial where its numbers mean nothing."""
    study = Study(profile, folder)
    use_threads(study.profile.threads)
    print(study.stamp)
    return study


def prepared(study: Study, dataset: Dataset) -> Path:
    """A data set's prepared file, made now where it isn't there."""
    try:
        prepare_dataset(study, dataset)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped; what was made of {dataset.name} is kept, and this cell goes on from there"
        ) from None
    return study.prepared(dataset)


def tests(study: Study, dataset: Dataset, name: str = "test") -> list[Volume]:
    """The volumes of one of a data set's test sets; of all for ""."""
    return [v for v in test_volumes(prepared(study, dataset)) if name in ("", v.split)]


def train(study: Study, rows: Rows, weights: bool = False) -> None:
    """Train what these rows need and isn't there, in evidence or as a run; with `weights`, what isn't there as a run.

    Interrupted, it saves what is trained and raises `StoppedError`; called again, it goes on from there. `StudyError` for a
    row that builds on networks of which only evidence is here: they would be trained again, for hours.
    """
    needed = [(row, with_needs([row.run]).values()) for row in rows.values()]
    wanted = [(row, runs) for row, runs in needed if weights or not all(map(_evidence(study).of, runs))]
    for row, runs in wanted:
        if not _trainable(study, runs):
            raise StudyError(f"'{row.label}' needs networks; {ONLY}")
    with asked_to_stop() as stop:
        for row, runs in wanted:
            try:
                for run in runs:
                    prepared(study, run.dataset)
                trained(study, row.run, row.label, stop)
                if stop():
                    raise StoppedError("stopped between trainings")
            except StoppedError:
                raise StoppedError("stopped; all that was trained is kept, and this cell goes on from there") from None


def trained_networks(study: Study, rows: Rows) -> dict[str, Model]:
    """The trained networks of rows by name, in evaluation mode; trained now where nothing is known of them. None where only
    evidence is here, which is said (`has_weights`)."""
    if not has_weights(study, rows):
        return {}
    train(study, rows, weights=True)
    return {name: trained(study, row.run, row.label).network() for name, row in rows.items()}


def network_at_hand(study: Study, row: Row, method: str) -> Kept:
    """A row's network with what is known of it: the committed one where it is of the same run, else the one trained here,
    now where it isn't there. `StudyError` when its training failed."""
    for kept in committed():
        if kept.run.id == row.run.id:
            return kept
    train(study, {method: row}, weights=True)
    return kept_run(RunFolder(study, row.run), method)


def compared(
    study: Study,
    rows: Rows | Mapping[int, Rows],
    against: Mapping[str, str] | None = None,
    untrained: tuple[str, ...] = ("zero_filled",),
) -> list[pd.DataFrame]:
    """Rows, of one seed or by seed, that were trained: a table with a row per method and test set; and, where `against`
    says beside which other a row stands (its control by default), their differences. For reading: `shown`."""
    by_seed = rows if all(isinstance(key, int) for key in rows) else {0: rows}
    first = next(iter(by_seed.values()))
    pairs = {name: row.control for name, row in first.items() if row.control} if against is None else against
    return [table.frame for table in of_rows(_evidence(study), "", by_seed, list(pairs.items()), untrained)]


_evidence = cache(Evidence)  # made once for each study, since a long one has hundreds of runs


def asks_for(study: Study, experiment: str, part: str) -> bool:
    """Whether an experiment asks for a part; says so where it doesn't. One that no profile knows is the reader's own."""
    if part not in PARTS or part in study.experiment_parts(experiment, PARTS[part].notebook):
        return True
    print(f"experiment '{experiment}' of profile {study.name} doesn't ask for '{part}'")
    return False


def experiment_part(study: Study, experiment: str, rows: Callable[[Recipe], Rows]) -> Measured | None:
    """A part of an experiment, from the function of its name that makes rows of a recipe, with the control of each row: of
    those seeds that are there; where none is, of the first, trained now. None where the experiment doesn't ask for it.

    What is the reader's own is of the first seed, and trained again where its losses have changed: a function whose name no
    part has, and one that makes other runs than the part of its name, whose figures are called so too.
    """
    name, every = rows.__name__, {}
    if not asks_for(study, experiment, name):
        return None
    for seed in study.experiment_seeds(experiment):
        recipe = study.experiment_recipe(experiment, seed)
        every[seed] = with_controls(recipe, rows(recipe))
    first, part = next(iter(every)), PARTS.get(name)
    recipe = study.experiment_recipe(experiment, first)
    own = part is None or not _ids(every[first]) <= _ids(with_controls(recipe, part.rows(recipe)))
    if part is None:
        part = Part(name, "", "", rows, None, figures={"curves": f"validation PSNR, {name.replace('_', ' ')}"})
    elif own:
        titles = {key: f"{words}, changed in the notebook" for key, words in part.figures.items()}
        part = part._replace(name=f"{name}_changed", figures=titles)
    there = {} if own else seeds_there(_evidence(study), every)
    if not there:
        train(study, every[first], weights=own)
        there = {first: every[first]}
    return measured_rows(_evidence(study), experiment, part, there)


def _ids(rows: Rows) -> set[str]:
    return {row.run.id for row in rows.values()}


def draw(study: Study, found: Measured) -> None:
    """Draw and keep the figures of a part of an experiment."""
    for name, figure in drawn(_evidence(study), found):
        keep(study, figure, name)


def has_weights(study: Study, rows: Rows) -> bool:
    """Whether the networks of these rows, and those that they need, can be had: their weights are here, or nothing is known
    of them yet and they are trained. Says so where only evidence is here."""
    trainable = _trainable(study, with_needs(row.run for row in rows.values()).values())
    if not trainable:
        print(ONLY)
    return trainable


def _trainable(study: Study, runs: Iterable[Run]) -> bool:
    """Whether none of these runs has left evidence alone, without weights."""
    return all(RunFolder(study, run).ended or not _evidence(study).of(run) for run in runs)


def keep(study: Study, figure: Figure, name: str) -> None:
    """Save a figure among the study's, PNG and PDF, and show it as it is there; left open, it would be drawn twice more."""
    figures.save(figure, study.figure(name), study.stamp)
    plt.close(figure)
    display(Image(study.figure(name)))


def own_scan(dataset: Dataset, path: str) -> Volume:
    """A NIfTI volume of one's own as networks for a data set take it: 16 axial slices, at the pixel that they know; for
    complex ones at a simulated phase, since the file has none."""
    pixel = embedded_brain.GRID[0] / dataset.shape[0] if dataset.source == "embedded_brain" else None
    slices, found = nifti.make(dataset.model_copy(update={"slices_per_volume": 16}), path, pixel=pixel)
    if "below_zero" in found:
        print(f"{path}: values below 0, {found['below_zero']:.2g} of the signal, became 0")
    slices, kind = at_declared_phase(dataset, Path(path).name, slices, "own scan")
    return checked_volume(Path(path).name, "scan", slices, {"kind": kind}, dataset.shape, dataset.domain)


def look_inside(study: Study, recipe: Recipe, rows: Rows) -> LookInside:
    """Look inside: the test sets' volumes by the trained networks of rows, by label, at 4x, 5x and 8x.

    At other accelerations than their own they are used on masks that they never saw, and it says so.
    """
    people = {
        v.subject: Person(v.image, f"{v.subject}: {v.attributes['kind']}, set “{v.split}”")
        for v in tests(study, recipe.dataset, "")
    }
    given, settings = recipe.undersampling, {}
    weights = {name: network.state_dict() for name, network in trained_networks(study, rows).items()}
    for factor in dict.fromkeys((given.acceleration, *FACTORS)):
        same = factor == given.acceleration
        undersampling = given if same else Undersampling(acceleration=factor)
        networks = {}
        for name, row in rows.items():
            network = declared_network(row.run.model_copy(update={"undersampling": undersampling}))
            network.load_state_dict(weights[name])
            networks[row.label] = network.eval()
        mask = declared_mask(recipe.dataset, undersampling)
        settings[f"{factor:g}x"] = Setting(mask, networks, "" if same else unseen(factor, given.acceleration))
    return LookInside(Views(people, settings))
