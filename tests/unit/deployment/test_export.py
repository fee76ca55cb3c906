"""From a run to a file: the ONNX network is the trained one, whole or in int8, and says what it is."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch

from kdmri_lib.datasets.prepared import Slices
from kdmri_lib.deployment import Model
from kdmri_lib.deployment.export import INNER, about_mask, convolutions, quantise, to_onnx
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import Undersampling
from kdmri_study.build import declared_mask, declared_operator
from kdmri_study.deploying import about_run, calibration_slices, export
from kdmri_study.runs import WEIGHTS, RunFolder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_batch_and_any_extent_along_the_lines(tmp_path, axis, channels):
    mask = cartesian_mask((18, 18), 3, axis=axis, centre=4)
    network = build_model("dccnn", mask, channels, cascades=2, convolutions=3, features=4)
    (tmp_path / "x.onnx").write_bytes(to_onnx(network, axis, mask.shape, channels).SerializeToString())
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    for batch, extent in ((1, 7), (3, 16), (5, 41)):
        shape = (18, extent) if axis == 0 else (extent, 18)
        measurement = Undersampling(mask)(torch.rand(batch, channels, *shape))
        inputs = dict(zip(("zero_filled", "measured_image"), (v.numpy() for v in measurement), strict=True))
        found = session.run(None, inputs)[0]
        with torch.no_grad():
            np.testing.assert_allclose(found, network(*measurement).numpy(), atol=1e-5)


def test_the_file_says_what_it_is(deployed):
    folder, path, _ = deployed
    model = Model(path, engine="onnxruntime")
    about = model.about
    assert about["run"] == folder.run.id and about["dataset"] == "cardiac" and about["acceleration"] == 8
    assert about["weights_sha256"] == hashlib.sha256((folder.path / WEIGHTS).read_bytes()).hexdigest()
    assert about["result"] is False, "a trial of the software says so"
    np.testing.assert_array_equal(model.mask, declared_mask(folder.run.dataset, folder.run.degradation))
    with safetensors.safe_open(path.with_suffix(".safetensors"), "pt") as file:
        assert json.loads(file.metadata()["kdmri"]) == about
    weights = safetensors.torch.load_file(path.with_suffix(".safetensors"))
    assert all(torch.equal(weights[k], v) for k, v in folder.network().state_dict().items())


def test_int8_of_a_complex_network_keeps_the_outer_convolutions_and_stays_near(complex_deployed, tmp_path):
    folder, path, (volume, _) = complex_deployed
    quantise(path, tmp_path / "int8.onnx", calibration_slices(folder, 4), "first and last")
    stored, about = read_model(tmp_path / "int8.onnx")
    assert about["domain"] == "complex" and [len(c) for c in convolutions(read_model(path)[0])] == [3, 3]
    weights = {w.name for w in stored.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4}
    assert len(weights) == 2, "the middle convolution of each of the two cascades"
    plain, small = (Model(p, engine="onnxruntime", threads=1) for p in (path, tmp_path / "int8.onnx"))
    kspace = np.fft.fft2(volume.image, norm="ortho") * plain.mask
    assert 0 < np.abs(plain.reconstruct(kspace, phase=True) - small.reconstruct(kspace, phase=True)).max() < 0.05


def test_int8_keeps_the_outer_convolutions_and_stays_near(deployed, kspace, tmp_path):
    folder, path, _ = deployed
    quantise(path, tmp_path / "int8.onnx", calibration_slices(folder), "first and last")
    stored, about = read_model(tmp_path / "int8.onnx")
    assert about["precision"] == "int8" and about["run"] == folder.run.id
    int8 = {w.name for w in stored.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4}
    quantised = [n for n in stored.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in int8]
    assert len(quantised) == 2, "the middle convolution of each of the two cascades"
    plain, small = (Model(p, engine="onnxruntime", threads=1) for p in (path, tmp_path / "int8.onnx"))
    difference = np.abs(plain.reconstruct(kspace) - small.reconstruct(kspace)).max()
    assert 0 < difference < 0.05
    assert [len(c) for c in convolutions(read_model(path)[0])] == [3, 3]


def test_runs_that_cannot_be_exported(deployed, tmp_path):
    folder = deployed[0]
    with pytest.raises(StudyError, match=r"no network to export: run .*: missing; ./run_all.sh --profile .* trains it"):
        export(RunFolder(folder.study, folder.run.model_copy(update={"seed": 7})), tmp_path / "x.onnx")
    points = folder.run.degradation.model_copy(update={"kind": "gaussian_2d"})
    with pytest.raises(StudyError, match="isn't made of whole lines"):
        about_run(RunFolder(folder.study, folder.run.model_copy(update={"degradation": points})))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kept", "count"), [("nothing", 6), ("first and last", 2), (INNER, 1)])
def test_int8_quantises_what_it_is_asked_to(deployed, tmp_path, kept, count):
    """The smoke student has two cascades of three convolutions."""
    folder, path, _ = deployed
    quantise(path, tmp_path / "int8.onnx", calibration_slices(folder, 4), kept)
    stored, about = read_model(tmp_path / "int8.onnx")
    assert about["kept_in_float32"] == kept and about["precision"] == "int8"
    weights = {w.name for w in stored.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4}
    assert len(weights) == count


def test_calibration_spreads_over_the_training_slices(deployed):
    folder = deployed[0]
    slices = Slices(folder.study.prepared("cardiac"), "train")
    found = list(calibration_slices(folder, 3))
    operator = declared_operator(folder.run)
    for measurement, place in zip(found, (0, round((len(slices) - 1) / 2), len(slices) - 1), strict=True):
        assert torch.equal(measurement.zero_filled, operator(slices[[place]]).zero_filled)
    assert len(list(calibration_slices(folder))) == len(slices), "no more than there are"


def test_a_network_that_differs_from_pytorch_leaves_no_file(deployed, tmp_path, monkeypatch):
    from kdmri_lib.deployment import export as module

    monkeypatch.setattr(module, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(StudyError, match="ONNX Runtime differs from PyTorch by nan"):
        export(deployed[0], tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mask_is_written_down_by_its_lines(axis):
    mask = np.zeros((6, 6), bool)
    mask[[0, 2]] = True
    mask = mask if axis == 0 else mask.T
    assert about_mask(mask, "x") == {"shape": [6, 6], "axis": axis, "kept": [0, 2]}
    mask[0, 0] = False
    with pytest.raises(StudyError, match="x: its mask isn't made of whole lines"):
        about_mask(mask, "x")
