"""The study: what follows from a profile. Which runs there are, what they are called, and where files lie.

Nothing here trains or reads images, so that the workflow can ask it what there is to do.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from kdmri_lib.declarations import Dataset, Degradation, Run
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import FACTORS
from kdmri_lib.storage import PROJECT
from kdmri_study.experiments.controls import with_controls
from kdmri_study.experiments.part import PARTS, Row, Rows, parts_of
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import beside_table1, table1
from kdmri_study.profile import Cell, Profile, load_profile


def with_needs(runs: Iterable[Run]) -> dict[str, Run]:
    """Runs and all that they need, by their ids, each after those that it needs."""
    found: dict[str, Run] = {}
    for run in runs:
        found |= with_needs(run.needs) | {run.id: run}
    return found


class Study:
    """A profile and where its files are.

    Parameters
    ----------
    profile : name of a profile, or path of a .yaml.
    folder : where `data/prepared` and `results` are; the project's folder by default.
    """

    def __init__(self, profile: str = "quick", folder: str | Path = ""):
        self.source = str(profile)
        self.name, self.profile = load_profile(profile)
        self.missing = self._missing() if self.profile.leave_out_missing else {}
        if self.missing:
            self.profile = self._without(self.missing)
        self.folder = Path(folder or PROJECT).resolve()
        self.results = self.folder / "results" / self.name

    def _missing(self) -> dict[str, str]:
        """Folders that aren't there, by data set."""
        declared = {name: d.folder for name, d in self.profile.datasets.items() if d.folder}
        return {name: folder for name, folder in declared.items() if not (PROJECT / folder).is_dir()}

    def _without(self, missing: dict[str, str]) -> Profile:
        """The profile without the data sets that are missing; `StudyError` when none is left for Table 1."""
        profile = self.profile
        cells = {name: factors for name, factors in profile.cells.items() if name not in missing}
        if not cells:
            folders = ", ".join(missing.values())
            raise StudyError(f"profile '{self.name}': none of its folders is there ({folders}); see data/README.md")
        kept = {
            name: e.model_copy(update={"elsewhere": tuple(d for d in e.elsewhere if d not in missing)})
            for name, e in profile.experiments.items()
            if e.dataset not in missing
        }
        return profile.model_copy(update={"cells": cells, "experiments": kept})

    @property
    def stamp(self) -> str:
        """What is written on every figure and table."""
        return f"profile {self.name}" + ("" if self.profile.result else ": a trial of the software, not a result")

    @property
    def cells(self) -> list[Cell]:
        """The cells of Table 1."""
        return [Cell(dataset, factor) for dataset, factors in self.profile.cells.items() for factor in factors]

    @property
    def used_datasets(self) -> list[str]:
        """Data sets that a cell or an experiment uses, in the profile's order."""
        used = {*self.profile.cells}
        used.update(name for e in self.profile.experiments.values() for name in (e.dataset, *e.elsewhere))
        return [name for name in self.profile.datasets if name in used]

    def dataset(self, name: str) -> Dataset:
        """A data set's declaration; `StudyError` when the profile has none of that name."""
        if name not in self.profile.datasets:
            raise StudyError(
                f"profile '{self.name}' has no data set '{name}'; it has {', '.join(self.profile.datasets)}"
            )
        return self.profile.datasets[name]

    def images_of(self, name: str) -> str:
        """What titles call a data set: "Brain", "Cardiac phantom"."""
        kind = " phantom" * self.dataset(name).source.endswith("_phantom")
        return f"{name[0].upper()}{name[1:].replace('_', ' ')}{kind}"

    def setting(self, name: str, degradation: Degradation) -> str:
        """What titles call a data set and what is left of its k-space: "Cardiac phantom 8x"."""
        more = {
            "cartesian": f" {degradation.tag}",
            "gaussian_2d": f" {degradation.tag}, points",
            "truncation": f", 1∕{degradation.acceleration:g} of the resolution",
        }[degradation.kind]
        own = f", mask {Path(degradation.mask).stem}" if degradation.mask else ""
        drawn = f", mask drawn with seed {degradation.seed}" if degradation.seed is not None else ""
        return f"{self.images_of(name)}{more}{own}{drawn}"

    @property
    def arms(self) -> list[tuple[Cell, Cell]]:
        """Cells of magnitude images, each with the cell of the same images before their magnitude was taken."""

        def images(cell: Cell) -> Dataset:
            return self.dataset(cell.dataset).model_copy(update={"name": "", "domain": None, "sampled_like": None})

        is_complex = {cell: self.dataset(cell.dataset).domain == "complex" for cell in self.cells}
        return [
            (one, other)
            for one, other in itertools.product(self.cells, repeat=2)
            if not is_complex[one] and is_complex[other] and self.dataset(other.dataset).sampled_like == one.dataset
            if one.acceleration == other.acceleration and images(one) == images(other)
        ]

    def degradations(self, name: str) -> dict[str, Degradation]:
        """Every degradation that a row puts a data set to, by what titles call it (`setting`); the paper's three
        accelerations where none does. A teacher's from elsewhere isn't among them."""
        used = [row.run.degradation for _, row in self._named_rows() if row.run.dataset.name == name]
        shown = used or [Degradation(acceleration=factor) for factor in FACTORS]
        return {self.setting(name, degradation): degradation for degradation in shown}

    def prepared(self, name: str) -> Path:
        """Where a data set's prepared file lies."""
        return self.folder / "data" / "prepared" / self.dataset(name).file_name

    def source_stamp(self, name: str) -> Path:
        """A file that is touched when files changed that a data set was prepared from; then the workflow prepares anew."""
        return self.prepared(name).with_suffix(".changed")

    def figure(self, name: str) -> Path:
        """Where a figure lies (PNG)."""
        return self.results / "figures" / f"{name}.png"

    def table(self, name: str) -> Path:
        """Where a table lies (CSV)."""
        return self.results / "tables" / f"{name}.csv"

    def cell(self, tag: str) -> Cell:
        """The cell of that tag, such as brain_4x; `StudyError` when the profile has none."""
        for cell in self.cells:
            if cell.tag == tag:
                return cell
        known = ", ".join(cell.tag for cell in self.cells)
        raise StudyError(f"profile '{self.name}' has no cell '{tag}'; it has {known}")

    def _recipe(self, dataset: str, seed: int, **declared) -> Recipe:
        profile = self.profile
        schedule = profile.schedules.get(dataset, profile.schedule)
        usual = {"teacher_network": profile.teacher, "student_network": profile.student, "schedule": schedule}
        given = {key: value for key, value in declared.items() if value is not None}
        return Recipe(
            dataset=self.dataset(dataset),
            seed=seed,
            distillation=profile.distillation,
            precision=profile.precision,
            **(usual | given),
        )

    def recipe(self, cell: Cell, seed: int) -> Recipe:
        """The recipe of a cell of Table 1."""
        return self._recipe(cell.dataset, seed, degradation=cell.degradation)

    def experiment(self, name: str):
        """An experiment's declaration; `StudyError` when the profile has none of that name."""
        if name not in self.profile.experiments:
            known = ", ".join(self.profile.experiments) or "none"
            raise StudyError(f"profile '{self.name}' has no experiment '{name}'; it has {known}")
        return self.profile.experiments[name]

    def experiment_recipe(self, name: str, seed: int) -> Recipe:
        """The recipe of an experiment."""
        declared = self.experiment(name)
        return self._recipe(
            declared.dataset,
            seed,
            degradation=declared.degradation,
            teacher_network=declared.teacher,
            student_network=declared.student,
            schedule=declared.schedule,
            elsewhere=tuple(map(self.dataset, declared.elsewhere)),
        )

    def experiment_seeds(self, name: str) -> tuple[int, ...]:
        """The seeds of an experiment, the profile's where it has none of its own."""
        return self.experiment(name).seeds or self.profile.seeds

    def experiment_parts(self, name: str, notebook: str = "") -> tuple[str, ...]:
        """The parts of `notebook` (by default its own) that an experiment asks for, or all that its networks allow."""
        declared, recipe = self.experiment(name), self.experiment_recipe(name, 0)
        notebook = notebook or declared.notebook
        if declared.parts and notebook == declared.notebook:
            return declared.parts
        return tuple(p.name for p in parts_of(notebook) if recipe.in_cascades or not p.needs_cascades)

    def rows(self, cell: Cell, seed: int) -> Rows:
        """The rows of Table 1 for one cell and seed, and those that its notebooks show beside."""
        recipe = self.recipe(cell, seed)
        return table1(recipe, self.profile.beside) | beside_table1(recipe, self.profile.precision_check)

    def methods(self, cell: Cell, seed: int) -> dict[str, Run]:
        """The runs of `rows`, by the rows' names."""
        return {name: row.run for name, row in self.rows(cell, seed).items()}

    def experiment_rows(self, name: str, part: str, seed: int, losses: Sequence[str] = ()) -> Rows:
        """The rows of one part of an experiment, of these feature losses where it takes any and some are given.

        `StudyError` where the experiment's networks don't allow the part.
        """
        declared, recipe = PARTS.find(part), self.experiment_recipe(name, seed)
        try:
            if declared.needs_cascades and not recipe.in_cascades:
                raise StudyError("it needs networks made of cascades")
            rows = declared.rows(recipe, losses) if declared.takes_losses and losses else declared.rows(recipe)
            return with_controls(recipe, rows) if declared.tabled else rows
        except StudyError as error:
            raise StudyError(f"profile '{self.name}', experiment '{name}', part '{part}': {error}") from None

    def _named_rows(self) -> Iterator[tuple[str, Row]]:
        """Every row that a table or figure shows, with what people call its run; cells first, then experiments."""
        for cell in self.cells:
            for seed in self.profile.seeds:
                for row in self.rows(cell, seed).values():
                    yield f"{cell.label}, {row.label[0].lower()}{row.label[1:]}, seed {seed}", row
        for name in self.profile.experiments:
            for seed in self.experiment_seeds(name):
                for part in self.experiment_parts(name):
                    for row in self.experiment_rows(name, part, seed).values():
                        yield f"{name.replace('_', ' ')}, {part.replace('_', ' ')}: {row.label}, seed {seed}", row

    @cached_property
    def labels(self) -> dict[str, str]:
        """What people call each run, by its id: "brain 4x, distilled student, seed 0". The first name is kept."""
        found: dict[str, str] = {}

        def add(run: Run, label: str) -> None:
            found.setdefault(run.id, label)
            for needed in run.needs:
                add(needed, f"{label}, first stage")

        for label, row in self._named_rows():
            add(row.run, label)
        return found

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run of the study by its id, each after those that it needs."""
        return with_needs(row.run for _, row in self._named_rows())
