"""Distil a network of your own: any two PyTorch modules, any physics, the losses and the loop of this library.

`docs/own_networks.md` holds three short programs, notebook 11 a whole comparison.
"""

import copy
import difflib
import hashlib
import random
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from kdmri_lib.batches import Batches
from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.declarations import Precision, Schedule
from kdmri_lib.devices import accelerated
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.attention_transfer import AttentionTransfer, attention_map
from kdmri_lib.losses.base import Fits, Loss, Prediction
from kdmri_lib.losses.fitnets import FitNets
from kdmri_lib.losses.fsp import FSP
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import Model
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.training import Step, Trained, predict, train

TINY = 1e-24  # a root of zero has no gradient
PLAIN = (str, int, float, tuple, list)  # of a loss's attributes, what a checkpoint knows it by


class Wrapped(nn.Module):
    """Any network, whose submodules' outputs can be asked for by name, as a `Model`'s features can.

    Names are those of ``network.named_modules()``; of a submodule that is called more than once, ``name`` is the first
    output, ``name_1`` the second, and so on, as in torchvision. A map is what it is when the network has ended: a layer
    that works in place (``ReLU(inplace=True)``) changes the one before it too.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor, features: Collection[str] = ()):
        """What the network gives for its inputs; with `features`, also a dict of these outputs, (B, K, H, W) each.

        `StudyError` when there is no submodule of that name, it wasn't called so often, or its output isn't such a map.
        """
        if not features:
            return self.network(*inputs)
        modules = dict(self.network.named_modules(remove_duplicate=False))
        places = {name: _place(name, modules) for name in features}
        with _recorded({name: modules[name] for name, _ in places.values()}) as outputs:
            image = self.network(*inputs)
        asked = {}
        for name, (module, call) in places.items():
            if call >= len(outputs[module]):
                raise StudyError(f"feature '{name}': the network called '{module}' {len(outputs[module])} times")
            asked[name] = found = outputs[module][call]
            if not isinstance(found, Tensor) or found.ndim != 4:
                raise StudyError(f"feature '{name}' is {_shape(found)}; expected a map (B, K, H, W)")
        return image, asked


def _place(name: str, modules: dict[str, nn.Module]) -> tuple[str, int]:
    """Which submodule a feature is the output of, and of which of its calls."""
    found = re.fullmatch(r"(.+)_([1-9]\d*)", name)
    if name in modules or (found and found[1] in modules):
        return (name, 0) if name in modules else (found[1], int(found[2]))
    near = difflib.get_close_matches(name, filter(None, modules), 12, 0)
    raise StudyError(f"no submodule '{name}'; nearest of this network's {len(modules) - 1}: {', '.join(near)}")


@contextmanager
def _recorded(modules: dict[str, nn.Module]):
    """All outputs of these modules in the block, by their names, in the order of the calls."""
    outputs = {name: [] for name in modules}
    with ExitStack() as hooks:
        for n, module in modules.items():
            hooks.enter_context(module.register_forward_hook(lambda _m, _i, out, n=n: outputs[n].append(out)))
        yield outputs


def _shape(found) -> str:
    return str(tuple(found.shape)) if isinstance(found, Tensor) else f"a {type(found).__name__}"


@torch.no_grad()
def feature_shapes(network: nn.Module, *inputs: Tensor | tuple[Tensor, ...]) -> dict[str, tuple[int, ...]]:
    """The maps that a network offers for these inputs, or for a tuple of them as `physics` gives it: shapes (B, K, H, W) by
    the names that losses take."""
    inputs = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], tuple) else inputs
    with _recorded({name: module for name, module in network.named_modules() if name}) as outputs:
        network(*inputs)
    calls = ((f"{name}_{n}" if n else name, out) for name, outs in outputs.items() for n, out in enumerate(outs))
    return {name: tuple(out.shape) for name, out in calls if isinstance(out, Tensor) and out.ndim == 4}


class _Fitted(Loss):
    """A loss on pairs of maps that differ in channels or size: the student's goes through a 1x1 convolution that trains
    along (Romero et al. 2015), and is interpolated to the teacher's size; for attention transfer it is the attention map
    (Zagoruyko and Komodakis 2017)."""

    def __init__(self, loss: Loss, channels: list[tuple[int, int]]):
        super().__init__()
        self.loss, self.judges_image, self.relates_samples = loss, loss.judges_image, loss.relates_samples
        self.label, self.pairs = loss.label, tuple(loss.pairs)
        # By their names; by numbers where the same map stands in two pairs.
        if any(len(set(side)) < len(self.pairs) for side in zip(*self.pairs, strict=True)):
            loss.pairs = tuple((str(n), str(n)) for n in range(len(self.pairs)))
        self.regressors = nn.ModuleList(
            nn.Identity() if shown == mine else nn.Conv2d(mine, shown, 1) for shown, mine in channels
        )

    def prepare(self, teacher_errors: Tensor) -> None:
        self.loss.prepare(teacher_errors)

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        mine, shown = {}, {}
        for n, (own, theirs) in enumerate(self.feature_pairs(prediction, teacher)):
            own = self.regressors[n](own)
            if own.shape[2:] != theirs.shape[2:]:
                attention = isinstance(self.loss, AttentionTransfer)
                own = attention_map(own).unsqueeze(1) if attention else own
                own = F.interpolate(own, theirs.shape[2:], mode="bilinear")
                own = own.clamp_min(TINY).sqrt() if attention else own  # whose attention map is that
            name, named = self.loss.pairs[n]
            shown[name], mine[named] = theirs, own
        return self.loss(target, Prediction(prediction.image, mine), Prediction(teacher.image, shown))


def _fitted(loss: Loss, target: Tensor, student: Prediction, teacher: Prediction | None) -> tuple[Loss, float]:
    """A copy of a loss that can compare what both networks give, and its value there; `StudyError`, with the maps and their
    shapes, where none can."""
    loss, name = copy.deepcopy(loss), loss.called
    if loss.held_out:
        return loss, 0.0
    maps = [(teacher.features[t], student.features[s]) for t, s in loss.pairs] if teacher else []
    said = "; ".join(
        f"teacher's '{t}' {tuple(shown.shape)} and student's '{s}' {tuple(mine.shape)}"
        for (t, s), (shown, mine) in zip(loss.pairs, maps, strict=True)
    )
    channels = [(shown.shape[1], mine.shape[1]) for shown, mine in maps]
    differ = any(t != s for t, s in channels)
    if isinstance(loss, FSP) and differ:
        raise StudyError(f"{name} can't compare {said}: their channels differ")
    own = isinstance(loss, FitNets) and [*loss.parameters()]  # regressors that it was given
    regressed = "channels" in loss.fits and differ and not own
    if regressed or ("size" in loss.fits and any(shown.shape[2:] != mine.shape[2:] for shown, mine in maps)):
        loss = _Fitted(loss, channels if regressed else [(0, 0)] * len(maps))
    trial = copy.deepcopy(loss).to(target.device)
    trial.prepare(torch.tensor([0.0, 1.0]))
    try:
        value = trial(target, student, teacher)
    except (RuntimeError, StudyError) as error:
        raise StudyError(f"{name} can't compare {said or 'the images'}: {error}") from None
    if not isinstance(value, Tensor) or value.ndim:
        raise StudyError(f"{name} gives {_shape(value)}; expected a tensor of one number")
    return loss, float(value)


def _terms(losses: Sequence, teacher: nn.Module | None) -> list[tuple[float, Loss]]:
    """Losses with their weights; `StudyError` for anything else."""
    if not isinstance(losses, list | tuple) or not losses:
        raise StudyError(f"losses: {_shape(losses) if losses else 'none'}; expected a list of them")
    terms = [term if isinstance(term, tuple) else (1.0, term) for term in losses]
    for term in terms:
        if len(term) != 2 or not isinstance(term[0], int | float) or not isinstance(term[1], Loss):
            given = ", ".join(type(part).__name__ for part in term)
            raise StudyError(f"losses: ({given}); expected an instance of a `Loss`, or (weight, that)")
        loss = term[1]
        if "_parameters" not in vars(loss):
            raise StudyError(f"{type(loss).__name__}: its __init__ doesn't begin with super().__init__()")
        if not isinstance(loss.fits, list | tuple) or set(loss.fits) - {*get_args(Fits)}:
            raise StudyError(f"{loss.called}: fits = {loss.fits!r}; expected a tuple of {', '.join(get_args(Fits))}")
        if teacher is None and loss.uses_teacher:
            raise StudyError(f"{loss.called} needs a teacher (its uses_teacher is True), and none is given")
    return terms


class _Images:
    """True images (n, C, H, W) of a tensor, or of a `DataLoader`'s data set, whose items are read when a batch asks for
    them; whatever they draw at random follows from the seed, the step and the batch."""

    turns = False  # by a random phase: two channels may be anything

    def __init__(self, data: Tensor | DataLoader, what: str, seed: int):
        self.data, self.what, self.seed, self.step, self.device = data, what, seed, 0, torch.device("cpu")
        if not isinstance(data, Tensor | DataLoader):
            raise StudyError(f"{what}: {_shape(data)}; expected a tensor or a DataLoader")
        images, sampler = (data.dataset, data.sampler) if isinstance(data, DataLoader) else (data, None)
        if not hasattr(images, "__len__") or not len(images):
            raise StudyError(
                f"{what}: no image, or nobody knows how many; expected a tensor, or a data set with a length"
            )
        if not isinstance(sampler, SequentialSampler | RandomSampler | None):
            raise StudyError(f"{what}: a {type(sampler).__name__}; `distil` shuffles by itself, expected no sampler")
        self.names = [f"image {n}" for n in range(len(images))]
        first = self._checked(data, range(len(images))) if isinstance(data, Tensor) else self[[0]]
        self.shape = (len(images), *first.shape[1:])

    def to(self, device: torch.device) -> "_Images":
        self.device = device
        return self

    def begin(self, step: int) -> None:
        """What is read from here on belongs to that step."""
        self.step = step

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: list[int]) -> Tensor:
        if isinstance(self.data, Tensor):
            return self.data[chosen].to(self.device)
        _seed(self.seed, self.step, *chosen)
        try:
            batch = self.data.collate_fn([self.data.dataset[n] for n in chosen])
        except RuntimeError as error:  # such as images of different sizes
            names = ", ".join(self.names[n] for n in chosen[:8])
            raise StudyError(f"{self.what}: {names} make no batch: {error}") from error
        batch = batch[0] if isinstance(batch, list | tuple) else batch
        return self._checked(batch, chosen).to(self.device)

    def _checked(self, batch, chosen: Sequence[int]) -> Tensor:
        """Images as they should be, of these numbers; `StudyError` otherwise."""
        if not isinstance(batch, Tensor) or batch.ndim != 4 or not batch.is_floating_point():
            dtype = f" {batch.dtype}" if isinstance(batch, Tensor) else ""
            raise StudyError(
                f"{self.what}: {_shape(batch)}{dtype}; expected real images (B, C, H, W), or a tuple that begins so"
            )
        finite = batch.isfinite().flatten(1).all(dim=1).tolist()
        if not all(finite):
            wrong = ", ".join(self.names[n] for n, right in zip(chosen, finite, strict=True) if not right)
            raise StudyError(f"{self.what}: NaN or infinity in {wrong}")
        return batch


def _seed(*numbers: int) -> None:
    """Begin all random numbers that a network, its physics or a data set may draw."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002, other people's code draws from it
    random.seed(seed)


@contextmanager
def _as_before():
    """Leave the process's random numbers, and its choice of algorithms, as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    deterministic = torch.get_deterministic_debug_mode()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_deterministic_debug_mode(deterministic)


class _Physics(nn.Module):
    """What both networks get: the user's function, a tensor or a tuple, as a tuple."""

    axis = None  # no strips

    def __init__(self, physics: Callable):
        super().__init__()
        self.physics = physics

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        given = self.physics(image)
        if not isinstance(given, Tensor | tuple | list):
            raise StudyError(f"physics gives {_shape(given)}; expected a tensor or a tuple of tensors")
        return (given,) if isinstance(given, Tensor) else tuple(given)

    def split(self, *_):
        raise StudyError("a loss holds measured lines out; expected an UndersamplingOperator as physics")


class _Step(Step):
    """A step that draws by its number alone."""

    def __call__(self, target: Tensor, rate: float, answers=None, draw: np.random.Generator | None = None) -> float:
        _seed(int(draw.integers(2**32)))
        return super().__call__(target, rate, answers, draw)

    def teacher_errors(self, batches: Batches) -> Tensor:
        _seed(0)
        return super().teacher_errors(batches)

    def validate(self, volumes: list[Tensor], answers: Tensor | None = None) -> dict[str, float]:
        _seed(0)
        return super().validate(volumes, answers)


def _digest(tensors: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def distil(
    student: nn.Module,
    teacher: nn.Module | None,
    losses: Sequence[Loss | tuple[float, Loss]],
    data: Tensor | DataLoader,
    physics: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    validation: Tensor | DataLoader,
    checkpoint: Path | str | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    progress: Callable[[int, int, dict], None] = lambda step, steps, latest: None,
    stop: Callable[[], bool] = lambda: False,
    **schedule,
) -> Trained:
    """Train a copy of `student` by these losses; the trained network, in evaluation mode, and its curve.

    Neither network is changed, nor are the losses: what weights of their own learn stays in copies. The same arguments give
    the same bits on the same machine, also when a killed training goes on from its checkpoint: batches, and all that
    networks, physics and data draw from the generators of PyTorch, NumPy and Python, follow from the seed and the step.

    The weights are those of the best validation: by the PSNR (dB) of all its images at once, of the magnitude where they
    have two channels; where no loss looks at the true image, by the losses themselves.

    Parameters
    ----------
    student, teacher : modules, or this library's models; a teacher may be None where no loss uses it (a baseline). Each is
        called with what `physics` gives, and returns an image.
    losses : a list of those of `kdmri_lib.losses` or your own (`Loss`), or (weight, loss). Pairs are (teacher's feature,
        student's), see `Wrapped`. Where maps differ and a loss needs them alike, a 1x1 convolution (FitNets) or bilinear
        interpolation of the student's makes them so; a loss of your own says it in `fits`.
    data, validation : true images, (n, C, H, W) float, all of one size; or a `DataLoader`, of which data set and
        `collate_fn` are used, its batch's first entry where it is a tuple; order and batches are this function's.
    physics : from true images (B, C, H, W), on the GPU where there is one, to what both networks get: a tensor or a tuple;
        or an `UndersamplingOperator`. What it draws, it draws from PyTorch's, NumPy's or Python's own generator.
    checkpoint : a file, written at each validation and each minute, from which the same training goes on. Another one is
        told by its schedule, both networks' weights and what they make of two images, what physics makes of these, the
        losses' names, attributes and values, all images of a tensor, and two of a `DataLoader`.
    precision : "float32", "bfloat16", "float64", or "auto" for bfloat16 where the hardware has it.
    progress, stop : see `kdmri_lib.training.train`.
    schedule : of `kdmri_lib.declarations.Schedule`: steps or epochs, batch (4), learning_rate (1e-4, of Adam), decay
        ("constant", "cosine", "step"), validations (how often), averaging.

    `StudyError` when maps or images don't fit, by their names and shapes, or the checkpoint is of another training; all
    other errors are those of `kdmri_lib.training.train`.
    """
    try:
        declared = Schedule(**schedule)
    except ValidationError as error:
        found = error.errors()[0]
        told = " ".join([*map(str, found["loc"]), found["msg"]])
        raise StudyError(f"distil: {told}; options are {', '.join(Schedule.model_fields)}") from None
    if precision not in get_args(Precision):
        raise StudyError(f"distil: precision {precision!r}; expected one of {', '.join(get_args(Precision))}")
    if not any(weights.requires_grad for weights in student.parameters()):
        raise StudyError("student: none of its weights trains (requires_grad)")
    terms = _terms(losses, teacher)
    with _as_before(), tempfile.TemporaryDirectory() as aside:
        training, judged = _Images(data, "data", seed), _Images(validation, "validation", seed)
        known = Model | Wrapped | None
        network, shown = (
            copy.deepcopy(n) if isinstance(n, known) else Wrapped(copy.deepcopy(n)) for n in (student, teacher)
        )
        operator = physics if isinstance(physics, UndersamplingOperator) else _Physics(physics)
        first, validated = training[[0, min(1, len(training) - 1)]], judged[list(range(len(judged)))]
        _seed(seed)
        fitted, tried = _tried(terms, network, shown, operator, first, precision)
        plain = [(w, type(x).__name__, {k: v for k, v in vars(x).items() if isinstance(v, PLAIN)}) for w, x in terms]
        seen = [data] if isinstance(data, Tensor) else [first]
        said = {
            "schedule": f"{declared}, seed {seed}, {precision}",
            "losses": str(plain),
            "student": _digest(network.state_dict().values()),
            "teacher": _digest(shown.state_dict().values()) if shown else "",
            "data": f"{training.shape} {_digest([*seen, validated])}",
            **tried,
        }
        objective = Objective(fitted)
        how = {"each_step": True, "expansion": declared.expansion, "averaging": declared.averaging}
        step = _Step(network, operator, objective, shown, precision, **how)
        volumes = [Volume("validation", "validation", validated, {})]
        path, name = Path(checkpoint or Path(aside) / "checkpoint.pt"), f"distilling {type(student).__name__}"
        made = train(name, step, declared, seed, training, volumes, path, None, progress, stop, said)
    return made._replace(network=getattr(made.network, "network", made.network).eval())


@torch.no_grad()
def _tried(
    terms: list, student: nn.Module, teacher: nn.Module | None, operator, target: Tensor, precision: str
) -> tuple[list[tuple[float, Loss]], dict[str, str]]:
    """The losses, (weight, loss) each, fitted to what both networks give for two images; and how large all of this is, for
    a checkpoint to know it by, to four digits, since processors differ in the last. `StudyError` where networks or losses
    can't."""
    processor, given, computed = accelerated(precision), {"teacher": None}, []
    target, operator = target.to(processor.device), operator.to(processor.device)
    measurement = operator(target)
    physics = [_size(part) for part in measurement if isinstance(part, Tensor)]
    for who, network in (("student", student), ("teacher", teacher)):
        asked = [loss.network_features if who == "student" else loss.teacher_features for _, loss in terms]
        if network is not None:
            network = processor.put(copy.deepcopy(network).eval())
            try:
                given[who] = image, _ = predict(processor, network, measurement, sorted({*chain(*asked)}))
            except StudyError as error:
                raise StudyError(f"{who}: {error}") from None
            except (RuntimeError, TypeError, ValueError) as error:
                shapes = ", ".join(f"{_shape(part)} {getattr(part, 'dtype', '')}" for part in measurement)
                raise StudyError(f"{who}: fails on what physics gives, {shapes}: {error}") from error
            if getattr(image, "shape", None) != target.shape:
                raise StudyError(f"{who}: gives {_shape(image)} of images {tuple(target.shape)}; expected their shape")
            computed.append(_size(image))
    found = [_fitted(loss, target, **given) for _, loss in terms]
    computed += [f"{value:.4g}" for _, value in found]
    known = {"physics": " ".join(physics), "code": " ".join(computed)}
    return [(weight, loss) for (weight, _), (loss, _) in zip(terms, found, strict=True)], known


def _size(tensor: Tensor) -> str:
    return f"{float(tensor.abs().double().norm()):.4g}"
