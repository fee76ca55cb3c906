"""MR contrast from tissue: the signal equations of three sequences, and published relaxation times at 3 T.

Times in milliseconds, proton density relative to water. White and grey matter T1 and T2: Wansapura et al. 1999 (JMRI 9);
T1 of grey matter agrees with Wright et al. 2008; CSF: Lin et al. 2001 (T1), Condon et al. 1987 (T2); fat and muscle:
Gold et al. 2004 (AJR 183); bone marrow as fat; cortical bone gives next to no signal at these echo times.
"""

from typing import NamedTuple

import numpy as np


class Tissue(NamedTuple):
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


def contrast(name: str, tissue: Tissue) -> float:
    """Signal of `tissue` under the study's protocol `name`: "t1" (SPGR), "ir" (inversion recovery) or "flair".

    FLAIR is inversion recovery with a long echo at the inversion time that nulls CSF.
    """
    if name == "t1":
        return spoiled_gradient_echo(tissue, tr=11.0, te=2.5, flip=25)
    if name == "ir":
        return inversion_recovery(tissue, tr=4400, te=12, ti=1100)
    if name == "flair":
        null = -TISSUES["csf"].t1 * np.log((1 + np.exp(-9000 / TISSUES["csf"].t1)) / 2)
        return inversion_recovery(tissue, tr=9000, te=120, ti=null)
    raise ValueError(f"unknown contrast '{name}'; known: t1, ir, flair")
