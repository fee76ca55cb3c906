"""The same network trained alone for what a distilled one costs: what every distillation has to beat."""

from kdmri_lib.declarations import Run
from kdmri_lib.errors import StudyError
from kdmri_study.costs import cost, stages
from kdmri_study.experiments.part import Row, Rows
from kdmri_study.experiments.recipe import Recipe, all_options


def alone_at(recipe: Recipe, run: Run, of: str = "given") -> tuple[Run, float]:
    """The network of `run` trained alone, by the recipe's schedule stretched until it costs as much; and how many stages
    that are.

    `of` : which of the `Cost`s.
    """
    alone = run.model_copy(
        update={
            **{"objective": (recipe.reconstruction,), "teacher": None, "start": None, "teacher_asked": "once"},
            **{"taken": None, "truths": None},
        }
    )
    # All that isn't distillation, it has too.
    schedule = run.schedule.model_copy(update={"steps": recipe.schedule.steps, "epochs": recipe.schedule.epochs})
    alone = alone.model_copy(update={"schedule": schedule})
    factor = round(getattr(cost(run), of) / getattr(cost(alone), of), 2)
    return alone.model_copy(update={"schedule": schedule.stretched(factor)}), factor


def _in_words(option: str, value) -> str:
    """What a network differs in, as other rows call it."""
    if (option, value) == ("initialisation", "he"):
        return "He's initialisation"
    return option.replace("_", " ") + ("" if value is True else f" {value}")


def _named(recipe: Recipe, run: Run, factor: float) -> tuple[str, str]:
    """A control's name and label, with what its network differs in from the recipe's student."""
    usual = all_options(recipe.student_network)
    other = {k: v for k, v in all_options(run.network).items() if usual.get(k) != v}
    words = "".join(f", {_in_words(option, value)}" for option, value in other.items())
    letters = "".join(f"_{key}_{value}" for key, value in other.items())
    for key in ("learning_rate", "expansion", "averaging", "clip"):
        if (value := getattr(run.schedule, key)) != getattr(recipe.schedule, key):
            words, letters = f"{words}, {key.replace('_', ' ')} {value:g}", f"{letters}_{key}_{value:g}"
    if run.subjects:
        # How many, not which: another seed has others.
        count = run.subjects[1] - run.subjects[0]
        words, letters = f"{words}, of {count} subject{'s' * (count > 1)}", f"{letters}_subjects_{count}"
    return f"alone_{factor:.2f}{letters}".replace(".", "_"), f"Alone, {factor:.2f} stages{words}"


def with_controls(recipe: Recipe, rows: Rows) -> Rows:
    """Rows with the control of each that learns from a teacher and has none, at its cost with the teacher given.

    A row that is the same run serves as a control; others are added at the end, one for all rows of the same cost.
    """
    names = {row.run.id: name for name, row in rows.items()}
    found, added = {}, {}
    for name, row in rows.items():
        if row.control or not stages(row.run)[1]:
            found[name] = row
            continue
        run, factor = alone_at(recipe, row.run)
        key, label = _named(recipe, run, factor)
        key = names.setdefault(run.id, key)
        if key not in rows and added.setdefault(key, Row(label, run, {"longer": True})).run != run:
            raise StudyError(f"two rows are called '{key}', the controls of '{name}' and of another row")
        found[name] = row._replace(control=key)
    return found | added
