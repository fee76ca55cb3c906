"""How much truth, how much teacher? Eq. 4."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part("05_ablations", "How much truth, how much teacher (eq. 4)", "alpha_1")
def alphas(recipe: Recipe) -> Rows:
    """Eq. 4 at several weights of the truth, from the same attention transfer."""
    attention = recipe.pretrained()
    return {
        f"alpha_{a:g}": Row(f"α = {a:g}", recipe.distilled(attention, alpha=a)) for a in (0.0, 0.25, 0.5, 0.75, 1.0)
    }
