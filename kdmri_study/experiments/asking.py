"""Does it matter whether the teacher is asked once, on whole slices, or at each step, on the strips that train?"""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part("05_ablations", "The teacher asked once, or at each step", "once")
def asking(recipe: Recipe) -> Rows:
    """The distilled student by the teacher's answers to whole slices, and by its answers to each batch."""
    each_step = {"teacher_asked": "each step"}
    attention = recipe.pretrained()
    return {
        "once": Row("teacher asked once", recipe.distilled(attention)),
        "each_step": Row(
            "teacher asked at each step",
            recipe.distilled(attention.model_copy(update=each_step)).model_copy(update=each_step),
        ),
    }
