"""From a setting to its runs: the stages that experiments are made of, what each costs to train, the same network alone for
as much; and what an experiment is."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import pandas as pd

from kdmri_lib.declarations import Dataset, Distillation, LossTerm, Network, Run, Schedule, Undersampling
from kdmri_lib.declared import declared_mask, plain_network, run_network
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.losses.objective import Objective
from kdmri_lib.masks import line_axis
from kdmri_lib.models.base import MODELS, multiply_accumulates, spread


@dataclass(frozen=True)
class Recipe:
    """One setting and seed, and the runs that can be made of it."""

    dataset: Dataset
    undersampling: Undersampling
    teacher_network: Network
    student_network: Network
    schedule: Schedule
    seed: int
    distillation: Distillation
    precision: str
    teacher_stages: float = 1  # for so many the teacher trains
    teacher_schedule: Schedule | None = None  # and so; as the student where it isn't given
    thinnable: Mapping | None = None  # options of a teacher that its student can be taken out of
    student_friendly: bool = False  # whether the teacher trains with branches of the student (Gayathri et al. 2023)
    elsewhere: tuple[Dataset, ...] = ()  # other data sets, for teachers that come from elsewhere

    def changed(self, **changes) -> "Recipe":
        """The same recipe but for these."""
        return replace(self, **changes)

    def at_rate(self, factor: float) -> "Recipe":
        """The same recipe, its student at so many times the learning rate; who teaches it is the same."""
        schedule = self.schedule.model_copy(update={"learning_rate": self.schedule.learning_rate * factor})
        return self.changed(schedule=schedule, teacher_schedule=self.teacher_schedule or self.schedule)

    def with_options(self, who: Iterable[str] = ("teacher", "student"), **options) -> "Recipe":
        """The same recipe but for these options of its networks."""
        networks = {f"{name}_network": getattr(self, f"{name}_network") for name in who}
        more = {k: n.model_copy(update={"options": {**n.options, **options}}) for k, n in networks.items()}
        return self.changed(**more)

    def run(self, network: Network, *objective: LossTerm, **more) -> Run:
        """A run of this setting; by reconstruction alone where no objective is given."""
        usual = {name: getattr(self, name) for name in ("dataset", "undersampling", "schedule", "seed", "precision")}
        run = Run(network=network, objective=objective or (self.reconstruction,), **(usual | more))
        if run.teacher is None or "teacher_asked" in more:
            return run
        asked = self.distillation.teacher_asked
        ways = ("once", "each step") if asked == "cheaper" else (asked,)
        one, *other = (run.model_copy(update={"teacher_asked": way}) for way in ways)
        return min(one, *other, key=lambda each: stage(each)[1]) if other else one

    @property
    def reconstruction(self) -> LossTerm:
        """Algorithm 1, step 1."""
        return LossTerm(loss="reconstruction", options={"norm": self.distillation.norm})

    @cached_property
    def teacher(self) -> Run:
        """The teacher, by reconstruction alone, or together with its students' branches."""
        schedule, network = self.teacher_schedule or self.schedule, self.teacher_network
        options = {**network.options, "student_convolutions": len(self.groups(self.student_network)[0])}
        if self.student_friendly:
            network = Network(kind="student_friendly", options=options)
            options = {"branches": plain_network(network).branch_names, "norm": self.distillation.norm}
            return self.run(network, LossTerm(loss="student_friendly", options=options))
        if self.thinnable is not None:
            network = Network(kind="thinnable", options={**options, **self.thinnable})
        return self.run(network, schedule=schedule.stretched(self.teacher_stages))

    @cached_property
    def student(self) -> Run:
        """The student alone, for one stage."""
        return self.run(self.student_network)

    @staticmethod
    def groups(network: Network) -> list[list[str]]:
        """A network's feature names, cascade by cascade; one group where it has none."""
        return plain_network(network).feature_groups

    @property
    def in_cascades(self) -> bool:
        """Whether the networks are cascades, without which there is no choosing between them, no branch and no residual."""
        return len(self.groups(self.student_network)) > 1

    def feature_loss(self, name: str, **options) -> LossTerm:
        """A loss on features, where it usually stands unless options say otherwise (`Loss.places`)."""
        if not {"pairs", "flows"} & options.keys():
            networks = (plain_network(n) for n in (self.teacher_network, self.student_network))
            options |= LOSSES.find(name).places(*networks)
        if name == "attention_transfer":
            options.setdefault("variant", self.distillation.attention_transfer)
        return LossTerm(loss=name, options=options)

    def pretrained(self, name: str = "attention_transfer", **options) -> Run:
        """The student trained by a feature loss alone (Algorithm 1, step 2).

        It starts from random weights; after a student-friendly teacher, from those of the branches.
        """
        start = self.teacher if self.student_friendly else None
        return self.run(self.student_network, self.feature_loss(name, **options), teacher=self.teacher, start=start)

    def imitation(self, **options) -> LossTerm:
        """Eq. 4."""
        choice = self.distillation
        defaults = {"alpha": choice.alpha, "norm": choice.norm, "variant": choice.imitation}
        return LossTerm(loss="imitation", options={**defaults, **options})

    def distilled(self, start: Run | None, **options) -> Run:
        """The student trained by reconstruction and imitation, from `start` (Algorithm 1, step 3) or from nothing."""
        return self.run(self.student_network, self.imitation(**options), teacher=self.teacher, start=start)

    def finetuned(self, start: Run) -> Run:
        """The student trained by reconstruction alone from `start` (alpha = 1; section 4.2.3)."""
        return self.run(self.student_network, start=start)

    @property
    def inheritance(self) -> tuple[tuple[str, str], ...]:
        """(teacher's convolution, student's) pairs for a student that begins with the teacher's weights: convolutions as
        far apart as can be, 1, 3 and 5 of five for three; of as many cascades as the student has, as far apart."""
        theirs, own = self.groups(self.teacher_network), self.groups(self.student_network)
        return tuple(
            (theirs[g][n], layer)
            for g, group in zip(spread(len(theirs), len(own)), own, strict=True)
            for n, layer in zip(spread(len(theirs[g]), len(group)), group, strict=True)
        )

    def taught(self, total: float = 2, attention: float = 0, alpha: float = 1, inherits: bool = False) -> Run:
        """The student in `total` stages: from the teacher's weights where it `inherits`; of these stages `attention` by
        attention transfer; then by eq. 4 with `alpha`, which is reconstruction alone for 1."""
        begin = {"start": self.teacher, "taken": self.inheritance} if inherits else {}
        if attention:
            loss, first = self.feature_loss("attention_transfer"), self.schedule.stretched(attention)
            begin = {"start": self.run(self.student_network, loss, teacher=self.teacher, schedule=first, **begin)}
        taught = {"teacher": self.teacher} if alpha < 1 else {}
        objective = self.imitation(alpha=alpha) if taught else self.reconstruction
        rest = self.schedule.stretched(total - attention)
        return self.run(self.student_network, objective, schedule=rest, **taught, **begin)


def all_options(declaration: Network) -> dict:
    """A network's options, those included that it leaves to the model."""
    parameters = inspect.signature(MODELS.find(declaration.kind)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | declaration.options


class Cost(NamedTuple):
    """Of a run with the stages that it starts from: `steps`; multiply-accumulates with the teacher `given`, and of the
    `whole`, with the training of its teacher."""

    steps: int
    given: float
    whole: float


@cache
def stage(run: Run) -> tuple[int, float]:
    """Optimiser steps of one training alone, and its multiply-accumulates with the teacher given.

    A step costs three passes of the network that trains (one forward, two backward), and one of the teacher's where it is
    asked at each step, over the pixels of the batch. Where it is asked once, that costs one pass over the whole training
    slices in all. Validation, and a loss's own arithmetic on the maps, aren't counted. Where a data set doesn't declare
    its slices per volume, costs are of one; the ratio of two runs in epochs is right all the same.
    """
    first, end = run.subjects or (0, run.dataset.train)
    slices = (end - first) * (run.dataset.slices_per_volume or 1)
    steps = run.schedule.total_steps(slices)
    seen = steps * run.schedule.batch * _pixels(run)
    # The product of two that an expanded convolution trains by is as a pass over so many pixels more.
    total = 3 * (seen + steps * (run.schedule.expansion or 0)) * multiply_accumulates(run_network(run))
    objective = Objective(run.objective)
    if objective.uses_teacher and run.teacher:
        whole = slices * math.prod(run.dataset.shape)
        once = objective.asks_once and run.teacher_asked == "once"
        asked = (whole if once else seen) + (whole if objective.needs_teacher_errors else 0)
        total += asked * multiply_accumulates(run_network(run.teacher))
    return steps, total


def _pixels(run: Run) -> float:
    """Pixels of a training sample: of a slice, or of the strip of it."""
    height, width = run.dataset.shape
    if not run.schedule.strip:
        return height * width
    along_rows = height != width and line_axis(declared_mask(run.dataset, run.undersampling)) == 1
    extent, across = (height, width) if along_rows else (width, height)
    return across * min(run.schedule.strip, extent)


def stages(run: Run) -> tuple[list[Run], list[Run]]:
    """The trainings of its network that a run consists of, the last first; and those of other networks that it needs."""
    own, others, at = [], {}, run
    while at is not None and at.network == run.network:
        own.append(at)
        others |= {at.teacher.id: at.teacher} if at.teacher else {}
        at = at.start
    others |= {at.id: at} if at else {}
    return own, list(others.values())


def cost(run: Run) -> Cost:
    """What a run costs, from its declaration alone."""
    own, others = stages(run)
    counted = [stage(each) for each in own]
    given = sum(total for _, total in counted)
    return Cost(sum(steps for steps, _ in counted), given, given + sum(cost(other).whole for other in others))


def against_compute(run: Run, curve: pd.DataFrame) -> pd.DataFrame:
    """A run's curve with a column `compute`: multiply-accumulates so far, with the teacher given and with the stages that
    the run starts from; what one stage costs is spread evenly over its steps."""
    steps, total = stage(run)
    return curve.assign(compute=cost(run).given - total + total * curve.step / steps)


class Row(NamedTuple):
    """A row of an experiment's table: what people call it, the run behind it, what its figure needs to know of it, and the
    row of the same network trained alone at its cost."""

    label: str
    run: Run
    facts: Mapping = {}
    control: str = ""


Rows = dict[str, Row]
"""Rows by a name that stays the same when their labels change."""


def alone_at(recipe: Recipe, run: Run, of: str = "given") -> tuple[Run, float]:
    """The network of `run` trained alone, by the recipe's schedule stretched until it costs as much; and how many stages
    that are.

    `of` : which of the `Cost`s.
    """
    # All that isn't distillation, it has too.
    schedule = run.schedule.model_copy(update={"steps": recipe.schedule.steps, "epochs": recipe.schedule.epochs})
    alone = {"objective": (recipe.reconstruction,), "schedule": schedule, "teacher_asked": "once"}
    alone = run.model_copy(update={**alone, "teacher": None, "start": None, "taken": None, "truths": None})
    factor = round(getattr(cost(run), of) / getattr(cost(alone), of), 2)
    return alone.model_copy(update={"schedule": schedule.stretched(factor)}), factor


def _named(recipe: Recipe, run: Run, factor: float) -> tuple[str, str]:
    """A control's name and label, with what its network and its schedule differ in from the recipe's student."""
    asked = {"learning_rate", "expansion", "averaging"}
    usual = all_options(recipe.student_network) | recipe.schedule.model_dump(include=asked)
    own = all_options(run.network) | run.schedule.model_dump(include=asked)
    name, label = f"alone_{factor:.2f}", f"No teacher, {factor:.2f} stages"
    for key, value in own.items():
        if usual.get(key) != value:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words = key.replace("_", " ") if isinstance(value, bool) else f"{key.replace('_', ' ')} {text}"
            words = f"no {words}" if value is False else words
            words = "He initialisation" if (key, value) == ("initialisation", "he") else words
            name, label = f"{name}_{key}_{text}", f"{label}, {words}"
    if run.subjects:
        # How many, not which: another seed has others.
        count = run.subjects[1] - run.subjects[0]
        name, label = f"{name}_subjects_{count}", f"{label}, of {count} subject{'s' * (count > 1)}"
    return name.replace(".", "_"), label


def with_controls(recipe: Recipe, rows: Rows) -> Rows:
    """Rows with the control of each that learns from a teacher and has none, at its cost with the teacher given.

    A row that is the same run serves as a control; others are added at the end, one for all rows of the same cost.
    """
    names = {row.run.id: name for name, row in rows.items()}
    found, added = dict(rows), {}
    for name, row in rows.items():
        if not row.control and stages(row.run)[1]:
            run, factor = alone_at(recipe, row.run)
            key, label = _named(recipe, run, factor)
            key = names.setdefault(run.id, key)
            if key not in rows and added.setdefault(key, Row(label, run, {"longer": True})).run != run:
                raise StudyError(f"two rows are called '{key}', the controls of '{name}' and of another row")
            found[name] = row._replace(control=key)
    return found | added


def changed(options: Mapping[str, object], between: str = ", ") -> str:
    """Options that a reader changed, as labels say them (", features 4") or, between "_", names ("_features_4")."""
    return "".join(f"{between}{name}{between[-1]}{value}" for name, value in options.items())


def well_initialised(recipe: Recipe) -> Recipe:
    """The same recipe from weights as He et al. draw them, teacher and student."""
    return recipe.with_options(initialisation="he")


def best_recipe(recipe: Recipe) -> Recipe:
    """What trains the best student: weights as He et al. draw them, and a teacher of two stages."""
    return well_initialised(recipe).changed(teacher_stages=2)


def best_taught(recipe: Recipe, stages: float = 2) -> Run:
    """The student of the best recipe: it begins with its teacher's weights, and then learns from the truth and from the
    teacher's images. Chosen on the validation set of brain 4x, seed 0, of the rows of `beyond.recipes`, 1,500 steps a
    stage; of that trial no evidence was kept."""
    return recipe.taught(stages, inherits=True, alpha=0.5)


class Part(NamedTuple):
    """An experiment: rows that a notebook shows. Those that two experiments share are one run, which is trained once."""

    name: str
    title: str
    notebook: str
    rows: Callable[[Recipe], Rows]
    # The row that all others that a teacher helped are set against, or all others where a teacher helped none.
    compared_with: str | Callable[[Recipe], str] | None
    also: Iterable[tuple[str, str]] | Callable = ()  # further pairs of rows to compare, or what makes them
    untrained: tuple[str, ...] = ("zero_filled",)  # methods without training that stand in its table
    tabled: bool = True  # whether its table is one of metrics; otherwise its notebook makes one of its own
    needs_cascades: bool = False  # whether it makes sense only for networks made of cascades
    figures: Mapping[str, str] = {}  # titles of those that its notebook draws, by name; of a new one "curves" alone
    curve: str = ""  # the fact "how" of rows of one network trained longer and longer, against which others are read

    def reference(self, recipe: Recipe) -> str | None:
        """The row that all others are set against; None where there is none."""
        return self.compared_with(recipe) if callable(self.compared_with) else self.compared_with

    def questions(self, recipe: Recipe, rows: Rows) -> list[tuple[str, str]]:
        """What its table answers: each row against the same network alone at its cost, and against the reference."""
        taught, reference = [name for name, row in rows.items() if row.control], self.reference(recipe)
        asked = [(name, rows[name].control) for name in taught]
        others = taught or list(rows)
        asked += [(n, reference) for n in others if reference in rows and reference not in (n, rows[n].control)]
        known, also = {*rows, *self.untrained}, self.also() if callable(self.also) else self.also
        return list(dict.fromkeys(asked + [(a, b) for a, b in also if {a, b} <= known]))


PARTS: dict[str, Part] = {}
"""Every experiment by its name: those of `kdmri_study.paper` and `kdmri_study.beyond`, and any of one's own."""


def part(notebook: str, title: str, compared_with: str | Callable[[Recipe], str] | None = None, **more) -> Callable:
    """Decorator that registers a function from a recipe to rows as the `Part` of its name; the rest as there."""

    def add(rows: Callable[[Recipe], Rows]) -> Callable[[Recipe], Rows]:
        PARTS[rows.__name__] = Part(rows.__name__, title, notebook, rows, compared_with, **more)
        return rows

    return add


def part_of(name: str) -> Part:
    """The experiment of that name; `StudyError` says which there are."""
    if name not in PARTS:
        raise StudyError(f"unknown part '{name}'; known: {', '.join(sorted(PARTS))}")
    return PARTS[name]


def parts_of(notebook: str) -> list[Part]:
    """All experiments that a notebook shows, by their names."""
    return [p for _, p in sorted(PARTS.items()) if p.notebook == notebook]
