"""What training computes on: what is said of it, and how little another number of threads or bfloat16 changes."""

import os

import pytest
import torch

from kdmri_lib.devices import accelerated, computed_on, cpu_has_bfloat16, use_threads
from tests.studies import runs_of
from tests.trainings import data_of, train


@pytest.fixture
def threads(monkeypatch):
    """Puts the number of threads back afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sixty_steps(study):
    schedule = study.profile.schedule.model_copy(update={"steps": 60, "validations": 2})
    return runs_of(study)["student"].model_copy(update={"schedule": schedule, "precision": "float32"})


@pytest.fixture
def final_psnr(study, tmp_path):
    """Trains a run, and gives the PSNR of its last validation."""
    data = data_of(study.prepared(study.dataset("cardiac")))

    def final(run) -> float:
        path = tmp_path / f"{len(list(tmp_path.glob('*.pt')))}.pt"
        return float(train(run, data, path).curve.validation_psnr.iloc[-1])

    return final


def test_another_number_of_threads_ends_within_a_hundredth_of_a_decibel(sixty_steps, final_psnr, threads):
    values = []
    for number in (1, 2, 3):
        use_threads(number)
        values.append(final_psnr(sixty_steps))
    print(values)
    assert max(values) - min(values) < 0.01


def test_bfloat16_ends_within_a_tenth_of_a_decibel_of_float32(sixty_steps, final_psnr):
    values = [
        final_psnr(sixty_steps.model_copy(update={"precision": precision})) for precision in ("float32", "bfloat16")
    ]
    print(values)
    assert values[0] != values[1], "they did compute differently"
    assert values[0] == pytest.approx(values[1], abs=0.1)


def test_threads_are_set_here_and_for_processes_begun_later(threads):
    use_threads(2)
    assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"
    if not torch.cuda.is_available():
        assert computed_on("float32")["device"] == "CPU, 2 threads"
    use_threads(1)
    if not torch.cuda.is_available():
        assert computed_on("float32")["device"] == "CPU, 1 thread"


def test_auto_is_bfloat16_where_the_hardware_has_it_and_what_is_asked_for_is_used(monkeypatch):
    assert [computed_on(p)["precision"] for p in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("kdmri_lib.devices.cpu_has_bfloat16", lambda has=has: has)
        assert computed_on("auto")["precision"] == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True, "amx_bf16": False}, False)],
)
def test_a_cpu_has_bfloat16_by_its_instructions(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_has_bfloat16() is expected


def test_a_slurm_jobs_variables_start_no_further_processes(monkeypatch):
    for name, value in (("SLURM_NTASKS", "4"), ("SLURM_PROCID", "1"), ("SLURM_JOB_NAME", "kdmri")):
        monkeypatch.setenv(name, value)
    assert accelerated("float32").world_size == 1


def test_the_same_bits_are_asked_of_every_operation():
    torch.use_deterministic_algorithms(False)
    accelerated("float32")
    assert torch.are_deterministic_algorithms_enabled()
