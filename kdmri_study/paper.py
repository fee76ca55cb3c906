"""The paper's experiments: Table 1 and what its figures and appendices compare, each a function from a recipe to rows."""

import inspect
from collections.abc import Collection
from typing import Literal

from kdmri_lib.losses.base import LOSSES, Loss
from kdmri_lib.models.base import middle
from kdmri_study.recipes import Recipe, Row, Rows, alone_at, best_recipe, best_taught, part, well_initialised

# The rows of Table 1, in its order; zero-filling is no run.
METHODS = {
    "zero_filled": "Zero-filled",
    "teacher": "Teacher",
    "student": "Student",
    "student_steps": "Student alone, the distilled one's steps",
    "student_compute": "Student alone, the distilled one's compute",
    "student_whole": "Student alone, the compute of the distilled one and its teacher",
    "distilled": "Distilled student",
    "he_teacher": "Teacher, He initialisation",
    "he_student": "Student, He initialisation",
    "he_compute": "Student alone, He initialisation, the distilled one's compute",
    "he_distilled": "Distilled student, He initialisation",
    "best_teacher": "Teacher, He initialisation, trained twice as long",
    "best_compute": "Student alone, He initialisation, compute of the one from its weights",
    "best": "From weights of the teacher trained twice as long, imitation",
    "long_teacher": "Teacher, He initialisation, trained four times as long",
    "weights": "From weights of the teacher trained four times as long, no imitation",
    "weights_imitation": "From weights of the teacher trained four times as long, imitation",
    "weights_compute": "Student alone, He initialisation, compute of the one from these weights",
    "paper_by_long": "Distilled as in the paper, teacher trained four times as long",
    "paper_by_long_compute": "Student alone, He initialisation, that one's compute",
}
# Beside which row of the same network without a teacher, at its cost, each distilled one stands.
CONTROLS = {
    "distilled": "student_compute",
    "he_distilled": "he_compute",
    "best": "best_compute",
    "weights": "weights_compute",  # at the cost of the one with imitation, as
    "weights_imitation": "weights_compute",
    "paper_by_long": "paper_by_long_compute",
}
# What it asks, of those rows that are there.
QUESTIONS = (
    ("distilled", "student_compute"),
    ("distilled", "student"),
    ("distilled", "student_steps"),
    ("distilled", "student_whole"),
    ("teacher", "student"),
    ("teacher", "distilled"),
    ("he_distilled", "he_compute"),
    ("best", "best_compute"),
    ("best_teacher", "best_compute"),
    ("best", "teacher"),
    ("best", "he_teacher"),
    # What a good start is worth to each; and whether the student alone passes the paper's teacher too.
    ("he_teacher", "teacher"),
    ("he_student", "student"),
    ("he_compute", "student_compute"),
    ("student_compute", "teacher"),
    ("he_compute", "teacher"),
    ("best_compute", "teacher"),
    # Does the student owe its lead to the weights that it starts from, or to the images that it imitates?
    ("weights_imitation", "weights_compute"),
    ("weights", "weights_compute"),
    ("weights_imitation", "weights"),
    ("long_teacher", "weights_compute"),
    ("paper_by_long", "paper_by_long_compute"),
)
# The answer: which of these say whether a teacher is worth it, and what a student is called there, and what beside it.
LONGER = "starts from weights of a teacher trained {} times as long, then imitates it"
ALONE = "no teacher, He initialisation, equal compute"
ANSWER = {
    ("distilled", "student"): ("the paper's method", "no teacher, half the training"),
    ("distilled", "student_compute"): ("the paper's method", "no teacher, equal compute"),
    ("paper_by_long", "paper_by_long_compute"): ("the paper's method, teacher trained four times as long", ALONE),
    ("best", "best_compute"): (LONGER.format("two"), ALONE),
    ("weights_imitation", "weights_compute"): (LONGER.format("four"), ALONE),
    ("weights", "weights_compute"): ("starts from those weights, no imitation", ALONE),
    ("he_compute", "student_compute"): (
        "no teacher, He initialisation",
        "no teacher, PyTorch's initialisation, equal compute",
    ),
}


def answered(there: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """What of the answer is `there`; of the students from a teacher's weights, the one of the longer teacher."""
    shorter = ("best", "best_compute") if ("weights_imitation", "weights_compute") in there else None
    return {pair: words for pair, words in ANSWER.items() if pair in there and pair != shorter}


# Feature losses in the order of Figure 3a.
FIGURE_3A = ("fitnets", "fsp", "similarity_preserving", "attentive_hint")
# In trials attention transfer ended a stage of its own 20 times (cardiac, 300 steps) to 44 times (brain, 6,000 steps) as
# large as reconstruction ends one; so weighted it is a fifth to two fifths of it. Not tuned.
JOINT_WEIGHT = 0.01

Beside = Literal["steps", "whole", "initialisation", "best", "inherited", "long_teacher"]
"""What a profile may ask for beside the paper's rows and their control: those of as many steps, of as much compute with the
teacher's training; all again from He initialisation; the student from the weights of a teacher of two stages, with
imitation; that by a teacher of four stages; all that a teacher of four stages is worth."""


def table1(recipe: Recipe, beside: Collection[Beside] = ("steps", "whole")) -> Rows:
    """The rows of Table 1, but zero-filling."""
    runs = {"teacher": recipe.teacher, "student": recipe.student, "distilled": recipe.distilled(recipe.pretrained())}
    he, good = well_initialised(recipe), best_recipe(recipe)
    if "initialisation" in beside:
        runs |= {"he_teacher": he.teacher, "he_student": he.student, "he_distilled": he.distilled(he.pretrained())}
    if "best" in beside:
        runs |= {"best_teacher": good.teacher, "best": best_taught(good)}
    long = he.changed(teacher_stages=4)
    if "inherited" in beside or "long_teacher" in beside:
        runs |= {"long_teacher": long.teacher, "weights_imitation": best_taught(long)}
    if "long_teacher" in beside:
        runs |= {"weights": long.taught(inherits=True), "paper_by_long": long.distilled(long.pretrained())}
    alone = {control: (name, "given") for name, control in CONTROLS.items() if name in runs}
    alone |= {f"student_{of}": ("distilled", of) for of in ("steps", "whole") if of in beside}
    runs |= {name: alone_at(recipe, runs[beside_it], of)[0] for name, (beside_it, of) in alone.items()}
    found = {name: label for name, label in METHODS.items() if name in runs}
    return {n: Row(label, runs[n], {"longer": n in alone}, CONTROLS.get(n, "")) for n, label in found.items()}


def beside_table1(recipe: Recipe, precision_check: bool = False) -> Rows:
    """Runs that notebooks 02 and 03 show beside Table 1's: the distilled student's first stage; the student in float32."""
    rows = {"attention_transfer": Row("Student after attention transfer", recipe.pretrained())}
    if precision_check:
        single = recipe.run(recipe.student_network, precision="float32")
        rows["student_float32"] = Row("Student, trained in float32", single)
    return rows


def alone(recipe: Recipe) -> Rows:
    """Where every comparison of methods begins: the teacher, and the student alone for one stage."""
    return {name: row for name, row in table1(recipe, beside=()).items() if name in ("teacher", "student")}


def feature_losses() -> tuple[str, ...]:
    """Every loss on features that has a file; it takes `pairs` of them or says its own `places`. Those of Figure 3a in its
    order, then any others, and the method itself last."""
    own, usual = "attention_transfer", Loss.places.__func__
    others = [
        name
        for name, loss in sorted(LOSSES.all().items())
        if name not in (*FIGURE_3A, own) and loss.__module__ == f"{LOSSES.package}.{name}"
        if "pairs" in inspect.signature(loss).parameters or loss.places.__func__ is not usual
    ]
    return (*FIGURE_3A, *others, own)


def loss_label(loss: str) -> str:
    """What people call a loss."""
    return LOSSES.find(loss).label or loss


@part(
    "04_feature_distillation",
    "The feature losses",
    "attention_transfer",
    figures={"curves": "validation PSNR after each feature loss (Figure 3a)"},
)
def comparison(recipe: Recipe) -> Rows:
    """Each feature loss alone, then reconstruction alone (section 4.2.3, Figure 3a, appendix E)."""
    runs = {name: recipe.finetuned(recipe.pretrained(name)) for name in feature_losses()}
    return alone(recipe) | {name: Row(loss_label(name), run) for name, run in runs.items()}


@part(
    "04_feature_distillation",
    "The feature losses after a student-friendly teacher",
    needs_cascades=True,
    also=lambda: [(f"{name}_friendly", pair) for name in feature_losses() for pair in (name, "branches")],
)
def friendly(recipe: Recipe) -> Rows:
    """The comparison, each method also from a student-friendly teacher (Gayathri et al. 2023); the student from its
    branches alone."""
    usual, other = comparison(recipe), recipe.changed(student_friendly=True)
    rows = {
        "teacher": usual["teacher"],
        "teacher_friendly": Row("Teacher, student-friendly", other.teacher, {"pair": "teacher"}),
        "student": usual["student"],
        "branches": Row("Student from the branches", other.finetuned(other.teacher)),
    }
    for name in feature_losses():
        run = other.finetuned(other.pretrained(name))
        label = f"{loss_label(name)}, student-friendly"
        rows |= {name: usual[name], f"{name}_friendly": Row(label, run, {"pair": name})}
    return rows


@part("05_ablations", "Which losses", figures={"curves": "validation PSNR, by what trains the student (Figure 3b)"})
def ablation(recipe: Recipe) -> Rows:
    """Imitation, attention transfer, both; attention transfer and reconstruction at once for the time of both stages
    (section 4.2.4, Figure 3b)."""
    attention, twice = recipe.pretrained(), recipe.schedule.stretched(2)
    weighted = recipe.feature_loss("attention_transfer").model_copy(update={"weight": JOINT_WEIGHT})
    both = (recipe.reconstruction, weighted)
    jointly = recipe.run(recipe.student_network, *both, teacher=recipe.teacher, schedule=twice)
    return alone(recipe) | {
        "imitation": Row("L_rec + L_imit", recipe.distilled(None)),
        "attention": Row("L_rec + L_AT", recipe.finetuned(attention)),
        "both": Row("L_rec + L_AT + L_imit", recipe.distilled(attention)),
        "jointly": Row(f"L_rec and {JOINT_WEIGHT} L_AT jointly", jointly),
    }


def usual_position(recipe: Recipe) -> str:
    """The paper's position, the middle of both networks."""
    groups = (recipe.groups(n)[0] for n in (recipe.teacher_network, recipe.student_network))
    return "T{}_S{}".format(*(names.index(middle(names)) + 1 for names in groups))


@part(
    "05_ablations",
    "Attention transfer at which convolutions (appendix B)",
    usual_position,
    figures={"map": "test PSNR by where attention is transferred (appendix B)"},
)
def positions(recipe: Recipe) -> Rows:
    """Each teacher convolution with each student convolution, the same in all cascades (L_rec + L_AT)."""
    teacher, student = recipe.groups(recipe.teacher_network), recipe.groups(recipe.student_network)
    rows = {}
    for t in range(1, len(teacher[0])):
        for s in range(1, len(student[0])):
            pairs = [[theirs[t - 1], own[s - 1]] for theirs, own in zip(teacher, student, strict=True)]
            run = recipe.finetuned(recipe.pretrained(pairs=pairs))
            rows[f"T{t}_S{s}"] = Row(f"teacher's {t}, student's {s}", run, {"teacher": t, "student": s})
    return rows


@part("05_ablations", "Attention transfer in which cascades", "all", needs_cascades=True)
def cascades(recipe: Recipe) -> Rows:
    """Attention transfer in one cascade alone, or in all (appendix B)."""
    pairs = recipe.feature_loss("attention_transfer").options["pairs"]
    half = (len(pairs) - 1) // 2
    chosen = {"first": pairs[:1], "middle": pairs[half : half + 1], "last": pairs[-1:], "all": pairs}
    return {n: Row(f"cascade: {n}", recipe.finetuned(recipe.pretrained(pairs=kept))) for n, kept in chosen.items()}


@part("05_ablations", "How much truth, how much teacher (eq. 4)", "alpha_1")
def alphas(recipe: Recipe) -> Rows:
    """Eq. 4 at several weights of the truth, from the same attention transfer."""
    runs = {a: recipe.distilled(recipe.pretrained(), alpha=a) for a in (0.0, 0.25, 0.5, 0.75, 1.0)}
    return {f"alpha_{a:g}": Row(f"α = {a:g}", run) for a, run in runs.items()}


@part("05_ablations", "Distance to the teacher's attention (appendix D)", tabled=False)
def attention(recipe: Recipe) -> Rows:
    """The networks whose attention is compared: the teacher's, and the student's after each stage."""
    return {
        "teacher": Row("Teacher", recipe.teacher),
        "student": Row("Student without a teacher", recipe.student),
        "transferred": Row("Student after attention transfer", recipe.pretrained()),
        "distilled": Row("Distilled student", recipe.distilled(recipe.pretrained())),
    }


@part("05_ablations", "The paper's choices and the published code's", "paper", needs_cascades=True)
def variants(recipe: Recipe) -> Rows:
    """What the published code does otherwise, one choice per row; without the residual, with a teacher of its own."""
    attention, released = recipe.pretrained(variant="paper"), recipe.pretrained(variant="released")
    other = recipe.with_options(residual=False)
    squared = recipe.distilled(attention, variant="paper", norm="l2")
    return {
        "paper": Row("paper", recipe.distilled(attention, variant="paper")),
        "attention_released": Row("attention transfer as released", recipe.distilled(released, variant="paper")),
        "imitation_released": Row("imitation as released", recipe.distilled(attention, variant="released")),
        "squared_error": Row("squared error in place of absolute", squared),
        "no_residual_teacher": Row("no cascade residual: teacher", other.teacher),
        "no_residual_student": Row("no cascade residual: student", other.student),
        "no_residual_distilled": Row("no cascade residual: distilled", other.distilled(other.pretrained())),
    }


@part(
    "06_super_resolution",
    "Super-resolution (appendix A)",
    figures={"curves": "validation PSNR in super-resolution (appendix A)"},
    also=(*QUESTIONS, ("distilled", "bicubic"), ("data_consistency", "distilled")),
    untrained=("zero_filled", "bicubic"),
)
def restoration(recipe: Recipe) -> Rows:
    """Appendix A's rows, the controls, and the distilled student with data consistency, which the paper leaves out."""
    consistent = recipe.with_options(data_consistency=True)
    run = consistent.distilled(consistent.pretrained())
    return table1(recipe) | {"data_consistency": Row("Distilled student, data consistency", run)}


@part("05_ablations", "A Gaussian mask in two dimensions", also=QUESTIONS)
def gaussian_mask(recipe: Recipe) -> Rows:
    """Table 1's rows on the paper's other kind of mask, points of k-space in place of whole lines, of the same
    acceleration; whole slices train, since strips need lines."""
    undersampling = recipe.undersampling.model_copy(update={"kind": "gaussian_2d", "mask": None})
    whole = recipe.schedule.model_copy(update={"strip": None})
    return table1(recipe.changed(undersampling=undersampling, schedule=whole))


@part("08_when_distillation_pays", "The paper's method, trained longer", also=QUESTIONS)
def paper_method(recipe: Recipe) -> Rows:
    """Table 1's rows as the paper has them, and the control, by the experiment's schedule."""
    return table1(recipe, beside=())
