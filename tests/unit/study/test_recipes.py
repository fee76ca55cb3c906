"""What a run costs, by arithmetic; the controls of distilled rows; and an experiment of one's own, in one place."""

import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.paper import table1
from kdmri_study.profile import Setting, Study
from kdmri_study.recipes import PARTS, Row, alone_at, cost, part, part_of, parts_of, stages, with_controls
from tests.studies import SETTING

# Weights per pixel of the paper's DC-CNNs: convolutions 1 -> 32, (32 -> 32) x 3 or x 1, 32 -> 1, in each of five cascades.
TEACHER, STUDENT = (5 * 9 * (32 + n * 32 * 32 + 32) for n in (3, 1))
STEPS, BATCH, STRIP, SLICES, SIDE = 300, 2, 24, 24 * 2, 240  # profile quick's brain


@pytest.fixture(scope="module")
def rows():
    study, setting = Study("quick"), Setting("brain", 4)
    return study.rows(setting, 0) | table1(study.recipe(setting, 0))


def test_costs_of_algorithm_1_by_hand(rows):
    """Three passes of what trains over strips; one pass of the teacher over whole slices in each of the two stages."""
    seen, whole = STEPS * BATCH * STRIP * SIDE, SLICES * SIDE * SIDE
    alone, asking = 3 * seen * STUDENT, whole * TEACHER
    assert cost(rows["student"].run) == (STEPS, alone, alone)
    assert cost(rows["teacher"].run) == (STEPS, 3 * seen * TEACHER, 3 * seen * TEACHER)
    assert cost(rows["attention_transfer"].run)[:2] == (STEPS, alone + asking)
    given = 2 * (alone + asking)
    assert cost(rows["distilled"].run) == (2 * STEPS, given, given + 3 * seen * TEACHER)


def test_complex_images_cost_the_weights_of_one_more_channel_in_and_out(rows):
    seen, ends = STEPS * BATCH * STRIP * SIDE, 5 * 9 * (32 + 32)
    run = rows["distilled"].run
    both = [
        r.model_copy(update={"dataset": r.dataset.model_copy(update={"domain": "complex"})}) for r in (run, run.start)
    ]
    both[0] = both[0].model_copy(update={"start": both[1]})
    more = cost(both[0]).given - cost(run).given
    assert more == 2 * 3 * seen * ends, "the teacher of each is still of one channel"


def test_a_teacher_that_is_asked_at_each_step_costs_a_pass_over_each_batch():
    recipe = Study("quick").recipe(Setting("brain", 4), 0)
    seen = STEPS * BATCH * STRIP * SIDE
    for run in (
        recipe.pretrained("fitnets"),
        recipe.pretrained().model_copy(update={"teacher_asked": "each step"}),
    ):
        assert cost(run).given == seen * (3 * STUDENT + TEACHER)
    hint = recipe.pretrained("attentive_hint")
    assert cost(hint).given == seen * (3 * STUDENT + TEACHER) + SLICES * SIDE * SIDE * TEACHER, "its errors once beside"


def test_strips_run_along_the_axis_that_is_sampled_fully():
    """The knee's mask varies along its 368 columns, so a strip is some of its 640 rows."""
    run = Study("domains").recipe(Setting("knee", 4), 0).student
    assert cost(run).given == 2000 * 2 * 24 * 368 * 3 * STUDENT
    whole = run.model_copy(update={"schedule": run.schedule.model_copy(update={"strip": None})})
    assert cost(whole).given == 2000 * 2 * 640 * 368 * 3 * STUDENT


def test_what_starts_from_a_teachers_branches_is_not_charged_its_training():
    recipe = Study("quick").recipe(Setting("brain", 4), 0).changed(student_friendly=True)
    run = recipe.finetuned(recipe.pretrained("fitnets"))
    own, others = stages(run)
    assert [r.network.kind for r in own] == ["dccnn", "dccnn"] and others == [recipe.teacher]
    assert cost(run).whole - cost(run).given == pytest.approx(cost(recipe.teacher).given)
    branches = recipe.finetuned(recipe.teacher)
    assert cost(branches)[:2] == cost(recipe.student)[:2] and stages(branches)[1] == [recipe.teacher]


@pytest.mark.parametrize(("of", "name"), [("steps", "steps"), ("given", "compute"), ("whole", "whole")])
def test_a_control_is_the_same_network_alone_at_the_same_cost(rows, of, name):
    recipe = Study("quick").recipe(Setting("brain", 4), 0)
    run, factor = alone_at(recipe, rows["distilled"].run, of)
    assert run == rows[f"student_{name}"].run and rows["distilled"].control == "student_compute"
    assert run.network == recipe.student_network and not stages(run)[1] and run.objective == (recipe.reconstruction,)
    assert getattr(cost(run), of) == pytest.approx(getattr(cost(rows["distilled"].run), of), rel=3e-3)
    assert run.schedule.steps == round(factor * STEPS)
    last = rows["distilled"].run.schedule
    assert run.schedule.validations == last.validations, "who validates more chooses among more"


@pytest.mark.parametrize("name", sorted(n for n, p in PARTS.items() if p.tabled))
def test_every_row_that_learns_from_a_teacher_has_a_control_of_its_network_at_its_cost(name):
    where = {"restoration": ("quick", "super_resolution"), "subjects": ("images", "brain_subjects")}
    profile, experiment = where.get(name, ("quick", "ablations"))
    study = Study(profile)
    recipe, rows = study.experiment_recipe(experiment, 0), study.experiment_rows(experiment, name, 0)
    taught = {key: row for key, row in rows.items() if stages(row.run)[1]}
    assert (len(taught) > 0) == (name not in ("variety", "subjects", "organs"))
    assert {key for key, row in rows.items() if row.control} == set(taught)
    for row in taught.values():
        control = rows[row.control].run
        assert control.network == row.run.network and not stages(control)[1] and control.dataset == row.run.dataset
        assert control.undersampling == row.run.undersampling and control.seed == row.run.seed
        if row.run.schedule.steps != 0:  # what isn't trained has no control of its cost
            assert cost(control).given == pytest.approx(cost(row.run).given, rel=5e-3)
    asked, reference = part_of(name).questions(recipe, rows), part_of(name).reference(recipe)
    assert reference is None or reference in rows
    assert asked and {(key, row.control) for key, row in taught.items()} <= set(asked)
    others = [key for key in taught or rows if reference in rows and reference not in (key, rows[key].control)]
    assert {(key, reference) for key in others} <= set(asked)
    assert {key for pair in asked for key in pair} <= {*rows, *part_of(name).untrained}
    assert len(set(asked)) == len(asked)
    assert len({row.label for row in rows.values()}) == len(rows)


@pytest.mark.parametrize(("steps", "way"), [(10, "each step"), (10_000, "once")])
def test_a_teacher_is_asked_in_the_way_that_is_said_or_that_is_cheaper(steps, way):
    recipe = Study("quick").recipe(Setting("knee", 4), 0)
    recipe = recipe.changed(schedule=recipe.schedule.model_copy(update={"steps": steps}))
    asked = {}
    for said in ("once", "each step", "cheaper"):
        choice = recipe.distillation.model_copy(update={"teacher_asked": said})
        asked[said] = recipe.changed(distillation=choice).pretrained().teacher_asked
    assert asked == {"once": "once", "each step": "each step", "cheaper": way}
    assert recipe.teacher.teacher_asked == "once"


def test_rows_of_one_cost_share_a_control_and_a_row_that_is_one_serves():
    study = Study("quick")
    rows = study.experiment_rows("ablations", "positions", 0)
    assert len({row.control for row in rows.values() if row.control}) == 1 and len(rows) == 9
    recipe = study.experiment_recipe("ablations", 0)
    taught = recipe.distilled(recipe.pretrained())
    mine = {"mine": Row("Mine", alone_at(recipe, taught)[0]), "taught": Row("Taught", taught)}
    found = with_controls(recipe, mine)
    assert list(found) == ["mine", "taught"] and found["taught"].control == "mine"


def test_an_experiment_of_ones_own_is_a_function_under_its_name():
    try:

        @part("05_ablations", "Mine", "one")
        def own_for_this_test(recipe):
            return {"one": Row("One", recipe.student), "two": Row("Two", recipe.teacher)}

        assert "own_for_this_test" in [p.name for p in parts_of("05_ablations")]
        found = Study("smoke").recipe(SETTING, 0)
        assert list(part_of("own_for_this_test").rows(found)) == ["one", "two"]
    finally:
        PARTS.pop("own_for_this_test", None)
    with pytest.raises(StudyError, match="unknown part 'own_for_this_test'; known: ablation, alphas"):
        part_of("own_for_this_test")
