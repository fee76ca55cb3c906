"""Is a training of the study long enough? One cell taken on until nobody gains any more."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_taught, well_initialised

# In stages. 16 of 2,000 steps of two strips see 0.23e9 pixels; the paper's 150 epochs of 1,841 whole slices of the heart
# 6.2e9.
LENGTHS = (1, 2, 4, 8, 16)


@part(
    "08_when_distillation_pays",
    "Trained long",
    None,
    needs_cascades=True,
    figures={"steps": "test PSNR against the length of training"},
)
def long(recipe: Recipe) -> Rows:
    """The student alone, the teacher, and the best recipe's student by a teacher that trained as long as it does."""
    well, rows = well_initialised(recipe), {}
    for n in LENGTHS:
        taught = well.changed(teacher_stages=n)
        stages = f"{n} stage{'s' * (n > 1)}"
        rows[f"alone_{n}"] = Row(f"Alone, {stages}", well.taught(n), {"how": "student alone"})
        rows[f"best_{n}"] = Row(
            f"The best recipe, {stages}",
            best_taught(taught, n),
            {"how": "the best recipe, its teacher as long"},
        )
        rows[f"teacher_{n}"] = Row(f"Teacher, {stages}", taught.teacher, {"how": "teacher"})
    return rows
