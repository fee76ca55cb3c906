"""A profile, how large the study is, checked when it is loaded; and the study: what follows from it.

Which runs there are, what they are called, where files lie. Nothing here trains or reads images, so that the workflow can
ask it what there is to do.
"""

import itertools
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from kdmri_lib.declarations import (
    Dataset,
    Declaration,
    Distillation,
    Name,
    Network,
    Run,
    Schedule,
    Undersampling,
    plain_name,
)
from kdmri_lib.declared import plain_network
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import FACTORS
from kdmri_lib.storage import PROJECT
from kdmri_study.beyond import SETS
from kdmri_study.paper import Beside, beside_table1, table1
from kdmri_study.recipes import Recipe, Rows, part_of, parts_of, with_controls

TEACHER = Network(options={"cascades": 5, "convolutions": 5, "features": 32})
STUDENT = Network(options={"cascades": 5, "convolutions": 3, "features": 32})


def _buildable(network: Network) -> Network:
    try:
        plain_network(network)
    except StudyError as error:
        raise ValueError(str(error)) from None
    return network


def completed(given: Network | None, usual: Network) -> Network:
    """A network with the options that it names, and those of the usual one of its kind that it doesn't."""
    if given is None or given.kind != usual.kind:
        return given or usual
    return given.model_copy(update={"options": {**usual.options, **given.options}})


Accelerations = Annotated[tuple[float, ...], Field(min_length=1)]
Checked = AfterValidator(_buildable)


class Experiment(Declaration):
    """A notebook beside Table 1's, and the setting that it runs in; what isn't given is the profile's."""

    notebook: Literal["04_feature_distillation", "05_ablations", "06_super_resolution", "08_when_distillation_pays"]
    dataset: Name
    undersampling: Undersampling
    teacher: Annotated[Network, Checked] | None = None
    student: Annotated[Network, Checked] | None = None
    schedule: Schedule | None = None
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] | None = None
    parts: tuple[str, ...] = Field(
        (), description="which parts of the notebook; all that the networks allow when empty"
    )
    elsewhere: Annotated[tuple[Name, ...], Field(max_length=SETS)] = Field(
        (), description="other data sets, from which further teachers of the part `site` learn"
    )

    @model_validator(mode="after")
    def _known_parts(self):
        known = [part.name for part in parts_of(self.notebook)]
        if len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts {', '.join(self.parts)}: one is named twice")
        for part in self.parts:
            if part not in known:
                raise ValueError(f"notebook {self.notebook} has no part '{part}'; it has {', '.join(known)}")
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
    domain: Literal["magnitude", "complex"] = Field(
        "magnitude", description="of the images of all data sets that say none of their own"
    )
    result: bool = Field(True, description="false stamps every output as a trial of the software, not a result")
    datasets: dict[Name, Dataset]
    settings: dict[Name, Accelerations] = Field(description="accelerations of each data set in Table 1")
    seeds: tuple[NonNegativeInt, ...] = (0,)
    beside: tuple[Beside, ...] = Field(
        ("steps", "whole"), description="rows of Table 1 beside the paper's and the control of its distilled student"
    )
    teacher: Annotated[Network, AfterValidator(partial(completed, usual=TEACHER)), Checked] = Field(
        TEACHER, description="options that aren't given are the paper's"
    )
    student: Annotated[Network, AfterValidator(partial(completed, usual=STUDENT)), Checked] = STUDENT
    distillation: Distillation = Distillation()
    schedule: Schedule
    schedules: dict[Name, Schedule] = Field({}, description="in place of `schedule`, for these data sets")
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
    threads: PositiveInt = Field(1, description="threads of a training; their number is part of what fixes the bits")
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _named_datasets(cls, values):
        """A data set is named by its key, and of the profile's domain."""
        if isinstance(values, dict) and isinstance(values.get("datasets"), dict):
            usual = {"domain": values.get("domain", "magnitude")}
            named = {k: {**usual, **v, "name": k} if isinstance(v, dict) else v for k, v in values["datasets"].items()}
            values = {**values, "datasets": named}
        return values

    @model_validator(mode="after")
    def _known_datasets(self):
        experiments = (name for e in self.experiments.values() for name in (e.dataset, *e.elsewhere))
        for key in (*self.settings, *self.schedules, *experiments):
            if key not in self.datasets:
                raise ValueError(f"data set '{key}' isn't declared; declared: {', '.join(self.datasets)}")
        for name, experiment in self.experiments.items():
            for key in experiment.elsewhere:
                if (found := self.datasets[key].domain) != (own := self.datasets[experiment.dataset].domain):
                    words = f"'{key}' is of {found or 'magnitude'} images, not {own or 'magnitude'} ones"
                    raise ValueError(f"experiments.{name}.elsewhere: {words}")
        for dataset, factors in self.settings.items():
            for factor in factors:
                Undersampling(acceleration=factor)
                if (tag := Setting(dataset, factor).tag) in self.experiments:
                    raise ValueError(f"experiments.{tag}: a setting is called so; expected another name")
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
        return path.stem, Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a YAML file ({error})") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'profile'}: {e['msg']}" for e in error.errors()
        )
        raise StudyError(f"{path}: {problems}") from None


class Setting(NamedTuple):
    """One data set at one acceleration; Table 1 has nine."""

    dataset: str
    acceleration: float

    @property
    def tag(self) -> str:
        """Its name in parameters and files, such as brain_4x."""
        return f"{self.dataset}_{self.acceleration:g}x"

    @property
    def label(self) -> str:
        """What people call it, such as brain 4x."""
        return f"{self.dataset} {self.acceleration:g}x"

    @property
    def undersampling(self) -> Undersampling:
        """The study's Cartesian mask of that acceleration."""
        return Undersampling(acceleration=self.acceleration)


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
        self.missing: dict[str, str] = {}  # folders that aren't there, by data sets that are left out for it
        if self.profile.leave_out_missing:
            self._leave_out_missing()
        self.folder = Path(folder or PROJECT).resolve()
        self.results = self.folder / "results" / self.name

    def _leave_out_missing(self) -> None:
        """Take data sets out whose folders aren't there; `StudyError` when none is left for Table 1."""
        profile = self.profile
        folders = {name: d.folder for name, d in profile.datasets.items() if d.folder}
        self.missing = {name: folder for name, folder in folders.items() if not (PROJECT / folder).is_dir()}
        settings = {name: factors for name, factors in profile.settings.items() if name not in self.missing}
        if not settings:
            said = ", ".join(self.missing.values())
            raise StudyError(f"profile '{self.name}': none of its folders is there ({said}); see data/README.md")
        experiments = {
            name: e.model_copy(update={"elsewhere": tuple(d for d in e.elsewhere if d not in self.missing)})
            for name, e in profile.experiments.items()
            if e.dataset not in self.missing
        }
        self.profile = profile.model_copy(update={"settings": settings, "experiments": experiments})

    def known(self, found: dict, name: str, what: str):
        """The item of that name; `StudyError` says which there are."""
        if name not in found:
            raise StudyError(f"profile '{self.name}' has no {what} '{name}'; it has {', '.join(found) or 'none'}")
        return found[name]

    @property
    def stamp(self) -> str:
        """What is written on every figure and table."""
        return f"profile {self.name}" + ("" if self.profile.result else ": a trial of the software, not a result")

    @property
    def settings(self) -> list[Setting]:
        """The settings of Table 1."""
        return [Setting(dataset, factor) for dataset, factors in self.profile.settings.items() for factor in factors]

    @property
    def used_datasets(self) -> list[str]:
        """Data sets that a setting or an experiment uses, in the profile's order."""
        used = {*self.profile.settings}
        used.update(name for e in self.profile.experiments.values() for name in (e.dataset, *e.elsewhere))
        return [name for name in self.profile.datasets if name in used]

    def dataset(self, name: str) -> Dataset:
        """A data set's declaration; `StudyError` when the profile has none of that name."""
        return self.known(self.profile.datasets, name, "data set")

    def title(self, name: str, undersampling: Undersampling) -> str:
        """What titles call a data set and what is left of its k-space: "Cardiac phantom 8x"."""
        more = {
            "cartesian": f" {undersampling.tag}",
            "gaussian_2d": f" {undersampling.tag}, points",
            "truncation": f", 1∕{undersampling.acceleration:g} of the resolution",
        }[undersampling.kind]
        own = f", mask {Path(undersampling.mask).stem}" if undersampling.mask else ""
        drawn = f", mask drawn with seed {undersampling.seed}" if undersampling.seed is not None else ""
        kind = " phantom" * self.dataset(name).source.endswith("_phantom")
        return f"{name[0].upper()}{name[1:].replace('_', ' ')}{kind}{more}{own}{drawn}"

    @property
    def both_domains(self) -> list[tuple[Setting, Setting]]:
        """Settings of magnitude images, each with that of the same images before their magnitude was taken."""

        def images(setting: Setting) -> Dataset:
            return self.dataset(setting.dataset).model_copy(update={"name": "", "domain": None, "sampled_like": None})

        is_complex = {setting: self.dataset(setting.dataset).domain == "complex" for setting in self.settings}
        return [
            (one, other)
            for one, other in itertools.product(self.settings, repeat=2)
            if not is_complex[one] and is_complex[other] and self.dataset(other.dataset).sampled_like == one.dataset
            if one.acceleration == other.acceleration and images(one) == images(other)
        ]

    def undersamplings(self, name: str) -> dict[str, Undersampling]:
        """How the study undersamples a data set, by what titles call it; at the paper's three accelerations where it
        doesn't."""
        used = [s.undersampling for s in self.settings if s.dataset == name]
        used += [e.undersampling for e in self.profile.experiments.values() if e.dataset == name]
        shown = used or [Undersampling(acceleration=factor) for factor in FACTORS]
        return {self.title(name, undersampling): undersampling for undersampling in shown}

    def prepared(self, dataset: Dataset) -> Path:
        """Where a data set's prepared file lies."""
        return self.folder / "data" / "prepared" / dataset.file_name

    def source_stamp(self, dataset: Dataset) -> Path:
        """A file that is touched when files changed that a data set was prepared from; then the workflow prepares anew."""
        return self.prepared(dataset).with_suffix(".changed")

    def figure(self, name: str) -> Path:
        """Where a figure lies (PNG)."""
        return self.results / "figures" / f"{name}.png"

    def table(self, name: str) -> Path:
        """Where a table lies (CSV)."""
        return self.results / "tables" / f"{name}.csv"

    @property
    def failed(self) -> Path:
        """A text that the command `tables` writes: the trainings that failed, a line each."""
        return self.results / "failed.txt"

    def setting(self, tag: str) -> Setting:
        """The setting of that tag, such as brain_4x; `StudyError` when the profile has none."""
        return self.known({s.tag: s for s in self.settings}, tag, "setting")

    def recipe(self, of: Setting | Experiment, seed: int) -> Recipe:
        """The recipe of a setting of Table 1, or of an experiment; what that doesn't declare is the profile's."""
        profile = self.profile
        teacher, student, schedule = (getattr(of, name, None) for name in ("teacher", "student", "schedule"))
        return Recipe(
            dataset=self.dataset(of.dataset),
            undersampling=of.undersampling,
            teacher_network=completed(teacher, profile.teacher),
            student_network=completed(student, profile.student),
            schedule=schedule or profile.schedules.get(of.dataset, profile.schedule),
            seed=seed,
            distillation=profile.distillation,
            precision=profile.precision,
            elsewhere=tuple(map(self.dataset, getattr(of, "elsewhere", ()))),
        )

    def experiment(self, name: str) -> Experiment:
        """An experiment's declaration; `StudyError` when the profile has none of that name."""
        return self.known(self.profile.experiments, name, "experiment")

    def experiment_recipe(self, name: str, seed: int) -> Recipe:
        """The recipe of an experiment."""
        return self.recipe(self.experiment(name), seed)

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

    def rows(self, setting: Setting, seed: int) -> Rows:
        """The rows of Table 1 for one setting and seed, and those that its notebooks show beside."""
        recipe = self.recipe(setting, seed)
        return table1(recipe, self.profile.beside) | beside_table1(recipe, self.profile.precision_check)

    def experiment_rows(self, name: str, part: str, seed: int) -> Rows:
        """The rows of one part of an experiment; `StudyError` where the experiment's networks don't allow it."""
        declared, recipe = part_of(part), self.experiment_recipe(name, seed)
        try:
            if declared.needs_cascades and not recipe.in_cascades:
                raise StudyError("it needs networks made of cascades")
            rows = declared.rows(recipe)
            return with_controls(recipe, rows) if declared.tabled else rows
        except StudyError as error:
            raise StudyError(f"profile '{self.name}', experiment '{name}', part '{part}': {error}") from None


def with_needs(runs: Iterable[Run]) -> dict[str, Run]:
    """Runs and all that they need, by their ids, each after those that it needs."""
    found: dict[str, Run] = {}
    for run in runs:
        found |= with_needs(run.needs) | {run.id: run}
    return found
