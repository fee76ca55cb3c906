"""Benchmarks: they time what they say they time, and their numbers follow from the clock; on tiny networks and files."""

import multiprocessing
import re
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from benchmarks import data, domains, inference, memory, training
from kdmri_lib.datasets.prepared import Slices, Volume, read_prepared
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import cartesian_mask, truncation_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import Undersampling
from kdmri_study.build import declared_network, training_step
from kdmri_study.study import Study
from tests.trainings import assert_same_bits, data_of, train

SHAPE = (24, 20)


@pytest.fixture
def small(monkeypatch):
    """Benchmarks of training on images of 24 x 20, two at a time."""
    monkeypatch.setattr(training, "SHAPE", SHAPE)
    monkeypatch.setattr(training, "BATCH", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Clock:
    """A clock that goes on by `each` seconds whenever it is looked at, and by what is said beside."""

    def __init__(self, each: float = 0.0):
        self.now, self.each = 0.0, each

    def perf_counter(self) -> float:
        self.now += self.each
        return self.now

    def passes(self, seconds: float):
        """A function that takes so long."""

        def take(*_):
            self.now += seconds

        return take


def rows(text: str, columns: str) -> list[tuple[str, ...]]:
    """What the groups of a pattern match in each line of a table that is printed, its heading left out."""
    return [re.fullmatch(columns, line).groups() for line in text.splitlines()[1:]]


@pytest.fixture
def images_prepared(tmp_path):
    """Images of the benchmark's own as a prepared file to train on, and the images."""
    images = training._images(SHAPE, 6)
    volumes = [Volume("v0", "train", images[:, 0].numpy(), {"person": "v0"})]
    volumes.append(Volume("v1", "validation", images[:2, 0].numpy()[:, ::-1].copy(), {"person": "v1"}))
    write_prepared(tmp_path / "prepared.h5", "{}", "", volumes)
    return tmp_path / "prepared.h5", images


@pytest.mark.parametrize("which", ["student", "distilled", "attention_transfer"])
def test_the_step_that_is_timed_is_the_training_loops_own(small, images_prepared, tmp_path, monkeypatch, which):
    """After as many of them the weights are those that training ends with, bit by bit."""
    recipe = training._recipe("dccnn", SHAPE, 2, {"teacher": 3, "student": 2}).with_options(cascades=2, features=4)
    runs = {
        "student": recipe.student,
        "distilled": recipe.distilled(None),
        "attention_transfer": recipe.pretrained(),
    }
    run = runs[which]
    run = run.model_copy(update={"schedule": run.schedule.model_copy(update={"steps": 5, "validations": 1})})
    path, images = images_prepared
    made = []
    monkeypatch.setattr(training, "training_step", lambda *a: made.append(training_step(*a)) or made[-1])
    step = training.study_step(run, "float32", images)
    for number in range(5):
        step(number)
    teacher = declared_network(run.teacher) if run.teacher else None
    result = train(run.model_copy(update={"precision": "float32"}), data_of(path), tmp_path / "x.pt", teacher)
    assert len(Slices(path, "train")) == len(images)
    assert_same_bits(result.network.state_dict(), made[0].network.state_dict())


def copied(plain, convolutions):
    """Give the plain network these convolutions' weights."""
    with torch.no_grad():
        mine = [m for m in plain.modules() if isinstance(m, torch.nn.Conv2d)]
        for layer, other in zip(mine, convolutions, strict=True):
            layer.weight.copy_(other.weight)
            layer.bias.copy_(other.bias)
    return plain


@pytest.mark.parametrize("kind", ["dccnn", "vdsr"])
def test_the_plain_network_beside_it_computes_the_same(kind):
    """So that the comparison is of two ways to do one thing."""
    mask = cartesian_mask(SHAPE, 4, centre=2) if kind == "dccnn" else truncation_mask(SHAPE, 2)
    plain = {"dccnn": training.PlainDCCNN, "vdsr": training.PlainVDSR}[kind](mask, 3)
    model = build_model(kind, mask, convolutions=3)
    copied(plain, [layer for layers in model.feature_layers for layer in layers.values()])
    image = training._images(SHAPE, 3)
    kspace = torch.fft.fft2(image.double(), norm="ortho") * torch.from_numpy(mask)
    measurement = Undersampling(mask)(image)
    torch.testing.assert_close(plain(measurement.zero_filled, kspace), model(*measurement), atol=1e-5, rtol=1e-4)


def test_the_plain_step_trains(tmp_path):
    """Mean absolute error on the file's slices falls."""
    images = training._images(SHAPE, 4)
    with data.h5py.File(tmp_path / "slices.h5", "w") as file:
        file["volume"] = images[:, 0].numpy()
    torch.manual_seed(0)
    network = training.PlainDCCNN(cartesian_mask(SHAPE, 4, centre=2), 2, cascades=1, features=8)
    kspace = torch.fft.fft2(images.double(), norm="ortho") * network.mask
    zero_filled = torch.fft.ifft2(kspace, norm="ortho").abs().float()

    def error():
        with torch.no_grad():
            return float((network(zero_filled, kspace) - images).abs().mean())

    step, before = training._plain_step(tmp_path / "slices.h5", network, 2), error()
    for number in range(20):
        step(number)
    assert error() < 0.95 * before


def test_rates_are_slices_by_the_clock(monkeypatch):
    """A step of a quarter of a second on 3 slices is 12 slices a second, one of an eighth 24; the first don't count."""
    clock = Clock()
    monkeypatch.setattr(training, "time", clock)
    steps = {"slow": clock.passes(0.25), "fast": clock.passes(0.125)}
    assert training.in_turns(steps, 3, 3) == {"slow": 12, "fast": 24}
    # Warming up is 3 steps of each, then 3 turns of a second each.
    assert clock.now == pytest.approx(3 * 0.375 + 3 * 2)


def test_a_busy_moment_does_not_move_the_median_rate(monkeypatch):
    clock, calls = Clock(), []
    monkeypatch.setattr(training, "time", clock)

    def step(number):
        calls.append(number)
        clock.now += 5 if len(calls) == 6 else 0.25

    assert training.in_turns({"step": step}, 5, 1) == {"step": 4}


@pytest.mark.parametrize(("has", "precisions"), [(True, ("float32", "bfloat16")), (False, ("float32",))])
def test_matrix_rates_are_two_operations_a_product_by_the_clock(monkeypatch, has, precisions):
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(training, "time", Clock(0.001))
    rates = training.matrix_rates(size=50, seconds=0.01)
    assert rates == pytest.approx(dict.fromkeys(precisions, 2 * 50**3 / 0.001 / 1e9))


def test_training_throughput_is_a_row_for_each_network_and_way(small, monkeypatch):
    """By a clock that gives every way the same rate."""
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(training, "time", Clock(0.3))
    monkeypatch.setattr(training, "DCCNN", {"teacher": 3, "student": 2})
    monkeypatch.setattr(training, "VDSR", {"VDSR teacher": 3, "VDSR student": 2})
    whole = training._recipe
    monkeypatch.setattr(training, "_recipe", lambda kind, _, /, *more, **d: whole(kind, SHAPE, *more, **d))
    parts = training.training_throughput(threads=1, seconds=1).split("\n\n")
    assert [part.split("; ")[2] for part in parts] == ["24x20, batch 2", "24x20, batch 1"]
    for part, networks in zip(parts, (["teacher", "student"], ["VDSR teacher", "VDSR student"]), strict=True):
        found = rows(part.split("\n", 1)[1], r" *(.+?) +(plain, float32|float32|bfloat16) +([\d.]+) +([\d.]+)")
        ways = ["plain, float32", "float32", "bfloat16"]
        assert [row[:2] for row in found] == [(name, way) for name in networks for way in ways]
        assert all(float(rate) > 0 and float(ratio) == 1 for _, _, rate, ratio in found)


def test_what_each_loss_costs_is_told_beside_attention_transfer_and_reconstruction(small, monkeypatch):
    """All losses step; peaks are asked of this process, in place of one each."""
    clock = Clock(0.3)
    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(training, "DCCNN", {"teacher": 3, "student": 2})

    class Here:
        def __enter__(self):
            return self

        def __exit__(self, *_): ...

        def apply(self, function, arguments):
            return function(*arguments)

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=lambda *a, **k: Here()))
    text = training.loss_costs(threads=1, seconds=1).split("\n", 1)[1]
    found = {name: [float(v) for v in values] for name, *values in rows(text, r" *(.+?)" + r" +([\d.]+)" * 4)}
    live = {f"{name}, teacher at each step" for name in ("imitation", "Attention transfer")}
    assert len(found) == 10 and {"reconstruction", "imitation", "FitNets", "Attention transfer"} | live < set(found)
    assert found["Attention transfer"][1] == found["reconstruction"][2] == 1
    assert all(milliseconds > 0 and peak > 50 for milliseconds, _, _, peak in found.values())


def test_where_time_goes_adds_up(small, monkeypatch):
    monkeypatch.setattr(training, "DCCNN", {"teacher": 3, "student": 2})
    monkeypatch.setattr(training, "matrix_rates", lambda: {"float32": 100.0, "bfloat16": 100.0})
    text = training.where_time_goes(threads=1, precision="float32", steps=2)
    heading, *lines, last = text.splitlines()
    assert "24x20, batch 2, precision float32, profiled" in heading
    shares = [float(share) for (share,) in rows("\n".join(lines), r".* ([\d.]+)% +[\d.]+")]
    assert len(shares) == 14 and shares == sorted(shares, reverse=True) and 50 < sum(shares) <= 100.5
    assert "a matrix product's 100" in last
    milliseconds, rate = float(last.split()[0]), float(last.split("convolutions ")[1].split()[0])
    # Two convolutions, 1 to 32 and 32 to 1 channels, in five cascades.
    expected = 6 * 5 * 9 * 64 * 24 * 20 * 2 / milliseconds / 1e6
    assert rate == pytest.approx(expected, abs=0.5 + expected * 0.06 / milliseconds), "both are rounded"


def test_times_are_quartiles_of_calls_by_the_clock_and_the_first_do_not_count(monkeypatch):
    clock, calls = Clock(), []
    monkeypatch.setattr(inference, "time", clock)

    def step():
        calls.append(0)
        clock.now += 9 if len(calls) <= inference.WARM_UP else 0.01 * (len(calls) - inference.WARM_UP)

    found = inference.timed(step, seconds=0.14)  # 10 + 20 + 30 + 40 + 50 ms
    assert found == pytest.approx({"ms": 30, "q25": 20, "q75": 40, "calls": 5})


@pytest.fixture(scope="module")
def small_export(tmp_path_factory):
    """An untrained network of two convolutions a cascade, exported for 24 x 20."""
    mask = cartesian_mask(SHAPE, 4, centre=2)
    return inference.exported(mask, 2, tmp_path_factory.mktemp("exported"))


def test_every_implementation_computes_the_network(small_export):
    made = inference.implementations(small_export, threads=1, batch=2)
    images = {name: torch.as_tensor(make()()) for name, make in made.items() if not name.startswith("GPU")}
    expected = images.pop("PyTorch channels_last, float32")
    assert {inference.PLAIN, "OpenVINO, float32", "ONNX Runtime, int8"} < set(images)
    assert images.pop(inference.PLAIN).shape == expected.shape == (2, 1, *SHAPE)
    for name, image in images.items():
        tolerance = 1e-5 if name.endswith("float32") and "int8" not in name else 0.05
        torch.testing.assert_close(image.float(), expected, atol=tolerance, rtol=0, msg=name)


def test_inference_times_compare_with_the_plain_network_and_a_way_that_fails_is_a_hole(small_export, monkeypatch):
    monkeypatch.setattr(inference, "DCCNN", {"student": 2})
    monkeypatch.setattr(inference, "exported", lambda *_: small_export)
    monkeypatch.setattr(inference, "matrix_rates", lambda seconds: {"float32": 50.0, "bfloat16": 50.0})
    monkeypatch.setattr(inference, "time", Clock(0.002))
    monkeypatch.setattr(inference, "_model_step", lambda *_: (_ for _ in ()).throw(OSError("no such engine")))
    only = (inference.PLAIN, "PyTorch channels_last, float32", "OpenVINO, float32")
    found = inference.inference_times(small_export.mask, [(1, 1), (1, 2)], seconds=0.02, only=only)
    assert found.implementation.tolist() == [*only] * 2 and found.batch.tolist() == [1] * 3 + [2] * 3
    there = found[found.implementation != "OpenVINO, float32"]
    assert (
        found[found.implementation == "OpenVINO, float32"][["ms", "slices/s", "of plain student"]].isna().all(axis=None)
    )
    assert there.ms.to_numpy() == pytest.approx(2)
    np.testing.assert_allclose(there["slices/s"], 500 * there.batch)
    np.testing.assert_allclose(there["of plain student"], 1)
    # Two operations a multiply-accumulate, of two convolutions, 1 to 32 and 32 to 1 channels, in five cascades.
    operations = 2 * 5 * 9 * 64 * 24 * 20 * there.batch
    np.testing.assert_allclose(there["GFLOP/s"], operations / 0.002 / 1e9)
    np.testing.assert_allclose(there["of matrix product"], operations / 0.002 / 1e9 / 50)


def test_sizes_are_the_papers():
    found = inference.sizes(np.ones((640, 368), bool)).set_index("network")
    assert found.parameters.to_dict() == {"teacher": 141_765, "student": 49_285}
    per_pixel = {"teacher": 5 * 9 * (64 + 3 * 1024), "student": 5 * 9 * (64 + 1024)}
    assert found["GMAC per slice"].to_dict() == pytest.approx({k: v * 640 * 368 / 1e9 for k, v in per_pixel.items()})


def test_how_much_memory_a_process_took_is_what_it_held_at_most():
    """A process that holds 200 MB and lets them go, beside one that doesn't."""
    nothing = inference._peak("")
    held = inference._peak("import sys; held = b'x' * int(sys.argv[1]); del held", 200 * 2**20)
    assert held == pytest.approx(nothing + 200, abs=10)
    assert memory.peak_memory() > nothing


@pytest.fixture
def few_people(monkeypatch):
    """Three people, and NIfTI files of fewer pixels; as many slices as the benchmark says."""
    monkeypatch.setattr(data, "PEOPLE", 3)

    def write(folder):
        rng = np.random.default_rng(0)
        for number in range(3):
            image = rng.integers(1, 1000, (20, 24, 128)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"person{number}.nii.gz")

    monkeypatch.setattr(data, "_write_nifti", write)


def test_loading_is_timed_for_slices_held_and_read(tmp_path, monkeypatch):
    """By a clock that gives each way 2 s."""
    monkeypatch.setattr(data, "time", Clock(2.0))
    found = data._loading(tmp_path, slices=40, shape=(16, 16), batch=4)
    assert found.slices.tolist() == [
        "held in memory",
        "read from the file",
        "read from the file, forgotten by the system",
    ]
    assert found["ms per batch"].to_list() == [2000 / 10] * 3 and found["slices/s"].to_list() == [20] * 3
    assert len(Slices(tmp_path / "loading.h5", "train")) == 40


@pytest.mark.parametrize(
    ("source", "shape", "slices"), [("nifti_folder", (32, 32), 3 * 128), ("fastmri", (640, 368), 5)]
)
def test_what_is_prepared_are_all_slices_of_the_files_that_were_written(tmp_path, few_people, source, shape, slices):
    """2 + 1 + 1 slices of k-space; and of NIfTI what the benchmark counts, 128 a person."""
    folder = tmp_path / source
    folder.mkdir()
    if source == "fastmri":
        data._write_kspace(folder, slices=3, coils=1)
    else:
        data._write_nifti(folder)
    data._library_nifti(folder) if source == "nifti_folder" else data._library_hdf5(folder)
    assert data._megabytes(folder) == pytest.approx(sum(len(f.read_bytes()) for f in folder.iterdir()) / 1e6)
    assert data._prepare(source, folder, tmp_path / "x.h5", shape, 1) > 50
    volumes = list(read_prepared(tmp_path / "x.h5"))
    assert sorted(v.split for v in volumes) == ["test", "train", "validation"]
    assert sum(len(v.image) for v in volumes) == slices and {v.image.shape[1:] for v in volumes} == {shape}


def test_phases_reach_what_they_are_called():
    found = domains.phases((24, 20))
    assert {name: round(float(np.abs(np.angle(p)).max()), 2) for name, p in found.items()} == {
        "0": 0,
        "1.57 rad everywhere": 1.57,
        "3.14 rad everywhere": 3.14,
        "smooth, to 1 rad": 1,
        "smooth, to 1.5 rad": 1.5,
        "smooth, to 3 rad": 3,
    }
    for phase in found.values():
        np.testing.assert_allclose(np.abs(phase), 1)


def test_times_of_the_two_domains_are_of_the_same_student_in_turns(monkeypatch):
    asked = []
    monkeypatch.setattr(
        domains,
        "in_turns",
        lambda made, seconds, batch: asked.append(set(made)) or {"magnitude": 100.0, "complex": 80.0},
    )
    monkeypatch.setattr(domains, "study_step", lambda run, precision, images: run.dataset.channels)
    monkeypatch.setattr(domains, "_inference", lambda run: run.dataset.channels)
    table = domains.times(torch.get_num_threads(), 1)
    assert asked == [{"magnitude", "complex"}] * 6 and (table.magnitude == 10).all()
    np.testing.assert_allclose(table.ratio, 1.25)


def test_a_study_without_networks_has_no_phase_to_cost(tmp_path):
    with pytest.raises(StudyError, match="no cell whose magnitude and complex networks are both trained"):
        domains.phase_costs(Study("smoke", tmp_path))
