"""The committed tables, README and model cards follow from the committed evidence."""

import pytest

from kdmri_study.evidence import evidence_file
from kdmri_study.study import Study
from kdmri_study.verification import verify_evidence


@pytest.mark.parametrize("name", ["quick", "evening"])
def test_what_is_committed_follows_from_the_committed_evidence(name):
    study = Study(name)
    assert evidence_file(study).stat().st_size < 5e6
    found = verify_evidence(study)
    assert found.wrong == [] and found.compared > 5
