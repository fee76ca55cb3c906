"""What the README says that its commands cost, against a fresh clone: an hour or more, so by --long alone."""

import pandas as pd
import pytest

from benchmarks.commands import COSTS, measure
from kdmri_study.provenance import processor_name

STATED = pd.read_csv(COSTS).to_dict("records")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("stated", STATED, ids=[row["command"] for row in STATED])
def test_a_command_costs_in_a_fresh_clone_what_is_stated_to_a_fifth(stated, tmp_path):
    if stated["processor"] != processor_name():
        pytest.skip(f"stated for another machine: {stated['processor']}")
    measure(stated["command"], tmp_path / "costs.csv")
    (found,) = pd.read_csv(tmp_path / "costs.csv").to_dict("records")
    for what in ("minutes", "memory / GB", "disk / GB"):
        assert found[what] == pytest.approx(stated[what], rel=0.2, abs=0.1)
