"""MR contrast from tissue: the signal equations of five sequences, and published relaxation times at 3 T.

Times in milliseconds; signals as proton density, relative to water. White and grey matter T1 and T2: Wansapura et al.
1999 (JMRI 9); T1 of grey matter agrees with Wright et al. 2008; CSF: Lin et al. 2001 (T1), Condon et al. 1987 (T2); fat
and muscle: Gold et al. 2004 (AJR 183); bone marrow as fat; cortical bone gives next to no signal at these echo times.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from kdmri_lib.errors import StudyError


class Tissue(NamedTuple):
    """Proton density relative to water, T1 and T2 in ms."""

    density: float
    t1: float
    t2: float


TISSUES = {
    "white": Tissue(0.70, 832, 80),
    "grey": Tissue(0.82, 1331, 110),
    "csf": Tissue(1.00, 4163, 1500),
    "fat": Tissue(0.90, 365, 68),
    "muscle": Tissue(0.78, 1420, 32),
    "bone": Tissue(0.05, 400, 1),
    "blood": Tissue(0.85, 1650, 150),
    "cartilage": Tissue(0.80, 1240, 37),
}


def spoiled_gradient_echo(tissue: Tissue, tr: float, te: float, flip: float) -> float:
    """SPGR (Ernst) signal: PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE / T2), `flip` in degrees."""
    e1, angle = np.exp(-tr / tissue.t1), np.deg2rad(flip)
    return tissue.density * np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1) * np.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, tr: float, te: float, ti: float) -> float:
    """Magnitude inversion-recovery signal: PD |1 - 2 exp(-TI / T1) + exp(-TR / T1)| exp(-TE / T2)."""
    recovered = abs(1 - 2 * np.exp(-ti / tissue.t1) + np.exp(-tr / tissue.t1))
    return tissue.density * recovered * np.exp(-te / tissue.t2)


def balanced_steady_state(tissue: Tissue, tr: float, flip: float) -> float:
    """bSSFP signal on resonance at TE = TR / 2 (Scheffler and Lehnhardt 2003), `flip` in degrees."""
    e1, e2, angle = np.exp(-tr / tissue.t1), np.exp(-tr / tissue.t2), np.deg2rad(flip)
    steady = (1 - e1) / (1 - (e1 - e2) * np.cos(angle) - e1 * e2)
    return tissue.density * np.sin(angle) * steady * np.exp(-tr / 2 / tissue.t2)


def spin_echo(tissue: Tissue, tr: float, te: float) -> float:
    """Spin-echo signal: PD (1 - exp(-TR / T1)) exp(-TE / T2)."""
    return tissue.density * (1 - np.exp(-tr / tissue.t1)) * np.exp(-te / tissue.t2)


def contrast(name: str, tissue: Tissue) -> float:
    """Signal of `tissue`, relative to water's density, under the protocol `name`: "t1", "ir", "flair", "bssfp" or "pd".

    t1 is a spoiled gradient echo, ir an inversion recovery, bssfp the cine sequence, pd a proton-density spin echo.

    FLAIR is inversion recovery with a long echo at the inversion time that nulls CSF.
    """
    if name == "t1":
        return spoiled_gradient_echo(tissue, tr=11.0, te=2.5, flip=25)
    if name == "ir":
        return inversion_recovery(tissue, tr=4400, te=12, ti=1100)
    if name == "flair":
        null = -TISSUES["csf"].t1 * np.log((1 + np.exp(-9000 / TISSUES["csf"].t1)) / 2)
        return inversion_recovery(tissue, tr=9000, te=120, ti=null)
    if name == "bssfp":
        return balanced_steady_state(tissue, tr=3.2, flip=50)
    if name == "pd":
        return spin_echo(tissue, tr=2750, te=27)
    raise StudyError(f"unknown contrast '{name}'; known: t1, ir, flair, bssfp, pd")


def drawn_sequence(rng: np.random.Generator) -> Callable[[Tissue], float]:
    """A sequence with its parameters drawn from what scanners are run with: signal by tissue."""
    name = rng.choice(["spoiled", "inversion", "fluid nulled", "balanced", "spin echo"])
    if name == "spoiled":
        return partial(spoiled_gradient_echo, tr=rng.uniform(5, 40), te=rng.uniform(1.5, 8), flip=rng.uniform(5, 40))
    if name == "inversion":
        return partial(inversion_recovery, tr=rng.uniform(3000, 6000), te=rng.uniform(8, 20), ti=rng.uniform(400, 1300))
    if name == "fluid nulled":
        return partial(inversion_recovery, tr=9000, te=rng.uniform(70, 140), ti=rng.uniform(2200, 2700))
    if name == "balanced":
        return partial(balanced_steady_state, tr=rng.uniform(2.5, 6), flip=rng.uniform(30, 70))
    return partial(spin_echo, tr=rng.uniform(400, 6000), te=rng.uniform(10, 120))
