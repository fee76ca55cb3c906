"""How small may a student be?"""

from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe, all_options

CHANGES = ({}, {"features": 16}, {"features": 8}, {"cascades": 3}, {"convolutions": 2})


def _name(options: dict, letters: bool) -> str:
    present = [key for key in ("cascades", "convolutions", "features") if key in options]
    return (
        "_".join(f"{k[:2]}{options[k]}" for k in present)
        if letters
        else ", ".join(f"{options[k]} {k}" for k in present)
    )


@part(
    "05_ablations",
    "How small",
    None,
    figures={"points": "how small a student may be"},
)
def sizes(recipe: Recipe) -> Rows:
    """Students of other sizes, each alone and distilled."""
    rows: Rows = {"teacher": Row("Teacher", recipe.teacher)}
    for change in (c for c in CHANGES if c.keys() <= all_options(recipe.student_network).keys()):
        other = recipe.with_options(["student"], **change)
        options = all_options(other.student_network)
        # Attention needs a student convolution in each of the teacher's cascades; without, imitation alone distils.
        paired = len(recipe.groups(other.student_network)) == len(recipe.groups(recipe.teacher_network))
        size = _name(options, False)
        for how, run in (
            ("alone", other.student),
            ("distilled", other.distilled(other.pretrained() if paired else None)),
        ):
            rows[f"{_name(options, True)}_{how}"] = Row(f"{size}, {how}", run, {"size": size, "how": how})
    return rows
