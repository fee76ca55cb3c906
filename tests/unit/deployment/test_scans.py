"""The command `reconstruct`, from file to file: the same picture in the same place, whatever the order; what contradicts
itself leaves no output. The network gives back the zero-filled image, so that what comes out is known."""

import hashlib
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pytest

from kdmri_lib.deployment.reconstruct import How, reconstruct_file
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


def refused(network, path, message, output="refused.h5", **how):
    """What leaves nothing behind, and all that was there as it was."""
    files = [each for each in path.parent.rglob("*") if each.is_file()]
    before = {each: each.read_bytes() for each in files}
    with pytest.raises(StudyError, match=message):
        reconstruct_file(network, path, path.with_name(output), How(**how), force=output == path.name)
    assert {each: each.read_bytes() for each in path.parent.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize("shape", [SHAPE, (45, 39)])
@pytest.mark.parametrize("coils", [1, 4])
@pytest.mark.parametrize("domain", ["complex", "magnitude"])
def test_every_order_gives_the_same_picture_in_the_same_place(tmp_path, shape, coils, domain):
    """The middle one of whose slices is empty."""
    lines, remove = scans.every_other_line(shape[1]), domain == "magnitude" and coils == 4
    network = scans.StandIn(lines, shape, domain=domain)
    image = scans.objects(3, shape)[:, None] * (scans.sensitivities(shape) if coils == 4 else 1)
    image[1] = 0
    image = image if domain == "magnitude" and coils == 1 else image * scans.smooth_phase(shape, 2)
    pictures = []
    for name, transform in scans.FORMATS.items():
        kspace = transform(image) * (np.fft.fftshift(lines) if "fftshift(fft2" in name else lines)
        found, done = output(network, saved(tmp_path / "in.npy", kspace.squeeze()), remove_phase=remove)
        pictures.append(found)
        assert ", found from the data (zero frequency " in done[0]
    assert np.ptp(pictures, axis=0).max() < 1e-5 * pictures[0].max()
    if not remove:  # which moves energy between lines a little
        expected = np.sqrt((np.abs(zero_filled(image, lines)) ** 2).sum(axis=1))
        np.testing.assert_allclose(pictures[0], expected, atol=1e-5)


def test_the_order_can_be_said(network, image, tmp_path, kdmri):
    path = saved(tmp_path / "in.npy", np.fft.fft2(image, norm="ortho") * LINES)
    found, done = output(network, path, order="unshifted")
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    assert done[0].startswith("in.npy: order unshifted (zero frequency at index 0; a plain transform has the object in")
    np.testing.assert_allclose(output(network, path, order="corners")[0], scans.shifted(found), atol=1e-5)
    refused(network, path, "order 'fftshift' is unknown; known: auto, unshifted", order="fftshift")
    noise = saved(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((2, *SHAPE)) * LINES)
    refused(network, noise, "'noise.npy': the data don't show .*; expected --order unshifted, shifted")
    told = "".join(kdmri("reconstruct", "--help", package="kdmri_lib")[1].split())
    assert "{" + ",".join(["auto", *ORDERS]) + "}" in told


def test_the_complex_result_on_request(network, image, tmp_path):
    path = saved(tmp_path / "in.npy", measured(image))
    found, _ = output(network, path, complex=True)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, zero_filled(image), atol=1e-5)
    magnitude = scans.StandIn(LINES, SHAPE, domain="magnitude")
    refused(magnitude, path, "--complex asks for a phase, which stand-in.onnx has none of", complex=True)
    refused(network, path, "is a complex model; --remove-phase is for magnitudes", remove_phase=True)


@pytest.mark.parametrize("ending", ["npy", "mat"])
def test_coils_combined_with_given_sensitivities(network, image, tmp_path, ending):
    coils, path = image[:, None] * MAPS, tmp_path / f"maps.{ending}"
    if ending == "npy":
        saved(path, MAPS)
    else:
        scans.save_matlab73(path, "sensitivities", MAPS.astype(np.complex64).transpose(1, 2, 0))
    found, done = output(network, saved(tmp_path / "in.npy", measured(coils)), sensitivities=path, complex=True)
    np.testing.assert_allclose(found, (MAPS.conj() * zero_filled(coils)).sum(axis=1), atol=1e-5)
    assert done[-1] == f"in.npy: 2 slices of 48x40, coils: 4, combined with the sensitivities of maps.{ending}"


@pytest.mark.parametrize("domain", ["complex", "magnitude"])
@pytest.mark.parametrize("coils", ["one", "rss", "espirit", "sensitivities"])
def test_a_trial_gives_what_a_scan_of_those_lines_would(image, tmp_path, domain, coils):
    network, maps = scans.StandIn(LINES, SHAPE, domain=domain), saved(tmp_path / "maps.npy", MAPS)
    images = image if coils == "one" else image[:, None] * MAPS
    how = {"sensitivities": maps} if coils == "sensitivities" else {"coils": coils} if coils == "espirit" else {}
    how["remove_phase"] = domain == "magnitude"
    expected, _ = output(network, saved(tmp_path / "in.npy", measured(images)), **how)
    found, _ = output(network, saved(tmp_path / "in.npy", scans.centred(images)), undersample=True, **how)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [MAPS[[1, 0, 2, 3]], MAPS[::-1], MAPS.conj(), scans.shifted(MAPS)])
def test_sensitivities_that_are_not_the_scans_are_refused(network, image, tmp_path, wrong):
    path, maps = saved(tmp_path / "in.npy", measured(image[:, None] * MAPS)), saved(tmp_path / "maps.npy", wrong)
    refused(network, path, r"maps.npy: sensitivities that explain \d+% of the coil images", sensitivities=maps)


def test_two_of_twelve_sensitivities_that_are_swapped_are_refused(network, image, tmp_path):
    """So many that two of them are little."""
    twelve = scans.sensitivities(SHAPE, 12)
    path, maps = saved(tmp_path / "in.npy", measured(image[:, None] * twelve)), tmp_path / "maps.npy"
    saved(maps, twelve[[1, 0, *range(2, 12)]])
    refused(network, path, r"explain 9\d% .* and not 9\d% with two coils swapped", sensitivities=maps)
    output(network, path, sensitivities=saved(maps, twelve * (abs(image[0]) > 0)))  # as ESPIRiT masks them


def test_sensitivities_estimated_from_the_centre(image, tmp_path):
    """Of fully sampled k-space the combination's magnitude is the object's, within what the calibration resolves."""
    path, everything = saved(tmp_path / "in.npy", scans.centred(image[:, None] * MAPS)), np.ones(40, bool)
    found, done = output(scans.StandIn(everything, SHAPE), path, coils="espirit", complex=True)
    assert "4, combined with sensitivities estimated from the centre of k-space (ESPIRiT)" in done[-1]
    assert np.abs(np.abs(found) - np.abs(image))[np.abs(image) > 0.5].max() < 0.02
    narrow = scans.StandIn(scans.every_other_line(40, 4), SHAPE)
    saved(path, measured(image[:, None] * MAPS, narrow.lines))
    refused(narrow, path, "4 lines about zero frequency are measured, expected at least 8", coils="espirit")


@pytest.mark.parametrize("units", [1e-24, 1e24])
def test_units_in_which_squares_are_none(network, image, tmp_path, units):
    """SI's, as simulators write them: by all three ways to combine coils, what comes out is in them."""
    coils, maps = image[:, None] * MAPS, saved(tmp_path / "maps.npy", units * MAPS)
    path, plain = saved(tmp_path / "in.npy", units * measured(coils)), saved(tmp_path / "1.npy", measured(coils))
    for how in ({}, {"coils": "espirit"}, {"sensitivities": maps}):
        expected, _ = output(network, plain, **how)
        np.testing.assert_allclose(output(network, path, **how)[0] / units, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("factor", "message"), [(0, "its image is 0 everywhere"), (np.nan, "isn't finite in slices 0 to 1")]
)
def test_an_image_without_a_signal_leaves_no_output(network, image, tmp_path, monkeypatch, factor, message):
    monkeypatch.setattr(network, "restore", lambda zero_filled, scale: factor * zero_filled)
    refused(network, saved(tmp_path / "in.npy", measured(image)), rf"'in.npy': .*{message}")


def test_what_does_not_go_together(network, image, tmp_path):
    path, given = saved(tmp_path / "in.npy", measured(image[:, None] * MAPS)), tmp_path / "maps.npy"
    one, maps = saved(tmp_path / "one.npy", measured(image)), MAPS.astype(np.complex64)
    sizes = r"\(1, 4, 48, 40\) or \(2, 4, 48, 40\)"
    for values, message in (
        (maps[:3], rf"maps.npy: sensitivities \(1, 3, 48, 40\) \(slices, .*, expected {sizes} as in .*in.npy"),
        (np.stack([maps] * 3), rf"maps.npy: sensitivities \(3, 4, 48, 40\) .*, expected {sizes}"),
        (maps * np.nan, "maps.npy' holds NaN"),
        (maps * [[[1]], [[1]], [[0]], [[1]]], "maps.npy: sensitivities of coil 2 that are 0 everywhere"),
    ):
        saved(given, values)
        refused(network, path, message, sensitivities=given)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["image"] = np.abs(image).astype(np.float32)
    for source, message, how in (
        (one, "maps.npy: sensitivities, but .*'one.npy' has one coil", {"sensitivities": given}),
        (path, "maps.npy: sensitivities, and --coils espirit too", {"sensitivities": given, "coils": "espirit"}),
        (path, "in.npy: holds k-space by where its energy is; expected sensitivities", {"sensitivities": path}),
        (path, "whose root sum of squares has no phase; --complex needs --coils espirit", {"complex": True}),
        (path, "coils 'sense' is unknown; known: rss, espirit", {"coils": "sense"}),
        (path, "batch 0: expected at least 1 slice", {"batch": 0}),
        (tmp_path, "a folder; expected a file of k-space or images", {}),
        (path, "is read here itself", {"output": "in.npy"}),
        (path, r"everything else HDF5 \(.h5", {"output": "out.png"}),
        (tmp_path / "images.h5", "holds images; --order, --coils is for", {"order": "centred", "coils": "espirit"}),
    ):
        refused(network, source, message, **how)
    other = scans.StandIn(np.ones(38, bool), (48, 38))
    refused(other, path, r"slices of 48x40, but stand-in.onnx was made for any x 38 \(H x W\)")
    with pytest.raises(FileExistsError):  # which isn't blamed on the file that is read
        reconstruct_file(network, path, path / "out.h5")


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
        assert "readout of 96 samples, oversampled; its image's middle 48 pixels are kept" in done[1] + done[2], done
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


ALL, POINTS = slice(None), np.random.default_rng(0).random(SHAPE) > 0.5
HOLES = [
    ((0, 2, ALL, 32), "slice 0, coil 2 is measured on 19 lines, slice 1 on 20, and 19 are the same; expected one mask"),
    ((..., 32), "19 of 40 lines along axis 1 are measured, 19 of them among the 20 that stand-in.onnx was made for"),
    ((..., slice(28, None)), "lines beyond the outermost positive frequency that is measured are missing, a partial"),
    ((..., slice(12), ALL), "the negative frequencies of the readout are missing, 12 of 48 samples: a partial echo"),
    ((..., np.arange(48) % 3 != 0, ALL), "slice 0: 30 of 48 points along the readout are zero on all lines; expected"),
    ((..., POINTS), r"slice 0: \d+% of the points on measured lines are zero; expected whole lines"),
    ((ALL, 3), "slice 0: coil 3 of 4 is zero everywhere; expected a signal in each"),
    (..., r"is zero in slices \[0, 1\]; expected k-space"),
]


@pytest.mark.parametrize(("zero", "message"), HOLES)
def test_k_space_with_zeros_where_none_should_be_leaves_no_output(network, image, tmp_path, zero, message):
    kspace = measured(image[:, None] * MAPS)
    kspace[zero] = 0
    refused(network, saved(tmp_path / "in.npy", kspace), rf"in.npy: .*{message}", order="centred")


NO_SLICES = {
    "along the slices k-space still: most of it is in slice 8 of 16": lambda image: scans.shifted(
        np.fft.fftshift(np.fft.fftn(image, axes=(0, 2, 3)), axes=0)
    ),
    r"along axis H \(rows\) an image already": lambda image: np.fft.fft(image, axis=-1),
    r"along axis W \(columns\) an image already": lambda image: np.fft.fft(image, axis=-2),
}


@pytest.mark.parametrize("message", NO_SLICES)
@pytest.mark.parametrize("domain", ["complex", "magnitude"])
def test_axes_that_are_not_transformed_or_are_already_are_named(tmp_path, message, domain):
    there = abs(np.arange(16) - 8)[:, None, None, None] < 6
    image = scans.objects(16, SHAPE)[:, None] * scans.smooth_phase(SHAPE, 2) * MAPS * there
    kspace = NO_SLICES[message](image) * (np.fft.fftshift(LINES) if "slices" in message else 1)
    network, path = scans.StandIn(LINES, SHAPE, domain=domain), saved(tmp_path / "in.npy", kspace)
    for remove in (False, domain == "magnitude"):
        refused(network, path, rf"'in.npy' is {message}", remove_phase=remove)


@pytest.mark.parametrize(("slices", "there"), [(4, slice(0, 4)), (16, slice(8, 9)), (16, slice(7, 10))])
@pytest.mark.parametrize("transformed", [True, False])
def test_what_of_few_slices_cannot_be_told_is_said_and_not_refused(network, tmp_path, slices, there, transformed):
    """One slice of an object is, but for noise, what an object in all slices is along an axis that isn't transformed."""
    images = 0.01 * np.random.default_rng(0).standard_normal((slices, *SHAPE)) + 0j
    images[there] += scans.objects(1, SHAPE)
    values = images if transformed else np.fft.fftshift(np.fft.fft(images, axis=0), axes=0)
    _, done = output(network, saved(tmp_path / "in.npy", measured(values)))
    told = [line for line in done if "whether slices are transformed along their axis can't be told" in line]
    assert len(told) == ((slices, there.start, transformed) in ((4, 0, False), (16, 8, True)))


def test_k_space_headers_and_masks_that_contradict_themselves_or_each_other(network, image, tmp_path):
    path, kspace, kept = tmp_path / "in.h5", measured(image), np.fft.fftshift(LINES)
    infinite, points = np.where(np.arange(40) == 20, np.inf, kspace), np.random.default_rng(0).random(SHAPE) < 0.9
    other, images = scans.header((48, 44)), scans.shifted(np.fft.ifft2(kspace))
    for values, more, message in (
        (infinite, {}, "'kspace' holds NaN or infinite values in slices 1 to 1"),
        (images, {}, "'kspace' holds images, whose energy is spread as no k-space's is"),
        (kspace, {"xml": other}, "slices of 48x40, expected 48x44, as its header says that it was enc"),
        (
            kspace,
            {"mask": np.roll(kept, 1)},
            r"its 'mask' says 20 lines, its k-space holds 20; \d+ are in one of the two",
        ),
        (kspace, {"mask": kept & points}, "its 'mask' isn't of whole lines across axis 1"),
    ):
        scans.save_fastmri(path, values, **more)
        refused(network, path, message, order="centred")


def test_a_trial_takes_fully_sampled_k_space(network, image, tmp_path):
    path = saved(tmp_path / "in.npy", scans.centred(image))
    found, _ = output(network, path, undersample=True)
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    refused(network, path, r"40 of 40 lines along axis 1 are measured, 20 of them among the 20 .*\(--undersample takes")
    saved(path, measured(image, LINES | (np.arange(40) % 2 == 0)))
    refused(network, path, "of 40 lines .* are measured, expected all, as --undersample takes them", undersample=True)


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
        np.testing.assert_array_equal(output(turned, path)[0], found)
        refused(turned, path, "lines across axis 1 by its header, expected axis 0", axes="SHW")
    # BART's readout is the first axis, unless its lines show that it isn't.
    for kspace in (measured(image), measured(image).swapaxes(-2, -1)):
        scans.save_bart(tmp_path / "in.cfl", kspace[:, None])
        np.testing.assert_allclose(output(turned, tmp_path / "in.cfl")[0], found, atol=1e-6)
        np.testing.assert_allclose(output(network, tmp_path / "in.cfl")[0], expected, atol=1e-6)


def test_lines_that_were_passed_over_are_told(network, image, tmp_path):
    """A third of the lines flagged as calibration alone, which is 20 of ISMRMRD's flags."""
    path = tmp_path / "in.h5"
    scans.save_ismrmrd(path, measured(image)[:, None], scans.header(SHAPE))
    with h5py.File(path, "r+") as file:
        data = file["dataset/data"][:]
        data["head"]["flags"][1::3] |= 1 << 19
        file["dataset/data"][:] = data
    told = rf"\(readouts passed over: 1 flagged noise, {len(data[1::3])} flagged calibration alone\)"
    refused(network, path, f"13 of them .*{told}")


def test_pictures_are_drawn_when_all_is_done(network, image, tmp_path):
    """Of two volumes, the second of which isn't finite, none."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["volumes/a"] = np.abs(image).astype(np.float32)
        file["volumes/b"] = np.where(np.arange(40) == 3, np.nan, np.abs(image)).astype(np.float32)
    with pytest.raises(StudyError, match="NaN or infinite values"):
        reconstruct_file(network, tmp_path / "in.h5", tmp_path / "out.h5", How(undersample=True), figures=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


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
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "in.npy"), str(deployed[1])]
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "root sum of squares" in told and "(ESPIRiT)" in told and told.endswith("False\n")
    expected = output(scans.StandIn(LINES, SHAPE), tmp_path / "in.npy")[0]
    with h5py.File(tmp_path / "rss.h5") as file:
        np.testing.assert_array_equal(file["image"][:], expected)


def test_a_trained_network_from_file_to_file(model, kspace, tmp_path):
    kspace, pictures, target = 50 * kspace, tmp_path / "pictures", tmp_path / "out.h5"
    scans.save_fastmri(tmp_path / "in.h5", scans.shifted(kspace))
    order, slices = reconstruct_file(model, tmp_path / "in.h5", target, How(batch=3), figures=pictures)
    assert order.startswith("kspace: order shifted, found from the data (zero freq")
    assert slices == f"kspace: {len(kspace)} slices of 72x72"
    with h5py.File(target) as file:
        np.testing.assert_allclose(file["image"][:], model.reconstruct(kspace), atol=2e-4)
        assert file["image"].attrs["patient"] == "somebody" and file.attrs["model_run"] == model.about["run"]
        assert file.attrs["source_sha256"] == hashlib.sha256((tmp_path / "in.h5").read_bytes()).hexdigest()
    assert (pictures / "in_kspace.png").read_bytes().startswith(b"\x89PNG")
    refused(model, tmp_path / "in.h5", "out.h5: exists already; --force replaces it", output="out.h5")
    reconstruct_file(model, tmp_path / "in.h5", target, force=True)


def test_a_prepared_file_as_a_trial(model, deployed, kspace, tmp_path):
    folder, _, volumes = deployed
    prepared = folder.study.prepared(folder.run.dataset)
    refused(model, prepared, "holds images, expected k-space; --undersample takes them for fully sampled")
    reconstruct_file(model, prepared, tmp_path / "out.h5", How(undersample=True))
    with h5py.File(tmp_path / "out.h5") as file:
        found = file[f"volumes/{volumes[0].subject}"]
        np.testing.assert_allclose(found[:], model.reconstruct(kspace), atol=1e-5)
        assert found.attrs["split"] == "test"


@pytest.mark.parametrize("code", ["LPS", "SAL"])
def test_a_nifti_volume_that_is_written_lies_where_its_source_does(tmp_path, code):
    """Nothing is undersampled, so that the volume comes out as it went in."""
    image, source = downloads.image(4), tmp_path / "in.nii.gz"
    downloads.save_nifti(source, 1000 * image, code)
    whole = scans.StandIn(np.ones(image.shape[2], bool), image.shape[1:], domain="magnitude")
    reconstruct_file(whole, source, tmp_path / "out.nii.gz", How(undersample=True))
    before, after = (nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{name}.nii.gz")) for name in ("in", "out"))
    np.testing.assert_allclose(after.affine, before.affine)
    np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), atol=0.01)
    refused(whole, source, "a NIfTI volume becomes a NIfTI volume", undersample=True)
