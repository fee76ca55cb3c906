"""Is a lead left where each network trains at the rate that suits it? Table 1's cells, by a teacher that trained long."""

from kdmri_study.experiments.long_teacher import STAGES
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_recipe, best_taught

FACTORS = (1, 2, 4)


@part("08_when_distillation_pays", "Each at its own rate", "best_1", needs_cascades=True)
def rates(recipe: Recipe) -> Rows:
    """The best recipe's student by a teacher of four stages at once, twice and four times the profile's learning rate, each
    with its control at the same. The teacher is one, at the profile's rate. Half the rate is among `recipes`; the student
    alone was worse by it."""
    taught = best_recipe(recipe).changed(teacher_stages=STAGES)
    students = {f: best_taught(taught.at_rate(f)) for f in FACTORS}
    return {
        "teacher": Row("Teacher, four stages", taught.teacher),
        **{f"best_{f}": Row(f"The best recipe, rate × {f}", run) for f, run in students.items()},
    }
