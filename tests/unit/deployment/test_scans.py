"""The command `reconstruct`, from file to file: the same picture in the same place, whatever the order; what contradicts
itself leaves no output. The network gives back the zero-filled image, so that what comes out is known."""

import hashlib
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pytest

from kdmri_lib.deployment import Model
from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from kdmri_lib.deployment.volumes import open_input
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import ORDERS
from kdmri_lib.storage import PROJECT
from tests import downloads
from tests.unit.deployment import scans

SHAPE = (48, 40)
LINES = scans.every_other_line(40)
MAPS = scans.sensitivities(SHAPE)


@pytest.fixture
def network():
    return scans.StandIn(LINES, SHAPE)


@pytest.fixture
def image():
    """Two slices with a phase of 2 radians: (slices, H, W) complex128."""
    return scans.objects(2, SHAPE) * scans.smooth_phase(SHAPE, 2)


def zero_filled(image, lines=LINES):
    """What is left of images (..., H, W) on the lines: complex."""
    return np.fft.ifft2(np.fft.fft2(image) * lines)


def measured(image, lines=LINES):
    """What scanners' files hold of it: centred k-space, complex64."""
    return (scans.centred(image) * np.fft.fftshift(lines)).astype(np.complex64)


def saved(path, values):
    np.save(path, values.astype(np.complex64))
    return path


def output(network, path, **how):
    """The output's image, and what was said."""
    target = path.with_name("out.h5")
    done = reconstruct_file(network, path, target, How(**how), force=True)
    with h5py.File(target) as file:
        return file["image"][:], done


def refused(network, path, message, **how):
    before = sorted(path.parent.iterdir())
    with pytest.raises(StudyError, match=message):
        reconstruct_file(network, path, path.with_name("refused.h5"), How(**how))
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("shape", [SHAPE, (49, 40), (45, 39)])
@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("domain", ["complex", "magnitude"])
def test_every_order_gives_the_same_picture_in_the_same_place(tmp_path, shape, coils, domain):
    lines = scans.every_other_line(shape[1])
    network = scans.StandIn(lines, shape, domain=domain)
    image = scans.objects(2, shape)[:, None] * (scans.sensitivities(shape) if coils == 4 else 1)
    image = image if domain == "magnitude" and coils == 1 else image * scans.smooth_phase(shape, 2)
    expected = np.sqrt((np.abs(zero_filled(image, lines)) ** 2).sum(axis=1))
    how = {"remove_phase": domain == "magnitude" and coils == 4}
    pictures = []
    for name, transform in scans.FORMATS.items():
        kspace = transform(image) * (np.fft.fftshift(lines) if "fftshift(fft2" in name else lines)
        found, done = output(network, saved(tmp_path / "in.npy", kspace.squeeze()), **how)
        pictures.append(found)
        assert ", found from the data (zero frequency " in done[0]
    for found in pictures:
        assert np.abs(found - pictures[0]).max() < 1e-5 * pictures[0].max()
    if not how["remove_phase"]:  # which moves energy between lines a little
        np.testing.assert_allclose(pictures[0], expected, atol=1e-5)


def test_the_order_can_be_said(network, image, tmp_path):
    path = saved(tmp_path / "in.npy", np.fft.fft2(image, norm="ortho") * LINES)
    found, done = output(network, path, order="unshifted")
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    said = "in.npy: order unshifted (zero frequency at index 0; a plain transform has the object in the middle)"
    assert done[0] == said
    other, _ = output(network, path, order="corners")
    np.testing.assert_allclose(other, scans.shifted(found), atol=1e-5)
    refused(network, path, "order 'fftshift' is unknown; known: auto, unshifted", order="fftshift")
    noise = saved(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((2, *SHAPE)) * LINES)
    refused(network, noise, "'noise.npy': the data don't show .*; expected --order unshifted, shifted")
    command = [sys.executable, "-m", "kdmri_lib", "reconstruct", "--help"]
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "{" + ",".join(["auto", *ORDERS]) + "}" in told.replace("\n", "").replace(" ", "")


def test_the_complex_result_on_request(network, image, tmp_path):
    path = saved(tmp_path / "in.npy", measured(image))
    found, _ = output(network, path, complex=True)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, zero_filled(image), atol=1e-5)
    magnitude = scans.StandIn(LINES, SHAPE, domain="magnitude")
    refused(magnitude, path, "--complex asks for a phase, which stand-in.onnx has none of", complex=True)
    refused(network, path, "is a complex model; --remove-phase is for magnitude", remove_phase=True)


@pytest.mark.parametrize("ending", ["npy", "mat", "cfl"])
def test_coils_combined_with_given_sensitivities(network, image, tmp_path, ending):
    coils, path = image[:, None] * MAPS, tmp_path / f"maps.{ending}"
    if ending == "npy":
        saved(path, MAPS)
    elif ending == "mat":
        scans.save_matlab73(path, "sensitivities", MAPS.astype(np.complex64).transpose(1, 2, 0))
    else:
        scans.save_bart(path, MAPS[None])
    found, done = output(network, saved(tmp_path / "in.npy", measured(coils)), sensitivities=path, complex=True)
    expected = (MAPS.conj() * zero_filled(coils)).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert done[-1] == f"in.npy: 2 slices of 48x40, coils: 4, combined with the sensitivities of maps.{ending}"
    whole = saved(tmp_path / "whole.npy", scans.centred(coils))
    found, _ = output(network, whole, sensitivities=path, undersample=True, complex=True)
    np.testing.assert_allclose(found, zero_filled(image), atol=1e-5)  # combined first, then undersampled: exact


def test_sensitivities_estimated_from_the_centre(image, tmp_path):
    """Of fully sampled k-space the combination's magnitude is the object's, within what the calibration resolves."""
    path, everything = saved(tmp_path / "in.npy", scans.centred(image[:, None] * MAPS)), np.ones(40, bool)
    found, done = output(scans.StandIn(everything, SHAPE), path, coils="espirit", complex=True)
    assert "4, combined with sensitivities estimated from the centre of k-space (ESPIRiT)" in done[-1]
    assert np.abs(np.abs(found) - np.abs(image))[np.abs(image) > 0.5].max() < 0.02
    narrow = scans.StandIn(scans.every_other_line(40, 4), SHAPE)
    saved(path, measured(image[:, None] * MAPS, narrow.lines))
    refused(narrow, path, "4 lines about zero frequency are measured, expected at least 8", coils="espirit")


def test_what_does_not_go_together(network, image, tmp_path):
    path, given = saved(tmp_path / "in.npy", measured(image[:, None] * MAPS)), tmp_path / "maps.npy"
    one, maps = saved(tmp_path / "one.npy", measured(image)), MAPS.astype(np.complex64)
    for values, message in (
        (maps[:3], r"maps.npy: sensitivities of 3 coils, 1 x 48x40, expected 4 coils, 1 or 2 x 48x40 as in .*in.npy"),
        (maps[:, :40], "maps.npy: sensitivities of 4 coils, 1 x 40x40, expected 4 coils"),
        (np.stack([maps] * 3), "maps.npy: sensitivities of 4 coils, 3 x 48x40, expected 4 coils, 1 or 2 x"),
        (maps * np.nan, "maps.npy: sensitivities that are NaN"),
        (0 * maps, "maps.npy: .* 0 everywhere"),
        (maps * [[[1]], [[1]], [[0]], [[1]]], "sensitivities of coil 2 that are NaN or infinite, or 0 everywhere"),
    ):
        saved(given, values)
        refused(network, path, message, sensitivities=given)
    refused(network, one, "maps.npy: sensitivities, but .*'one.npy' has one coil", sensitivities=given)
    refused(network, path, "maps.npy: sensitivities, and --coils espirit too", sensitivities=given, coils="espirit")
    refused(network, path, "in.npy: holds k-space by where its energy is; expected sensitivities", sensitivities=path)
    refused(network, path, "whose root sum of squares has no phase; --complex needs --coils espirit", complex=True)
    refused(network, path, "coils 'sense' is unknown; known: rss, espirit", coils="sense")
    refused(network, path, "batch 0: expected at least 1 slice", batch=0)
    refused(network, tmp_path, "a folder; expected a file of k-space or images")
    other = scans.StandIn(np.ones(38, bool), (48, 38))
    refused(other, path, r"slices of 48x40, but stand-in.onnx was made for any x 38 \(H x W\)")
    before = path.read_bytes()
    for target, message in ((path, "is read here itself"), (path.with_name("out.png"), r"everything else HDF5 \(.h5")):
        with pytest.raises(StudyError, match=message):
            reconstruct_file(network, path, target, force=True)
    with pytest.raises(FileExistsError):  # which isn't blamed on the file that is read
        reconstruct_file(network, path, path / "out.h5")
    assert path.read_bytes() == before
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["image"] = np.abs(image).astype(np.float32)
    how = {"order": "centred", "coils": "espirit"}
    refused(network, tmp_path / "images.h5", "holds images; --order, --coils is for k-space", **how)


def test_readout_oversampling_is_cut_off(network, image, tmp_path):
    """An object in the middle of a readout twice as long as its header's field of view, as fastMRI and as ISMRMRD."""
    wide = np.zeros((2, 2 * SHAPE[0], SHAPE[1]), complex)
    wide[:, SHAPE[0] // 2 : SHAPE[0] // 2 + SHAPE[0]] = image
    xml = scans.header((96, 40), pixels=48)
    scans.save_fastmri(tmp_path / "in.h5", measured(wide), xml)
    scans.save_ismrmrd(tmp_path / "scan.h5", measured(wide)[:, None], xml)
    for name in ("in.h5", "scan.h5"):
        found, done = output(network, tmp_path / name)
        np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
        assert "readout of 96 samples, oversampled; its image's middle 48 pixels are kept" in done[1]
    with h5py.File(tmp_path / "out.h5") as file:
        assert tuple(file["image"].attrs["spacing"]) == (5, 1, 1)


def test_lines_that_were_never_to_be_measured_count_as_zero(network, image, tmp_path):
    """A matrix of 36 lines in an encoded one of 40, and partial Fourier, both as the header declares them."""
    for limits, first, last in (((0, 35, 18), 2, 38), ((0, 35, 16), 4, 40)):
        inside = (np.arange(40) >= first) & (np.arange(40) < last)
        xml = scans.header(SHAPE, limits=limits)
        scans.save_fastmri(tmp_path / "in.h5", measured(image) * inside, xml)
        found, done = output(network, tmp_path / "in.h5")
        np.testing.assert_allclose(found, np.abs(zero_filled(image, LINES & np.fft.ifftshift(inside))), atol=1e-5)
        said = f"lines {first} to {last - 1} of 40 were to be measured, by its header; the others count as zero"
        assert said in done[1]
        scans.save_fastmri(tmp_path / "in.h5", measured(image), xml)
        refused(network, tmp_path / "in.h5", "lines hold values that its header says were not to be measured")


ALL = slice(None)


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        ((0, 2, ALL, 32), "slice 0, coil 2 is measured on 19 lines, slice 1 on 20, and 19 are the same"),
        (
            (..., 32),
            "19 of 40 lines along axis 1 are measured, 19 of them among the 20 that stand-in.onnx was made for",
        ),
        (
            (..., slice(28, None)),
            "lines beyond the outermost positive frequency that is measured are missing, a partial Fourier acq",
        ),
        (
            (..., slice(12), ALL),
            "the negative frequencies of the readout are missing, 12 of 48 samples: a partial echo that the file",
        ),
        (
            (..., np.arange(48) % 3 != 0, ALL),
            "30 of 48 points along the readout are zero on all lines of slice 0, between others that aren't; exp",
        ),
        (
            (..., np.random.default_rng(0).random(SHAPE) > 0.5),
            r"\d+% of the points on measured lines of slice 0 are zero; expected whole lines \(is it multiplied",
        ),
        ((ALL, 3), "coil 3 of 4 is zero everywhere in slice 0; expected a signal in each"),
        (..., "is zero in slices 0, 1; expected k-space"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "h5"])
def test_k_space_with_zeros_where_none_should_be_leaves_no_output(network, image, tmp_path, zero, message, ending):
    kspace, path = measured(image[:, None] * MAPS), tmp_path / f"in.{ending}"
    kspace[zero] = 0
    np.save(path, kspace) if ending == "npy" else scans.save_fastmri(path, kspace)
    refused(network, path, rf"in.{ending}: .*{message}", order="centred")


def test_k_space_that_is_not_what_it_should_be_leaves_no_output(network, image, tmp_path):
    kspace, path = measured(image[:, None] * MAPS), tmp_path / "in.npy"
    turned, infinite = kspace.copy(), kspace.copy()
    turned[0], infinite[0, 0, 3, 20] = np.roll(turned[0], 1, axis=-1), np.inf
    other = r"slice 0, coil 0 is measured on 20 lines, slice 1 on 20, and \d+ are the same; expected one mask for all"
    for values, message in (
        (turned, other),
        (infinite, "NaN or infinite values"),
        (
            scans.shifted(np.fft.ifft2(kspace)),
            "holds images, whose energy is spread as no k-space's is; expected k-space",
        ),
    ):
        refused(network, saved(path, values), rf"in.npy: .*{message}", order="centred")


def test_headers_masks_and_arrays_that_contradict_each_other(network, image, tmp_path):
    path, kspace, kept = tmp_path / "in.h5", measured(image), np.fft.fftshift(LINES)
    scans.save_fastmri(path, kspace, scans.header((48, 44)))
    refused(network, path, "slices of 48x40, expected 48x44, as its header says that it was encoded")
    scans.save_fastmri(path, kspace, mask=np.roll(kept, 1))
    refused(network, path, r"its 'mask' says 20 lines, its k-space holds 20; \d+ are in one of the two alone, expected")
    scans.save_fastmri(path, kspace, mask=kept & (np.random.default_rng(0).random(SHAPE) < 0.9))
    refused(network, path, r"its 'mask' isn't of whole lines across axis 1 of \(H, W\), as the model's is")
    scans.save_fastmri(path, kspace, scans.header(SHAPE))
    across = scans.StandIn(scans.every_other_line(48), SHAPE, axis=0)
    refused(across, path, "lines lie across axis 1 of .* by its header, expected axis 0, as the model was made for")


def test_a_trial_takes_fully_sampled_k_space(network, image, tmp_path):
    path = saved(tmp_path / "in.npy", scans.centred(image))
    found, _ = output(network, path, undersample=True)
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    refused(network, path, "40 of 40 lines along axis 1 are measured, 20 of them among the 20")
    saved(path, measured(image, LINES | (np.arange(40) % 2 == 0)))
    message = (
        r"of 40 lines are measured, expected all, as --undersample takes them \(is it multiplied by another mask\?\)"
    )
    refused(network, path, message, undersample=True)


@pytest.mark.parametrize("with_header", [True, False])
def test_a_file_whose_lines_lie_across_the_other_axis_is_turned(network, image, tmp_path, with_header):
    """fastMRI's columns are lines; brain and heart networks have theirs across rows."""
    path, turned = tmp_path / "in.h5", scans.StandIn(LINES, SHAPE[::-1], axis=0)
    xml = scans.header(SHAPE) if with_header else None
    scans.save_fastmri(path, measured(image), xml, mask=np.fft.fftshift(LINES))
    expected, _ = output(network, path)
    found, _ = output(turned, path, axes="SWH")
    np.testing.assert_allclose(found, expected.swapaxes(-2, -1), atol=1e-6)
    if with_header:
        refused(turned, path, "48x40, but stand-in.onnx was made|lines lie across axis 1")


def test_an_empty_middle_slice_is_passed_over(network, image, tmp_path):
    four = np.concatenate([image, image]) * [[[1]], [[1]], [[0]], [[1]]]
    found, _ = output(network, saved(tmp_path / "in.npy", measured(four)))
    np.testing.assert_allclose(found, np.abs(zero_filled(four)), atol=1e-5)


def test_pictures_are_drawn_when_all_is_done_under_names_that_a_folder_takes(network, image, tmp_path):
    """Of two volumes, the second of which isn't finite, none; of files whose long names differ at their end alone, two."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["volumes/a"] = np.abs(image).astype(np.float32)
        file["volumes/b"] = np.where(np.arange(40) == 3, np.nan, np.abs(image)).astype(np.float32)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with pytest.raises(StudyError, match="NaN or infinite values"):
        reconstruct_file(network, tmp_path / "in.h5", tmp_path / "out.h5", How(undersample=True), figures=pictures)
    assert list(pictures.iterdir()) == [] and not (tmp_path / "out.h5").exists()
    for end in "ab":
        source = saved(tmp_path / f"{'é' * 100}{end}.npy", measured(image))
        reconstruct_file(network, source, tmp_path / f"{end}.h5", figures=pictures)
    names = [path.name for path in pictures.iterdir()]
    assert len(names) == 2 and max(len(name.encode()) for name in names) < 170


def test_reconstructing_a_file_needs_no_pytorch(deployed, tmp_path):
    """Where Python finds none, as where it isn't installed; with a network's file, and coils combined by either way."""
    saved(tmp_path / "in.npy", measured(scans.objects(2, SHAPE)[:, None] * MAPS))
    code = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, *more):
        return None if name.partition(".")[0] == "torch" else super().find_spec(name, *more)
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from kdmri_lib.deployment import Model
from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from tests.unit.deployment import scans
assert Model(sys.argv[2]).run
network = scans.StandIn(scans.every_other_line(40), (48, 40))
for coils in ("rss", "espirit"):
    print(reconstruct_file(network, Path(sys.argv[1]), Path(sys.argv[1]).with_name(coils + ".h5"), How(coils=coils))[-1])
try:
    import torch
except ModuleNotFoundError:
    print("no PyTorch")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "in.npy"), str(deployed[1])]
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "(ESPIRiT)" in told and told.endswith("no PyTorch\n")
    expected = output(scans.StandIn(LINES, SHAPE), tmp_path / "in.npy")[0]
    with h5py.File(tmp_path / "rss.h5") as file:
        np.testing.assert_array_equal(file["image"][:], expected)


@pytest.mark.parametrize("made", ["fft2", "fftshift(fft2)"])
def test_a_trained_network_from_file_to_file(model, kspace, tmp_path, made):
    kspace, pictures = 50 * kspace, tmp_path / "pictures"
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["kspace"] = scans.shifted(kspace) if "shift" in made else kspace
        file.attrs["patient"] = "somebody"
    order, slices = reconstruct_file(model, tmp_path / "in.h5", tmp_path / "out.h5", How(batch=3), figures=pictures)
    found = "shifted" if "shift" in made else "unshifted"
    assert order.startswith(f"kspace: order {found}, found from the data (zero freq")
    assert slices == f"kspace: {len(kspace)} slices of 72x72"
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


def test_a_prepared_file_and_a_nifti_volume_as_a_trial(model, deployed, kspace, tmp_path):
    folder, _, volumes = deployed
    prepared, trial, expected = (
        folder.study.prepared(folder.run.dataset),
        How(undersample=True),
        model.reconstruct(kspace),
    )
    with pytest.raises(StudyError, match="holds images, expected k-space; --undersample takes them for fully sampled"):
        reconstruct_file(model, prepared, tmp_path / "out.h5")
    reconstruct_file(model, prepared, tmp_path / "out.h5", trial)
    with h5py.File(tmp_path / "out.h5") as file:
        found = file[f"volumes/{volumes[0].subject}"]
        np.testing.assert_allclose(found[:], expected, atol=1e-5)
        assert found.attrs["split"] == "test"
    downloads.save_nifti(tmp_path / "scan.nii.gz", 1000 * volumes[0].image, "LPS")
    reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.nii.gz", trial)
    with open_input(tmp_path / "recon.nii.gz") as (again,):
        np.testing.assert_allclose(again.read(0, 99), np.maximum(1000 * expected, 0), atol=0.05)
    same = nibabel.as_closest_canonical(nibabel.load(tmp_path / "scan.nii.gz")).affine
    np.testing.assert_allclose(nibabel.load(tmp_path / "recon.nii.gz").affine, same)
    with pytest.raises(StudyError, match="a NIfTI volume becomes a NIfTI volume"):
        reconstruct_file(model, tmp_path / "scan.nii.gz", tmp_path / "recon.h5", trial)


def test_a_complex_network_from_file_to_file(complex_deployed, tmp_path):
    """In the convention of scanners' files, with its phase and without; and coil by coil."""
    _, path, (volume, *_) = complex_deployed
    model = Model(path, engine="onnxruntime", precision="float32", threads=1)
    expected = model.reconstruct(np.fft.fft2(volume.image, norm="ortho") * model.mask, phase=True)
    centred = scans.centred(volume.image) * np.fft.fftshift(model.mask)
    source = saved(tmp_path / "in.npy", centred)
    for as_complex in (True, False):
        found, _ = output(model, source, order="centred", complex=as_complex)
        np.testing.assert_allclose(found, expected if as_complex else np.abs(expected), atol=1e-5)
    saved(source, np.stack([centred, 0.5j * centred], axis=1))  # the second coil is the first, turned and halved
    found, _ = output(model, source, order="centred")
    np.testing.assert_allclose(found, np.sqrt(1.25) * np.abs(expected), atol=1e-4)
