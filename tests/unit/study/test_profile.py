"""Profiles, what a study is made of by them, and which names lead to which files."""

from pathlib import Path

import pytest
import yaml

from kdmri_lib.declarations import Undersampling
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import jobs
from kdmri_study.profile import STUDENT, Setting, Study, load_profile
from kdmri_study.workflow import pages
from tests.studies import PROFILES, runs_of, with_downloads

SMOKE = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())


def written(path: Path, **changes) -> str:
    """The path of a profile: smoke with these changes."""
    path.write_text(yaml.safe_dump({**SMOKE, **changes}))
    return str(path)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_jobs_that_train_in_order_and_pages_that_show_them(name, tmp_path):
    study = Study(with_downloads(name, tmp_path))
    found = jobs(study)
    table1 = {r.id for c in study.settings for seed in study.profile.seeds for r in runs_of(study, c, seed).values()}
    # Of one cost, two controls are one run.
    each = [len({run.id for run in runs_of(study, c).values()}) for c in study.settings]
    assert len(table1) == sum(each) * len(study.profile.seeds)
    assert table1 <= {run for job in found.values() for run in job.runs}
    for job in found.values():
        seen = set()
        for run in job.runs.values():
            assert {needed.id for needed in run.needs} <= seen
            seen.add(run.id)
    shown = list(pages(study))
    assert len({page.name for page in shown}) == len(shown) and all(page.source.exists() for page in shown)
    gathers = next(page for page in shown if page.notebook == "09_report")
    assert gathers.needs(found) == list(found)
    for page in (page for page in shown if "experiment" in page.parameters):
        name = page.parameters["experiment"]
        assert page.needs(found) == [f"{name}_seed{seed}" for seed in study.experiment_seeds(name)]


def test_downloads_that_are_not_there_are_left_out_and_none_at_all_is_an_error(tmp_path):
    path = with_downloads("paper", tmp_path)
    whole = Study(path)
    assert whole.missing == {} and whole.used_datasets == ["cardiac", "brain", "knee", "head"]
    for name in ("mrbrains", "knee", "calgary_campinas"):
        (tmp_path / name).rmdir()
    study = Study(path)
    assert set(study.missing) == {"brain", "knee", "head"}
    assert {setting.dataset for setting in study.settings} == {"cardiac"}
    assert "super_resolution" not in study.profile.experiments and study.used_datasets == ["cardiac"]
    (tmp_path / "acdc").rmdir()
    with pytest.raises(StudyError, match=r"none of its folders is there .*see data/README.md"):
        Study(path)


def test_algorithm_1():
    runs = runs_of(Study("quick"), Setting("brain", 4))
    assert runs["attention_transfer"].teacher == runs["distilled"].teacher == runs["teacher"]
    assert runs["distilled"].start == runs["attention_transfer"]
    assert [t.loss for t in runs["attention_transfer"].objective] == ["attention_transfer"]
    assert [t.loss for t in runs["distilled"].objective] == ["imitation"]
    pairs = runs["attention_transfer"].objective[0].options["pairs"]
    assert pairs == [[f"cascade{c}.convolution3", f"cascade{c}.convolution2"] for c in range(1, 6)]


@pytest.mark.parametrize("given", [{"options": {"features": 16}}, {"kind": "dccnn", "options": {"features": 16}}])
def test_an_option_adds_to_the_network_that_is_named_and_leaves_the_others(tmp_path, given):
    """In a profile to the paper's student, in an experiment to the profile's."""
    expected = {**STUDENT.options, "features": 16}
    ablations = SMOKE["experiments"]["ablations"] | {"student": {"options": {"cascades": 2}}, "parts": ["alphas"]}
    of_another_kind = SMOKE["experiments"]["super_resolution"]
    asked = {"ablations": ablations, "super_resolution": of_another_kind}
    study = Study(written(tmp_path / "mine.yaml", student=given, experiments=asked))
    assert study.profile.student.options == expected
    assert study.experiment_recipe("ablations", 0).student_network.options == {**expected, "cascades": 2}
    other = study.experiment_recipe("super_resolution", 0).student_network
    assert other.model_dump(exclude_defaults=True) == of_another_kind["student"]
    assert Study(written(tmp_path / "kind.yaml", student={"kind": "dccnn"})).profile.student == STUDENT


def test_settings_and_experiments_that_a_profile_lacks_are_named():
    study = Study("quick")
    assert study.setting("brain_4x") == Setting("brain", 4) and study.setting("brain_4x").label == "brain 4x"
    with pytest.raises(StudyError, match=r"profile 'quick' has no setting 'brain_6x'; it has brain_4x"):
        study.setting("brain_6x")
    with pytest.raises(StudyError, match=r"has no experiment 'nope'; it has feature_losses, ablations"):
        study.experiment_recipe("nope", 0)
    with pytest.raises(StudyError, match=r"has no data set 'heart'; it has brain"):
        study.dataset("heart")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shcedule": {}}, "shcedule: Extra inputs are not permitted"),
        ({"schedule": {"steps": 5, "epochs": 2}}, "either steps or epochs"),
        ({"settings": {"brain": [0.5]}}, "greater than or equal to 1"),
        ({"settings": {"heart": [4]}}, "data set 'heart' isn't declared"),
        ({"datasets": {"../../x": SMOKE["datasets"]["brain"]}}, "isn't a plain name"),
        ({"distillation": {"alpha": 2}}, "distillation.alpha: Input should be less than or equal to 1"),
        (
            {"teacher": {"kind": "unet"}},
            "teacher: .*unknown model 'unet'; known: dccnn, student_friendly, thinnable, vdsr",
        ),
        ({"student": {"kin": "dccnn", "options": {"features": 8}}}, "student.kin: Extra inputs"),
        ({"student": {"options": {"casacdes": 3}}}, "student: .*model 'dccnn', option 'casacdes': Extra inputs"),
        ({"student": {"options": {"features": 0}}}, "student: .*'features': .* greater than or equal to 1, found 0"),
    ],
)
def test_a_bad_profile_is_an_error_that_names_the_key(tmp_path, change, message):
    with pytest.raises(StudyError, match=rf"mine.yaml: .*{message}"):
        load_profile(written(tmp_path / "mine.yaml", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"parts": ["comparison"]},
            "notebook 05_ablations has no part 'comparison'; it has ablation, alphas, asking, ",
        ),
        ({"parts": ["alphas", "alphas"]}, "parts alphas, alphas: one is named twice"),
        ({"elsewhere": ["heart"]}, "data set 'heart' isn't declared"),
        (
            {"elsewhere": ["complex"]},
            "experiments.ablations.elsewhere: 'complex' is of complex images, not magnitude ones",
        ),
        ({"teacher": {"options": {"residual": "no"}}}, "experiments.ablations.teacher: .*'residual'"),
        ({"notebook": "09_nothing"}, "experiments.ablations.notebook"),
    ],
)
def test_a_bad_experiment_is_an_error_that_names_the_key(tmp_path, change, message):
    ablations = SMOKE["experiments"]["ablations"] | change
    images = {**SMOKE["datasets"], "complex": SMOKE["datasets"]["brain"] | {"domain": "complex"}}
    with pytest.raises(StudyError, match=rf"mine.yaml: .*{message}"):
        load_profile(written(tmp_path / "mine.yaml", experiments={"ablations": ablations}, datasets=images))


def test_unknown_and_unreadable_profiles(tmp_path):
    with pytest.raises(StudyError, match=rf"unknown profile 'qiuck' .*known: {', '.join(PROFILES)}, or the path"):
        load_profile("qiuck")
    assert load_profile(str(PROJECT / "profiles" / "smoke.yaml")) == load_profile("smoke")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(StudyError, match=r"x.yaml: not a YAML file"):
        load_profile(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("name", ["it's; touch sprung .yaml", "..yaml", "a b.yaml", "$(x).yaml"])
def test_a_profiles_name_is_a_plain_one(tmp_path, name):
    with pytest.raises(StudyError, match="isn't a plain name"):
        load_profile(written(tmp_path / name))


def test_both_domains_are_settings_of_the_same_images_at_the_same_acceleration(tmp_path):
    assert [(one.tag, other.tag) for one, other in Study("domains").both_domains] == [
        ("brain_4x", "brain_complex_4x"),
        ("cardiac_8x", "cardiac_complex_8x"),
        ("knee_4x", "knee_complex_4x"),
    ]
    assert Study("quick").both_domains == []
    declared = yaml.safe_load((PROJECT / "profiles" / "domains.yaml").read_text())
    declared["datasets"]["brain_complex"]["seed"] += 1  # other people
    declared["settings"]["knee_complex"] = [5]  # another acceleration
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(declared))
    assert [one.tag for one, _ in Study(str(tmp_path / "other.yaml")).both_domains] == ["cardiac_8x"]


def test_titles_say_what_is_left_of_k_space():
    quick, smoke = Study("quick"), Study("smoke")
    assert list(quick.undersamplings("brain")) == [f"Brain {factor}x" for factor in (4, 5, 8)]
    assert list(quick.undersamplings("head")) == ["Head, 1∕4 of the resolution"]
    assert list(smoke.undersamplings("cardiac")) == ["Cardiac phantom 8x"]
    assert smoke.title("knee", Undersampling(acceleration=5, seed=3)) == "Knee phantom 5x, mask drawn with seed 3"
    assert smoke.title("brain", Undersampling(acceleration=4, mask="data/own.npy")) == "Brain 4x, mask own"
