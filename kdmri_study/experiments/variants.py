"""How much do the differences between the paper and its published code matter?"""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part("05_ablations", "The paper's choices and the published code's", "paper", needs_cascades=True)
def variants(recipe: Recipe) -> Rows:
    """What the published code does otherwise, one choice per row; without the residual, with a teacher of its own."""
    attention = recipe.pretrained(variant="paper")
    other = recipe.with_options(residual=False)
    return {
        "paper": Row("paper", recipe.distilled(attention, variant="paper")),
        "attention_released": Row(
            "attention transfer as released", recipe.distilled(recipe.pretrained(variant="released"), variant="paper")
        ),
        "imitation_released": Row("imitation as released", recipe.distilled(attention, variant="released")),
        "squared_error": Row(
            "squared error in place of absolute", recipe.distilled(attention, variant="paper", norm="l2")
        ),
        "no_residual_teacher": Row("no cascade residual: teacher", other.teacher),
        "no_residual_student": Row("no cascade residual: student", other.student),
        "no_residual_distilled": Row("no cascade residual: distilled", other.distilled(other.pretrained())),
    }
