"""Where does attention transfer help? Appendix B: in which cascades."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


@part("05_ablations", "Attention transfer in which cascades", "all", needs_cascades=True)
def cascades(recipe: Recipe) -> Rows:
    """Attention transfer in one cascade alone, or in all."""
    pairs = recipe.feature_loss("attention_transfer").options["pairs"]
    middle = (len(pairs) - 1) // 2
    chosen = {"first": pairs[:1], "middle": pairs[middle : middle + 1], "last": pairs[-1:], "all": pairs}
    return {
        name: Row(f"cascade: {name}", recipe.finetuned(recipe.pretrained(pairs=kept))) for name, kept in chosen.items()
    }
