"""Data sets of images that code generates: who is in one, and how a volume is made, whichever the generator.

Options of a data set: `various: true` draws every kind of variety (`variety`); `without: noise` all but that one, which
stays as the generator has it otherwise, and `without: all` none, of training subjects alone, so that what is left out is
judged on the same validation and test subjects. `plain_subjects: 12` adds a test set "plain" of so many subjects without
variety, `strangers: 6` one of images that no generator trains on (`strangers`).
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from kdmri_lib.datasets.cohort import SPLITS, Member
from kdmri_lib.datasets.fields import declared_phase
from kdmri_lib.datasets.strangers import stranger
from kdmri_lib.datasets.variety import LOWEST_SNR, PLAIN, Variety
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError


def options(*kinds: str) -> dict[str, Any]:
    """The options of a generator whose variety is of these `kinds`, with their types."""
    count = Annotated[int, Field(gt=0)]
    return {"various": bool, "without": Literal[("all", *kinds)], "plain_subjects": count, "strangers": count}


def cohort(dataset: Dataset, prefix: str = "phantom", further: tuple[str, ...] = ()) -> Iterator[Member]:
    """Subjects numbered from 1 through the splits, a volume each, made by its `number`; then those that only test: one for
    each of the contrasts `further`, in a set of its name; plain ones; strangers, named by their signal-to-noise ratio.
    `StudyError` without a number of slices, or where a kind of variety is left out of none."""
    if dataset.slices_per_volume is None:
        raise StudyError(f"data set '{dataset.name}': source {dataset.source} needs slices_per_volume")
    if "without" in dataset.options and not dataset.options.get("various"):
        raise StudyError(f"data set '{dataset.name}': option 'without' needs the option various: true")
    plain, count = (int(dataset.options.get(name, 0)) for name in ("plain_subjects", "strangers"))
    ratios = [np.inf, *np.geomspace(80, LOWEST_SNR, max(count - 1, 0)).round().tolist()][:count]
    wanted = [
        *((split, prefix, "", {}) for split in SPLITS for _ in range(getattr(dataset, split))),
        *((protocol, protocol, "", {"protocol": protocol}) for protocol in further),
        *[("plain", "plain", "", {"plain": True})] * plain,
        *(("strangers", "stranger", f"_snr{r:g}" if np.isfinite(r) else "_clean", {"snr": r}) for r in ratios),
    ]
    for number, (split, kind, ending, how) in enumerate(wanted, 1):
        name = f"{kind}{number:03d}{ending}"
        yield Member(split, name, name, {"number": number} | how)


def make(
    subject_volume: Callable[..., np.ndarray],
    known: dict[str, Any],
    about: dict,
    dataset: Dataset,
    number: int,
    plain: bool = False,
    snr: float | None = None,
) -> tuple[np.ndarray, dict]:
    """Volume `number` of a data set, (slices, H, W) float32 or complex64 in any unit, and its attributes; with a
    signal-to-noise ratio `snr`, a stranger; one that is `plain` has no variety.

    `subject_volume` : the generator, whose options `known` say of which kinds its variety may be; `about` : attributes.
    """
    rng, slices = np.random.default_rng([dataset.seed, number]), dataset.slices_per_volume
    phase = declared_phase(dataset, number, slices)
    if snr is not None:
        image = stranger(rng, slices, dataset.shape, snr, phase)
        return image, {"kind": "phantom", "origin": "random regions of no organ; see strangers", "snr": snr}
    variety, left_out = PLAIN, dataset.options.get("without") if number <= dataset.train else None
    if dataset.options.get("various") and not plain and left_out != "all":
        kinds = (kind for kind in get_args(known["without"]) if kind not in ("all", left_out))
        variety = Variety((dataset.seed, number), tuple(kinds))
    return subject_volume(rng, slices, dataset.shape, phase=phase, variety=variety), about
