"""From a setting (images, degradation, two networks, schedule, seed) to the runs of every experiment, as declarations.

An experiment is a dictionary of rows, label to run; adding one writes no loop. Rows that two experiments share are the same
declaration, so they are trained once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal

from pydantic import Field

from kdmri_lib.declarations import Dataset, Declaration, Degradation, LossTerm, Network, Run, Schedule

FEATURE_LOSSES = {
    "fitnets": "FitNets",
    "fsp": "FSP",
    "similarity_preserving": "Similarity preserving",
    "attentive_hint": "Attentive hint",
    "correlation_congruence": "Correlation congruence",
    "attention_transfer": "Attention transfer",
}


class Distillation(Declaration):
    """The choices in which the paper and the published code differ."""

    attention_transfer: Literal["paper", "released"] = "paper"
    imitation: Literal["paper", "released"] = "paper"
    alpha: float = Field(0.5, ge=0, le=1)
    norm: Literal["l1", "l2"] = "l1"


def feature_groups(network: Network) -> list[list[str]]:
    """A network's feature names cascade by cascade; one group where it has none."""
    from kdmri_lib.models import network_of

    return [list(names) for _, names in groupby(network_of(network).feature_names, lambda name: name.split("conv")[0])]


def middle(names: list[str]) -> str:
    """The convolution in the middle, where the paper transfers attention."""
    return names[(len(names) + 1) // 2 - 1]


def position(teacher: int, student: int) -> str:
    """What people call a pair of convolutions."""
    return f"T{teacher} – S{student}"


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
    student_friendly: bool = False
    """Whether the teacher is trained together with branches of the student (Gayathri et al. 2023)."""

    def run(self, network: Network, *objective: LossTerm, **more) -> Run:
        return Run(
            **{
                "dataset": self.dataset,
                "degradation": self.degradation,
                "network": network,
                "objective": objective or (LossTerm(loss="reconstruction", options={"norm": self.distillation.norm}),),
                "schedule": self.schedule,
                "seed": self.seed,
                "precision": self.precision,
                **more,
            }
        )

    @cached_property
    def teacher(self) -> Run:
        if not self.student_friendly:
            return self.run(self.teacher_network)
        students = {"student_convolutions": len(feature_groups(self.student_network)[0])}
        network = Network(kind="student_friendly", options={**self.teacher_network.options, **students})
        from kdmri_lib.models import network_of

        options = {"branches": network_of(network).branch_names, "norm": self.distillation.norm}
        return self.run(network, LossTerm(loss="student_friendly", options=options))

    @cached_property
    def student(self) -> Run:
        return self.run(self.student_network)

    def longer(self, factor: float) -> Run:
        """The student alone, `factor` times as long."""
        return self.run(self.student_network, schedule=self.schedule.stretched(factor))

    @cached_property
    def compute_ratio(self) -> float:
        """Compute of distillation's two stages over that of one stage of the student alone, the teacher's training apart.

        A step of training costs about three forward passes (one forward, two backward); distillation adds the teacher's
        forward pass to each step.
        """
        from kdmri_lib.models import multiply_accumulates, network_of

        teacher, student = (multiply_accumulates(network_of(n)) for n in (self.teacher_network, self.student_network))
        return 2 * (teacher + 3 * student) / (3 * student)

    def pairs(self, teacher: int | None = None, student: int | None = None, cascades: Iterable[int] | None = None):
        """(teacher feature, student feature): convolutions by number from 1 (the middle ones by default), of `cascades`."""
        both = list(zip(feature_groups(self.teacher_network), feature_groups(self.student_network), strict=True))
        chosen = range(1, len(both) + 1) if cascades is None else cascades
        return [
            [t[teacher - 1] if teacher else middle(t), s[student - 1] if student else middle(s)]
            for t, s in (both[c - 1] for c in chosen)
        ]

    def feature_loss(self, name: str, **options) -> LossTerm:
        """A loss on features at its usual place: FSP from first to penultimate convolution, the others in the middle."""
        if name == "fsp" and "flows" not in options:
            both = zip(feature_groups(self.teacher_network), feature_groups(self.student_network), strict=True)
            options["flows"] = [[t[0], t[-2], s[0], s[-2]] for t, s in both]
        elif name != "fsp" and "pairs" not in options:
            options["pairs"] = self.pairs()
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
        choice = self.distillation
        defaults = {"alpha": choice.alpha, "norm": choice.norm, "variant": choice.imitation}
        return LossTerm(loss="imitation", options={**defaults, **options})

    def distilled(self, start: Run | None, **options) -> Run:
        """The student trained by reconstruction and imitation, from `start` (Algorithm 1, step 3) or from nothing."""
        return self.run(self.student_network, self.imitation(**options), teacher=self.teacher, start=start)

    def finetuned(self, start: Run) -> Run:
        """The student trained by reconstruction alone from `start` (alpha = 1; section 4.2.3)."""
        return self.run(self.student_network, start=start)

    def table1(self, precision_check: bool = False) -> dict[str, Run]:
        """The rows of Table 1; "attention_transfer" is the distilled student's first stage."""
        runs = {
            "teacher": self.teacher,
            "student": self.student,
            "student_steps": self.longer(2),
            "student_compute": self.longer(self.compute_ratio),
            "attention_transfer": self.pretrained(),
            "distilled": self.distilled(self.pretrained()),
        }
        if precision_check:
            runs["student_float32"] = self.run(self.student_network, precision="float32")
        return runs

    def alone(self) -> dict[str, Run]:
        """What everything is compared with."""
        return {
            "Teacher": self.teacher,
            "Student": self.student,
            "Student, as many steps": self.longer(2),
            "Student, as much compute": self.longer(self.compute_ratio),
        }

    def comparison(self, losses: Iterable[str] = FEATURE_LOSSES) -> dict[str, Run]:
        """Section 4.2.3: each feature loss alone, then reconstruction alone."""
        return self.alone() | {FEATURE_LOSSES.get(n, n): self.finetuned(self.pretrained(n)) for n in losses}

    def friendly(self, losses: Iterable[str] = FEATURE_LOSSES) -> dict[str, Run]:
        """The comparison after student-friendly teacher training; and the student from its branches, nothing distilled."""
        other = replace(self, student_friendly=True)
        return {
            "Teacher, student-friendly": other.teacher,
            "Student from the branches": self.finetuned(other.teacher),
        } | {f"{FEATURE_LOSSES.get(n, n)}, student-friendly": other.finetuned(other.pretrained(n)) for n in losses}

    def ablation(self) -> dict[str, Run]:
        """Section 4.2.4: which losses; and attention transfer and reconstruction at once for the time of both stages."""
        attention = self.pretrained()
        both = self.schedule.stretched(2)
        return self.alone() | {
            "L_rec + L_imit": self.distilled(None),
            "L_rec + L_AT": self.finetuned(attention),
            "L_rec + L_AT + L_imit": self.distilled(attention),
            "L_rec and L_AT jointly": self.run(
                self.student_network,
                LossTerm(loss="reconstruction", options={"norm": self.distillation.norm}),
                self.feature_loss("attention_transfer").model_copy(update={"weight": 0.01}),
                teacher=self.teacher,
                schedule=both,
            ),
        }

    def positions(self) -> dict[str, Run]:
        """Appendix B: each teacher convolution with each student convolution, the same in all cascades (L_rec + L_AT)."""
        teacher, student = (len(feature_groups(n)[0]) for n in (self.teacher_network, self.student_network))
        return {
            position(t, s): self.finetuned(self.pretrained(pairs=self.pairs(t, s)))
            for t in range(1, teacher)
            for s in range(1, student)
        }

    @property
    def usual_position(self) -> str:
        """The middle of both, as `positions` calls it."""
        both = (feature_groups(n)[0] for n in (self.teacher_network, self.student_network))
        return position(*(names.index(middle(names)) + 1 for names in both))

    def cascades(self) -> dict[str, Run]:
        """Appendix B: attention transfer in one cascade alone, or in all."""
        count = len(feature_groups(self.student_network))
        chosen = {"first": [1], "middle": [(count + 1) // 2], "last": [count], "all": None}
        return {
            f"cascade: {name}": self.finetuned(self.pretrained(pairs=self.pairs(cascades=c)))
            for name, c in chosen.items()
        }

    def alphas(self) -> dict[str, Run]:
        """Eq. 4 at other weights of the truth, from the same attention transfer."""
        attention = self.pretrained()
        return {f"α = {a:g}": self.distilled(attention, alpha=a) for a in (0.0, 0.25, 0.5, 0.75, 1.0)}

    def variants(self) -> dict[str, Run]:
        """What the published code does otherwise, one choice a row."""
        attention = self.pretrained(variant="paper")
        teacher, student = (
            network.model_copy(update={"options": {**network.options, "residual": False}})
            for network in (self.teacher_network, self.student_network)
        )
        other = replace(self, teacher_network=teacher, student_network=student)
        return {
            "paper": self.distilled(attention, variant="paper"),
            "attention transfer as released": self.distilled(self.pretrained(variant="released"), variant="paper"),
            "imitation as released": self.distilled(attention, variant="released"),
            "squared error in place of absolute": self.distilled(attention, variant="paper", norm="l2"),
            "no cascade residual: teacher": other.teacher,
            "no cascade residual: student": other.student,
            "no cascade residual: distilled": other.distilled(other.pretrained()),
        }

    def sizes(self) -> dict[str, tuple[Run, Run]]:
        """Students of other sizes, each alone and distilled, for a picture of size against quality."""
        found = {}
        declared = self.student_network.options
        for change in ({}, {"features": 16}, {"features": 8}, {"cascades": 3}, {"convolutions": 2}):
            if not change.keys() <= declared.keys():
                continue
            options = {**declared, **change}
            other = replace(self, student_network=self.student_network.model_copy(update={"options": options}))
            label = ", ".join(f"{options[k]} {k}" for k in ("cascades", "convolutions", "features") if k in options)
            # Attention needs a student convolution in each of the teacher's cascades; without, imitation alone distils.
            paired = options.get("cascades") == self.teacher_network.options.get("cascades")
            found[label] = (other.student, other.distilled(other.pretrained() if paired else None))
        return found

    @property
    def in_cascades(self) -> bool:
        """Whether the networks are cascades, without which there is no choosing between them, no branch and no residual."""
        return len(feature_groups(self.student_network)) > 1
