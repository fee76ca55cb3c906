"""Benchmarks: they time what they say they time, and their numbers follow from the clock; on tiny networks."""

import numpy as np
import pytest
import torch

from benchmarks import inference, training
from kdmri_lib.datasets.prepared import Volume, write_prepared
from kdmri_lib.declared import declared_network, training_step
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.operators import UndersamplingOperator
from tests.trainings import assert_same_bits, data_of, train

SHAPE = (24, 20)
MASK = cartesian_mask(SHAPE, 4, centre=2)
IMAGES = torch.from_numpy(training.subject_volume(np.random.default_rng(0), 6, SHAPE)).unsqueeze(1) / 255


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Clock:
    """A clock that goes on by `each` seconds whenever it is looked at, and by what a test adds."""

    def __init__(self, each: float = 0.0):
        self.now, self.each = 0.0, each

    def perf_counter(self) -> float:
        self.now += self.each
        return self.now


def test_the_step_that_is_timed_is_the_training_loops_own(tmp_path, monkeypatch):
    """After as many of them the weights are those that training ends with, bit by bit."""
    teacher, student = (training.untaught(convolutions, SHAPE, 2) for convolutions in (3, 2))
    run = training.by_loss(teacher, student)["imitation"]
    run = run.model_copy(update={"schedule": run.schedule.model_copy(update={"steps": 5, "validations": 1})})
    made = []
    monkeypatch.setattr(training, "training_step", lambda *a: made.append(training_step(*a)) or made[-1])
    step = training.study_step(run, "float32", IMAGES)
    for _ in range(5):
        step()
    volumes = [Volume("v0", "train", IMAGES[:, 0].numpy(), {"person": "v0"})]
    volumes.append(Volume("v1", "validation", IMAGES[:2, 0].numpy()[:, ::-1].copy(), {"person": "v1"}))
    write_prepared(tmp_path / "prepared.h5", "{}", "", volumes)
    run = run.model_copy(update={"precision": "float32"})
    result = train(run, data_of(tmp_path / "prepared.h5"), tmp_path / "x.pt", declared_network(run.teacher))
    assert_same_bits(result.network.state_dict(), made[0].network.state_dict())


def test_times_are_quartiles_of_calls_by_the_clock_and_the_first_do_not_count(monkeypatch):
    clock, calls = Clock(), []
    monkeypatch.setattr(training, "time", clock)

    def step():
        calls.append(0)
        clock.now += 9 if len(calls) <= 3 else 0.01 * (len(calls) - 3)

    found = training.timed(step, seconds=0.14)  # 10 + 20 + 30 + 40 + 50 ms
    assert found == pytest.approx({"ms": 30, "q25": 20, "q75": 40, "calls": 5})


def test_training_times_are_a_row_for_each_network_way_and_loss(monkeypatch):
    """By a clock that gives every step the same time."""
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(training, "time", Clock(0.3))
    monkeypatch.setattr(training, "DCCNN", {"teacher": 3, "student": 2})
    found = training.training_times(threads=1, seconds=1, shape=SHAPE, batch=3)
    ways = [f"{who}: {way}" for who in ("teacher", "student") for way in (training.PLAIN, "float32", "bfloat16")]
    assert found.index.tolist()[:6] == ways and found.index.is_unique and len(found) == 6 + 2 + 6
    assert {"student by reconstruction", "student by FitNets", "student by Attention transfer"} < set(found.index)
    for column, expected in {"ms": 300, "slices/s": 10, "of plain student": 1}.items():
        np.testing.assert_allclose(found[column], expected)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An untrained network of two convolutions a cascade, exported for 24 x 20."""
    return inference.exported(MASK, 2, tmp_path_factory.mktemp("exported"))


def test_every_implementation_computes_the_network(small):
    made = inference.implementations(MASK, small, threads=1, batch=2)
    images = {name: torch.as_tensor(make()()) for name, make in made.items() if not name.startswith("GPU")}
    expected = images.pop("PyTorch channels_last, float32")
    assert {inference.PLAIN, "OpenVINO, float32", "ONNX Runtime, int8"} < set(images)
    assert images.pop(inference.PLAIN).shape == expected.shape == (2, 1, *SHAPE)
    for name, image in images.items():
        tolerance = 1e-5 if name.endswith("float32") and "int8" not in name else 0.05
        torch.testing.assert_close(image.float(), expected, atol=tolerance, rtol=0, msg=name)


@torch.no_grad()
def test_the_plain_network_beside_it_computes_the_same(small):
    """So that the comparison is of two ways to do one thing."""
    plain, network = training.PlainDCCNN(MASK, 2), small[0]
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values(), strict=True)))
    kspace = torch.fft.fft2(IMAGES.double(), norm="ortho") * plain.mask
    measurement = UndersamplingOperator(MASK)(IMAGES)
    torch.testing.assert_close(plain(measurement.zero_filled, kspace), network(*measurement), atol=1e-5, rtol=1e-4)


def test_inference_times_compare_with_the_plain_network_and_a_way_that_fails_is_a_hole(small, monkeypatch):
    monkeypatch.setattr(inference, "DCCNN", {"student": 2})
    monkeypatch.setattr(inference, "exported", lambda *_: small)
    monkeypatch.setattr(training, "time", Clock(0.002))
    monkeypatch.setattr(inference, "_model_step", lambda *_: (_ for _ in ()).throw(OSError("no such engine")))
    found = inference.inference_times(MASK, [(1, 1), (1, 2)], seconds=0.02)
    assert found.groupby("implementation").batch.apply(list).map([1, 2].__eq__).all()
    there = found[~found.implementation.str.contains("ONNX|OpenVINO")]
    assert found.drop(there.index)[["ms", "slices/s", "of plain student"]].isna().all(axis=None)
    assert {training.PLAIN, "PyTorch channels_last, float32"} <= set(there.implementation) and len(found) > len(there)
    assert there.ms.to_numpy() == pytest.approx(2)
    np.testing.assert_allclose(there["slices/s"], 500 * there.batch)
    np.testing.assert_allclose(there["of plain student"], 1)
    # Two operations a multiply-accumulate, of two convolutions, 1 to 32 and 32 to 1 channels, in five cascades.
    operations = 2 * 5 * 9 * 64 * 24 * 20 * there.batch
    np.testing.assert_allclose(there["GFLOP/s"], operations / 0.002 / 1e9)
    np.testing.assert_allclose(there["of matrix product"], operations / (2 * 2048**3))


def test_how_much_memory_a_process_took_is_what_it_held_at_most():
    """A process that holds 200 MB and lets them go, beside one that doesn't."""
    nothing = inference.peak_memory("")
    held = inference.peak_memory("import sys; held = b'x' * int(sys.argv[1]); del held", 200 * 2**20)
    assert held == pytest.approx(nothing + 200, abs=10)
    assert inference.peak_memory(inference.PLAIN_SLICE, 2, 1, *SHAPE) > nothing
