"""Experiments as rows: what each row changes, and nothing else."""

import pytest

from kdmri_lib.declared import declared_mask, plain_network
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, Loss, Pairs
from kdmri_lib.models.base import parameter_count
from kdmri_study.paper import feature_losses, usual_position
from kdmri_study.profile import Setting, Study
from kdmri_study.recipes import part_of
from tests.studies import LARGE, runs_of


@pytest.fixture(scope="module")
def recipe():
    return Study(LARGE).experiment_recipe("ablations", 0)


def rows(name, recipe):
    return part_of(name).rows(recipe)


@pytest.mark.parametrize("name", sorted(Study(LARGE).profile.experiments))
def test_an_experiments_rows_are_called_the_same_for_every_seed(name):
    """A site's subjects are drawn by the seed: its controls' names must not say which."""
    study = Study(LARGE)
    for asked in study.experiment_parts(name):
        first, *others = (study.experiment_rows(name, asked, seed) for seed in study.experiment_seeds(name))
        called = {key: (row.label, row.control) for key, row in first.items()}
        for other in others:
            assert {key: (row.label, row.control) for key, row in other.items()} == called
            assert not {row.run.id for row in other.values()} & {row.run.id for row in first.values()}


def test_feature_losses_stand_in_the_papers_order_and_one_of_ones_own_joins_them():
    papers = ("fitnets", "fsp", "similarity_preserving", "attentive_hint", "correlation_congruence")
    assert feature_losses() == (*papers, "attention_transfer")
    try:

        @LOSSES.register("own_for_this_test")
        class Own(Loss):
            def __init__(self, pairs: Pairs):
                super().__init__()

        assert "own_for_this_test" not in feature_losses(), "one of a notebook's cell is compared where it is named"
        Own.__module__ = "kdmri_lib.losses.own_for_this_test"
        assert feature_losses() == (*papers, "own_for_this_test", "attention_transfer")
    finally:
        LOSSES.remove("own_for_this_test")


def test_positions_are_all_pairs_of_convolutions_the_papers_among_them(recipe):
    found = rows("positions", recipe)
    assert len(found) == 4 * 2 and usual_position(recipe) == "T3_S2"
    assert found["T3_S2"].run == recipe.finetuned(recipe.pretrained()), "the same run as everywhere, trained once"
    pairs = found["T1_S2"].run.start.objective[0].options["pairs"]
    assert pairs == [[f"cascade{c}.convolution1", f"cascade{c}.convolution2"] for c in range(1, 6)]


def test_teachers_from_elsewhere_differ_from_the_sites_own_in_what_they_learnt_from_alone():
    study = Study(LARGE)
    recipe = study.experiment_recipe("brain_site", 0)
    found = rows("site", recipe)
    own, students = found["teacher_of_8"].run, ("by_mask_8", "by_set_1_8", "by_set_2_8")
    assert set(students) <= found.keys()
    for name in students:
        assert found[name].run.model_copy(update={"teacher": own.teacher}) == own, "the student's training is the same"
    by_mask, by_contrast, by_organ = (found[name].run.teacher for name in students)
    masks = [declared_mask(run.dataset, run.undersampling) for run in (own, by_mask)]
    assert masks[0].sum() == masks[1].sum() and (masks[0] != masks[1]).any()
    assert by_mask.subjects == own.teacher.subjects == found["sent"].run.subjects == (0, 8)
    assert by_contrast.dataset == study.dataset("brain_flair") and by_contrast.dataset.contrast == "flair"
    assert by_organ.dataset == study.dataset("cardiac") and by_organ.subjects == (0, 10)
    assert {by_contrast.undersampling, by_organ.undersampling} == {own.undersampling}
    assert {"brain_flair", "cardiac"} <= set(study.used_datasets)
    firsts = {rows("site", study.experiment_recipe("brain_site", seed))["truth_2"].run.subjects for seed in range(6)}
    assert firsts == {(8 + seed, 10 + seed) for seed in range(6)}, "other seeds, other subjects at the site"
    asked = part_of("site").questions(recipe, found)
    assert {("teacher_of_4", "sent"), ("both_2", "teacher_of_8")} <= set(asked)
    assert {(name, "teacher_of_8") for name in students} <= set(asked)


def test_what_a_long_teacher_is_worth_is_asked_one_change_at_a_time():
    runs = runs_of(Study("table1"), Setting("brain", 4))
    long, weights, imitating, papers = (
        runs[n] for n in ("long_teacher", "weights", "weights_imitation", "paper_by_long")
    )
    assert long.schedule.steps == 4 * runs["teacher"].schedule.steps
    assert imitating.start == imitating.teacher == weights.start == papers.teacher == papers.start.teacher == long
    assert imitating.model_copy(update={"objective": weights.objective, "teacher": None}) == weights
    assert papers.start.start is None and imitating.schedule == papers.schedule.stretched(2)
    assert imitating.network == papers.network == runs["weights_compute"].network == weights.network


def test_the_gaussian_mask_is_one_of_points_whatever_mask_was_declared(recipe):
    own = recipe.changed(undersampling=recipe.undersampling.model_copy(update={"mask": "data/mine.npy"}))
    for row in rows("gaussian_mask", own).values():
        mask = declared_mask(row.run.dataset, row.run.undersampling)
        assert not (mask == mask[:, :1]).all() and not (mask == mask[:1]).all()
        assert mask.sum() == mask.size // 8 and row.run.schedule.strip is None


@pytest.mark.parametrize("declared", [{"cascades": 5, "convolutions": 3, "features": 32}, {"convolutions": 3}])
def test_sizes_are_told_by_what_the_networks_are_not_by_what_is_spelt_out(recipe, declared):
    student = recipe.student_network.model_copy(update={"options": declared})
    found = rows("sizes", recipe.changed(student_network=student))
    assert found.pop("teacher").run == recipe.teacher, "its line in the figure"
    assert len(found) == 10
    sizes = {parameter_count(plain_network(row.run.network)) for row in found.values()}
    assert 49_285 in sizes and len(sizes) == 5
    usual_one = found["ca5_co3_fe32_distilled"].run
    assert usual_one.start.objective[0].loss == "attention_transfer"
    assert found["ca3_co3_fe32_distilled"].run.start is None, "nothing to pair three cascades of five with"


def test_networks_that_do_not_allow_an_experiment_are_a_message_that_names_it(tmp_path):
    study = Study("quick")
    with pytest.raises(
        StudyError, match=r"profile 'quick', experiment 'super_resolution', part 'cascades': .*cascades"
    ):
        study.experiment_rows("super_resolution", "cascades", 0)
    other = study.profile.student.model_copy(update={"options": {"cascades": 3}})
    study.profile = study.profile.model_copy(update={"student": other})
    with pytest.raises(StudyError, match=r"experiment 'ablations', part 'ablation': features of 5 cascades .* with 3"):
        study.experiment_rows("ablations", "ablation", 0)
