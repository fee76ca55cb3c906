"""k-space as people have it, from file to file: the same picture in the same place, whatever the order and the format; and
what contradicts itself leaves no output. The network gives back the zero-filled image, so that what comes out is known."""

import h5py
import numpy as np
import pytest

from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from kdmri_lib.errors import StudyError
from tests.unit.deployment import scans

SHAPE = (48, 40)
LINES = scans.every_other_line(40)
CENTRED = scans.FORMATS["fftshift(fft2(ifftshift))"]


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
        np.save(tmp_path / "in.npy", kspace.astype(np.complex64).squeeze())
        found, done = output(network, tmp_path / "in.npy", **how)
        pictures.append(found)
        assert ", found from the data (zero frequency " in done[0]
    for found in pictures:
        assert np.abs(found - pictures[0]).max() < 1e-5 * pictures[0].max()
    if not how["remove_phase"]:  # which moves energy between lines a little
        np.testing.assert_allclose(pictures[0], expected, atol=1e-5)


@pytest.mark.parametrize("coils", [1, 4])
def test_every_format_gives_the_same_bits(network, image, tmp_path, coils):
    maps = scans.sensitivities(SHAPE)[:coils]
    kspace = (CENTRED(image[:, None] * maps) * np.fft.fftshift(LINES)).astype(np.complex64)
    found = {}
    for name, path in scans.save_every_format(tmp_path, kspace).items():
        found[name], done = output(network, path, order="auto")
        assert "order centred, found from the data" in done[0]
    assert len(found) == 5 and len({picture.tobytes() for picture in found.values()}) == 1
    np.testing.assert_allclose(
        found["NumPy"], np.sqrt((np.abs(zero_filled(image[:, None] * maps)) ** 2).sum(axis=1)), atol=1e-5
    )


def test_the_order_can_be_said(network, image, tmp_path):
    np.save(tmp_path / "in.npy", (np.fft.fft2(image, norm="ortho") * LINES).astype(np.complex64))
    found, done = output(network, tmp_path / "in.npy", order="unshifted")
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    assert (
        done[0] == "in.npy: order unshifted (zero frequency at index 0; a plain transform has the object in the middle)"
    )
    other, _ = output(network, tmp_path / "in.npy", order="corners")
    np.testing.assert_allclose(other, scans.shifted(found), atol=1e-5)
    refused(network, tmp_path / "in.npy", "order 'fftshift' is unknown; known: auto, unshifted", order="fftshift")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", (rng.standard_normal((2, *SHAPE)) * LINES + 0j).astype(np.complex64))
    refused(network, tmp_path / "noise.npy", "'noise.npy': the data don't show .*; expected --order unshifted, shifted")


def test_the_complex_result_on_request(network, image, tmp_path):
    np.save(tmp_path / "in.npy", (CENTRED(image) * np.fft.fftshift(LINES)).astype(np.complex64))
    found, _ = output(network, tmp_path / "in.npy", complex=True)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, zero_filled(image), atol=1e-5)
    magnitude = scans.StandIn(LINES, SHAPE, domain="magnitude")
    refused(magnitude, tmp_path / "in.npy", "--complex asks for a phase, which stand-in.onnx has none of", complex=True)
    refused(network, tmp_path / "in.npy", "is a complex model; --remove-phase is for magnitude", remove_phase=True)


@pytest.mark.parametrize("ending", ["npy", "mat", "cfl"])
def test_coils_combined_with_given_sensitivities(network, image, tmp_path, ending):
    maps = scans.sensitivities(SHAPE)
    coils = image[:, None] * maps
    np.save(tmp_path / "in.npy", (CENTRED(coils) * np.fft.fftshift(LINES)).astype(np.complex64))
    path = tmp_path / f"maps.{ending}"
    stored = maps.astype(np.complex64)
    if ending == "npy":
        np.save(path, stored)
    elif ending == "mat":
        scans.save_matlab73(path, "sensitivities", stored.transpose(1, 2, 0))
    else:
        scans.save_bart(path, stored[None])
    found, done = output(network, tmp_path / "in.npy", sensitivities=path, complex=True)
    expected = (maps.conj() * zero_filled(coils)).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert done[-1] == f"in.npy: 2 slices of 48x40, coils: 4, combined with the sensitivities of maps.{ending}"
    whole, _ = tmp_path / "whole.npy", np.save(tmp_path / "whole.npy", CENTRED(coils).astype(np.complex64))
    found, _ = output(network, whole, sensitivities=path, undersample=True, complex=True)
    np.testing.assert_allclose(found, zero_filled(image), atol=1e-5)  # combined first, then undersampled: exact


def test_sensitivities_estimated_from_the_centre(network, image, tmp_path):
    """Of fully sampled k-space the combination's magnitude is the object's, within what the calibration resolves."""
    coils = image[:, None] * scans.sensitivities(SHAPE)
    np.save(tmp_path / "in.npy", CENTRED(coils).astype(np.complex64))
    everything = scans.StandIn(np.ones(40, bool), SHAPE)
    found, done = output(everything, tmp_path / "in.npy", coils="espirit", complex=True)
    assert "4, combined with sensitivities estimated from the centre of k-space (ESPIRiT)" in done[-1]
    inside = np.abs(image) > 0.5
    assert np.abs(np.abs(found) - np.abs(image))[inside].max() < 0.02
    narrow = scans.StandIn(scans.every_other_line(40, 4), SHAPE)
    np.save(tmp_path / "few.npy", (CENTRED(coils) * np.fft.fftshift(narrow.lines)).astype(np.complex64))
    refused(
        narrow, tmp_path / "few.npy", "4 lines about zero frequency are measured, expected at least 8", coils="espirit"
    )


def test_what_does_not_go_together(network, image, tmp_path):
    maps = scans.sensitivities(SHAPE).astype(np.complex64)
    kspace = (CENTRED(image[:, None] * maps) * np.fft.fftshift(LINES)).astype(np.complex64)
    scan, one, given = tmp_path / "in.npy", tmp_path / "one.npy", tmp_path / "maps.npy"
    np.save(scan, kspace)
    np.save(one, kspace[:, 0])
    refused(network, scan, "whose root sum of squares has no phase; --complex needs --coils espirit", complex=True)
    refused(network, scan, "coils 'sense' is unknown; known: rss, espirit", coils="sense")
    for values, message in (
        (maps[:3], r"maps.npy: sensitivities of 3 coils, 1 x 48x40, expected 4 coils, 1 or 2 x 48x40 as in .*in.npy"),
        (maps[:, :40], "maps.npy: sensitivities of 4 coils, 1 x 40x40, expected 4 coils"),
        (np.stack([maps] * 3), "maps.npy: sensitivities of 4 coils, 3 x 48x40, expected 4 coils, 1 or 2 x"),
        (maps * np.nan, "maps.npy: sensitivities that are NaN"),
        (0 * maps, "maps.npy: .* 0 everywhere"),
    ):
        np.save(given, values)
        refused(network, scan, message, sensitivities=given)
    refused(network, one, "maps.npy: sensitivities, but .*'one.npy' has one coil", sensitivities=given)


def test_readout_oversampling_is_cut_off(network, image, tmp_path):
    """An object in the middle of a readout twice as long as its header's field of view, as fastMRI and as ISMRMRD."""
    wide = np.zeros((2, 2 * SHAPE[0], SHAPE[1]), complex)
    wide[:, SHAPE[0] // 2 : SHAPE[0] // 2 + SHAPE[0]] = image
    kspace = (CENTRED(wide) * np.fft.fftshift(LINES)).astype(np.complex64)
    xml = scans.header((96, 40), pixels=48)
    scans.save_fastmri(tmp_path / "in.h5", kspace, xml)
    scans.save_ismrmrd(tmp_path / "scan.h5", kspace[:, None], xml)
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
        kspace = (CENTRED(image) * np.fft.fftshift(LINES) * inside).astype(np.complex64)
        xml = scans.header(SHAPE, limits=limits)
        scans.save_fastmri(tmp_path / "in.h5", kspace, xml)
        found, done = output(network, tmp_path / "in.h5")
        np.testing.assert_allclose(found, np.abs(zero_filled(image, LINES & np.fft.ifftshift(inside))), atol=1e-5)
        said = f"lines {first} to {last - 1} of 40 were to be measured, by its header; the others count as zero"
        assert said in done[1]
        scans.save_fastmri(tmp_path / "in.h5", (CENTRED(image) * np.fft.fftshift(LINES)).astype(np.complex64), xml)
        refused(network, tmp_path / "in.h5", "lines hold values that its header says were not to be measured")


def mask_of_another_slice(kspace):
    kspace[0] = np.roll(kspace[0], 1, axis=-1)


def mask_of_another_coil(kspace):
    kspace[0, 2, :, 20 + 3 * 4] = 0


def another_mask(kspace):
    kspace[..., 20 + 3 * 4] = 0


def random_points(kspace):
    kspace *= np.random.default_rng(0).random(SHAPE) < 0.5


def half_fourier(kspace):
    kspace[..., 28:] = 0


def half_echo(kspace):
    kspace[..., :12, :] = 0


def other_way(kspace):
    kspace[..., np.arange(48) % 3 != 0, :] = 0


def silent_coil(kspace):
    kspace[:, 3] = 0


def images(kspace):
    kspace[:] = np.fft.fftshift(np.fft.ifft2(kspace), axes=(-2, -1))


def infinite(kspace):
    kspace[0, 0, 3, 20] = np.inf


def nothing(kspace):
    kspace[:] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            mask_of_another_slice,
            r"slice 0, coil 0 is measured on 20 lines, slice 1 on 20, and \d+ are the same; expected one mask for all",
        ),
        (mask_of_another_coil, "slice 0, coil 2 is measured on 19 lines, slice 1 on 20, and 19 are the same"),
        (
            other_way,
            r"30 of 48 points along the readout are zero on all lines of slice 0, between others that aren't; exp",
        ),
        (
            another_mask,
            "19 of 40 lines along axis 1 are measured, 19 of them among the 20 that stand-in.onnx was made for",
        ),
        (
            random_points,
            r"\d+% of the points on measured lines of slice 0 are zero; expected whole lines \(is it multiplied",
        ),
        (
            half_fourier,
            "lines beyond the outermost positive frequency that is measured are missing, a partial Fourier acq",
        ),
        (
            half_echo,
            "the negative frequencies of the readout are missing, 12 of 48 samples: a partial echo that the file",
        ),
        (silent_coil, "coil 3 of 4 is zero everywhere in slice 0; expected a signal in each"),
        (images, "holds images, whose energy is spread as no k-space's is; expected k-space"),
        (infinite, "NaN or infinite values"),
        (nothing, "is zero in slices 0, 1; expected k-space"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "h5"])
def test_k_space_that_is_not_what_it_should_be_leaves_no_output(network, image, tmp_path, change, message, ending):
    kspace = CENTRED(image[:, None] * scans.sensitivities(SHAPE)) * np.fft.fftshift(LINES)
    change(kspace)
    kspace, path = kspace.astype(np.complex64), tmp_path / f"in.{ending}"
    np.save(path, kspace) if ending == "npy" else scans.save_fastmri(path, kspace)
    refused(network, path, rf"in.{ending}: .*{message}", order="centred")


def test_headers_masks_and_arrays_that_contradict_each_other(network, image, tmp_path):
    kspace = (CENTRED(image) * np.fft.fftshift(LINES)).astype(np.complex64)
    path = tmp_path / "in.h5"
    scans.save_fastmri(path, kspace, scans.header((48, 44)))
    refused(network, path, "slices of 48x40, expected 48x44, as its header says that it was encoded")
    scans.save_fastmri(path, kspace, mask=np.roll(np.fft.fftshift(LINES), 1))
    refused(network, path, r"its 'mask' says 20 lines, its k-space holds 20; \d+ are in one of the two alone, expected")
    points = np.fft.fftshift(LINES) & (np.random.default_rng(0).random(SHAPE) < 0.9)
    scans.save_fastmri(path, kspace, mask=points)
    refused(network, path, r"its 'mask' isn't of whole lines across axis 1 of \(H, W\), as the model's is")
    scans.save_fastmri(path, kspace, scans.header(SHAPE))
    across = scans.StandIn(scans.every_other_line(48), SHAPE, axis=0)
    refused(across, path, "lines lie across axis 1 of .* by its header, expected axis 0, as the model was made for")


def test_a_trial_takes_fully_sampled_k_space(network, image, tmp_path):
    np.save(tmp_path / "in.npy", CENTRED(image).astype(np.complex64))
    found, _ = output(network, tmp_path / "in.npy", undersample=True)
    np.testing.assert_allclose(found, np.abs(zero_filled(image)), atol=1e-5)
    refused(network, tmp_path / "in.npy", "40 of 40 lines along axis 1 are measured, 20 of them among the 20")
    two = np.fft.fftshift(LINES) | (np.arange(40) % 2 == 0)
    np.save(tmp_path / "in.npy", (CENTRED(image) * two).astype(np.complex64))
    message = (
        r"of 40 lines are measured, expected all, as --undersample takes them \(is it multiplied by another mask\?\)"
    )
    refused(network, tmp_path / "in.npy", message, undersample=True)


@pytest.mark.parametrize("with_header", [True, False])
def test_a_file_whose_lines_lie_across_the_other_axis_is_turned(network, image, tmp_path, with_header):
    """fastMRI's columns are lines; brain and heart networks have theirs across rows."""
    kspace = (CENTRED(image) * np.fft.fftshift(LINES)).astype(np.complex64)
    path, turned = tmp_path / "in.h5", scans.StandIn(LINES, SHAPE[::-1], axis=0)
    scans.save_fastmri(path, kspace, scans.header(SHAPE) if with_header else None, mask=np.fft.fftshift(LINES))
    expected, _ = output(network, path)
    found, _ = output(turned, path, axes="SWH")
    np.testing.assert_allclose(found, expected.swapaxes(-2, -1), atol=1e-6)
    if with_header:
        refused(turned, path, "48x40, but stand-in.onnx was made|lines lie across axis 1")


def test_an_empty_middle_slice_is_passed_over(network, image, tmp_path):
    kspace = (CENTRED(np.concatenate([image, image])) * np.fft.fftshift(LINES)).astype(np.complex64)
    kspace[2] = 0
    np.save(tmp_path / "in.npy", kspace)
    found, _ = output(network, tmp_path / "in.npy")
    np.testing.assert_allclose(
        found, np.abs(zero_filled(np.concatenate([image, image]))) * [[[1]], [[1]], [[0]], [[1]]], atol=1e-5
    )


def test_options_that_do_not_go_together_and_names_that_are_taken(network, image, tmp_path):
    kspace = (CENTRED(image[:, None] * scans.sensitivities(SHAPE)) * np.fft.fftshift(LINES)).astype(np.complex64)
    path, maps = tmp_path / "in.npy", tmp_path / "maps.npy"
    np.save(path, kspace)
    np.save(maps, scans.sensitivities(SHAPE).astype(np.complex64))
    refused(network, path, "batch 0: expected at least 1 slice", batch=0)
    refused(network, tmp_path, "a folder; expected a file of k-space or images")
    refused(network, path, "maps.npy: sensitivities, and --coils espirit too", sensitivities=maps, coils="espirit")
    refused(network, path, "in.npy: holds k-space by where its energy is; expected sensitivities", sensitivities=path)
    silent = scans.sensitivities(SHAPE) * np.array([1, 1, 0, 1])[:, None, None]
    np.save(maps, silent.astype(np.complex64))
    refused(network, path, "sensitivities of coil 2 that are NaN or infinite, or 0 everywhere", sensitivities=maps)
    before = path.read_bytes()
    for target, message in ((path, "is read here itself"), (path.with_name("out.png"), r"everything else HDF5 \(.h5")):
        with pytest.raises(StudyError, match=message):
            reconstruct_file(network, path, target, force=True)
    assert path.read_bytes() == before
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["image"] = np.abs(image).astype(np.float32)
    refused(
        network,
        tmp_path / "images.h5",
        "holds images; --order, --coils is for k-space",
        order="centred",
        coils="espirit",
    )


def test_what_fails_outside_a_file_is_not_blamed_on_it(network, image, tmp_path):
    np.save(tmp_path / "in.npy", (CENTRED(image) * np.fft.fftshift(LINES)).astype(np.complex64))
    with pytest.raises(FileExistsError):
        reconstruct_file(network, tmp_path / "in.npy", tmp_path / "in.npy" / "out.h5")


def test_pictures_are_drawn_when_all_is_done(network, image, tmp_path):
    """Of two volumes, the second of which isn't finite, none."""
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["volumes/a"] = np.abs(image).astype(np.float32)
        file["volumes/b"] = np.where(np.arange(40) == 3, np.nan, np.abs(image)).astype(np.float32)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with pytest.raises(StudyError, match="NaN or infinite values"):
        reconstruct_file(network, tmp_path / "in.h5", tmp_path / "out.h5", How(undersample=True), figures=pictures)
    assert list(pictures.iterdir()) == [] and not (tmp_path / "out.h5").exists()
