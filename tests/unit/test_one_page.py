"""The paper on one page (notebook 10), executed on small parameters and held to the library: its losses, and its loop."""

import copy
import json

import pytest
import torch

from kdmri_lib.declarations import LossTerm, Schedule
from kdmri_lib.losses.base import Prediction, build_loss
from kdmri_lib.losses.objective import Objective
from kdmri_lib.storage import PROJECT
from kdmri_lib.training import Step, learning_rate

NOTEBOOK = PROJECT / "notebooks" / "10_the_paper_on_one_page.ipynb"
CELLS = [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
SMALL = {"features": 4, "steps": 3, "subjects": 1}
PAIRS = [[f"cascade{c}.convolution3", f"cascade{c}.convolution2"] for c in range(1, 6)]
STAGES = {
    "from_truth": LossTerm(loss="reconstruction"),
    "from_attention": LossTerm(loss="attention_transfer", options={"pairs": PAIRS}),
    "from_truth_and_teacher": LossTerm(loss="imitation", options={"alpha": 0.3}),
}


@pytest.fixture(scope="module")
def page() -> dict:
    """All names that the notebook's cells leave."""
    found: dict = {}
    for number, cell in enumerate(CELLS):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, code cell {number}", "exec"), found)
        if "parameters" in cell["metadata"].get("tags", []):
            found |= SMALL
    return found


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_eq_3_is_the_librarys_and_its_gradient_too(page):
    values = []
    for ours in (True, False):
        student = {s: _random(3, 4, 8, 6, seed=n).requires_grad_() for n, (_, s) in enumerate(PAIRS)}
        teacher = {t: _random(3, 7, 8, 6, seed=10 + n) for n, (t, _) in enumerate(PAIRS)}
        if ours:
            value = page["attention_transfer"](student, teacher)
        else:
            loss = build_loss("attention_transfer", pairs=PAIRS)
            value = loss(None, Prediction(None, student), Prediction(None, teacher))
        value.backward()
        values.append([value.item(), *(feature.grad for feature in student.values())])
    (one, *gradients), (other, *theirs) = values
    assert one == pytest.approx(other, rel=1e-12) and one > 0
    for gradient, reference in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_eq_4_is_the_librarys(page, monkeypatch, alpha):
    monkeypatch.setitem(page, "alpha", alpha)
    truth, student, teacher = (_random(3, 1, 8, 6, seed=n) for n in range(3))
    loss = build_loss("imitation", alpha=alpha)
    expected = loss(truth, Prediction(student, {}), Prediction(teacher, {}))
    assert page["imitation"](truth, student, teacher).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.fixture
def float64():
    """Networks, and what a step hands back of them, in float64: what is computed counts, not how it is rounded."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("stage", STAGES)
def test_its_loop_takes_the_librarys_steps(page, monkeypatch, float64, stage):
    double = {"train_images": page["train_images"].double(), "undersample": copy.deepcopy(page["undersample"]).double()}
    for name, value in {**double, "teacher": copy.deepcopy(page["teacher"]).double(), "alpha": 0.3}.items():
        monkeypatch.setitem(page, name, value)
    steps, rate = 4, 2e-3
    own = page["train"](page["network"](3).double(), page[stage], steps, rate)
    step = Step(
        page["network"](3).double(),
        page["undersample"],
        Objective([STAGES[stage]]),
        None if stage == "from_truth" else copy.deepcopy(page["teacher"]),
        precision="float64",
        each_step=True,
    )
    schedule = Schedule(steps=steps, learning_rate=rate, decay="cosine")
    theirs = [step(page["batch"](n), learning_rate(schedule, n, steps)) for n in range(steps)]
    assert own == pytest.approx(theirs, rel=1e-8)
    assert own[0] != pytest.approx(own[-1], rel=1e-3), "the weights changed in between"
