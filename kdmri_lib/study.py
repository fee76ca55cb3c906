"""The study: a profile says how large it is, and this says which runs, files and folders follow from it.

Nothing here trains or reads images, so that the workflow can ask it what there is to do.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from kdmri_lib.declarations import Dataset, Declaration, Degradation, Name, Network, Run, Schedule, plain_name
from kdmri_lib.errors import StudyError
from kdmri_lib.files import PROJECT, digest_json, read_json
from kdmri_lib.recipes import Distillation, Recipe

# The rows of Table 1, in its order. The two longer-trained students are controls that the paper leaves out.
METHODS = {
    "zero_filled": "Zero-filled",
    "teacher": "Teacher",
    "student": "Student",
    "student_steps": "Student, as many steps as distilled",
    "student_compute": "Student, as much compute as distilled",
    "distilled": "Distilled student",
}


# What a notebook can be asked for by a profile; the second of each pair: whether it takes networks made of cascades.
PARTS = {
    "04_feature_distillation": {"comparison": False, "friendly": True},
    "05_ablations": {
        "ablation": False,
        "positions": False,
        "cascades": True,
        "alphas": False,
        "variants": True,
        "sizes": False,
    },
}


class Experiment(Declaration):
    """A notebook beside Table 1's, and the setting that it runs in; what isn't given is the profile's."""

    notebook: Literal["04_feature_distillation", "05_ablations", "06_super_resolution"]
    dataset: Name
    degradation: Degradation
    teacher: Network | None = None
    student: Network | None = None
    schedule: Schedule | None = None
    seeds: tuple[NonNegativeInt, ...] | None = None
    parts: tuple[str, ...] = Field(
        (), description="which parts of the notebook; all that the networks allow when empty"
    )

    @model_validator(mode="after")
    def _known_parts(self):
        known = PARTS.get(self.notebook, ())
        for part in self.parts:
            if part not in known:
                raise ValueError(f"notebook {self.notebook} has no part '{part}'; it has {', '.join(known) or 'none'}")
        return self


class Needs(Declaration):
    """What a job asks a cluster for."""

    memory_gb: PositiveFloat = 4
    minutes: PositiveInt = 60
    gpus: NonNegativeInt = 0


class Resources(Declaration):
    """What each kind of job asks a cluster for; on one machine nothing is asked."""

    prepare: Needs = Needs()
    train: Needs = Needs(minutes=240)
    notebook: Needs = Needs()


class Profile(Declaration):
    """How large the study is."""

    description: str
    cost: str
    result: bool = Field(True, description="false stamps every output as a trial of the software, not a result")
    datasets: dict[Name, Dataset]
    cells: dict[Name, tuple[float, ...]] = Field(description="accelerations of each data set in Table 1")
    seeds: tuple[NonNegativeInt, ...] = (0,)
    teacher: Network = Network(options={"cascades": 5, "convolutions": 5, "features": 32})
    student: Network = Network(options={"cascades": 5, "convolutions": 3, "features": 32})
    distillation: Distillation = Distillation()
    schedule: Schedule
    schedules: dict[Name, Schedule] = Field({}, description="schedules of single data sets, in place of `schedule`")
    experiments: dict[Name, Experiment] = Field({}, description="the notebooks beside Table 1's")
    leave_out_missing: bool = Field(
        False, description="leave out data sets whose folder isn't there, in place of stopping at them"
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    precision_check: bool = Field(False, description="also train the student in float32, to show what bfloat16 changes")
    timing_seconds: float = Field(0.5, gt=0, description="how long notebook 07 times each way to compute a network")
    timing_shape: tuple[PositiveInt, PositiveInt] = Field(
        (640, 368), description="(H, W) that it compares at; the paper's"
    )
    threads: PositiveInt = Field(
        1, description="threads a process of a training; a number of threads is part of what fixes the bits"
    )
    processes: PositiveInt = Field(1, description="processes that share a training's batches, one a GPU or some cores")
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _named_datasets(cls, values):
        """A data set is named by its key."""
        if isinstance(values, dict) and isinstance(values.get("datasets"), dict):
            named = {k: {**v, "name": k} if isinstance(v, dict) else v for k, v in values["datasets"].items()}
            values = {**values, "datasets": named}
        return values

    @model_validator(mode="after")
    def _known_datasets(self):
        for key in (*self.cells, *self.schedules, *(e.dataset for e in self.experiments.values())):
            if key not in self.datasets:
                raise ValueError(f"data set '{key}' isn't declared; declared: {', '.join(self.datasets)}")
        for factors in self.cells.values():
            for factor in factors:
                Degradation(acceleration=factor)
        return self


def load_profile(name: str) -> tuple[str, Profile]:
    """Read a profile by name (`profiles/<name>.yaml`) or by path; `StudyError` says what is wrong with which key."""
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else PROJECT / "profiles" / f"{name}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in (PROJECT / "profiles").glob("*.yaml"))
        raise StudyError(
            f"unknown profile '{name}' (no file {path}); known: {', '.join(known)}, or the path of a .yaml"
        )
    try:
        plain_name(path.stem)  # it names the folder of the results
    except ValueError as error:
        raise StudyError(f"{path}: {error}; rename the file") from None
    try:
        return path.stem, Profile.model_validate(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a YAML file ({error})") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'profile'}: {e['msg']}" for e in error.errors()
        )
        raise StudyError(f"{path}: {problems}") from None


class Cell(NamedTuple):
    """One data set at one acceleration."""

    dataset: str
    acceleration: float

    @property
    def tag(self) -> str:
        return f"{self.dataset}_{self.acceleration:g}x"


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
        kept = {name: e for name, e in profile.experiments.items() if e.dataset not in missing}
        return profile.model_copy(update={"cells": cells, "experiments": kept})

    @property
    def stamp(self) -> str:
        """What is written on every figure and table."""
        return f"profile {self.name}" + ("" if self.profile.result else ": a trial of the software, not a result")

    @property
    def cells(self) -> list[Cell]:
        return [Cell(dataset, factor) for dataset, factors in self.profile.cells.items() for factor in factors]

    @property
    def used_datasets(self) -> list[str]:
        """Data sets that a cell or an experiment uses, in the profile's order."""
        used = {*self.profile.cells, *(e.dataset for e in self.profile.experiments.values())}
        return [name for name in self.profile.datasets if name in used]

    def dataset(self, name: str) -> Dataset:
        if name not in self.profile.datasets:
            raise StudyError(
                f"profile '{self.name}' has no data set '{name}'; it has {', '.join(self.profile.datasets)}"
            )
        return self.profile.datasets[name]

    def prepared(self, name: str) -> Path:
        return self.folder / "data" / "prepared" / self.dataset(name).file_name

    def figure(self, name: str) -> Path:
        return self.results / "figures" / f"{name}.png"

    def table(self, name: str) -> Path:
        return self.results / "tables" / f"{name}.csv"

    @staticmethod
    def notebook_digest(name: str) -> str:
        """12 hex digits over the code cells of a notebook of the project."""
        cells = read_json(PROJECT / "notebooks" / f"{name}.ipynb")["cells"]
        return digest_json([cell["source"] for cell in cells if cell["cell_type"] == "code"])[:12]

    def recipe(self, where: Cell | str, seed: int) -> Recipe:
        """The recipe of a cell of Table 1, or of an experiment by its name."""
        profile = self.profile
        if isinstance(where, Cell):
            where = Experiment(
                notebook="04_feature_distillation",
                dataset=where.dataset,
                degradation=Degradation(acceleration=where.acceleration),
            )
        elif where in profile.experiments:
            where = profile.experiments[where]
        else:
            known = ", ".join(profile.experiments) or "none"
            raise StudyError(f"profile '{self.name}' has no experiment '{where}'; it has {known}")
        return Recipe(
            dataset=self.dataset(where.dataset),
            degradation=where.degradation,
            teacher_network=where.teacher or profile.teacher,
            student_network=where.student or profile.student,
            schedule=where.schedule or profile.schedules.get(where.dataset, profile.schedule),
            seed=seed,
            distillation=profile.distillation,
            precision=profile.precision,
        )

    def methods(self, cell: Cell, seed: int) -> dict[str, Run]:
        """The runs of Table 1 for one cell and seed."""
        return self.recipe(cell, seed).table1(self.profile.precision_check)

    def experiment_seeds(self, name: str) -> tuple[int, ...]:
        return self.profile.experiments[name].seeds or self.profile.seeds

    def experiment_parts(self, name: str, notebook: str = "") -> tuple[str, ...]:
        """The parts of `notebook` (by default its own) that an experiment asks for, or all that it can have."""
        experiment, recipe = self.profile.experiments[name], self.recipe(name, 0)
        notebook = notebook or experiment.notebook
        if experiment.parts and notebook == experiment.notebook:
            return experiment.parts
        return tuple(p for p, cascades in PARTS.get(notebook, {}).items() if recipe.in_cascades or not cascades)

    def experiment_runs(self, name: str, seed: int) -> dict[str, Run]:
        """All runs of an experiment, by labels that people read."""
        recipe, parts = self.recipe(name, seed), self.experiment_parts(name)
        if not parts:
            return super_resolution(recipe)
        runs = {
            f"{part}: {label}": run
            for part in parts
            if part != "sizes"
            for label, run in getattr(recipe, part)().items()
        }
        if "sizes" in parts:
            for label, pair in recipe.sizes().items():
                runs |= dict(zip((f"sizes: {label}, alone", f"sizes: {label}, distilled"), pair, strict=True))
        return runs

    def _named_runs(self) -> Iterator[tuple[str, Run]]:
        """Every run that a table or figure shows, with what people call it; cells first, then experiments."""
        for cell in self.cells:
            for seed in self.profile.seeds:
                for method, run in self.methods(cell, seed).items():
                    yield f"{cell.tag.replace('_', ' ')}, {method.replace('_', ' ')}, seed {seed}", run
        for name in self.profile.experiments:
            for seed in self.experiment_seeds(name):
                for label, run in self.experiment_runs(name, seed).items():
                    yield f"{name.replace('_', ' ')}, {label}, seed {seed}", run

    @cached_property
    def labels(self) -> dict[str, str]:
        """What people call each run, by its id: "brain 4x, distilled, seed 0". The first name that a run gets is kept."""
        found: dict[str, str] = {}

        def add(run: Run, label: str) -> None:
            found.setdefault(run.id, label)
            for needed in run.needs:
                add(needed, f"{label}, first stage")

        for label, run in self._named_runs():
            add(run, label)
        return found

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run of the study by its id, each after those that it needs."""
        found: dict[str, Run] = {}

        def add(run: Run) -> None:
            for needed in run.needs:
                add(needed)
            found.setdefault(run.id, run)

        for _, run in self._named_runs():
            add(run)
        return found


def super_resolution(recipe: Recipe) -> dict[str, Run]:
    """Appendix A's rows, the two controls, and the distilled student with data consistency, which the paper leaves out."""
    runs = {METHODS[m]: run for m, run in recipe.table1().items() if m in METHODS}
    consistent = replace(
        recipe,
        **{
            f"{who}_network": network.model_copy(update={"options": {**network.options, "data_consistency": True}})
            for who, network in (("teacher", recipe.teacher_network), ("student", recipe.student_network))
        },
    )
    return runs | {"Distilled student, data consistency": consistent.distilled(consistent.pretrained())}
