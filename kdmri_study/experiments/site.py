"""A site without fully sampled scans: can a teacher that was trained elsewhere stand in for the truth?"""

from kdmri_lib.declarations import LossTerm, Run
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_recipe

STAGES = 2
SIZES = (1, 2, 4, 8, 16)  # subjects at the site


@part(
    "08_when_distillation_pays",
    "A site without fully sampled scans",
    None,
    needs_cascades=True,
    figures={"subjects": "test PSNR against subjects at the site"},
    # Against the truth of as many subjects, for the same steps; of a quarter; and what needs no teacher either.
    also=(
        *((f"teacher_of_{n}", f"truth_{n}") for n in SIZES),
        *((f"teacher_of_{n}", f"truth_{n // 4}") for n in SIZES[2:]),
        *((f"both_{n}", f"truth_{n}") for n in SIZES),
        *((f"teacher_of_{n}", f"held_out_{n}") for n in SIZES),
    ),
)
def site(recipe: Recipe) -> Rows:
    """The first half of the training subjects is elsewhere, where the teacher was trained; of the others, at the site, some
    have true images, some only undersampled scans. All students train as long; none is from the teacher's weights."""
    well = best_recipe(recipe)
    train = well.dataset.train
    elsewhere, half = (0, train // 2), train // 2
    teacher = well.teacher.model_copy(update={"subjects": elsewhere})

    def of(run: Run, subjects: int) -> Run:
        return run.model_copy(update={"subjects": (half, half + subjects)})

    alone = well.taught(STAGES)
    without = well.run(
        well.student_network, well.imitation(alpha=0.0), teacher=teacher, schedule=well.schedule.stretched(STAGES)
    )
    held_out = alone.model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})
    sizes = [n for n in SIZES if n <= train - half]
    most = sizes[-1]
    rows = {"teacher": Row("Teacher, of other subjects", teacher, {"how": "teacher"})}
    for n in sizes:
        rows[f"truth_{n}"] = Row(f"Truth of {n}", of(alone, n), {"how": "truth", "subjects": n})
        rows[f"teacher_of_{n}"] = Row(
            f"Teacher's images of {n}", of(without, n), {"how": "teacher's images", "subjects": n}
        )
        rows[f"held_out_{n}"] = Row(
            f"Held-out lines of {n} (SSDU)", of(held_out, n), {"how": "held-out lines", "subjects": n}
        )
    for n in sizes[:-1]:
        both = of(without, most).model_copy(update={"truths": n})
        label = f"Truth of {n}, teacher's images of {most - n} more"
        rows[f"both_{n}"] = Row(label, both, {"how": "truth, and teacher's images of the others", "subjects": n})
    return rows
