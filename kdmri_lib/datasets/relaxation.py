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


CSF = TISSUES["csf"].t1
NULLS_CSF = -CSF * np.log((1 + np.exp(-9000 / CSF)) / 2)  # inversion time, ms, at a TR of 9 s
PROTOCOLS = {
    "t1": partial(spoiled_gradient_echo, tr=11.0, te=2.5, flip=25),
    "ir": partial(inversion_recovery, tr=4400, te=12, ti=1100),
    "flair": partial(inversion_recovery, tr=9000, te=120, ti=NULLS_CSF),
    "bssfp": partial(balanced_steady_state, tr=3.2, flip=50),  # cine
    "pd": partial(spin_echo, tr=2750, te=27),
}


def contrast(name: str, tissue: Tissue) -> float:
    """Signal of `tissue`, relative to water's density, under one of `PROTOCOLS`."""
    if name not in PROTOCOLS:
        raise StudyError(f"unknown contrast '{name}'; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name](tissue)


def drawn_sequence(rng: np.random.Generator) -> Callable[[Tissue], float]:
    """A sequence with its parameters drawn from what scanners are run with: signal by tissue."""
    sequence, ranges = [
        (spoiled_gradient_echo, {"tr": (5, 40), "te": (1.5, 8), "flip": (5, 40)}),
        (inversion_recovery, {"tr": (3000, 6000), "te": (8, 20), "ti": (400, 1300)}),
        (inversion_recovery, {"tr": (9000, 9000), "te": (70, 140), "ti": (2200, 2700)}),  # fluid nulled
        (balanced_steady_state, {"tr": (2.5, 6), "flip": (30, 70)}),
        (spin_echo, {"tr": (400, 6000), "te": (10, 120)}),
    ][rng.integers(5)]
    drawn = {name: rng.uniform(low, high) if low < high else low for name, (low, high) in ranges.items()}
    return partial(sequence, **drawn)
