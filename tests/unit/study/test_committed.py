"""Committed weights are a network where nothing was trained, and only the weights that the evidence records."""

import re
import shutil

import numpy as np
import pytest

from kdmri_lib.datasets.sample import sample
from kdmri_lib.deployment import Model
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.cards import model_files, network_of
from kdmri_study.committed import committed, network
from kdmri_study.deploying import calibration_slices, export
from kdmri_study.evidence import Piece, pieces, unpacked, write_evidence
from kdmri_study.runs import RunFolder, trained
from kdmri_study.study import Study
from tests.studies import CELL, sharing_data


@pytest.fixture(scope="module")
def clone(prepared_study, tmp_path_factory):
    """A finished run, and a study in an empty folder that has its evidence and its weights alone."""
    study = sharing_data("smoke", tmp_path_factory.mktemp("trained"), prepared_study)
    folder = trained(study, study.methods(CELL, 0)["student"])
    clone = Study("smoke", tmp_path_factory.mktemp("clone"))
    piece = next(piece for piece in pieces(clone) if folder.run in piece.runs)
    evidence = write_evidence(study, Piece(piece.name, (folder.run,), ()))
    piece.file(clone).parent.mkdir(parents=True)
    shutil.move(evidence, piece.file(clone))
    weights, _ = model_files(clone, CELL, "student")
    weights.parent.mkdir(parents=True)
    shutil.copy(folder.weights, weights)
    return folder, clone


def test_committed_weights_are_exported_as_the_trained_network_is(clone, tmp_path):
    folder, clone = clone
    assert export(network_of(folder.study, CELL, "student", 0), tmp_path / "trained.onnx") < 1e-5
    assert export(network_of(clone, CELL, "student", 0), tmp_path / "committed.onnx") < 1e-5
    models = [Model(tmp_path / f"{name}.onnx", "onnxruntime", "float32", 1) for name in ("trained", "committed")]
    assert models[0].about == models[1].about and models[0].about["run"] == folder.run.id
    image = sample()[0][:, 84:156, 84:156]
    kspace = np.fft.fft2(image, norm="ortho") * models[0].mask
    np.testing.assert_array_equal(*[model.reconstruct(kspace) for model in models])


def test_what_is_not_there_is_said(clone, tmp_path):
    folder, clone = clone
    with pytest.raises(StudyError, match="no method 'pupil'; known: teacher, student"):
        network_of(clone, CELL, "pupil", 0)
    with pytest.raises(
        StudyError,
        match=r"there is no network to export: run cardiac.*: missing; ./run_all.sh --profile smoke trains it",
    ):
        export(network_of(clone, CELL, "teacher", 0), tmp_path / "x.onnx")
    with pytest.raises(
        StudyError, match=r"int8 is calibrated on training slices .*prepare --profile smoke cardiac makes them"
    ):
        next(calibration_slices(network_of(clone, CELL, "student", 0)))
    weights, _ = model_files(clone, CELL, "student")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(StudyError, match=r"student.safetensors isn't what the evidence records"):
        export(network_of(clone, CELL, "student", 0), tmp_path / "x.onnx")
    weights.write_bytes(content)
    for piece in pieces(clone):
        piece.file(clone).unlink(missing_ok=True)
    with pytest.raises(StudyError, match=rf"evidence: run {folder.run.id} isn't in it"):
        export(network_of(clone, CELL, "student", 0), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_committed_network_knows_its_profile_and_one_that_is_not_there_is_said():
    assert network("brain_complex", 4, "best").profile == "domains"
    with pytest.raises(StudyError, match=r"no 'pupil' of knee 4x is committed; of it there are .*student.*--profile"):
        network("knee", 4, "pupil")
    with pytest.raises(StudyError, match=r"no 'best' of liver 4x is committed; there are brain 4x, brain 5x, "):
        network("liver", 4, "best")


def test_of_the_committed_students_the_one_that_validation_prefers_is_taken(tmp_path):
    study = Study("table1")
    there = unpacked(study, tmp_path)
    for cell in study.cells:
        curves = {method: RunFolder(there, run).curve for method, run in study.methods(cell, 0).items()}
        said = {c.method: c.validation for c in committed() if (c.dataset.name, c.acceleration) == cell}
        assert said == {method: round(curves[method].validation_psnr.max(), 2) for method in said}
        best = max(said[method] for method in said if method != "teacher")
        assert network(*cell).method != "teacher" and network(*cell).validation == best


@pytest.mark.parametrize("file", ["README.md", "notebooks/07_deployment.ipynb", "data/sample/PROVENANCE.md"])
def test_the_networks_that_readers_are_told_to_export_are_committed(file):
    told = re.findall(
        r"kdmri_lib export --dataset (\w+) --acceleration (\d+)", (PROJECT / file).read_text(encoding="utf-8")
    )
    assert told
    for dataset, factor in told:
        assert network(dataset, float(factor))
