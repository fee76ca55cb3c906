"""Twenty steps of every kind of training, against numbers that are committed: the guard of `NUMERICS`.

In float64 on tiny images, so that processors agree: losses of all steps and the norm of every weight to 1e-8. Where this
fails because numbers were meant to change, raise `kdmri_lib.declarations.NUMERICS` and write the numbers anew:
``python -m tests.unit.test_golden``.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from kdmri_lib import training
from kdmri_lib.channels import as_channels
from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.declarations import NUMERICS, Dataset, LossTerm, Network, Run, Schedule, Undersampling
from kdmri_lib.declared import training_step
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.models.base import MODELS, Model

NUMBERS = Path(__file__).with_name("golden.json")
SHAPE, STEPS = (24, 20), 20
CASCADES = ("cascade1.convolution", "cascade2.convolution")
PAIRS = [[f"{cascade}3", f"{cascade}2"] for cascade in CASCADES]
FLOWS = [[f"{cascade}{n}" for cascade, n in zip([c] * 4, (1, 4, 1, 2), strict=True)] for c in CASCADES]
BRANCHES = ["branch1"]


def _network(convolutions: int, kind: str = "dccnn", **options) -> Network:
    size = {"cascades": 2} if kind != "vdsr" else {}
    return Network(kind=kind, options={"convolutions": convolutions, "features": 4, **size, **options})


def _run(network: Network, *objective: LossTerm, images: str = "magnitude", **more) -> Run:
    """A run of tiny images, in float64, by reconstruction where no objective is given."""
    dataset = Dataset(
        **{"name": "brain", "source": "made", "shape": SHAPE, "train": 3, "validation": 2, "test": 1, "domain": images}
    )
    schedule = {"steps": STEPS, "batch": 2, "strip": 8, "learning_rate": 2e-3, "decay": "cosine", "validations": 1}
    return Run(
        **{
            "dataset": dataset,
            "undersampling": more.pop("undersampling", Undersampling(acceleration=4)),
            "network": network,
            "objective": objective or (LossTerm(loss="reconstruction"),),
            "schedule": Schedule(**schedule | more.pop("schedule", {})),
            "precision": "float64",
            **more,
        }
    )


def kinds() -> dict[str, Run]:
    """Every kind of training, by name; a teacher or a start among them before those that need it."""
    teacher, student = _network(5), _network(3)

    def by(loss: str, **options) -> LossTerm:
        return LossTerm(loss=loss, options=options)

    taught_by = _run(teacher)
    transfer, imitation = by("attention_transfer", pairs=PAIRS), by("imitation", alpha=0.5)
    pretrained = _run(student, transfer, teacher=taught_by)
    regressed = by("fitnets", pairs=PAIRS, channels=[[4, 3]] * 2, kernel=3)
    on_complex = {"images": "complex"}
    complex_teacher = _run(teacher, **on_complex)
    inherited = [[f"{c}{t}", f"{c}{s}"] for c in CASCADES for t, s in ((1, 1), (3, 2), (5, 3))]
    low = {"undersampling": Undersampling(kind="truncation", acceleration=2), "schedule": {"strip": None, "batch": 2}}
    vdsr = _run(_network(5, "vdsr", initialisation="he"), **low)
    thinnable = _run(_network(5, "thinnable", dropped=0.5))
    vdsr_pairs = [["convolution3", "convolution2"]]
    features = {
        "fitnets": {"pairs": PAIRS},
        "fsp": {"flows": FLOWS},
        "similarity_preserving": {"pairs": PAIRS},
        "attentive_hint": {"pairs": PAIRS},
        "correlation_congruence": {"pairs": PAIRS},
    }
    held = {"undersampling": Undersampling(acceleration=2)}  # or too few lines are left to hold any out
    points = {"undersampling": Undersampling(kind="gaussian_2d", acceleration=4), "schedule": {"strip": None}}
    return {
        "teacher": taught_by,
        "student": _run(student),
        "another seed": _run(student, seed=1),
        "attention transfer": pretrained,
        "imitation after attention transfer": _run(student, imitation, teacher=taught_by, start=pretrained),
        "reconstruction after attention transfer": _run(student, start=pretrained),
        **{name.replace("_", " "): _run(student, by(name, **o), teacher=taught_by) for name, o in features.items()},
        "FitNets with regressors": _run(_network(3, features=3), regressed, teacher=taught_by),
        "attention transfer, as released": _run(
            student, by("attention_transfer", pairs=PAIRS, variant="released"), teacher=taught_by
        ),
        "imitation, as released": _run(student, by("imitation", variant="released"), teacher=taught_by),
        "imitation without truth": _run(student, by("imitation", alpha=0.0), teacher=taught_by, truths=0),
        "teacher asked at each step": _run(student, imitation, teacher=taught_by, teacher_asked="each step"),
        "reconstruction and attention transfer jointly": _run(
            student, by("reconstruction"), transfer.model_copy(update={"weight": 0.01}), teacher=taught_by
        ),
        "from the teacher's weights": _run(student, imitation, teacher=taught_by, start=taught_by, taken=inherited),
        "squared error": _run(student, by("reconstruction", norm="l2")),
        "held-out lines": _run(student, by("held_out_lines", share=0.8), **held),
        "He's initialisation": _run(_network(3, initialisation="he")),
        "no residual, soft data consistency": _run(_network(3, residual=False, strength=4.0)),
        "over-parameterised": _run(student, schedule={"expansion": 6}),
        "weights averaged": _run(student, schedule={"averaging": 0.9}),
        "points of k-space": _run(student, **points),
        "constant rate, whole slices": _run(student, schedule={"strip": None, "decay": "constant"}),
        "decay by steps, epochs": _run(student, schedule={"decay": "step", "steps": None, "epochs": 6.67}),
        "fewer subjects": _run(student, subjects=(1, 3)),
        "student-friendly teacher": _run(
            _network(5, "student_friendly", student_convolutions=3), by("student_friendly", branches=BRANCHES)
        ),
        "thinnable teacher": thinnable,
        "what is left of it": _run(student, start=thinnable, taken=inherited),
        "VDSR teacher": vdsr,
        "VDSR by attention transfer": _run(
            _network(3, "vdsr", initialisation="he"), by("attention_transfer", pairs=vdsr_pairs), teacher=vdsr, **low
        ),
        "VDSR with data consistency": _run(_network(3, "vdsr", data_consistency=True), **low),
        "complex teacher": complex_teacher,
        "complex student": _run(student, transfer, imitation, teacher=complex_teacher, **on_complex),
        "complex, held-out lines": _run(student, by("held_out_lines", share=0.8), **held, **on_complex),
        "complex, points of k-space": _run(student, **points, **on_complex),
    }


def _image(seed: int, count: int, images: str) -> np.ndarray:
    """(count, H, W) float64 in [0, 1]: bumps on a grid, at a smooth phase where images are complex."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    image = np.zeros((count, *SHAPE))
    for bumps in rng.uniform(-0.7, 0.7, (6, count, 2)):
        image += [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.08) for a, b in bumps]
    image /= image.max()
    return image * np.exp(1j * (0.5 + y + x**2)) if images == "complex" else image


class Held:
    """Training slices in memory, as `Slices` of the first and last subject asked for gives them; two slices a subject."""

    def __init__(self, run: Run):
        first, end = run.subjects or (0, 3)
        images = "complex" if run.dataset.channels == 2 else "magnitude"
        self.images = torch.cat([as_channels(_image(n, 2, images)) for n in range(first, end)])
        self.names = [f"slice {n}" for n in range(len(self.images))]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> torch.Tensor:
        return self.images.to(device)


class Recording:
    """A step that keeps the losses that it gives."""

    def __init__(self, step: training.Step):
        self.step, self.losses = step, []

    def __getattr__(self, name: str):
        return getattr(self.step, name)

    def __call__(self, *arguments, **more) -> float:
        self.losses.append(self.step(*arguments, **more))
        return self.losses[-1]


class Trained(NamedTuple):
    losses: list[float]
    validation: float
    network: Model


def trained(run: Run, known: dict[str, Model], folder: Path) -> Trained:
    """Train a tiny run; `known` holds the networks of the runs that it needs, by digest."""
    images = "complex" if run.dataset.channels == 2 else "magnitude"
    dtype, kept = torch.float64, np.complex128 if images == "complex" else np.float64
    if run.precision != "float64":
        dtype, kept = torch.float32, np.complex64 if images == "complex" else np.float32
    data, before = Held(run), torch.get_default_dtype()
    data.images = data.images.to(dtype)
    validation = [Volume(f"v{n}", "validation", _image(10 + n, 2, images).astype(kept), {}) for n in range(2)]
    torch.set_default_dtype(dtype)  # of initial weights too, whose last bits differ between processors in float32
    try:
        step = training_step(run, *(known[r.digest] if r else None for r in (run.teacher, run.start)))
        for module in (step.operator, step.objective):
            module.to(dtype)
        recorded = Recording(step)
        result = training.train(
            *("golden", recorded, run.schedule, run.seed, data, validation, folder / "checkpoint.pt"),
            truths=run.truths,
        )
    finally:
        torch.set_default_dtype(before)
    return Trained(recorded.losses, float(result.curve.validation_psnr.iloc[-1]), result.network)


def numbers(folder: Path) -> tuple[dict[str, dict], dict[str, Model]]:
    """Losses, validation PSNR and weights' norms of every kind of training, by its name; and networks by run's digest."""
    known: dict[str, Model] = {}
    found = {}
    for number, (name, run) in enumerate(kinds().items()):
        place = folder / str(number)
        place.mkdir()
        result = trained(run, known, place)
        known[run.digest] = result.network
        norms = {k: float(v.double().norm()) for k, v in result.network.state_dict().items()}
        found[name] = {"losses": result.losses, "validation_psnr": result.validation, "norms": norms}
    return found, known


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[dict[str, dict], dict[str, Model]]:
    return numbers(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(NUMBERS.read_text())


def test_every_loss_and_model_is_among_the_trainings():
    runs = kinds().values()
    assert {term.loss for run in runs for term in run.objective} == set(LOSSES.all())
    assert {run.network.kind for run in runs} == set(MODELS.all()) - {"bicubic"}, "which doesn't train"


@pytest.mark.parametrize("kind", kinds())
def test_numbers_are_those_that_are_committed(kind, found, golden):
    assert golden["numerics"] == NUMERICS, "write the numbers anew when NUMERICS is raised"
    here, there = found[0][kind], golden["trainings"][kind]
    assert len(there["losses"]) == STEPS
    assert here["losses"] == pytest.approx(there["losses"], rel=1e-8)
    # Of a bias that data consistency takes off again, the gradient is rounding alone.
    assert here["norms"] == pytest.approx(there["norms"], rel=1e-8, abs=1e-8)
    assert here["validation_psnr"] == pytest.approx(there["validation_psnr"], abs=1e-4), "measured in float32"


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-3), ("bfloat16", 0.05)])
def test_other_precisions_come_near(precision, tolerance, found, golden, tmp_path):
    """Of one that starts from given weights: random ones are others in float32."""
    kind = "reconstruction after attention transfer"
    run = kinds()[kind]
    networks = {run.start.digest: found[1][run.start.digest]}
    losses = trained(run.model_copy(update={"precision": precision}), networks, tmp_path).losses
    assert losses == pytest.approx(golden["trainings"][kind]["losses"], rel=tolerance)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        content = {"numerics": NUMERICS, "trainings": numbers(Path(folder))[0]}
    NUMBERS.write_text(json.dumps(content, indent=1) + "\n")
