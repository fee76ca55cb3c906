"""Table 1: teacher, student, distilled student; and two controls that the paper leaves out."""

from kdmri_study.experiments.part import Row, Rows
from kdmri_study.experiments.recipe import Recipe

# The rows of Table 1, in its order; zero-filling is no run.
METHODS = {
    "zero_filled": "Zero-filled",
    "teacher": "Teacher",
    "student": "Student",
    "student_steps": "Student, as many steps as distilled",
    "student_compute": "Student, as much compute as distilled",
    "distilled": "Distilled student",
}


def table1(recipe: Recipe) -> Rows:
    """The rows of Table 1, but zero-filling."""
    runs = {
        "teacher": recipe.teacher,
        "student": recipe.student,
        "student_steps": recipe.longer(2),
        "student_compute": recipe.longer(recipe.compute_ratio),
        "distilled": recipe.distilled(recipe.pretrained()),
    }
    longer = ("student_steps", "student_compute")
    return {name: Row(METHODS[name], run, {"longer": name in longer}) for name, run in runs.items()}


def beside_table1(recipe: Recipe, precision_check: bool = False) -> Rows:
    """Runs that notebooks 02 and 03 show beside Table 1's: the distilled student's first stage; the student in float32."""
    rows = {"attention_transfer": Row("Student after attention transfer", recipe.pretrained())}
    if precision_check:
        single = recipe.run(recipe.student_network, precision="float32")
        rows["student_float32"] = Row("Student, trained in float32", single)
    return rows


def alone(recipe: Recipe) -> Rows:
    """What every method is compared with: the teacher, and the student alone."""
    return {name: row for name, row in table1(recipe).items() if name != "distilled"}
