"""Which losses? Section 4.2.4, Figure 3b."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import alone

# In trials attention transfer ended a stage of its own 20 times (cardiac, 300 steps) to 44 times (brain, 6,000 steps) as
# large as reconstruction ends one; so weighted it is a fifth to two fifths of it. Not tuned.
JOINT_WEIGHT = 0.01


@part(
    "05_ablations",
    "Which losses",
    None,
    figures={"curves": "validation PSNR, by what trains the student (Figure 3b)"},
)
def ablation(recipe: Recipe) -> Rows:
    """Imitation, attention transfer, both; attention transfer and reconstruction at once for the time of both stages."""
    attention = recipe.pretrained()
    weighted = recipe.feature_loss("attention_transfer").model_copy(update={"weight": JOINT_WEIGHT})
    jointly = recipe.run(
        recipe.student_network,
        recipe.reconstruction,
        weighted,
        teacher=recipe.teacher,
        schedule=recipe.schedule.stretched(2),
    )
    return alone(recipe) | {
        "imitation": Row("L_rec + L_imit", recipe.distilled(None)),
        "attention": Row("L_rec + L_AT", recipe.finetuned(attention)),
        "both": Row("L_rec + L_AT + L_imit", recipe.distilled(attention)),
        "jointly": Row(f"L_rec and {JOINT_WEIGHT} L_AT jointly", jointly),
    }
