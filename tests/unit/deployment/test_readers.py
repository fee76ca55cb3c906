"""Files of k-space and of images: one volume is the same in every format; what contradicts itself is refused by name."""

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from kdmri_lib.datasets.prepared import Volume, write_prepared
from kdmri_lib.deployment.readers import open_volumes
from kdmri_lib.errors import StudyError
from tests import downloads
from tests.unit.deployment import scans

SHAPE = (24, 20)
RECEIVERS = "<acquisitionSystemInformation><receiverChannels>8</receiverChannels></acquisitionSystemInformation>"
LINES = scans.shifted(scans.every_other_line(20)[None, :])[0]


@pytest.fixture
def kspace():
    """Centred, two slices and three coils, on the lines alone: (slices, coils, H, W) complex64."""
    return (scans.CENTRED * LINES).astype(np.complex64)


def read(path, **how):
    """The values of a file's only volume, the same read whole and slice by slice."""
    with open_volumes(path, **how) as (found,):
        whole = found.read(0, found.shape[0])
        assert whole.dtype == np.complex64 and whole.shape == found.shape
        np.testing.assert_array_equal(np.concatenate([found.read(n, 1) for n in range(len(whole))]), whole)
        return whole


def refused(path, message, **how):
    with pytest.raises(StudyError, match=message), open_volumes(path, **how) as found:
        found[0].read(0, 3)


def save_hdf5(path, name, values):
    with h5py.File(path, "w") as file:
        file[name] = values
    return path


@pytest.mark.parametrize("coils", [1, 3])
def test_one_volume_in_every_format_is_the_same(kspace, tmp_path, coils):
    kspace = kspace[:, :coils]
    for name, path in scans.save_every_format(tmp_path, kspace).items():
        np.testing.assert_array_equal(read(path), kspace, err_msg=name)
    np.testing.assert_array_equal(read(tmp_path / "scan.hdr"), kspace)  # either file of BART's pair
    scipy.io.savemat(tmp_path / "older.mat", {"about": "x", "scan": scans.as_in_matlab(kspace)})
    np.testing.assert_array_equal(read(tmp_path / "older.mat"), kspace)
    stored = np.empty(kspace.shape, [("real", "<f4"), ("imag", "<f4")])  # MATLAB's complex numbers
    stored["real"], stored["imag"] = kspace.real, kspace.imag
    np.testing.assert_array_equal(read(save_hdf5(tmp_path / "compound.h5", "kspace", stored)), kspace)


def test_axes_in_another_order_are_read_as_they_are_said_to_be(kspace, tmp_path):
    for letters, order in (("CHW", (0, 1, 2)), ("HWC", (1, 2, 0)), ("WCH", (2, 0, 1))):
        np.save(tmp_path / "x.npy", kspace[0].transpose(order))
        np.testing.assert_array_equal(read(tmp_path / "x.npy", axes=letters), kspace[:1])
        # The only array, of any name.
        downloads.save_matlab73(tmp_path / "x.mat", "rawdata", kspace[0].transpose(order))
        np.testing.assert_array_equal(read(tmp_path / "x.mat", axes=letters), kspace[:1])
    save_hdf5(tmp_path / "x.h5", "kspace", kspace[0, 0])
    np.testing.assert_array_equal(read(tmp_path / "x.h5", axes="HW"), kspace[:1, :1])
    for axes in ("HWX", "HHW", "SC", "HWS "):
        refused(tmp_path / "x.h5", rf"axes '{axes}': expected H and W", axes=axes)
    scans.save_bart(tmp_path / "x.cfl", kspace)
    np.testing.assert_array_equal(read(tmp_path / "x.cfl", axes="WHCS"), kspace.swapaxes(-2, -1))
    refused(tmp_path / "x.cfl", "expected coils x H x W", axes="CHW")
    scans.save_ismrmrd(tmp_path / "x.h5", kspace, scans.header(SHAPE))
    refused(tmp_path / "x.h5", "axes 'CHW', but its readouts say where they belong; expected none", axes="CHW")


def test_readouts_lie_where_their_counters_and_centres_say(kspace, tmp_path):
    """15 of 20 lines, zero frequency number 7 as they are counted; readouts without their first 4 samples."""
    kspace[..., :3], kspace[..., -2:], kspace[:, :, :4] = 0, 0, 0
    xml = scans.header(SHAPE, limits=(0, 14, 7))
    cut = np.ascontiguousarray(kspace[:, :, 4:])
    scans.save_ismrmrd(tmp_path / "x.h5", cut, xml, centre=7, center_sample=SHAPE[0] // 2 - 4)
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), kspace)
    np.testing.assert_array_equal(read(tmp_path / "x.h5", lines_axis=0), kspace.swapaxes(-2, -1))
    with open_volumes(tmp_path / "x.h5") as (found,):
        assert found.partial_echo and found.encoding.measured == (3, 18) and found.encoding.spacing == (5, 1, 1)


NO_PLANE = [
    ({"repetition": 1}, "repetition counts to 1; expected one image per slice"),
    ({"kspace_encode_step_1": 4}, "lines are measured more than once"),
    ({"kspace_encode_step_1": 40}, "lines 40 to 40 of 20; expected 0 to 19, as its header says"),
    ({"center_sample": 20}, "readouts of 24 samples about 20; expected at most 24 by its header"),
    (("<x>24</x>", "<x>48</x>"), "readouts of 24 samples about 12, short of 48 on both sides; expected a true header"),
    ({"flags": 1 << 18}, "no readout of an image"),
    ({"flags": 1 << 21}, r"\d+ readouts flagged as reversed"),
    ({"encoding_space_ref": 1}, "readouts of 2 encodings; expected those of one"),
    (("matrixSize", "size"), "its ISMRMRD header can't be read"),
    (('<?xml version="1.0"?>', '<!DOCTYPE x [<!ENTITY a "a">]>'), "its ISMRMRD header can't be read"),
    (("<x>24</x>", "<x>0</x>"), "its ISMRMRD header says 0 x 20 x 1 points"),
    (("<encoding>", f"{RECEIVERS}<encoding>"), "readouts of 3 coils; expected 8, as its header says"),
    (("cartesian", "spiral"), "a spiral trajectory by its header; expected a Cartesian one"),
    (("<center>10<", "<center>2<"), "says lines 0 to 19 about 2, which don't fit in its 20"),
]


@pytest.mark.parametrize(("change", "message"), NO_PLANE)
def test_readouts_and_headers_that_are_no_plane_scan_or_contradict_each_other(kspace, tmp_path, change, message):
    """`change` : of each readout's head, or of the header's text."""
    xml, heads = scans.header(SHAPE, limits=(0, 19, 10)), change if isinstance(change, dict) else {}
    scans.save_ismrmrd(tmp_path / "x.h5", kspace, xml if heads else xml.replace(*change), **heads)
    refused(tmp_path / "x.h5", rf"x.h5: .*{message}")


def test_a_mask_in_the_file(kspace, tmp_path):
    for mask in (LINES, np.broadcast_to(LINES, (2, 20)), LINES[None, None, None].astype(np.float32)):
        scans.save_fastmri(tmp_path / "x.h5", kspace, mask=mask)
        with open_volumes(tmp_path / "x.h5") as (found,):
            np.testing.assert_array_equal(found.mask, np.broadcast_to(LINES, found.shape[2:]))
            assert found.attributes == {"patient": "somebody"}
    for mask, message in (
        (np.stack([LINES, ~LINES]), r"'mask' of shape \(2, 20\) differs between slices or coils; expected one for all"),
        (LINES[:-1], r"'mask' of shape \(19,\), expected 20 lines or 24x20 points"),
        (2.0 * LINES, "'mask' of float64 with values other than 0 and 1"),
        (LINES + 0j, "'mask' of complex128 with values other than 0 and 1, or false and true"),
    ):
        scans.save_fastmri(tmp_path / "x.h5", kspace, mask=mask)
        refused(tmp_path / "x.h5", rf"x.h5: {message}")


def test_pairs_of_bart_that_do_not_match(kspace, tmp_path):
    path, header = tmp_path / "x.cfl", tmp_path / "x.hdr"
    scans.save_bart(path, kspace)
    path.write_bytes(path.read_bytes()[:-8])
    refused(path, r"x.cfl: 23032 bytes, expected 23040 for \[24, 20, 1, 3,.* by .*x.hdr")
    for sizes in ("24 20 2 3", "24 20 1 3 2"):  # a volume, or two sets of maps
        header.write_text(f"# Dimensions\n{sizes}\n")
        np.zeros(np.prod([int(n) for n in sizes.split()]), np.complex64).tofile(path)
        refused(path, r"x.hdr: sizes \[24, 20, .*\], expected two of axes 0 to 2, coils on axis 3")
    for text in ("", "# Dimensions\nno numbers\n"):
        header.write_text(text)
        refused(path, r"x.hdr: not a readable BART header")
    path.unlink()
    header.write_text("# Dimensions\n24 20\n")
    refused(header, r"x.cfl: no such file")


@pytest.mark.parametrize("name", ["x.npy", "x.mat", "x.h5", "x.cfl", "x.nii"])
def test_files_that_are_missing_or_no_files_of_their_kind(tmp_path, name):
    refused(tmp_path / name, r"x\.(npy|mat|h5|hdr|nii): no such file")
    (tmp_path / name).write_bytes(b"neither")
    refused(tmp_path / name, r"x\.(npy|mat|h5|hdr|nii): (not a readable|no such file)")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kspace", np.ones((3, 24, 20)), "values of type float64, expected complex numbers"),
        ("kspace", 1j * np.ones(SHAPE), r"'kspace' of shape \(24, 20\), expected slices x H x W \(--axes says"),
        ("image", np.ones(SHAPE), r"'image' of shape \(24, 20\), expected slices x H x W$"),
        ("image", np.ones((3, 4, 4)) * 1j, r"'image' of type complex128, expected real numbers \(magnitudes\)"),
        ("image", -np.ones((3, 4, 4)), "negative values in 'image'; expected magnitude images"),
        ("volumes/a/b", np.ones((2, *SHAPE)), "'volumes/a' of shape none: it is a group, expected"),
        ("images", np.ones((2, *SHAPE)), "no array 'kspace' or 'image' and no volumes; it has images"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, name, values, message):
    refused(save_hdf5(tmp_path / "in.h5", name, values), rf"in.h5: .*{message}")


def test_every_volume_of_a_prepared_file_and_images_are_read(tmp_path):
    images = {name: downloads.image(n) for n, name in enumerate("ab")}
    volumes = [Volume(name, "test", image, {"kind": "x"}) for name, image in images.items()]
    write_prepared(tmp_path / "prepared.h5", "{}", "code", volumes)
    with open_volumes(tmp_path / "prepared.h5") as found:
        assert [v.name for v in found] == ["volumes/a", "volumes/b"] and all(v.images for v in found)
        assert found[0].attributes["split"] == "test"
        np.testing.assert_array_equal(found[1].read(0, 3)[:, 0], images["b"])
    complex_images = scans.objects(2) * scans.smooth_phase((48, 40), 2)
    for image, domain, stored in (
        (1000 * images["a"].astype(np.float64), "magnitude", np.float32),
        (complex_images, "complex", np.complex64),
    ):
        save_hdf5(tmp_path / "image.h5", "image", image)
        with open_volumes(tmp_path / "image.h5", domain=domain) as (volume,):
            found = volume.read(1, 1)
            np.testing.assert_array_equal(found[:, 0], image.astype(stored)[1:2])
            assert found.dtype == stored


def test_nifti_volumes_are_read(tmp_path):
    image = downloads.image(4)
    downloads.save_nifti(tmp_path / "in.nii.gz", image, "SAL")
    with open_volumes(tmp_path / "in.nii.gz") as (volume,):
        np.testing.assert_allclose(volume.read(0, 3)[:, 0], image, rtol=1e-6)
        assert volume.attributes["spacing"] == (8.0, pytest.approx(1.4), pytest.approx(1.4))
    nibabel.save(nibabel.Nifti1Image(image - image.mean(), np.eye(4)), tmp_path / "z.nii.gz")
    refused(tmp_path / "z.nii.gz", "z.nii.gz: negative values")  # as whatever is no magnitude image
