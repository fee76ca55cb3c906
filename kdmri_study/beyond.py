"""Experiments beyond the paper: when distillation pays. Each is a function from a recipe to rows; one of your own may stand
here as well."""

from typing import get_args

from kdmri_lib.datasets.preparing import source
from kdmri_lib.declarations import LossTerm, Run
from kdmri_study.recipes import Recipe, Row, Rows, all_options, best_recipe, best_taught, part, well_initialised

STUDENTS = (1, 2, 4, 8, 16)  # stages of the students of `lengths`
TEACHERS = (1, 4, 16)  # and of their teachers
LENGTHS = (1, 2, 4, 8, 16)  # stages of `long`
LONG_TEACHER = 4  # stages of the teacher of `long_teacher` and of `rates`
FACTORS = (1, 2, 4)  # of `rates`, times the profile's learning rate
SIZES = (1, 2, 4, 8, 16)  # subjects at the site
SUBJECTS = (16, 64, 256)  # of `subjects`, beside all that there are
# Teachers of `screen`: how often branches are left out, and how large they begin.
THINNABLE = {
    "ready": ("leaves out 0.3 of its branches", {"dropped": 0.3, "branches": 0.3}),
    "full": ("leaves out 0.3, which begin at full size", {"dropped": 0.3, "branches": 1.0}),
    "seldom": ("leaves out 0.1, which begin at full size", {"dropped": 0.1, "branches": 1.0}),
}
SETS = 3  # other data sets, at most, that a teacher of `site` comes from
PAYS = "08_when_distillation_pays"


def _stages(count: int) -> str:
    return f"{count} stage{'s' * (count > 1)}"


# What isn't distillation is set against the student alone for as many steps.
PLAIN = ("default", "rate_0_5", "rate_2", "expanded", "averaged")


@part(PAYS, "Recipes", "alone", needs_cascades=True, also=tuple((name, "alone") for name in PLAIN))
def recipes(recipe: Recipe) -> Rows:
    """What isn't distillation, of the student alone: initialisation, rate, over-parameterisation, averaging. Then, well
    initialised and by a teacher of two stages, each way to distil; the paper's and the best recipe at other rates too,
    their controls at the same."""
    well, weights = best_recipe(recipe), "From the teacher's weights"
    expanded = well.changed(schedule=well.schedule.model_copy(update={"expansion": 128}))
    averaged = well.changed(schedule=well.schedule.model_copy(update={"averaging": 0.99}))
    rates = {"0_5": well.at_rate(0.5), "2": well.at_rate(2)}
    slower, faster = (other.changed(teacher_schedule=None).teacher for other in rates.values())

    def at_rates(name: str, label: str, **how) -> Rows:
        labels = {"0_5": f"{label}, rate × 0.5", "2": f"{label}, rate × 2"}
        return {f"{name}_{key}": Row(labels[key], other.taught(**how)) for key, other in rates.items()}

    inherited = {"inherits": True, "attention": 0.4}
    return {
        "teacher": Row("Teacher, two stages, He initialisation", well.teacher),
        "teacher_rate_0_5": Row("Teacher, rate × 0.5", slower),
        "teacher_rate_2": Row("Teacher, rate × 2", faster),
        "default": Row("No teacher, PyTorch's initialisation", recipe.taught()),
        "alone": Row("No teacher, He initialisation", well.taught()),
        **at_rates("rate", "No teacher, He"),
        "expanded": Row("No teacher, He, over-parameterised", expanded.taught()),
        "averaged": Row("No teacher, He, weights averaged", averaged.taught()),
        "paper": Row("Attention transfer 1, imitation 1 (the paper's)", well.taught(attention=1, alpha=0.5)),
        **at_rates("paper_rate", "The paper's", attention=1, alpha=0.5),
        "attention": Row("Attention transfer 0.4, reconstruction 1.6", well.taught(attention=0.4)),
        "imitation": Row("Imitation 2", well.taught(alpha=0.5)),
        "inherited": Row(f"{weights}, reconstruction 2", well.taught(inherits=True)),
        "inherited_imitation": Row(f"{weights}, imitation 2", best_taught(well)),
        **at_rates("inherited_imitation_rate", f"{weights}, imitation 2", inherits=True, alpha=0.5),
        "inherited_attention": Row(f"{weights}, attention transfer 0.4, reconstruction 1.6", well.taught(**inherited)),
        "all": Row(f"{weights}, attention transfer 0.4, imitation 1.6", well.taught(**inherited, alpha=0.5)),
        "all_expanded": Row("The same, over-parameterised, as is its teacher", expanded.taught(**inherited, alpha=0.5)),
    }


@part(
    PAYS,
    "Against longer training",
    needs_cascades=True,
    curve="alone",
    figures={
        "cost": "test PSNR against the cost of training, the teacher's excluded",
        "whole": "test PSNR against the cost of training, the teacher's included",
    },
)
def lengths(recipe: Recipe) -> Rows:
    """The student alone at 1 to 32 stages, since a teacher's training, counted in, costs more than the longest student's;
    the paper's recipe and the best one at 2 to 16, by teachers of 1, 4 and 16; all well initialised."""
    well = well_initialised(recipe)
    rows = {f"alone_{n}": Row(f"No teacher, {_stages(n)}", well.taught(n), {"how": "alone"}) for n in (*STUDENTS, 32)}
    for t in TEACHERS:
        by = well.changed(teacher_stages=t)
        rows[f"teacher_{t}"] = Row(f"Teacher, {_stages(t)}", by.teacher, {"how": "teacher"})
        for n in STUDENTS[1:]:
            label, paper = f"{n} stages, teacher of {t}", by.taught(n, attention=n / 2, alpha=0.5)
            rows[f"paper_{n}_{t}"] = Row(f"The paper's method, {label}", paper, {"how": "paper", "teacher": t})
            rows[f"best_{n}_{t}"] = Row(
                f"From the teacher's weights, imitation, {label}", best_taught(by, n), {"how": "best", "teacher": t}
            )
    return rows


@part(PAYS, "Trained long", needs_cascades=True, figures={"steps": "test PSNR against the length of training"})
def long(recipe: Recipe) -> Rows:
    """The student alone, the teacher, and the best recipe's student by a teacher that trained as long as it does.

    16 stages of 2,000 steps of two strips see 0.23e9 pixels; the paper's 150 epochs of 1,841 whole slices of the heart
    6.2e9.
    """
    well, rows = well_initialised(recipe), {}
    how = {"how": "from the teacher's weights, imitation; teacher as long"}
    for n in LENGTHS:
        by = well.changed(teacher_stages=n)
        rows[f"alone_{n}"] = Row(f"No teacher, {_stages(n)}", well.taught(n), {"how": "student without a teacher"})
        rows[f"best_{n}"] = Row(f"From the teacher's weights, imitation, {_stages(n)}", best_taught(by, n), how)
        rows[f"teacher_{n}"] = Row(f"Teacher, {_stages(n)}", by.teacher, {"how": "teacher"})
    return rows


@part(PAYS, "By a teacher that trained long", "usual", needs_cascades=True, also=(("all", "best"),))
def long_teacher(recipe: Recipe) -> Rows:
    """The best recipe by its teacher, as in Table 1; by a teacher of four stages; and by that the recipe that the longer
    trial of `recipes` would have chosen on its validation subjects: attention transfer for a fifth of the student's two
    stages, between the teacher's weights and the imitation."""
    usual = best_recipe(recipe)
    by = usual.changed(teacher_stages=LONG_TEACHER)
    fifth = by.taught(inherits=True, attention=0.4, alpha=0.5)
    return {
        "teacher": Row("Teacher, four stages", by.teacher),
        "usual": Row("From the weights of a teacher of two stages, imitation, as in Table 1", best_taught(usual)),
        "best": Row("From the weights of a teacher of four stages, imitation", best_taught(by)),
        "all": Row("The same, attention transfer for a fifth of the time", fifth),
    }


@part(PAYS, "Each at its own rate", "best_1", needs_cascades=True)
def rates(recipe: Recipe) -> Rows:
    """The best recipe's student by a teacher of four stages at once, twice and four times the profile's learning rate, each
    with its control at the same. The teacher is one, at the profile's rate. Half the rate is among `recipes`; the student
    alone was worse by it."""
    by = best_recipe(recipe).changed(teacher_stages=LONG_TEACHER)
    students = {f: best_taught(by.at_rate(f)) for f in FACTORS}
    rows = {f"best_{f}": Row(f"From the teacher's weights, imitation, rate × {f}", run) for f, run in students.items()}
    return {"teacher": Row("Teacher, four stages", by.teacher), **rows}


@part(
    PAYS,
    "A site without fully sampled scans",
    needs_cascades=True,
    figures={"subjects": "test PSNR against subjects at the site"},
    # A teacher's images against the truth of as many subjects, for the same steps; against that of a quarter.
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
    have true images, some only undersampled scans: which ones, the seed says. All students train for two stages; none is
    from the teacher's weights.

    Further teachers learnt from the same subjects under another mask of the same acceleration, and from the first half of
    other data sets (`Recipe.elsewhere`): another contrast, another organ.
    """
    well = best_recipe(recipe)
    train = well.dataset.train
    half, schedule = train // 2, well.schedule.stretched(2)
    sizes = [n for n in SIZES if n <= train - half]

    def learnt(**setting) -> Run:
        there = well.changed(**setting)
        return there.teacher.model_copy(update={"subjects": (0, there.dataset.train // 2)})

    def of(run: Run, subjects: int, **changes) -> Run:
        first = half + well.seed % (train - half - subjects + 1)
        return run.model_copy(update={"subjects": (first, first + subjects), **changes})

    drawn = well.undersampling.model_copy(update={"mask": None, "seed": 2 if well.undersampling.seed == 1 else 1})
    others = {"mask": ("that learnt under another mask", learnt(undersampling=drawn))}
    for number, dataset in enumerate(well.elsewhere[:SETS], 1):
        others[f"set_{number}"] = (f"that learnt from {dataset.name.replace('_', ' ')}", learnt(dataset=dataset))
    teacher, alone = learnt(), well.taught(2)
    sent = alone.model_copy(update={"subjects": (0, half)})
    held_out = alone.model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})
    taught = {"teacher": teacher, "schedule": schedule, "teacher_asked": "once"}  # or `truths` would have no meaning
    without = well.run(well.student_network, well.imitation(alpha=0.0), **taught)
    rows = {
        "teacher": Row("Teacher, of other subjects", teacher, {"how": "teacher"}),
        "sent": Row("Truth of the teacher's subjects, none of the site's", sent, {"how": "truth elsewhere"}),
    }

    def add(name: str, label: str, run: Run, how: str, n: int) -> None:
        rows[f"{name}_{n}"] = Row(label, run, {"how": how, "subjects": n})

    for n in sizes:
        add("truth", f"Truth of {n}", of(alone, n), "truth", n)
        add("teacher_of", f"Teacher's images of {n}", of(without, n), "teacher's images", n)
        add("held_out", f"Held-out lines of {n} (after SSDU)", of(held_out, n), "held-out lines", n)
    most = sizes[-1]
    for n in sizes[:-1]:
        label, both = f"Truth of {n}, teacher's images of {most - n} more", of(without, most, truths=n)
        add("both", label, both, "truth, and teacher's images of the others", n)
    for name, (words, other) in others.items():
        label, taught = f"Images of {most}, by a teacher {words}", of(without, most, teacher=other)
        add(f"by_{name}", label, taught, f"images of a teacher {words}", most)
    return rows


@part("05_ablations", "How small", figures={"points": "how small a student may be"})
def sizes(recipe: Recipe) -> Rows:
    """Students of other sizes, each alone and distilled."""
    rows, usual = {"teacher": Row("Teacher", recipe.teacher)}, all_options(recipe.student_network)
    for change in ({}, {"features": 16}, {"features": 8}, {"cascades": 3}, {"convolutions": 2}):
        if not change.keys() <= usual.keys():
            continue
        other, own = recipe.with_options(["student"], **change), usual | change
        told = {key: own[key] for key in ("cascades", "convolutions", "features") if key in own}
        name, size = "_".join(f"{k[:2]}{v}" for k, v in told.items()), ", ".join(f"{v} {k}" for k, v in told.items())
        # Attention needs a student convolution in each of the teacher's cascades; without, imitation alone distils.
        paired = len(recipe.groups(other.student_network)) == len(recipe.groups(recipe.teacher_network))
        distilled = other.distilled(other.pretrained() if paired else None)
        for how, words, run in (("alone", "no teacher", other.student), ("distilled", "distilled", distilled)):
            rows[f"{name}_{how}"] = Row(f"{size}, {words}", run, {"size": size, "how": how})
    return rows


@part("05_ablations", "The teacher asked once, or at each step", "once")
def asking(recipe: Recipe) -> Rows:
    """The distilled student by the teacher's answers to whole slices, and by its answers to each batch."""
    each_step = {"teacher_asked": "each step"}
    recipe = recipe.changed(distillation=recipe.distillation.model_copy(update={"teacher_asked": "once"}))
    attention = recipe.pretrained()
    each = recipe.distilled(attention.model_copy(update=each_step)).model_copy(update=each_step)
    return {
        "once": Row("teacher asked once", recipe.distilled(attention)),
        "each_step": Row("teacher asked at each step", each),
    }


def _various(recipe: Recipe, subjects: tuple[int, int] | None = None, **options) -> Run:
    """The student alone, well initialised, on various images; of these subjects, with further options of the images."""
    well = well_initialised(recipe)
    options = {**well.dataset.options, "various": True, **options}
    on = well.changed(dataset=well.dataset.model_copy(update={"options": options}))
    return on.student.model_copy(update={"subjects": subjects})


@part(PAYS, "Which variety of the images matters", "all", needs_cascades=True)
def variety(recipe: Recipe) -> Rows:
    """The student alone, trained on various images, on such as lack a kind of variety, on plain ones; all judged on the
    same various subjects."""
    rows = {"all": Row("every kind", _various(recipe))}
    for kind in get_args(source(recipe.dataset.source).OPTIONS["without"]):
        words = "plain images" if kind == "all" else f"without {kind}"
        rows[f"without_{kind}"] = Row(words, _various(recipe, without=kind))
    return rows


@part(
    PAYS, "How many subjects", lambda recipe: f"subjects_{min(SUBJECTS[0], recipe.dataset.train)}", needs_cascades=True
)
def subjects(recipe: Recipe) -> Rows:
    """The student alone, trained as long on the various images of more and more subjects."""
    every = recipe.dataset.train
    rows = {f"subjects_{n}": Row(f"{n} subjects", _various(recipe, (0, n))) for n in SUBJECTS if n < every}
    return rows | {f"subjects_{every}": Row(f"{every} subjects", _various(recipe))}


@part(PAYS, "Images of all three organs", "own", needs_cascades=True)
def organs(recipe: Recipe) -> Rows:
    """The student alone, trained on as many various subjects of its own organ, or of all three in turn; both judged on the
    same subjects of its own, and on strangers."""
    own = _various(recipe)
    options = {**own.dataset.options, "organ": own.dataset.source}
    every = own.dataset.model_copy(update={"source": "every_organ", "options": options})
    rows = {"own": Row("own organ", own)}
    return rows | {"every": Row("all three organs in turn", own.model_copy(update={"dataset": every}))}


@part(PAYS, "Which recipe wins back most of its teacher's lead", "alone", needs_cascades=True)
def screen(recipe: Recipe) -> Rows:
    """By well initialised teachers of two stages, students of one: what imitation and inherited weights bring, each alone
    and both; and teachers that hold their student ready, with the student as it is taken out and after imitation."""
    by, label = best_recipe(recipe), "Taken out of a teacher"
    rows = {
        "teacher": Row("Teacher", by.teacher),
        "alone": Row("No teacher", by.taught(1)),
        "imitation": Row("Imitation", by.taught(1, alpha=0.5)),
        "weights": Row("From the teacher's weights, no imitation", by.taught(1, inherits=True)),
        "best": Row("From the teacher's weights, imitation", best_taught(by, 1)),
    }
    for name, (words, options) in THINNABLE.items():
        ready = by.changed(thinnable=options)
        untrained = ready.taught(0, inherits=True)
        rows[f"teacher_{name}"] = Row(f"Teacher that {words}", ready.teacher)
        rows[f"ready_{name}"] = Row(f"{label} that {words}, not trained", untrained, control="alone")
        rows[f"best_{name}"] = Row(f"{label} that {words}, imitation", best_taught(ready, 1))
    return rows
