"""Various subjects of brain, heart and knee in turn, on the grid of one of them, which validates and tests alone.

What does a network lose at its own organ, and gain at what it wasn't made for, when it learns from all three? Of the
training subjects a third are the data set's own (option `organ`), the very ones that its own source would make by their
numbers; so are all who validate and test. Brains are drawn on a square of the grid's longer side, of which the middle is
seen; hearts and knees as their sources draw them on this grid.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from kdmri_lib.datasets import generated
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.phantoms import cardiac_phantom, embedded_brain, knee_phantom
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ORGANS = {"embedded_brain": embedded_brain, "cardiac_phantom": cardiac_phantom, "knee_phantom": knee_phantom}
OPTIONS = {"organ": Literal[*ORGANS], **generated.options()}


def _own(dataset: Dataset) -> str:
    """The source of those who validate and test; `StudyError` where the data set names none."""
    if "organ" not in dataset.options:
        raise StudyError(f"data set '{dataset.name}': source every_organ needs the option organ: {', '.join(ORGANS)}")
    return str(dataset.options["organ"])


def _of(dataset: Dataset, source: str) -> Dataset:
    """The same data set, all of it from that source."""
    options = {name: value for name, value in dataset.options.items() if name != "organ"}
    squared = source == "embedded_brain" != _own(dataset)
    shape = (max(dataset.shape),) * 2 if squared else dataset.shape
    return dataset.model_copy(update={"source": source, "options": options, "shape": shape})


def cohort(dataset: Dataset) -> Iterator[Member]:
    """The subjects of the organ's own source, in its order."""
    own = _own(dataset)
    return ORGANS[own].cohort(_of(dataset, own))


def make(dataset: Dataset, number: int = 0, **how) -> tuple[np.ndarray, dict]:
    """Volume `number`, or what else the organ's own source makes: (slices, H, W) float32 or complex64 in any unit, and
    attributes. Of those who train the first is the organ's own, and every third after."""
    sources, own = list(ORGANS), _own(dataset)
    turn = number - 1 if 1 <= number <= dataset.train else 0
    source = sources[(sources.index(own) + turn) % len(sources)]
    image, about = ORGANS[source].make(_of(dataset, source), number=number, **how)
    return padded(image, dataset.shape), about
