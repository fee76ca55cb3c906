"""From a run to a file: the ONNX network is the trained one, whole or in int8, and says what it is."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch

from kdmri_lib.declared import declared_mask
from kdmri_lib.deployment import Model
from kdmri_lib.deployment.export import INNER, convolutions, quantise, to_onnx
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import UndersamplingOperator
from kdmri_study.models import calibration_slices, export, kept_run
from kdmri_study.runs import WEIGHTS


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_any_batch_and_any_extent_along_the_lines(tmp_path, axis, channels):
    mask = cartesian_mask((18, 18), 3, axis=axis, centre=4)
    network = build_model("dccnn", mask, channels, cascades=2, convolutions=3, features=4)
    (tmp_path / "x.onnx").write_bytes(to_onnx(network, axis, mask.shape, channels).SerializeToString())
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    for batch, extent in ((1, 7), (3, 16), (5, 41)):
        shape = (18, extent) if axis == 0 else (extent, 18)
        measurement = UndersamplingOperator(mask)(torch.rand(batch, channels, *shape))
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
    np.testing.assert_array_equal(model.mask, declared_mask(folder.run.dataset, folder.run.undersampling))
    with safetensors.safe_open(path.with_suffix(".safetensors"), "pt") as file:
        assert json.loads(file.metadata()["kdmri"]) == about
    weights = safetensors.torch.load_file(path.with_suffix(".safetensors"))
    assert all(torch.equal(weights[k], v) for k, v in folder.network().state_dict().items())


def test_runs_of_masks_that_are_not_of_lines_cannot_be_exported(deployed, tmp_path):
    folder, kept = deployed[0], kept_run(deployed[0])
    points = folder.run.undersampling.model_copy(update={"kind": "gaussian_2d"})
    with pytest.raises(StudyError, match="isn't made of whole lines"):
        run = folder.run.model_copy(update={"undersampling": points})
        export(folder.study, replace(kept, run=run), tmp_path / "x.onnx")


KEPT = [("deployed", "nothing", 6), ("deployed", INNER, 1), ("complex_deployed", "first and last", 2)]


@pytest.mark.parametrize(("network", "kept", "count"), KEPT)
def test_int8_quantises_what_it_is_asked_to_and_stays_near(request, tmp_path, network, kept, count):
    """The smoke students have two cascades of three convolutions."""
    folder, path, (volume, _) = request.getfixturevalue(network)
    assert [len(names) for names in convolutions(read_model(path)[0])] == [3, 3]
    quantise(path, tmp_path / "int8.onnx", calibration_slices(folder.study, folder.run, 8), kept)
    stored, about = read_model(tmp_path / "int8.onnx")
    assert about == read_model(path)[1] | {"precision": "int8", "kept_in_float32": kept}
    weights = {w.name for w in stored.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4}
    read = [n for n in stored.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights]
    assert len(weights) == len(read) == count
    if kept != "nothing":
        plain, small = (Model(p, engine="onnxruntime", threads=1) for p in (path, tmp_path / "int8.onnx"))
        kspace, phase = np.fft.fft2(volume.image, norm="ortho") * plain.mask, plain.domain == "complex"
        assert 0 < np.abs(plain.reconstruct(kspace, phase=phase) - small.reconstruct(kspace, phase=phase)).max() < 0.05


def test_a_network_that_differs_from_pytorch_leaves_no_file(deployed, tmp_path, monkeypatch):
    monkeypatch.setattr("kdmri_lib.deployment.export.largest_difference", lambda *_: float("nan"))
    with pytest.raises(StudyError, match="ONNX Runtime differs from PyTorch by nan"):
        export(deployed[0].study, kept_run(deployed[0]), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
