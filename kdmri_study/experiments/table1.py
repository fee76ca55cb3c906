"""Table 1: teacher, student, distilled student; the controls that the paper leaves out; the same, well initialised; and
the best recipe found here that has a teacher."""

from collections.abc import Collection
from typing import Literal

from kdmri_lib.declarations import Run
from kdmri_study.experiments.controls import alone_at
from kdmri_study.experiments.part import Row, Rows
from kdmri_study.experiments.recipe import Recipe

# The rows of Table 1, in its order; zero-filling is no run.
METHODS = {
    "zero_filled": "Zero-filled",
    "teacher": "Teacher",
    "student": "Student",
    "student_steps": "Student, as many steps as distilled",
    "student_compute": "Student, as much compute as distilled, teacher given",
    "student_whole": "Student, as much compute as distilled and its teacher",
    "distilled": "Distilled student",
    "he_teacher": "Teacher, well initialised",
    "he_student": "Student, well initialised",
    "he_compute": "Student, well initialised, as much compute as distilled",
    "he_distilled": "Distilled student, well initialised",
    "best_teacher": "Teacher of the best recipe",
    "best_compute": "Student, as much compute as the best recipe's",
    "best": "Best recipe's student",
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
)
CONTROLS = ("student_steps", "student_compute", "student_whole", "he_compute", "best_compute")

Beside = Literal["steps", "whole", "initialisation", "best"]
"""What a profile may ask for beside the paper's rows and their control: those of as many steps, of as much compute with the
teacher's training; all again, well initialised; the best recipe."""


def well_initialised(recipe: Recipe) -> Recipe:
    """The same recipe from weights as He et al. draw them, teacher and student."""
    return recipe.with_options(initialisation="he")


def best_recipe(recipe: Recipe) -> Recipe:
    """What trains the best student: weights as He et al. draw them, and a teacher of two stages."""
    return well_initialised(recipe).changed(teacher_stages=2)


def best_taught(recipe: Recipe, stages: float = 2) -> Run:
    """The student of the best recipe: it begins with its teacher's weights, and then learns from the truth and from the
    teacher's images. Chosen on the validation set of brain 4x, seed 0, of the rows of `recipes`, 1,500 steps a stage; of
    that trial no evidence was kept."""
    return recipe.taught(stages, inherits=True, alpha=0.5)


def table1(recipe: Recipe, beside: Collection[Beside] = ("steps", "whole")) -> Rows:
    """The rows of Table 1, but zero-filling."""
    distilled = recipe.distilled(recipe.pretrained())
    runs = {"teacher": recipe.teacher, "student": recipe.student}
    controls = {"distilled": "student_compute", "he_distilled": "he_compute", "best": "best_compute"}
    runs |= {"student_steps": alone_at(recipe, distilled, "steps")[0]} if "steps" in beside else {}
    runs |= {"student_compute": alone_at(recipe, distilled)[0]}
    runs |= {"student_whole": alone_at(recipe, distilled, "whole")[0]} if "whole" in beside else {}
    runs |= {"distilled": distilled}
    if "initialisation" in beside:
        he = well_initialised(recipe)
        taught = he.distilled(he.pretrained())
        runs |= {"he_teacher": he.teacher, "he_student": he.student}
        runs |= {"he_compute": alone_at(he, taught)[0], "he_distilled": taught}
    if "best" in beside:
        good = best_recipe(recipe)
        taught = best_taught(good)
        runs |= {"best_teacher": good.teacher, "best_compute": alone_at(good, taught)[0], "best": taught}
    return {
        name: Row(METHODS[name], run, {"longer": name in CONTROLS}, controls.get(name, ""))
        for name, run in runs.items()
    }


def beside_table1(recipe: Recipe, precision_check: bool = False) -> Rows:
    """Runs that notebooks 02 and 03 show beside Table 1's: the distilled student's first stage; the student in float32."""
    rows = {"attention_transfer": Row("Student after attention transfer", recipe.pretrained())}
    if precision_check:
        single = recipe.run(recipe.student_network, precision="float32")
        rows["student_float32"] = Row("Student, trained in float32", single)
    return rows


def alone(recipe: Recipe) -> Rows:
    """Where every comparison of methods begins: the teacher, and the student alone for one stage."""
    return {name: row for name, row in table1(recipe).items() if name in ("teacher", "student")}
