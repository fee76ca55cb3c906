"""A network from its file: it reconstructs as the study does, without PyTorch, and refuses what it wasn't made for."""

import json

import numpy as np
import onnx
import pytest

from kdmri_lib.channels import magnitude
from kdmri_lib.declared import declared_operator
from kdmri_lib.deployment import Model
from kdmri_lib.deployment.export import stamped
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import reconstruct

ENGINES = [("onnxruntime", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")]


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
@pytest.mark.parametrize(("network", "domain"), [("deployed", "magnitude"), ("complex_deployed", "complex")])
def test_three_lines_of_python_give_what_the_study_gives(request, network, domain, engine, precision):
    """At the scale that a scanner knows, and in other units."""
    folder, path, (volume, *_) = request.getfixturevalue(network)
    operator = declared_operator(folder.run.dataset, folder.run.undersampling)
    scale = np.abs(reconstruct(None, operator, volume.image)).max()
    expected = scale * reconstruct(folder.network(), operator, volume.image / scale)
    model, tolerance = Model(path, engine, precision, threads=1), 1e-5 if precision == "float32" else 3e-2
    kspace = np.fft.fft2(volume.image, norm="ortho") * model.mask
    found, size = model.reconstruct(kspace, phase=domain == "complex"), model.reconstruct(1e4 * kspace)
    assert model.domain == domain and found.dtype == expected.dtype and size.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(size / 1e4, magnitude(expected), atol=tolerance)


def test_a_model_of_the_format_before_is_one_of_magnitudes(deployed, kspace, model, tmp_path):
    stored, about = read_model(deployed[1])
    del about["domain"]
    (tmp_path / "old.onnx").write_bytes(stamped(stored, {**about, "format": "kdmri-onnx-2"}))
    old = Model(tmp_path / "old.onnx", engine="onnxruntime", precision="float32", threads=1)
    assert old.domain == "magnitude" and np.array_equal(old.reconstruct(kspace), model.reconstruct(kspace))
    with pytest.raises(StudyError, match=r"old.onnx was made for magnitudes; its images have no phase"):
        old.reconstruct(kspace, phase=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"\x80\x04K\x01.", "not a readable ONNX file"),
        (lambda c: c.replace(b"kdmri-onnx-3", b"kdmri-onnx-9"), "format 'kdmri-onnx-9', expected kdmri-onnx-3 or"),
        (lambda c: onnx.ModelProto(ir_version=8).SerializeToString(), "not one of KD-MRI's"),
    ],
)
def test_files_that_are_not_ours_or_are_newer(deployed, tmp_path, change, message):
    (tmp_path / "copy.onnx").write_bytes(change(deployed[1].read_bytes()))
    with pytest.raises(StudyError, match=f"copy.onnx: .*({message})"):
        Model(tmp_path / "copy.onnx")


def test_what_a_model_refuses(model, deployed, kspace):
    centred = np.fft.fftshift(np.fft.fft2(deployed[2][0].image), axes=(-2, -1))
    phase = "k-space: images with a phase, 1.57 rad at low resolution, but student.onnx was made for magnitudes"
    for bad, message in [
        (kspace[:, :60], r"slices of 60x72, but student.onnx was made for 72 x any \(H x W\)"),
        (kspace[0], r"complex64 of shape \(72, 72\), expected complex \(slices, H, W\)"),
        (kspace.real, "float32 of shape"),
        (np.where(np.arange(72) == 3, np.nan, kspace), "NaN or infinite values"),
        (0 * kspace, r"9 of the 9 lines of the mask that student.onnx was made for are zero; expected it unshifted"),
        (np.where(np.arange(72)[:, None] == 71, 0, kspace), r"1 of the 9 lines of the mask"),
        (centred.astype(np.complex64), "most energy isn't about index 0; expected it unshifted"),
        (1j * kspace, phase),
    ]:
        with pytest.raises(StudyError, match=message):
            model.reconstruct(bad)
    for options, message in [
        ({"device": "cuda", "engine": "onnxruntime"}, "device cuda: not there for ONNX Runtime; available: cpu"),
        ({"device": "cuda", "engine": "openvino"}, "device cuda: engine openvino runs on the CPU"),
        ({"engine": "tensorrt"}, "engine 'tensorrt' is unknown; known: auto, openvino, onnxruntime"),
        ({"threads": -3}, "threads -3: expected their number, or 0 for all cores"),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "ONNX Runtime computes it on no CPU"),
    ]:
        with pytest.raises(StudyError, match=message):
            Model(deployed[1], **options)
    with pytest.raises(StudyError, match=r"none.onnx: no such file"):
        Model("none.onnx")


def test_a_file_with_a_changed_mask_is_found_out(deployed, tmp_path):
    """What the file says of itself is part of its checksum: the mask can't be exchanged."""
    content, kept = deployed[1].read_bytes(), json.dumps(read_model(deployed[1])[1]["mask"]["kept"]).encode()
    assert content.count(kept) == 1
    (tmp_path / "forged.onnx").write_bytes(content.replace(kept, kept.replace(b"[0, ", b"[3, ")))
    with pytest.raises(StudyError, match="damaged, its checksum is wrong"):
        Model(tmp_path / "forged.onnx", engine="onnxruntime")
