"""A profile: how large the study is. Everything that it names is checked when it is loaded."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from kdmri_lib.declarations import Dataset, Declaration, Degradation, Distillation, Name, Network, Schedule, plain_name
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.build import plain_network
from kdmri_study.experiments.part import parts_of
from kdmri_study.experiments.site import SETS
from kdmri_study.experiments.table1 import Beside


def _buildable(network: Network) -> Network:
    try:
        plain_network(network)
    except StudyError as error:
        raise ValueError(str(error)) from None
    return network


Accelerations = Annotated[tuple[float, ...], Field(min_length=1)]
CheckedNetwork = Annotated[Network, AfterValidator(_buildable)]


class Experiment(Declaration):
    """A notebook beside Table 1's, and the setting that it runs in; what isn't given is the profile's."""

    notebook: Literal["04_feature_distillation", "05_ablations", "06_super_resolution", "08_when_distillation_pays"]
    dataset: Name
    degradation: Degradation
    teacher: CheckedNetwork | None = None
    student: CheckedNetwork | None = None
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
    cells: dict[Name, Annotated[tuple[float, ...], Field(min_length=1)]] = Field(
        description="accelerations of each data set in Table 1"
    )
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    over_seeds: bool = Field(
        False, description="its comparisons are to hold for other seeds: fewer than two are refused; tests need six"
    )
    in_pieces: bool = Field(
        False,
        description="too long for one sitting: tables hold the cells, experiments and seeds whose evidence is there",
    )
    beside: tuple[Beside, ...] = Field(
        ("steps", "whole"), description="rows of Table 1 beside the paper's and the control of its distilled student"
    )
    teacher: CheckedNetwork = Network(options={"cascades": 5, "convolutions": 5, "features": 32})
    student: CheckedNetwork = Network(options={"cascades": 5, "convolutions": 3, "features": 32})
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
        for key in (
            *self.cells,
            *self.schedules,
            *(name for e in self.experiments.values() for name in (e.dataset, *e.elsewhere)),
        ):
            if key not in self.datasets:
                raise ValueError(f"data set '{key}' isn't declared; declared: {', '.join(self.datasets)}")
        for name, experiment in self.experiments.items():
            for key in experiment.elsewhere:
                if (found := self.datasets[key].domain) != (own := self.datasets[experiment.dataset].domain):
                    words = f"'{key}' is of {found or 'magnitude'} images, not {own or 'magnitude'} ones"
                    raise ValueError(f"experiments.{name}.elsewhere: {words}")
        for factors in self.cells.values():
            for factor in factors:
                Degradation(acceleration=factor)
        return self

    @model_validator(mode="after")
    def _several_seeds(self):
        asked = {"seeds": self.seeds} | {
            f"experiments.{k}.seeds": e.seeds or self.seeds for k, e in self.experiments.items()
        }
        for key, seeds in asked.items():
            if self.over_seeds and len(set(seeds)) < 2:
                raise ValueError(f"over_seeds: {key} holds {len(set(seeds))}; a test over seeds needs at least two")
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


class Cell(NamedTuple):
    """One data set at one acceleration: a cell of Table 1."""

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
    def degradation(self) -> Degradation:
        """The study's Cartesian mask of that acceleration."""
        return Degradation(acceleration=self.acceleration)
