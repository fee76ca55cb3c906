"""The study: a profile says how large it is, and this says which runs, files and folders follow from it.

Nothing here trains or reads images, so that the workflow can ask it what there is to do.
"""

from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from kdmri_lib.declarations import Dataset, Declaration, Degradation, LossTerm, Name, Network, Run, Schedule
from kdmri_lib.errors import StudyError
from kdmri_lib.files import digest_json, read_json

PROJECT = Path(__file__).resolve().parents[1]

# The rows of Table 1, in its order. The two longer-trained students are controls that the paper leaves out.
METHODS = {
    "zero_filled": "Zero-filled",
    "teacher": "Teacher",
    "student": "Student",
    "student_steps": "Student, as many steps as distilled",
    "student_compute": "Student, as much compute as distilled",
    "distilled": "Distilled student",
}


class Distillation(Declaration):
    """The choices in which the paper and the published code differ."""

    attention_transfer: Literal["paper", "released"] = "paper"
    imitation: Literal["paper", "released"] = "paper"
    alpha: float = Field(0.5, ge=0, le=1)
    norm: Literal["l1", "l2"] = "l1"


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
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    precision_check: bool = Field(False, description="also train the student in float32, to show what bfloat16 changes")
    threads: PositiveInt = Field(
        1, description="threads a training; a number of threads is part of what fixes the bits"
    )

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
        for key in (*self.cells, *self.schedules):
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
        self.name, self.profile = load_profile(profile)
        self.folder = Path(folder or PROJECT).resolve()
        self.results = self.folder / "results" / self.name

    @property
    def stamp(self) -> str:
        """What is written on every figure and table."""
        return f"profile {self.name}" + ("" if self.profile.result else ": a trial of the software, not a result")

    @property
    def cells(self) -> list[Cell]:
        return [Cell(dataset, factor) for dataset, factors in self.profile.cells.items() for factor in factors]

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

    @cached_property
    def compute_ratio(self) -> float:
        """Compute of distillation's two stages over that of one stage of the student alone, the teacher's training apart.

        A step of training costs about three forward passes (one forward, two backward); distillation adds the teacher's
        forward pass to each step.
        """
        from kdmri_lib.models import multiply_accumulates, network_of

        teacher, student = (multiply_accumulates(network_of(n)) for n in (self.profile.teacher, self.profile.student))
        return 2 * (teacher + 3 * student) / (3 * student)

    def methods(self, cell: Cell, seed: int) -> dict[str, Run]:
        """The runs of Table 1 for one cell and seed; "attention_transfer" is the distilled student's first stage."""
        from kdmri_lib.models import network_of

        profile, choice = self.profile, self.profile.distillation
        schedule = profile.schedules.get(cell.dataset, profile.schedule)
        imitation = {"alpha": choice.alpha, "norm": choice.norm, "variant": choice.imitation}
        pairs = zip(
            network_of(profile.teacher).centre_features, network_of(profile.student).centre_features, strict=True
        )

        def run(network: Network, objective: LossTerm, schedule: Schedule = schedule, **more) -> Run:
            return Run(
                dataset=self.dataset(cell.dataset),
                degradation=Degradation(acceleration=cell.acceleration),
                network=network,
                objective=(objective,),
                schedule=schedule,
                seed=seed,
                **{"precision": profile.precision, **more},
            )

        alone = LossTerm(loss="reconstruction", options={"norm": choice.norm})
        teacher = run(profile.teacher, alone)
        transfer = LossTerm(
            loss="attention_transfer", options={"pairs": [list(p) for p in pairs], "variant": choice.attention_transfer}
        )
        attention = run(profile.student, transfer, teacher=teacher)
        runs = {
            "teacher": teacher,
            "student": run(profile.student, alone),
            "student_steps": run(profile.student, alone, schedule.stretched(2)),
            "student_compute": run(profile.student, alone, schedule.stretched(self.compute_ratio)),
            "attention_transfer": attention,
            "distilled": run(
                profile.student, LossTerm(loss="imitation", options=imitation), teacher=teacher, start=attention
            ),
        }
        if profile.precision_check:
            runs["student_float32"] = run(profile.student, alone, precision="float32")
        return runs

    @cached_property
    def labels(self) -> dict[str, str]:
        """What people call each run, by its id: "brain 4x, distilled, seed 0"."""
        return {
            run.id: f"{cell.tag.replace('_', ' ')}, {method.replace('_', ' ')}, seed {seed}"
            for cell in self.cells
            for seed in self.profile.seeds
            for method, run in self.methods(cell, seed).items()
        }

    @cached_property
    def runs(self) -> dict[str, Run]:
        """Every run of the study by its id, each after those that it needs."""
        found: dict[str, Run] = {}

        def add(run: Run) -> None:
            for needed in run.needs:
                add(needed)
            found.setdefault(run.id, run)

        for cell in self.cells:
            for seed in self.profile.seeds:
                for run in self.methods(cell, seed).values():
                    add(run)
        return found
