"""Is the student's attention closer to the teacher's? Appendix D."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part("05_ablations", "Distance to the teacher's attention (appendix D)", None, tabled=False)
def attention(recipe: Recipe) -> Rows:
    """The networks whose attention is compared: the teacher's, and the student's after each stage."""
    return {
        "teacher": Row("Teacher", recipe.teacher),
        "student": Row("Student alone", recipe.student),
        "transferred": Row("Student after attention transfer", recipe.pretrained()),
        "distilled": Row("Distilled student", recipe.distilled(recipe.pretrained())),
    }
