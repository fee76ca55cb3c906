"""What makes a good small network? Each way to train the student for two stages, beside the same without a teacher."""

from kdmri_lib.declarations import Run
from kdmri_study.experiments.part import Row, Rows, part
from kdmri_study.experiments.recipe import Recipe

RATES = (0.5, 2)  # times the profile's learning rate
CHANNELS = 128  # through which over-parameterised convolutions train
AVERAGING = 0.99


@part(
    "08_when_distillation_pays",
    "Recipes",
    "alone",
    needs_cascades=True,
    # What isn't distillation, for as many steps.
    also=tuple((name, "alone") for name in ("default", "rate_0_5", "rate_2", "expanded", "averaged")),
)
def recipes(recipe: Recipe) -> Rows:
    """What isn't distillation, of the student alone: initialisation, rate, over-parameterisation, averaging. Then, well
    initialised and by a teacher of two stages, each way to distil; the paper's and the best recipe at other rates too,
    their controls at the same."""
    well = recipe.with_options(initialisation="he").changed(teacher_stages=2)

    def trained(**schedule) -> Recipe:
        return well.changed(schedule=well.schedule.model_copy(update=schedule))

    def named(name: str, label: str, runs: dict[float, Run]) -> Rows:
        return {f"{name}_{f:g}".replace(".", "_"): Row(f"{label}, rate × {f:g}", run) for f, run in runs.items()}

    def at_rates(name: str, label: str, **how) -> Rows:
        return named(name, label, {f: well.at_rate(f).taught(**how) for f in RATES})

    teachers = {f: trained(learning_rate=well.schedule.learning_rate * f).teacher for f in RATES}
    return {
        "teacher": Row("Teacher, two stages, He's initialisation", well.teacher),
        **named("teacher_rate", "Teacher", teachers),
        "default": Row("Alone, PyTorch's initialisation", recipe.taught()),
        "alone": Row("Alone, He's initialisation", well.taught()),
        **at_rates("rate", "Alone, He's"),
        "expanded": Row("Alone, He's, over-parameterised", trained(expansion=CHANNELS).taught()),
        "averaged": Row("Alone, He's, weights averaged", trained(averaging=AVERAGING).taught()),
        "paper": Row("Attention transfer 1, imitation 1 (the paper's)", well.taught(attention=1, alpha=0.5)),
        **at_rates("paper_rate", "The paper's", attention=1, alpha=0.5),
        "attention": Row("Attention transfer 0.4, reconstruction 1.6", well.taught(attention=0.4)),
        "imitation": Row("Imitation 2", well.taught(alpha=0.5)),
        "inherited": Row("From the teacher's weights, reconstruction 2", well.taught(inherits=True)),
        "inherited_imitation": Row("From the teacher's weights, imitation 2", well.taught(inherits=True, alpha=0.5)),
        **at_rates(
            "inherited_imitation_rate",
            "From the teacher's weights, imitation 2",
            inherits=True,
            alpha=0.5,
        ),
        "inherited_attention": Row(
            "From the teacher's weights, attention transfer 0.4, reconstruction 1.6",
            well.taught(inherits=True, attention=0.4),
        ),
        "all": Row(
            "From the teacher's weights, attention transfer 0.4, imitation 1.6",
            well.taught(inherits=True, attention=0.4, alpha=0.5),
        ),
        "all_expanded": Row(
            "The same, over-parameterised, as is its teacher",
            trained(expansion=CHANNELS).taught(inherits=True, attention=0.4, alpha=0.5),
        ),
    }
