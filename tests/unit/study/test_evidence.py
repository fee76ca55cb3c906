"""The committed tables, README and model cards follow from the committed evidence, of which there may be a part."""

import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.evidence import piece, pieces, unpacked
from kdmri_study.study import Study
from kdmri_study.verification import verify_evidence
from tests.studies import PROFILES, with_downloads

COMMITTED = [name for name in PROFILES if (Study("smoke").folder / "results" / name / "evidence").is_dir()]


def test_evidence_is_committed():
    assert "quick" in COMMITTED


@pytest.mark.parametrize("name", [name for name in COMMITTED if name != "smoke"])
def test_what_is_committed_follows_from_the_committed_evidence(name):
    study = Study(name)
    assert all(each.file(study).stat().st_size < 2e6 for each in pieces(study) if each.file(study).exists())
    found = verify_evidence(study)
    assert found.wrong == [] and found.compared > 5


@pytest.mark.parametrize("name", PROFILES)
def test_every_run_of_a_study_is_in_a_piece_after_those_that_it_needs(name, tmp_path):
    study = Study(with_downloads(name, tmp_path), tmp_path)
    found = pieces(study)
    assert {run.id for each in found for run in each.runs} == set(study.runs)
    for each in found:
        seen = set()
        for run in each.runs:
            assert {needed.id for needed in run.needs} <= seen
            seen.add(run.id)
    assert len({each.name for each in found}) == len(found)
    assert piece(study, found[0].name) == found[0]


def test_a_piece_that_there_is_none_of_is_named(tmp_path):
    with pytest.raises(StudyError, match="profile 'quick' has no piece 'brain_6x_seed0'; it has brain_4x_seed0, "):
        piece(Study("quick"), "brain_6x_seed0")
    with pytest.raises(StudyError, match=r"evidence: no evidence; ./run_all.sh --profile table1 makes it"):
        unpacked(Study("table1", tmp_path), tmp_path / "there")
