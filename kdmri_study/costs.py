"""What a run costs to train: optimiser steps, and multiply-accumulates with and without its teacher's training.

A step costs three passes of the network that trains (one forward, two backward), and one of the teacher's where it is asked
at each step, over the pixels of the batch. Where it is asked once, that costs one pass over the whole training slices in
all. Validation, and a loss's own arithmetic on the maps, aren't counted.
"""

import math
from functools import cache
from typing import NamedTuple

import pandas as pd

from kdmri_lib.declarations import Run
from kdmri_lib.losses.objective import Objective
from kdmri_lib.masks import line_axis
from kdmri_lib.models.base import multiply_accumulates
from kdmri_study.build import declared_mask, run_network


class Cost(NamedTuple):
    """Of a run with the stages that it starts from: `steps`; multiply-accumulates with the teacher `given`, and of the
    `whole`, with the training of its teacher."""

    steps: int
    given: float
    whole: float


def training_slices(run: Run) -> int:
    """How many slices a run trains on, as declared: a volume per subject, of one slice where no number is declared.

    Where that isn't so, costs are of that many slices; the ratio of two runs in epochs is right all the same.
    """
    first, end = run.subjects or (0, run.dataset.train)
    return (end - first) * (run.dataset.slices_per_volume or 1)


def _pixels(run: Run) -> float:
    """Pixels of a training sample: of a slice, or of the strip of it."""
    height, width = run.dataset.shape
    if not run.schedule.strip:
        return height * width
    along_rows = height != width and line_axis(declared_mask(run.dataset, run.degradation)) == 1
    extent, across = (height, width) if along_rows else (width, height)
    return across * min(run.schedule.strip, extent)


def stage(run: Run) -> tuple[int, float]:
    """Optimiser steps of one training alone, and its multiply-accumulates with the teacher given."""
    return _stage(run.model_dump_json())


@cache
def _stage(declaration: str) -> tuple[int, float]:
    run = Run.model_validate_json(declaration)
    slices = training_slices(run)
    steps = run.schedule.total_steps(slices)
    seen = steps * run.schedule.batch * _pixels(run)
    # The product of two that an expanded convolution trains by is as a pass over so many pixels more.
    total = 3 * (seen + steps * (run.schedule.expansion or 0)) * multiply_accumulates(run_network(run))
    objective = Objective(run.objective)
    if objective.uses_teacher and run.teacher:
        whole = slices * math.prod(run.dataset.shape)
        once = objective.asks_once and run.teacher_asked == "once"
        asked = (whole if once else seen) + (whole if objective.needs_teacher_errors else 0)
        total += asked * multiply_accumulates(run_network(run.teacher))
    return steps, total


def stages(run: Run) -> tuple[list[Run], list[Run]]:
    """The trainings of its network that a run consists of, the last first; and those of other networks that it needs."""
    own, others, at = [run], [], run
    while at is not None:
        others += [at.teacher] if at.teacher else []
        at = at.start
        if at is not None and at.network != run.network:
            others.append(at)
            break
        own += [at] if at is not None else []
    return own, list({other.id: other for other in others}.values())


def cost(run: Run) -> Cost:
    """What a run costs, from its declaration alone."""
    own, others = stages(run)
    counted = [stage(each) for each in own]
    given = sum(total for _, total in counted)
    return Cost(sum(steps for steps, _ in counted), given, given + sum(cost(other).whole for other in others))


def against_compute(run: Run, curve: pd.DataFrame) -> pd.DataFrame:
    """A run's curve with a column `compute`: multiply-accumulates so far, with the teacher given and with the stages that
    the run starts from; what one stage costs is spread evenly over its steps."""
    steps, total = _stage(run.model_dump_json())
    return curve.assign(compute=cost(run).given - total + total * curve.step / steps)
