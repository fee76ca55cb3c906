"""The teacher with student branches: its own output stays as it is, branches go on from it, students start from them."""

import pytest
import torch

from kdmri_lib.declared import declared_network
from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import begin_from, build_model
from kdmri_study.profile import Study
from tests.studies import SETTING


def test_branches_go_on_from_the_teachers_cascades_and_leave_its_output_alone(mask, measurement):
    model = build_model("student_friendly", mask, cascades=3, convolutions=4, student_convolutions=2, features=4)
    image, asked = model(*measurement, features=["branch1", "branch2", "cascade2.convolution3"])
    plain = build_model("dccnn", mask, cascades=3, convolutions=4, features=4)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("student.")})
    expected, features = plain(*measurement, features=["cascade2.convolution3"])
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(asked["cascade2.convolution3"], features["cascade2.convolution3"])
    with pytest.raises(StudyError, match="branch3"):
        model(*measurement, features=["branch3"])
    assert model.branch_names == ["branch1", "branch2"] and model.feature_groups == plain.feature_groups
    # Branch 1: the teacher's first cascade, then the student's second and third.
    mixed = build_model("dccnn", mask, cascades=3, convolutions=4, features=4)
    for branch in (1, 2):
        mixed.cascades = torch.nn.ModuleList([*model.cascades[:branch], *model.student.cascades[branch:]])
        torch.testing.assert_close(asked[f"branch{branch}"], mixed(*measurement))


def test_a_student_starts_from_the_branches_of_a_student_friendly_teacher():
    """All cascades but the first are the branches'; the first is the student's own."""
    recipe = Study("smoke").recipe(SETTING, 0).changed(student_friendly=True)
    network, teacher = declared_network(recipe.finetuned(recipe.teacher)), declared_network(recipe.teacher)
    own = {k: v.clone() for k, v in network.state_dict().items()}
    begin_from(network, teacher)
    for name, value in network.state_dict().items():
        expected = own if name.startswith("cascades.0.") else teacher.student.state_dict()
        assert torch.equal(value, expected[name])
        assert name.startswith("cascades.0.") or not torch.equal(value, own[name])
