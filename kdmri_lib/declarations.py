"""What is done, as data: a data set, a undersampling, a network, an objective, a schedule, and the run that joins them.

A run is one stage of training. Algorithm 1 is three of them: the teacher; attention transfer, which names the teacher's
run; fine-tuning, which names the teacher's run and starts from the second's weights. A run's folder is named by the
content of its declaration, so that whoever needs the same run finds it, and a changed parameter never finds an old one.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from kdmri_lib.storage import digest_json


def plain_name(name: str) -> str:
    """Names become parts of file names: nothing in them may leave a folder."""
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError(f"'{name}' isn't a plain name (ASCII letters, digits, _ and -)")
    return name


NUMERICS = 1
"""Which numbers trainings give: raised by whoever makes `tests/unit/test_golden.py` fail on purpose. A part of every run's
name, so that what was trained before isn't taken for what would be trained now."""

Name = Annotated[str, AfterValidator(plain_name)]
Pairs = tuple[tuple[str, str], ...]
Precision = Literal["auto", "float32", "bfloat16", "float64"]


class Declaration(BaseModel):
    """Frozen, and strict about keys: a misspelt one is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def digest(self) -> str:
        """12 hex digits of the SHA-256 of the content; what is None doesn't count, so that a new choice renames nothing."""
        return digest_json(self.model_dump(mode="json", exclude_none=True, by_alias=True))[:12]

    def __hash__(self) -> int:
        return hash(self.digest)


class Dataset(Declaration):
    """Which volumes, from which source, split by subject."""

    name: Name
    source: Name
    shape: tuple[PositiveInt, PositiveInt] = Field(description="(H, W) of a slice")
    train: PositiveInt = Field(description="subjects that train")
    validation: PositiveInt = Field(description="subjects that pick checkpoints")
    test: PositiveInt = Field(description="subjects that tables are computed on")
    slices_per_volume: PositiveInt | None = Field(None, description="evenly spaced; all of a volume when not given")
    contrast: str = "t1"
    domain: Annotated[
        Literal["complex"] | None, BeforeValidator(lambda said: None if said == "magnitude" else said)
    ] = Field(
        None, description="complex: a scanner's complex images, two channels; magnitude (or nothing): one channel"
    )
    sampled_like: Literal["brain", "cardiac", "knee"] | None = Field(
        None, description="whose undersampling masks it has; by its name otherwise, a brain's where it is none of these"
    )
    seed: NonNegativeInt = 0
    folder: str | None = Field(None, description="where a download lies, for the sources that read one")
    pattern: str | None = Field(None, description="glob of the volumes below `folder`")
    splits: str | None = Field(None, description="CSV with columns subject, split, in place of the order of names")
    options: dict[str, bool | int | float | str] = Field({}, description="choices that only this source knows")

    @property
    def channels(self) -> int:
        """Channels of an image: 1 of a magnitude, 2 of a complex one."""
        return 2 if self.domain == "complex" else 1

    @property
    def file_name(self) -> str:
        """Name of its prepared file, decided by the content of the declaration."""
        return f"{self.name}-{self.digest}.h5"


class Undersampling(Declaration):
    """Which part of k-space is left: one mask for a data set and a factor (the acceleration, or the loss of resolution)."""

    kind: Literal["cartesian", "gaussian_2d", "truncation"] = "cartesian"
    acceleration: float = Field(ge=1)
    seed: NonNegativeInt | None = Field(None, description="draws another mask than the published or usual one")
    mask: str | None = Field(None, description="path of a mask to use instead: .npy, or .json lists of lines")

    @property
    def tag(self) -> str:
        """What it is called in names of runs, such as 4x."""
        return f"{self.acceleration:g}x"


class Network(Declaration):
    """A network by its name in `kdmri_lib.models.base.MODELS`, with that network's options."""

    kind: Name = "dccnn"
    options: dict[str, bool | int | float | str] = {}


class LossTerm(Declaration):
    """A loss by its name in `kdmri_lib.losses.base.LOSSES`, with that loss's options and its weight in the objective."""

    loss: Name
    weight: PositiveFloat = 1.0
    options: dict[str, Any] = {}


class Schedule(Declaration):
    """How long and how: `steps` or `epochs`, one of the two."""

    steps: NonNegativeInt | None = Field(None, description="0: what a run starts from is judged as it is")
    epochs: PositiveFloat | None = None
    batch: PositiveInt = 4
    strip: PositiveInt | None = Field(
        None, description="train on random strips this wide along the fully sampled axis; whole slices otherwise"
    )
    learning_rate: PositiveFloat = 1e-4
    decay: Literal["constant", "cosine", "step"] = Field(
        "constant",
        description="step: times 0.1 at 4/15, 8/15 and 12/15, as the published code's every 40 of 150 epochs",
    )
    validations: PositiveInt = Field(10, description="how often in a run the validation set is reconstructed")
    expansion: PositiveInt | None = Field(
        None, description="train each 3x3 convolution over-parameterised, through so many channels; plain at the end"
    )
    averaging: float | None = Field(
        None, gt=0, lt=1, description="keep a moving average of the weights, this share of the old at each step"
    )

    @model_validator(mode="after")
    def _one_length(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a schedule has either steps or epochs")
        return self

    def total_steps(self, slices: int) -> int:
        """Steps on a training set of so many slices."""
        return self.steps if self.steps is not None else max(1, round(self.epochs * slices / self.batch))

    def stretched(self, factor: float) -> "Schedule":
        """The same schedule, `factor` times as long.

        It validates as often as before: who validates more chooses among more.
        """
        if self.steps is None:
            return self.model_copy(update={"epochs": self.epochs * factor})
        return self.model_copy(update={"steps": round(self.steps * factor)})


class Run(Declaration):
    """One stage of training."""

    dataset: Dataset
    undersampling: Undersampling = Field(serialization_alias="degradation")  # as the first runs' names have it
    network: Network
    objective: tuple[LossTerm, ...] = (LossTerm(loss="reconstruction"),)
    schedule: Schedule
    seed: NonNegativeInt = 0
    precision: Precision = "auto"
    teacher: "Run | None" = Field(None, description="whose features and images the objective compares with")
    teacher_asked: Literal["once", "each step"] = Field(
        "once",
        description="once for each whole training slice, where all losses allow it; or at each step, of the batch",
    )
    start: "Run | None" = Field(None, description="whose weights this run starts from; random ones otherwise")
    taken: Pairs | None = Field(
        None, description="[convolution of `start`, own] whose weights are taken over; all, by name, otherwise"
    )
    subjects: tuple[NonNegativeInt, PositiveInt] | None = Field(
        None, description="[first, end) of the training subjects, by name; all otherwise"
    )
    truths: NonNegativeInt | None = Field(
        None,
        description="of how many of its subjects, the first, the true images are at hand; for the others the teacher's "
        "image stands in, so that only losses that compare with it alone may train; all otherwise",
    )

    @model_validator(mode="after")
    def _taken_from(self):
        if self.taken is not None and self.start is None:
            raise ValueError("convolutions to take over, and no run to start from")
        if self.schedule.steps == 0 and self.start is None:
            raise ValueError("no steps, and no run to start from")
        return self

    @property
    def digest(self) -> str:
        """Of the content and, from the second on, of `NUMERICS`."""
        content = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        return digest_json(content if NUMERICS == 1 else [NUMERICS, content])[:12]

    @property
    def id(self) -> str:
        """Name of the run's folder: readable in front, decided by the digest at the end."""
        losses = "+".join(term.loss for term in self.objective)
        return f"{self.dataset.name}-{self.undersampling.tag}-{losses}-seed{self.seed}-{self.digest}"

    @property
    def needs(self) -> list["Run"]:
        """The runs that this one cannot begin without."""
        return [run for run in (self.teacher, self.start) if run is not None]


class Distillation(Declaration):
    """The choices in which the paper and the published code differ, and when the teacher is asked."""

    attention_transfer: Literal["paper", "released"] = "paper"
    imitation: Literal["paper", "released"] = "paper"
    alpha: float = Field(0.5, ge=0, le=1)
    norm: Literal["l1", "l2"] = "l1"
    teacher_asked: Literal["once", "each step", "cheaper"] = "once"
