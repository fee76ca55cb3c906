"""The paper's other kind of mask: points of k-space, Gaussian in two dimensions, in place of whole lines."""

from kdmri_study.experiments.part import Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import QUESTIONS, table1


@part("05_ablations", "A Gaussian mask in two dimensions", None, also=QUESTIONS)
def gaussian_mask(recipe: Recipe) -> Rows:
    """Table 1's rows on such a mask of the same acceleration; whole slices train, since strips need lines."""
    degradation = recipe.degradation.model_copy(update={"kind": "gaussian_2d", "mask": None})
    whole = recipe.schedule.model_copy(update={"strip": None})
    return table1(recipe.changed(degradation=degradation, schedule=whole))
