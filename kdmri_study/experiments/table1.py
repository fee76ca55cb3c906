"""Table 1: teacher, student, distilled student; and the controls that the paper leaves out."""

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
}
# What it asks beside how the distilled student stands against a student alone of as much compute, its row's control.
QUESTIONS = (
    ("distilled", "student"),
    ("distilled", "student_steps"),
    ("distilled", "student_whole"),
    ("teacher", "student"),
    ("teacher", "distilled"),
)
CONTROLS = ("student_steps", "student_compute", "student_whole")


def table1(recipe: Recipe) -> Rows:
    """The rows of Table 1, but zero-filling."""
    distilled = recipe.distilled(recipe.pretrained())
    runs = {
        "teacher": recipe.teacher,
        "student": recipe.student,
        "student_steps": alone_at(recipe, distilled, "steps")[0],
        "student_compute": alone_at(recipe, distilled, "given")[0],
        "student_whole": alone_at(recipe, distilled, "whole")[0],
        "distilled": distilled,
    }
    rows = {name: Row(METHODS[name], run, {"longer": name in CONTROLS}) for name, run in runs.items()}
    return rows | {"distilled": rows["distilled"]._replace(control="student_compute")}


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
