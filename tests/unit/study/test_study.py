"""Profiles, and the runs that follow from them."""

from pathlib import Path

import pytest
import yaml

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.profile import Cell, load_profile
from kdmri_study.study import Study
from tests.studies import PROFILES, with_downloads

SMOKE = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads_and_counts_its_runs(name, tmp_path):
    study = Study(with_downloads(name, tmp_path))
    each = len(study.methods(study.cells[0], 0))
    table1 = {r.id for c in study.cells for s in study.profile.seeds for r in study.methods(c, s).values()}
    assert len(table1) == each * len(study.cells) * len(study.profile.seeds)
    assert table1 <= set(study.runs) == set(study.labels)
    order = list(study.runs)
    for place, run in enumerate(study.runs.values()):
        assert all(order.index(needed.id) < place for needed in run.needs)


def test_downloads_that_are_not_there_are_left_out_and_none_at_all_is_an_error(tmp_path):
    path = with_downloads("paper", tmp_path)
    whole = Study(path)
    assert whole.missing == {} and whole.used_datasets == ["cardiac", "brain", "knee", "head"]
    for name in ("mrbrains", "knee", "calgary_campinas"):
        (tmp_path / name).rmdir()
    study = Study(path)
    assert set(study.missing) == {"brain", "knee", "head"}
    assert {cell.dataset for cell in study.cells} == {"cardiac"}
    assert "super_resolution" not in study.profile.experiments and study.used_datasets == ["cardiac"]
    (tmp_path / "acdc").rmdir()
    with pytest.raises(StudyError, match=r"none of its folders is there .*see data/README.md"):
        Study(path)


def test_the_full_profile_covers_the_nine_cells():
    assert {cell.tag for cell in Study("table1").cells} == {
        f"{d}_{f}x" for d in ("brain", "cardiac", "knee") for f in (4, 5, 8)
    }


def test_algorithm_1():
    study = Study("quick")
    runs = study.methods(Cell("brain", 4), 0)
    assert runs["attention_transfer"].teacher == runs["distilled"].teacher == runs["teacher"]
    assert runs["distilled"].start == runs["attention_transfer"]
    assert [t.loss for t in runs["attention_transfer"].objective] == ["attention_transfer"]
    assert [t.loss for t in runs["distilled"].objective] == ["imitation"]
    pairs = runs["attention_transfer"].objective[0].options["pairs"]
    assert pairs == [[f"cascade{c}.convolution3", f"cascade{c}.convolution2"] for c in range(1, 6)]


def test_the_best_recipes_student_begins_with_convolutions_1_3_and_5_of_its_teachers_cascades():
    study = Study("table1")
    runs = study.methods(Cell("brain", 4), 3)
    best, teacher = runs["best"], runs["best_teacher"]
    assert best.start == best.teacher == teacher and teacher.schedule.steps == 2 * runs["teacher"].schedule.steps
    assert best.taken == tuple(
        (f"cascade{c}.convolution{2 * n - 1}", f"cascade{c}.convolution{n}") for c in range(1, 6) for n in (1, 2, 3)
    )
    assert {r.network.options.get("initialisation") for r in (best, teacher, runs["best_compute"])} == {"he"}
    assert "initialisation" not in runs["distilled"].network.options, "as published"
    assert (runs["teacher"].schedule.batch, study.methods(Cell("knee", 4), 3)["teacher"].schedule.batch) == (2, 1)


def test_a_smaller_student_begins_with_cascades_as_far_apart_as_can_be():
    recipe = Study("table1").recipe(Cell("brain", 4), 0).with_options(["student"], cascades=3, convolutions=2)
    assert recipe.inheritance == tuple(
        (f"cascade{t}.convolution{n}", f"cascade{s}.convolution{m}")
        for s, t in ((1, 1), (2, 3), (3, 5))
        for m, n in ((1, 1), (2, 5))
    )


def test_declarations_keep_the_names_of_committed_runs():
    """The committed tables of profile quick name runs; a declaration that reads otherwise would orphan them."""
    named = {
        line
        for file in (PROJECT / "results" / "quick" / "tables").glob("*.runs.txt")
        for line in file.read_text().splitlines()
        if not line.startswith("#")
    }
    assert len(named) > 50 and named <= set(Study("quick").runs)


def test_cells_and_experiments_that_a_profile_lacks_are_named():
    study = Study("quick")
    assert study.cell("brain_4x") == Cell("brain", 4) and study.cell("brain_4x").label == "brain 4x"
    with pytest.raises(StudyError, match=r"profile 'quick' has no cell 'brain_6x'; it has brain_4x"):
        study.cell("brain_6x")
    with pytest.raises(StudyError, match=r"has no experiment 'nope'; it has feature_losses, ablations"):
        study.experiment_recipe("nope", 0)
    with pytest.raises(StudyError, match=r"has no data set 'heart'; it has brain"):
        study.dataset("heart")


def test_a_data_sets_schedule_is_for_its_cells_and_experiments():
    study = Study("table1")
    declared = study.profile.schedules["knee"]
    assert declared != study.profile.schedule
    assert study.recipe(Cell("knee", 4), 0).schedule == study.experiment_recipe("knee_4x_rates", 0).schedule == declared
    assert study.experiment_recipe("brain_4x_rates", 0).schedule == study.profile.schedule
    assert study.experiment_recipe("knee_site", 0).schedule == study.profile.experiments["knee_site"].schedule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shcedule": {}}, "shcedule: Extra inputs are not permitted"),
        ({"schedule": {"steps": 5, "batchh": 2}}, r"schedule.batchh: Extra inputs"),
        ({"schedule": {"steps": 5, "epochs": 2}}, "either steps or epochs"),
        ({"cells": {"brain": [0.5]}}, "greater than or equal to 1"),
        ({"cells": {"heart": [4]}}, "data set 'heart' isn't declared"),
        ({"schedules": {"heart": {"steps": 1}}}, "data set 'heart' isn't declared"),
        ({"datasets": {"brain": {"source": "../x"}}}, "isn't a plain name"),
        ({"distillation": {"attention_transfer": "papre"}}, "distillation.attention_transfer"),
        ({"over_seeds": True}, "over_seeds: seeds holds 1; a test over seeds needs at least two"),
        ({"over_seeds": True, "seeds": [3, 3]}, "over_seeds: seeds holds 1"),
        ({"distillation": {"alpha": 2}}, "distillation.alpha: Input should be less than or equal to 1"),
        ({"teacher": {"kind": "unet"}}, "teacher: .*unknown model 'unet'; known: dccnn, student_friendly, vdsr"),
        ({"student": {"options": {"casacdes": 3}}}, "student: .*model 'dccnn', option 'casacdes': Extra inputs"),
        ({"student": {"options": {"features": 0}}}, "student: .*'features': .* greater than or equal to 1, found 0"),
        ({"student": {"options": {"features": "8"}}}, "student: .*'features': Input should be a valid integer"),
        ({"student": {"options": {"convolutions": 1}}}, "student: .*'convolutions': .* greater than or equal to 2"),
    ],
)
def test_a_bad_profile_is_an_error_that_names_the_key(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMOKE, **change}))
    with pytest.raises(StudyError, match=rf"mine.yaml: .*{message}"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"parts": ["alfas"]},
            r"experiments.ablations: .*no part 'alfas'; it has ablation, alphas, asking, attention, cascades",
        ),
        ({"parts": ["comparison"]}, "notebook 05_ablations has no part 'comparison'"),
        ({"dataset": "heart"}, "data set 'heart' isn't declared"),
        ({"elsewhere": ["heart"]}, "data set 'heart' isn't declared"),
        ({"teacher": {"options": {"residual": "no"}}}, "experiments.ablations.teacher: .*'residual'"),
        ({"notebook": "09_nothing"}, "experiments.ablations.notebook"),
        ({"seeds": [0]}, "over_seeds: experiments.ablations.seeds holds 1; a test over seeds needs at least two"),
    ],
)
def test_a_bad_experiment_is_an_error_that_names_the_key(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    ablations = SMOKE["experiments"]["ablations"] | change
    several = {"over_seeds": True, "seeds": [0, 1]}
    path.write_text(yaml.safe_dump({**SMOKE, **several, "experiments": {"ablations": ablations}}))
    with pytest.raises(StudyError, match=rf"mine.yaml: .*{message}"):
        load_profile(str(path))


def test_unknown_and_unreadable_profiles(tmp_path):
    with pytest.raises(
        StudyError, match=r"unknown profile 'qiuck' .*known: domains, evening, paper, quick, smoke, table1"
    ):
        load_profile("qiuck")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(StudyError, match=r"x.yaml: not a YAML file"):
        load_profile(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("name", ["it's; touch sprung .yaml", "..yaml", "a b.yaml", "$(x).yaml"])
def test_a_profiles_name_is_a_plain_one(tmp_path, name):
    (tmp_path / name).write_text((PROJECT / "profiles" / "smoke.yaml").read_text())
    with pytest.raises(StudyError, match="isn't a plain name"):
        load_profile(str(tmp_path / name))


@pytest.mark.parametrize("paths", ["../../x", "/etc/x", "a/b"])
def test_names_that_become_files_cannot_leave_their_folder(paths, tmp_path):
    text = (PROJECT / "profiles" / "smoke.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("cardiac:", f'"{paths}":'))
    with pytest.raises(StudyError, match=r"mine.yaml: .*isn't a plain name"):
        load_profile(str(tmp_path / "mine.yaml"))


def test_a_path_names_the_same_profile_as_its_name():
    assert load_profile(str(Path(PROJECT, "profiles", "smoke.yaml"))) == load_profile("smoke")


def test_arms_are_cells_of_the_same_images_at_the_same_acceleration_magnitude_and_complex(tmp_path):
    assert [(one.tag, other.tag) for one, other in Study("domains").arms] == [
        ("brain_4x", "brain_complex_4x"),
        ("cardiac_8x", "cardiac_complex_8x"),
        ("knee_4x", "knee_complex_4x"),
    ]
    assert Study("quick").arms == []
    declared = yaml.safe_load((PROJECT / "profiles" / "domains.yaml").read_text())
    declared["datasets"]["brain_complex"]["seed"] += 1  # other people
    declared["cells"]["knee_complex"] = [5]  # another acceleration
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(declared))
    assert [one.tag for one, _ in Study(str(tmp_path / "other.yaml")).arms] == ["cardiac_8x"]
