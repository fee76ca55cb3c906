"""A site without fully sampled scans: can a teacher that was trained elsewhere stand in for the truth?"""

from kdmri_lib.declarations import LossTerm, Run
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import best_recipe

STAGES = 2
SIZES = (1, 2, 4, 8, 16)  # subjects at the site
SETS = 3  # other data sets, at most, that a teacher comes from


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
        # Against the student that was trained where the teacher was and is sent as it is; against no truth at all.
        *((f"teacher_of_{n}", "sent") for n in SIZES),
        *((f"both_{n}", f"teacher_of_{most}") for n in SIZES for most in SIZES if n < most),
        *((f"teacher_of_{n}", f"held_out_{n}") for n in SIZES),
        # What a teacher is worth that learnt under another mask, or from other images.
        *(
            (f"by_{other}_{n}", against)
            for n in SIZES
            for other in ("mask", *(f"set_{k}" for k in range(1, SETS + 1)))
            for against in (f"teacher_of_{n}", f"truth_{n}", f"truth_{n // 4}")
        ),
    ),
)
def site(recipe: Recipe) -> Rows:
    """The first half of the training subjects is elsewhere, where the teacher was trained; of the others, at the site, some
    have true images, some only undersampled scans: which ones, the seed says. All students train as long; none is from the
    teacher's weights.

    Further teachers learnt from the same subjects under another mask of the same acceleration, and from the first half of
    other data sets (`Recipe.elsewhere`): another contrast, another organ.
    """
    well = best_recipe(recipe)
    train = well.dataset.train
    elsewhere, half = (0, train // 2), train // 2
    teacher = well.teacher.model_copy(update={"subjects": elsewhere})
    drawn = well.degradation.model_copy(update={"mask": None, "seed": 2 if well.degradation.seed == 1 else 1})
    others = {"mask": ("that learnt under another mask", teacher.model_copy(update={"degradation": drawn}))}
    for number, dataset in enumerate(well.elsewhere[:SETS], 1):
        learnt = well.changed(dataset=dataset).teacher.model_copy(update={"subjects": (0, dataset.train // 2)})
        others[f"set_{number}"] = (f"that learnt from {dataset.name.replace('_', ' ')}", learnt)

    def of(run: Run, subjects: int) -> Run:
        first = half + well.seed % (train - half - subjects + 1)
        return run.model_copy(update={"subjects": (first, first + subjects)})

    alone = well.taught(STAGES)
    without = well.run(
        well.student_network, well.imitation(alpha=0.0), teacher=teacher, schedule=well.schedule.stretched(STAGES)
    )
    held_out = alone.model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})
    sizes = [n for n in SIZES if n <= train - half]
    most = sizes[-1]
    sent = alone.model_copy(update={"subjects": elsewhere})
    rows = {
        "teacher": Row("Teacher, of other subjects", teacher, {"how": "teacher"}),
        "sent": Row("Truth of the teacher's subjects, none of the site's", sent, {"how": "truth elsewhere"}),
    }
    for n in sizes:
        rows[f"truth_{n}"] = Row(f"Truth of {n}", of(alone, n), {"how": "truth", "subjects": n})
        rows[f"teacher_of_{n}"] = Row(
            f"Teacher's images of {n}", of(without, n), {"how": "teacher's images", "subjects": n}
        )
        rows[f"held_out_{n}"] = Row(
            f"Held-out lines of {n} (after SSDU)", of(held_out, n), {"how": "held-out lines", "subjects": n}
        )
    for n in sizes[:-1]:
        both = of(without, most).model_copy(update={"truths": n})
        label = f"Truth of {n}, teacher's images of {most - n} more"
        rows[f"both_{n}"] = Row(label, both, {"how": "truth, and teacher's images of the others", "subjects": n})
    for other, (words, run) in others.items():
        taught = of(without, most).model_copy(update={"teacher": run})
        facts = {"how": f"images of a teacher {words}", "subjects": most}
        rows[f"by_{other}_{most}"] = Row(f"Images of {most}, by a teacher {words}", taught, facts)
    return rows
