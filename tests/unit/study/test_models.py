"""Networks to take away: what their cards say, which is chosen, what they export; the committed ones."""

import re

import numpy as np
import pytest

from kdmri_lib.deployment import Model
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.models import calibration_slices, committed, export, kept_run, network, write_models
from kdmri_study.profile import Study
from kdmri_study.runs import RunFolder
from tests.studies import SETTING, runs_of


@pytest.fixture
def folder(finished_copy):
    """The networks of a finished study, written."""
    assert len(list(write_models(finished_copy))) == 3
    return finished_copy.folder / "results" / "models"


def test_written_networks_are_the_trained_ones_and_have_cards(finished_copy, folder):
    runs, kept = runs_of(finished_copy), {k.method: k for k in committed(folder)}
    assert kept.keys() == {"teacher", "student_compute", "distilled"}
    for method, network_ in kept.items():
        trained = RunFolder(finished_copy, runs[method])
        assert network_.run == runs[method] and network_.profile == finished_copy.name
        assert network_.weights.read_bytes() == trained.weights.read_bytes()
        assert network_.validation == trained.outcome.curve.validation_psnr.max()
        assert trained.record["files"]["weights.safetensors"] in network_.weights.with_suffix(".md").read_text()


def test_of_the_students_the_one_that_validation_prefers_is_taken(folder):
    students = {k.method: k.validation for k in committed(folder) if k.method != "teacher"}
    assert network("cardiac", 8, folder=folder).method == max(students, key=students.get)
    assert network("cardiac", 8, "teacher", folder).method == "teacher"
    with pytest.raises(
        StudyError, match=r"no 'pupil' of cardiac 8x is committed; there is distilled, student_compute, teacher"
    ):
        network("cardiac", 8, "pupil", folder)
    with pytest.raises(StudyError, match=r"nothing of liver 4x is committed; there is cardiac 8x"):
        network("liver", 4, folder=folder)
    (folder / "cardiac_8x_student_compute.json").unlink()
    with pytest.raises(StudyError, match=r"cardiac_8x_student_compute.json"):
        committed(folder)


def test_a_written_network_is_exported_as_the_trained_one_is_also_where_no_images_are(finished_copy, folder, tmp_path):
    run = runs_of(finished_copy)["distilled"]
    elsewhere = Study(finished_copy.source, tmp_path / "elsewhere")
    both = kept_run(RunFolder(finished_copy, run)), network("cardiac", 8, "distilled", folder)
    files = [tmp_path / "trained.onnx", tmp_path / "written.onnx"]
    for study, kept, file in zip((finished_copy, elsewhere), both, files, strict=True):
        assert export(study, kept, file) < 1e-5
    models = [Model(file, "onnxruntime", "float32", 1) for file in files]
    assert models[0].about == models[1].about and models[0].about["run"] == run.id
    kspace = np.fft.fft2(np.random.default_rng(0).random((2, 72, 72)), norm="ortho") * models[0].mask
    np.testing.assert_array_equal(*[model.reconstruct(kspace) for model in models])
    with pytest.raises(StudyError, match=r"int8 is calibrated on training slices .*prepare --profile .* cardiac makes"):
        next(calibration_slices(elsewhere, run))
    assert len(list(calibration_slices(finished_copy, run, 5))) == 5


def test_a_network_that_is_not_trained_is_told_with_what_trains_it(finished_study):
    run = finished_study.rows(SETTING, 1)["student"].run
    with pytest.raises(StudyError, match=rf"no network: run {run.id}: missing; ./run_all.sh --profile .* trains it"):
        kept_run(RunFolder(finished_study, run))


@pytest.mark.parametrize("file", ["README.md", "notebooks/07_deployment.ipynb", "data/sample/PROVENANCE.md"])
def test_the_networks_that_readers_are_told_to_export_are_committed(file):
    told = re.findall(r"export --dataset (\w+) --acceleration (\d+)", (PROJECT / file).read_text(encoding="utf-8"))
    assert told
    for dataset, factor in told:
        assert network(dataset, float(factor))
