"""Networks taken away: the ONNX file equals the run, says what it is, and refuses what it wasn't made for."""

import hashlib
import json
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import onnx
import pytest
import safetensors
import safetensors.torch
import torch
from kdmri_lib.sampling import Undersampling, cartesian_mask, declared_mask, declared_undersampling

from kdmri_lib import runs
from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.deployment import Model
from kdmri_lib.deployment.export import about_run, calibration_slices, convolutions, export, quantise, stamped, to_onnx
from kdmri_lib.deployment.model import read_model
from kdmri_lib.deployment.reconstruct import reconstruct_file
from kdmri_lib.deployment.volumes import is_centred, open_input
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.models.base import build_model
from kdmri_study.study import PROJECT, Cell, Study
from tests import downloads


@pytest.fixture(scope="module")
def deployed(prepared_study, tmp_path_factory):
    """A finished run of the smoke study, the file it was exported to, and the test volumes."""
    study = Study("smoke", tmp_path_factory.mktemp("deployed"))
    study.prepared("cardiac").parent.mkdir(parents=True)
    study.prepared("cardiac").symlink_to(prepared_study.prepared("cardiac"))
    folder = runs.trained(study, study.methods(Cell("cardiac", 8), 0)["student"])
    path = study.folder / "student.onnx"
    assert export(folder, path) < 1e-5
    return folder, path, list(read_prepared(study.prepared("cardiac"), "test"))


@pytest.fixture
def model(deployed):
    return Model(deployed[1], engine="onnxruntime", precision="float32", threads=1)


def measured_kspace(model, volume):
    return np.fft.fft2(volume.image.astype(np.complex128), norm="ortho").astype(np.complex64) * model.mask


@pytest.mark.parametrize(
    ("engine", "precision", "tolerance"),
    [("onnxruntime", "float32", 1e-5), ("openvino", "float32", 1e-5), ("openvino", "bfloat16", 2e-2)],
)
def test_three_lines_of_python_give_what_the_study_gives(deployed, engine, precision, tolerance):
    folder, path, (volume, _) = deployed
    model = Model(path, engine=engine, precision=precision, threads=1)
    image = model.reconstruct(measured_kspace(model, volume))
    zero_filled = reconstruct(None, declared_undersampling(folder.run), volume.image)
    scale = zero_filled.max()
    expected = scale * reconstruct(folder.network(), declared_undersampling(folder.run), volume.image / scale)
    assert image.dtype == np.float32 and image.shape == volume.image.shape
    np.testing.assert_allclose(image, expected, atol=tolerance)


def test_using_a_model_needs_no_pytorch(deployed):
    code = f"import sys; from kdmri_lib.deployment import Model; Model({str(deployed[1])!r})"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_units_pass_through(model, deployed):
    kspace = measured_kspace(model, deployed[2][0])
    np.testing.assert_allclose(model.reconstruct(1e4 * kspace), 1e4 * model.reconstruct(kspace), rtol=1e-3, atol=1)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("batch", "extent"), [(1, 7), (3, 16), (5, 41)])
def test_any_batch_and_any_extent_along_the_lines(tmp_path, axis, batch, extent):
    mask = cartesian_mask((18, 18), 3, axis=axis, centre=4)
    network = build_model("dccnn", mask, cascades=2, convolutions=3, features=4)
    (tmp_path / "x.onnx").write_bytes(to_onnx(network, axis, mask.shape).SerializeToString())
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    shape = (18, extent) if axis == 0 else (extent, 18)
    measurement = Undersampling(mask)(torch.rand(batch, 1, *shape))
    found = session.run(None, dict(zip(("zero_filled", "measured"), (v.numpy() for v in measurement), strict=True)))[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, network(*measurement).numpy(), atol=1e-5)


def test_the_file_says_what_it_is(deployed):
    folder, path, _ = deployed
    model = Model(path, engine="onnxruntime")
    about = model.about
    assert about["run"] == folder.run.id and about["dataset"] == "cardiac" and about["acceleration"] == 8
    assert about["weights_sha256"] == hashlib.sha256((folder.path / runs.WEIGHTS).read_bytes()).hexdigest()
    assert about["result"] is False, "a trial of the software says so"
    np.testing.assert_array_equal(model.mask, declared_mask(folder.run.dataset, folder.run.degradation))
    with safetensors.safe_open(path.with_suffix(".safetensors"), "pt") as file:
        assert json.loads(file.metadata()["kdmri"]) == about
    weights = safetensors.torch.load_file(path.with_suffix(".safetensors"))
    assert all(torch.equal(weights[k], v) for k, v in folder.network().state_dict().items())


def test_int8_keeps_the_outer_convolutions_and_stays_near(deployed, tmp_path):
    folder, path, (volume, _) = deployed
    quantise(path, tmp_path / "int8.onnx", calibration_slices(folder), "first and last")
    stored, about = read_model(tmp_path / "int8.onnx")
    assert about["precision"] == "int8" and about["run"] == folder.run.id
    int8 = {w.name for w in stored.graph.initializer if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4}
    quantised = [n for n in stored.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in int8]
    assert len(quantised) == 2, "the middle convolution of each of the two cascades"
    plain, small = (Model(p, engine="onnxruntime", threads=1) for p in (path, tmp_path / "int8.onnx"))
    kspace = measured_kspace(plain, volume)
    difference = np.abs(plain.reconstruct(kspace) - small.reconstruct(kspace)).max()
    assert 0 < difference < 0.05
    assert [len(c) for c in convolutions(read_model(path)[0])] == [3, 3]


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
        (lambda c: c.replace(b"kdmri-onnx-1", b"kdmri-onnx-9"), "format 'kdmri-onnx-9', expected 'kdmri-onnx-1'"),
        (lambda c: onnx.ModelProto(ir_version=8).SerializeToString(), "not one of KD-MRI's"),
    ],
)
def test_files_that_are_not_ours_or_not_whole(deployed, tmp_path, change, message):
    with pytest.raises(StudyError, match=f"copy.onnx: .*({message})"):
        Model(damaged(deployed[1], tmp_path, change))


def test_what_a_model_refuses(model, deployed):
    kspace = measured_kspace(model, deployed[2][0])
    for bad, message in [
        (kspace[:, :60], r"slices of 60x72, but student.onnx was made for 72 x any \(H x W\)"),
        (kspace[0], r"complex64 of shape \(72, 72\), expected complex \(slices, H, W\)"),
        (kspace.real, "float32 of shape"),
        (np.where(np.arange(72) == 3, np.nan, kspace), "NaN or infinite values"),
        (0 * kspace, "nothing but zeros on the lines of the mask"),
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


def test_runs_that_cannot_be_exported(deployed, tmp_path):
    folder = deployed[0]
    with pytest.raises(StudyError, match=r"no network to export: run .*: missing; ./run_all.sh trains it"):
        export(runs.RunFolder(folder.study, folder.run.model_copy(update={"seed": 7})), tmp_path / "x.onnx")
    points = folder.run.degradation.model_copy(update={"kind": "gaussian_2d"})
    with pytest.raises(StudyError, match="isn't made of whole lines"):
        about_run(runs.RunFolder(folder.study, folder.run.model_copy(update={"degradation": points})))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("centred", [True, False])
def test_k_space_from_file_to_file(model, deployed, tmp_path, centred):
    volume = deployed[2][0]
    kspace = 50 * measured_kspace(model, volume)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = np.fft.fftshift(kspace, axes=(1, 2)) if centred else kspace
        file.attrs["patient"] = "somebody"
        assert is_centred(file["kspace"]) == centred
    done = reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", batch=3, figures=tmp_path / "pictures")
    assert done == [f"kspace: {len(kspace)} slices of 72x72"]
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_allclose(file["image"][:], model.reconstruct(kspace), atol=2e-4)
        assert file["image"].attrs["patient"] == "somebody" and file.attrs["model_run"] == model.about["run"]
        assert file.attrs["source_sha256"] == hashlib.sha256((tmp_path / "in.h5").read_bytes()).hexdigest()
    assert (tmp_path / "pictures/in_kspace.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "out.h5").read_bytes()
    with pytest.raises(StudyError, match=r"out.h5: exists already; --force replaces it"):
        reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5")
    assert (tmp_path / "out.h5").read_bytes() == before
    reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", force=True)


def test_a_prepared_file_and_a_nifti_volume_as_a_trial(model, deployed, tmp_path):
    folder, _, volumes = deployed
    prepared = folder.study.prepared("cardiac")
    with pytest.raises(StudyError, match="holds images; --undersample takes them for fully sampled"):
        reconstruct_file(model, prepared, tmp_path / "out.h5")
    reconstruct_file(model, prepared, tmp_path / "out.h5", undersample=True)
    expected = model.reconstruct(measured_kspace(model, volumes[0]))
    with h5py.File(tmp_path / "out.h5") as file:
        found = file[f"volumes/{volumes[0].subject}"]
        np.testing.assert_allclose(found[:], expected, atol=1e-5)
        assert found.attrs["split"] == "test"
    downloads.save_nifti(tmp_path / "scan.nii.gz", 1000 * volumes[0].image, "LPS")
    reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.nii.gz", undersample=True)
    with open_input(tmp_path / "recon.nii.gz") as (again,):
        np.testing.assert_allclose(again.read(0, 99), np.maximum(1000 * expected, 0), atol=0.05)
    same = nibabel.as_closest_canonical(nibabel.load(tmp_path / "scan.nii.gz")).affine
    np.testing.assert_allclose(nibabel.load(tmp_path / "recon.nii.gz").affine, same)
    with pytest.raises(StudyError, match="a NIfTI volume becomes a NIfTI volume"):
        reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.h5", undersample=True)


def other_mask(file, kspace, model):
    file["kspace"] = np.roll(kspace, 3, axis=1)


def whole(file, kspace, model):
    file["kspace"] = kspace + 1


def with_coils(file, kspace, model):
    file["kspace"] = kspace[:, None]


def of_another_size(file, kspace, model):
    file["kspace"] = kspace[:, :70]


def with_nan(file, kspace, model):
    file["kspace"] = np.where(np.arange(72)[:, None] == 0, np.nan, kspace)


def of_real_numbers(file, kspace, model):
    file["kspace"] = kspace.real


def of_another_name(file, kspace, model):
    file["data"] = kspace


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (other_mask, r"9 of 72 lines along axis 0 are measured, \d of them among the 9 that student.onnx was made for"),
        (whole, "72 of 72 lines along axis 0 are measured, 9 of them among the 9"),
        (with_coils, r"a coil axis\? the networks take one channel"),
        (of_another_size, "slices of 70x72, but student.onnx was made for 72 x any"),
        (with_nan, "NaN or infinite values in slices"),
        (of_real_numbers, "values of type float32, expected complex numbers"),
        (of_another_name, "no array 'kspace' or 'image' and no volumes; it has data"),
    ],
)
def test_inputs_that_are_refused_leave_no_output(model, deployed, tmp_path, fill, message):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        fill(file, measured_kspace(model, deployed[2][0]), model)
    with pytest.raises(StudyError, match=message):
        reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", order="unshifted")
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5"]


def test_fully_sampled_k_space_on_request(model, deployed, tmp_path):
    volume = deployed[2][0]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = np.fft.fft2(volume.image, norm="ortho").astype(np.complex64)
    reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", undersample=True)
    with h5py.File(tmp_path / "out.h5") as file:
        expected = model.reconstruct(measured_kspace(model, volume))
        np.testing.assert_allclose(file["image"][:], expected, atol=1e-5)


def test_memory_does_not_grow_with_the_volume(deployed, tmp_path):
    """A volume of 600 MB through the command, in far less than that above what an empty start takes."""
    path = deployed[1]
    model = Model(path, engine="onnxruntime", threads=1)
    block = np.random.default_rng(0).standard_normal((10, 72, 2048), np.float32) * (model.lines[:, None] + 0j)
    for name, blocks in (("small", 1), ("large", 50)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            array = file.create_dataset("kspace", (10 * blocks, 72, 2048), np.complex64)
            for n in range(blocks):
                array[10 * n : 10 * n + 10] = block
    code = (
        "import sys; from kdmri_lib.__main__ import main; sys.argv[0] = 'kdmri'; main();"
        "print([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1])"
    )
    peaks = {}
    for name in ("small", "large"):
        options = ["--model", path, "--input", tmp_path / f"{name}.h5", "--output", tmp_path / f"{name}_out.h5"]
        more = ["--engine", "onnxruntime", "--order", "unshifted", "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "-c", code, "reconstruct", *map(str, options), *more],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[name] = int(done.stdout.split()[-1]) / 1024
    assert (tmp_path / "large.h5").stat().st_size > 550e6
    assert peaks["large"] - peaks["small"] < 120, peaks


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
