"""Evidence of a study of which nothing was trained."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kdmri_lib.declarations import Run
from kdmri_study.evidence import Evidence
from kdmri_study.profile import Study
from kdmri_study.runs import Outcome

PEOPLE = 7


class Made(Evidence):
    """What a run leaves is drawn by its name: 25 to 35 dB, or as `psnr` says by run's id, and so many people."""

    def __init__(self, study: Study, psnr: Mapping[str, float] | None = None):
        super().__init__(study)
        self.psnr = psnr or {}

    def _drawn(self, name: str, number: int) -> Outcome:
        rng = np.random.default_rng(number)
        value = self.psnr.get(name, rng.uniform(25, 35))
        people = pd.DataFrame({"person": [f"p{n}" for n in range(PEOPLE)]}).assign(set="test", kind="phantom")
        metrics = people.assign(
            subject=people.person, psnr=value + np.linspace(-1, 1, PEOPLE), ssim=0.9, nmse=0.1, hfe=0.1
        )
        curve = pd.DataFrame({"step": [1, 2], "validation_psnr": [value - 1, value], "validation_objective": np.nan})
        record = {"run": name, "seconds": 60.0, "processor": "a CPU", "precision": "float32"}
        return Outcome(record, curve, metrics, pd.concat([metrics.assign(slice=n) for n in (0, 1)]))

    def of(self, run: Run) -> Outcome:
        return self._drawn(run.id, int(run.digest, 16))

    def of_untrained(self, dataset, undersampling, method: str) -> Outcome:
        return self._drawn(method, len(method))
