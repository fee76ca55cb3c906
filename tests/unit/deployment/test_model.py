"""A network from its file: it reconstructs as the study does, without PyTorch, and refuses what it wasn't made for."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from kdmri_lib.deployment import Model
from kdmri_lib.deployment.export import stamped
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.storage import PROJECT
from kdmri_study.build import declared_operator


@pytest.mark.parametrize(
    ("engine", "precision", "tolerance"),
    [("onnxruntime", "float32", 1e-5), ("openvino", "float32", 1e-5), ("openvino", "bfloat16", 2e-2)],
)
def test_three_lines_of_python_give_what_the_study_gives(deployed, kspace, engine, precision, tolerance):
    folder, path, (volume, _) = deployed
    model = Model(path, engine=engine, precision=precision, threads=1)
    image = model.reconstruct(kspace)
    zero_filled = reconstruct(None, declared_operator(folder.run), volume.image)
    scale = zero_filled.max()
    expected = scale * reconstruct(folder.network(), declared_operator(folder.run), volume.image / scale)
    assert image.dtype == np.float32 and image.shape == volume.image.shape
    np.testing.assert_allclose(image, expected, atol=tolerance)


def test_using_a_model_needs_no_pytorch(deployed):
    code = f"import sys; from kdmri_lib.deployment import Model; Model({str(deployed[1])!r})"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_units_pass_through(model, kspace):
    np.testing.assert_allclose(model.reconstruct(1e4 * kspace), 1e4 * model.reconstruct(kspace), rtol=1e-3, atol=1)


def damaged(path, tmp_path, change):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(change(path.read_bytes()))
    return copy


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"", "not one of KD-MRI's|not an ONNX file"),
        (lambda c: c[: len(c) // 2], "not an ONNX file, or cut short|not one of KD-MRI's|damaged"),
        (flipped, "damaged, its checksum is wrong|not an ONNX file"),
        (lambda c: b"\x80\x04K\x01.", "not an ONNX file"),
        (lambda c: c.replace(b"kdmri-onnx-2", b"kdmri-onnx-9"), "format 'kdmri-onnx-9', expected 'kdmri-onnx-2'"),
        (lambda c: onnx.ModelProto(ir_version=8).SerializeToString(), "not one of KD-MRI's"),
    ],
)
def test_files_that_are_not_ours_or_not_whole(deployed, tmp_path, change, message):
    with pytest.raises(StudyError, match=f"copy.onnx: .*({message})"):
        Model(damaged(deployed[1], tmp_path, change))


def test_what_a_model_refuses(model, deployed, kspace):
    for bad, message in [
        (kspace[:, :60], r"slices of 60x72, but student.onnx was made for 72 x any \(H x W\)"),
        (kspace[0], r"complex64 of shape \(72, 72\), expected complex \(slices, H, W\)"),
        (kspace.real, "float32 of shape"),
        (np.where(np.arange(72) == 3, np.nan, kspace), "NaN or infinite values"),
        (0 * kspace, "nothing but zeros on the lines of the mask"),
        (
            1j * kspace,
            "k-space: images with a phase, 1.57 rad at low resolution, but student.onnx was made for magnitudes",
        ),
    ]:
        with pytest.raises(StudyError, match=message):
            model.reconstruct(bad)
    for options, message in [
        ({"device": "cuda", "engine": "onnxruntime"}, "device cuda: not there for ONNX Runtime; available: cpu"),
        ({"device": "cuda", "engine": "openvino"}, "device cuda: engine openvino runs on the CPU"),
        ({"engine": "tensorrt"}, "engine 'tensorrt' is unknown; known: auto, openvino, onnxruntime"),
        ({"engine": "onnxruntime", "precision": "bfloat16"}, "ONNX Runtime computes it on no CPU"),
    ]:
        with pytest.raises(StudyError, match=message):
            Model(deployed[1], **options)
    with pytest.raises(StudyError, match=r"none.onnx: no such file"):
        Model("none.onnx")


def test_an_older_file_with_a_changed_mask_is_found_out(deployed, tmp_path):
    """What the file says of itself is part of its checksum: the mask can't be exchanged."""
    stored, about = read_model(deployed[1])
    about["mask"]["kept"] = list(range(9))
    content = stamped(stored, about)
    (tmp_path / "consistent.onnx").write_bytes(content)
    Model(tmp_path / "consistent.onnx", engine="onnxruntime")
    forged = content.replace(b'"kept": [0, 1, 2', b'"kept": [0, 1, 3')
    assert forged != content
    (tmp_path / "forged.onnx").write_bytes(forged)
    with pytest.raises(StudyError, match="damaged, its checksum is wrong"):
        Model(tmp_path / "forged.onnx", engine="onnxruntime")
