"""The feature losses after a student-friendly teacher (Gayathri et al. 2023)."""

from collections.abc import Iterable

from kdmri_study.experiments.comparison import FEATURE_LOSSES, comparison, label
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part(
    "04_feature_distillation",
    "The feature losses after a student-friendly teacher",
    None,
    needs_cascades=True,
    takes_losses=True,
    also=tuple((f"{name}_friendly", pair) for name in FEATURE_LOSSES for pair in (name, "branches")),
)
def friendly(recipe: Recipe, losses: Iterable[str] = FEATURE_LOSSES) -> Rows:
    """The comparison, each method also from a student-friendly teacher; the student from its branches alone."""
    losses, usual, other = list(losses), comparison(recipe, losses), recipe.changed(student_friendly=True)
    rows = {
        "teacher": usual.pop("teacher"),
        "teacher_friendly": Row("Teacher, student-friendly", other.teacher, {"pair": "teacher"}),
        **{name: usual[name] for name in usual if name not in losses},
        "branches": Row("Student from the branches", other.finetuned(other.teacher)),
    }
    for name in losses:
        run = other.finetuned(other.pretrained(name))
        rows |= {name: usual[name], f"{name}_friendly": Row(f"{label(name)}, student-friendly", run, {"pair": name})}
    return rows
