"""Does distillation beat longer training? Test PSNR against what a training cost, for teachers of several lengths."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_taught, well_initialised

STUDENTS = (1, 2, 4, 8, 16)  # stages
ALONE = (*STUDENTS, 32)  # since a teacher's training, counted in, costs more than the student's longest
TEACHERS = (1, 4, 16)


@part(
    "08_when_distillation_pays",
    "Against longer training",
    None,
    needs_cascades=True,
    curve="alone",
    figures={
        "cost": "test PSNR against the cost of training, teacher given",
        "whole": "test PSNR against the cost of training, the teacher's included",
    },
)
def lengths(recipe: Recipe) -> Rows:
    """The student alone at 1 to 32 stages, the paper's recipe and the best one at 2 to 16, by teachers of 1, 4 and 16; all
    well initialised."""
    well = well_initialised(recipe)
    rows = {f"alone_{n}": Row(f"Alone, {n} stage{'s' * (n > 1)}", well.taught(n), {"how": "alone"}) for n in ALONE}
    for t in TEACHERS:
        taught = well.changed(teacher_stages=t)
        rows[f"teacher_{t}"] = Row(f"Teacher, {t} stage{'s' * (t > 1)}", taught.teacher, {"how": "teacher"})
        for n in (n for n in STUDENTS if n > 1):
            for how, label, run in (
                ("paper", "The paper's recipe", taught.taught(n, attention=n / 2, alpha=0.5)),
                ("best", "The best recipe", best_taught(taught, n)),
            ):
                name = f"{label}, {n} stages, teacher of {t}"
                rows[f"{how}_{n}_{t}"] = Row(name, run, {"how": how, "teacher": t})
    return rows
