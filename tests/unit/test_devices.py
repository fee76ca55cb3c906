"""What training computes on: what is said of it, and how little another number of threads or bfloat16 changes."""

import os

import pytest
import torch

from kdmri_lib.devices import accelerated, computed_on, use_threads
from tests.studies import runs_of
from tests.trainings import data_of, train


@pytest.fixture
def threads(monkeypatch):
    """Puts the number of threads back afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    yield
    torch.set_num_threads(before)


def test_threads_and_bfloat16_change_a_training_little(study, tmp_path, threads):
    """Of sixty steps: another number of threads a hundredth of a decibel, bfloat16 a tenth."""
    data, values = data_of(study.prepared(study.dataset("cardiac"))), {}
    schedule = study.profile.schedule.model_copy(update={"steps": 60, "validations": 2})
    for number, precision in ((1, "float32"), (2, "float32"), (3, "float32"), (3, "bfloat16")):
        use_threads(number)
        run = runs_of(study)["student"].model_copy(update={"schedule": schedule, "precision": precision})
        curve = train(run, data, tmp_path / f"{number}{precision}.pt").curve
        values[number, precision] = float(curve.validation_psnr.iloc[-1])
    single = [value for (_, precision), value in values.items() if precision == "float32"]
    assert max(single) - min(single) < 0.01
    assert single[-1] != values[3, "bfloat16"] == pytest.approx(single[-1], abs=0.1)


def test_threads_are_set_here_and_for_processes_begun_later(threads, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for number, said in ((2, "CPU, 2 threads"), (1, "CPU, 1 thread")):
        use_threads(number)
        assert torch.get_num_threads() == number and os.environ["OMP_NUM_THREADS"] == str(number)
        assert computed_on("float32")["device"] == said


def test_auto_is_bfloat16_where_the_hardware_has_it_and_what_is_asked_for_is_used(monkeypatch):
    assert [computed_on(p)["precision"] for p in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("kdmri_lib.devices.cpu_has_bfloat16", lambda has=has: has)
        assert computed_on("auto")["precision"] == expected


class Told(torch.nn.Conv2d):
    """A convolution that says in which precision it was asked and has computed."""

    def forward(self, image):
        made = super().forward(image)
        self.seen = image.dtype, made.dtype
        return made, {"map": made}


def test_a_network_computes_in_its_precision_gives_float32_and_the_same_bits_each_time():
    torch.use_deterministic_algorithms(False)
    for precision in ("float32", "bfloat16", "float64"):
        processor = accelerated(precision)
        network = processor.put(Told(1, 2, 1))
        image, maps = processor.computing(network)(torch.rand(1, 1, 3, 3, device=processor.device))
        assert image.dtype == maps["map"].dtype == torch.float32
        assert network.seen == (getattr(torch, precision),) * 2
    assert torch.are_deterministic_algorithms_enabled()
