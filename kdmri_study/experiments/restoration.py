"""Super-resolution: appendix A."""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import QUESTIONS, table1


@part(
    "06_super_resolution",
    "Super-resolution (appendix A)",
    None,
    figures={"curves": "validation PSNR in super-resolution (appendix A)"},
    also=(*QUESTIONS, ("distilled", "bicubic"), ("data_consistency", "distilled")),
    untrained=("zero_filled", "bicubic"),
)
def restoration(recipe: Recipe) -> Rows:
    """Appendix A's rows, the controls, and the distilled student with data consistency, which the paper leaves out."""
    consistent = recipe.with_options(data_consistency=True)
    run = consistent.distilled(consistent.pretrained())
    return table1(recipe) | {"data_consistency": Row("Distilled student, data consistency", run)}
