"""From a setting (images, degradation, two networks, schedule, seed) to runs: the stages that experiments are made of."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from kdmri_lib.declarations import Dataset, Degradation, Distillation, LossTerm, Network, Run, Schedule
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.models.base import MODELS
from kdmri_study.build import plain_network


def all_options(declaration: Network) -> dict:
    """A network's options, those included that it leaves to the model."""
    parameters = inspect.signature(MODELS.find(declaration.kind)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | declaration.options


@dataclass(frozen=True)
class Recipe:
    """One setting and seed, and the runs that can be made of it."""

    dataset: Dataset
    degradation: Degradation
    teacher_network: Network
    student_network: Network
    schedule: Schedule
    seed: int
    distillation: Distillation
    precision: str
    teacher_stages: float = 1
    """For how many stages the teacher trains."""
    teacher_schedule: Schedule | None = None
    """How the teacher trains; as the student where it isn't given."""
    student_friendly: bool = False
    """Whether the teacher is trained together with branches of the student (Gayathri et al. 2023)."""
    elsewhere: tuple[Dataset, ...] = ()
    """Other data sets, for teachers that come from elsewhere."""

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
        return self.changed(
            **{k: n.model_copy(update={"options": {**n.options, **options}}) for k, n in networks.items()}
        )

    def run(self, network: Network, *objective: LossTerm, **more) -> Run:
        """A run of this setting; by reconstruction alone where no objective is given."""
        return Run(
            **{
                "dataset": self.dataset,
                "degradation": self.degradation,
                "network": network,
                "objective": objective or (self.reconstruction,),
                "schedule": self.schedule,
                "seed": self.seed,
                "precision": self.precision,
                **more,
            }
        )

    @property
    def reconstruction(self) -> LossTerm:
        """Algorithm 1, step 1."""
        return LossTerm(loss="reconstruction", options={"norm": self.distillation.norm})

    @cached_property
    def teacher(self) -> Run:
        """The teacher, by reconstruction alone, or together with its students' branches."""
        if not self.student_friendly:
            schedule = self.teacher_schedule or self.schedule
            return self.run(self.teacher_network, schedule=schedule.stretched(self.teacher_stages))
        students = {"student_convolutions": len(self.groups(self.student_network)[0])}
        network = Network(kind="student_friendly", options={**self.teacher_network.options, **students})
        options = {"branches": plain_network(network).branch_names, "norm": self.distillation.norm}
        return self.run(network, LossTerm(loss="student_friendly", options=options))

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

    def pairs(self, teacher: int, student: int) -> list[list[str]]:
        """(teacher's feature, student's feature) in each group, convolutions by number from 1."""
        both = zip(self.groups(self.teacher_network), self.groups(self.student_network), strict=True)
        return [[t[teacher - 1], s[student - 1]] for t, s in both]

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

    @property
    def inheritance(self) -> tuple[tuple[str, str], ...]:
        """(teacher's convolution, student's) pairs for a student that begins with the teacher's weights: convolutions as
        far apart as can be, 1, 3 and 5 of five for three; of as many cascades as the student has, as far apart."""
        theirs, own = self.groups(self.teacher_network), self.groups(self.student_network)
        return tuple(
            (theirs[g][n], layer)
            for g, group in zip(_spread(len(theirs), len(own)), own, strict=True)
            for n, layer in zip(_spread(len(theirs[g]), len(group)), group, strict=True)
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

    def finetuned(self, start: Run) -> Run:
        """The student trained by reconstruction alone from `start` (alpha = 1; section 4.2.3)."""
        return self.run(self.student_network, start=start)


def _spread(of: int, count: int) -> list[int]:
    """`count` of the numbers 0 to `of` - 1, as far apart as can be."""
    return [round(n * (of - 1) / max(count - 1, 1)) for n in range(count)]
