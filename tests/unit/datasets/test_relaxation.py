"""Signal equations in the limits that textbooks give."""

import numpy as np
import pytest

from kdmri_lib.datasets.relaxation import (
    TISSUES,
    Tissue,
    balanced_steady_state,
    contrast,
    inversion_recovery,
    spin_echo,
    spoiled_gradient_echo,
)
from kdmri_lib.errors import StudyError


def test_signal_equations_in_their_limits():
    """At full recovery a 90 degree pulse gives the proton density; bSSFP at short TR gives M0 / (1 + T1 / T2) sin-like."""
    tissue = Tissue(0.8, 500, 50)
    assert spoiled_gradient_echo(tissue, tr=1e5, te=0, flip=90) == pytest.approx(0.8)
    ernst = np.degrees(np.arccos(np.exp(-10 / 500)))
    signals = [spoiled_gradient_echo(tissue, tr=10, te=0, flip=ernst + d) for d in (-1, 0, 1)]
    assert max(signals) == signals[1], "the Ernst angle gives most"
    assert balanced_steady_state(tissue, tr=0.01, flip=90) == pytest.approx(0.8 / (1 + 500 / 50), rel=1e-3)
    assert contrast("t1", TISSUES["white"]) > contrast("t1", TISSUES["grey"]) > contrast("t1", TISSUES["csf"])
    assert contrast("flair", TISSUES["csf"]) < 0.01
    with pytest.raises(StudyError, match="unknown contrast 't9'"):
        contrast("t9", TISSUES["white"])


def test_echoes_decay_and_inversion_nulls():
    tissue = Tissue(0.8, 500, 50)
    assert spin_echo(tissue, tr=1e5, te=50) == pytest.approx(0.8 / np.e)
    assert spin_echo(tissue, tr=500, te=0) == pytest.approx(0.8 * (1 - 1 / np.e))
    assert inversion_recovery(tissue, tr=1e5, te=0, ti=500 * np.log(2)) == pytest.approx(0, abs=1e-12)
    assert inversion_recovery(tissue, tr=1e5, te=0, ti=1e5) == pytest.approx(0.8)
    assert contrast("pd", TISSUES["csf"]) > 0 and contrast("bssfp", TISSUES["blood"]) > contrast(
        "bssfp", TISSUES["muscle"]
    )
