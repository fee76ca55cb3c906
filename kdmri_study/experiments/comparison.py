"""Which feature loss? Section 4.2.3, Figure 3a, appendix E."""

from collections.abc import Iterable

from kdmri_lib.losses.base import LOSSES
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import alone

FEATURE_LOSSES = (
    *("fitnets", "fsp", "similarity_preserving", "attentive_hint", "correlation_congruence"),
    "attention_transfer",
)


def label(loss: str) -> str:
    """What people call a loss."""
    return LOSSES.find(loss).label or loss


@part(
    "04_feature_distillation",
    "The feature losses",
    "attention_transfer",
    figures={"curves": "validation PSNR after each feature loss (Figure 3a)"},
    takes_losses=True,
)
def comparison(recipe: Recipe, losses: Iterable[str] = FEATURE_LOSSES) -> Rows:
    """Each feature loss alone, then reconstruction alone."""
    return alone(recipe) | {n: Row(label(n), recipe.finetuned(recipe.pretrained(n))) for n in losses}
