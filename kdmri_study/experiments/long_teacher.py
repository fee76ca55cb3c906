"""What is a teacher worth that trained twice as long as the best recipe's? Table 1's cells, one by one."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_taught, well_initialised

STAGES = 4


@part("08_when_distillation_pays", "By a teacher that trained long", "best", needs_cascades=True)
def long_teacher(recipe: Recipe) -> Rows:
    """The best recipe of Table 1 by a teacher of four stages, and the one that the longer trial of `recipes` would have
    chosen on its validation subjects: attention transfer for a fifth of the student's two stages, between the teacher's
    weights and the imitation."""
    taught = well_initialised(recipe).changed(teacher_stages=STAGES)
    return {
        "teacher": Row("Teacher, four stages", taught.teacher),
        "best": Row("From the teacher's weights, imitation 2 (the best recipe of Table 1)", best_taught(taught)),
        "all": Row(
            "From the teacher's weights, attention transfer 0.4, imitation 1.6",
            taught.taught(inherits=True, attention=0.4, alpha=0.5),
        ),
    }
