"""What is a teacher worth that trained twice as long as the best recipe's? Table 1's cells, one by one."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_recipe, best_taught

STAGES = 4


@part(
    "08_when_distillation_pays",
    "By a teacher that trained long",
    "usual",
    needs_cascades=True,
    also=(("all", "best"),),
)
def long_teacher(recipe: Recipe) -> Rows:
    """The best recipe by its teacher, as in Table 1; by a teacher of four stages; and by that the recipe that the longer
    trial of `recipes` would have chosen on its validation subjects: attention transfer for a fifth of the student's two
    stages, between the teacher's weights and the imitation."""
    usual = best_recipe(recipe)
    taught = usual.changed(teacher_stages=STAGES)
    return {
        "teacher": Row("Teacher, four stages", taught.teacher),
        "usual": Row("The best recipe, as in Table 1, teacher of two stages", best_taught(usual)),
        "best": Row("The best recipe, teacher of four stages", best_taught(taught)),
        "all": Row(
            "With attention transfer for a fifth of the time, teacher of four stages",
            taught.taught(inherits=True, attention=0.4, alpha=0.5),
        ),
    }
