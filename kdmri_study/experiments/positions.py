"""Where does attention transfer help? Appendix B: which convolutions."""

from kdmri_lib.models.base import middle
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe


def usual(recipe: Recipe) -> str:
    """The paper's position, the middle of both networks."""
    groups = (recipe.groups(n)[0] for n in (recipe.teacher_network, recipe.student_network))
    return "T{}_S{}".format(*(names.index(middle(names)) + 1 for names in groups))


@part(
    "05_ablations",
    "Attention transfer at which convolutions (appendix B)",
    usual,
    figures={"map": "test PSNR by where attention is transferred (appendix B)"},
)
def positions(recipe: Recipe) -> Rows:
    """Each teacher convolution with each student convolution, the same in all cascades (L_rec + L_AT)."""
    teacher, student = (len(recipe.groups(n)[0]) for n in (recipe.teacher_network, recipe.student_network))
    return {
        f"T{t}_S{s}": Row(
            f"teacher's {t}, student's {s}",
            recipe.finetuned(recipe.pretrained(pairs=recipe.pairs(t, s))),
            {"teacher": t, "student": s},
        )
        for t in range(1, teacher)
        for s in range(1, student)
    }
