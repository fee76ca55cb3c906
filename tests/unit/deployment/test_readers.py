"""The five formats of k-space: one volume is the same in each; files that contradict themselves are refused by name."""

import h5py
import numpy as np
import pytest
import scipy.io

from kdmri_lib.deployment.readers import open_kspace
from kdmri_lib.errors import StudyError
from tests import downloads
from tests.unit.deployment import scans

SHAPE = (24, 20)
RECEIVERS = "<acquisitionSystemInformation><receiverChannels>8</receiverChannels></acquisitionSystemInformation>"
LINES = scans.shifted(scans.every_other_line(20)[None, :])[0]


@pytest.fixture
def kspace():
    """Centred, two slices and three coils, on the lines alone: (slices, coils, H, W) complex64."""
    coils = scans.objects(2, SHAPE)[:, None] * scans.sensitivities(SHAPE, 3)
    return (scans.FORMATS["fftshift(fft2(ifftshift))"](coils) * LINES).astype(np.complex64)


def read(path, **how):
    with open_kspace(path, **how) as found:
        whole = found.read(0, found.shape[0])
        assert whole.dtype == np.complex64 and whole.shape == found.shape
        for number in range(len(whole)):
            np.testing.assert_array_equal(found.read(number, 1), whole[number : number + 1])
        return whole


@pytest.mark.parametrize("coils", [1, 3])
def test_one_volume_in_every_format_is_the_same(kspace, tmp_path, coils):
    kspace = kspace[:, :coils]
    for name, path in scans.save_every_format(tmp_path, kspace).items():
        np.testing.assert_array_equal(read(path), kspace, err_msg=name)
    np.testing.assert_array_equal(read(tmp_path / "scan.hdr"), kspace)  # either file of BART's pair


def test_axes_in_another_order_are_read_as_they_are_said_to_be(kspace, tmp_path):
    for letters, order in (("CHW", (0, 1, 2)), ("HWC", (1, 2, 0)), ("WCH", (2, 0, 1))):
        np.save(tmp_path / "x.npy", kspace[0].transpose(order))
        np.testing.assert_array_equal(read(tmp_path / "x.npy", axes=letters), kspace[:1])
        downloads.save_matlab73(
            tmp_path / "x.mat", "rawdata", kspace[0].transpose(order)
        )  # the only array, of any name
        np.testing.assert_array_equal(read(tmp_path / "x.mat", axes=letters), kspace[:1])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["kspace"] = kspace[0, 0]
    np.testing.assert_array_equal(read(tmp_path / "x.h5", axes="HW"), kspace[:1, :1])
    for axes in ("HWX", "HHW", "SC", "HWS "):
        with pytest.raises(StudyError, match=rf"axes '{axes}': expected H and W"):
            read(tmp_path / "x.h5", axes=axes)


def test_older_matlab_files(kspace, tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"kspace": np.moveaxis(kspace, (-2, -1), (0, 1)).swapaxes(2, -1)})
    np.testing.assert_array_equal(read(tmp_path / "x.mat"), kspace)


def test_lines_of_readouts_across_either_axis(kspace, tmp_path):
    scans.save_ismrmrd(tmp_path / "x.h5", kspace, scans.header(SHAPE))
    np.testing.assert_array_equal(read(tmp_path / "x.h5", lines_axis=0), kspace.swapaxes(-2, -1))


def test_readouts_lie_where_their_counters_and_centres_say(kspace, tmp_path):
    """15 of 20 lines, zero frequency number 7 as they are counted; readouts without their first 4 samples."""
    kspace[..., :3], kspace[..., -2:], kspace[:, :, :4] = 0, 0, 0
    xml = scans.header(SHAPE, limits=(0, 14, 7))
    cut = np.ascontiguousarray(kspace[:, :, 4:])
    scans.save_ismrmrd(tmp_path / "x.h5", cut, xml, centre=7, center_sample=SHAPE[0] // 2 - 4)
    np.testing.assert_array_equal(read(tmp_path / "x.h5"), kspace)
    with open_kspace(tmp_path / "x.h5") as found:
        assert found.partial_echo and found.encoding.measured == (3, 18) and found.encoding.spacing == (5, 1, 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"repetition": 1}, "repetition counts to 1; expected one image per slice"),
        ({"kspace_encode_step_2": 3}, "kspace_encode_step_2 counts to 3"),
        ({"kspace_encode_step_1": 4}, "lines are measured more than once"),
        ({"kspace_encode_step_1": 40}, "lines 40 to 40 of 20, expected 0 to 19, as its header says"),
        ({"center_sample": 20}, "readouts of 24 samples about 20, expected at most 24 by its header"),
        ({"center_sample": 3}, "readouts of 24 samples about 3, expected at most 24 by its header"),
        ({"flags": 1 << 18}, "no readout of an image"),
        ({"flags": 1 << 21}, r"\d+ readouts are flagged as measured in reverse"),
        ({"encoding_space_ref": 1}, "readouts of 2 encodings; expected those of one"),
    ],
)
def test_readouts_that_are_no_plane_scan_or_contradict_the_header(kspace, tmp_path, more, message):
    scans.save_ismrmrd(tmp_path / "x.h5", kspace, scans.header(SHAPE), **more)
    with pytest.raises(StudyError, match=rf"x.h5: .*{message}"), open_kspace(tmp_path / "x.h5"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda xml: xml[:200], r"its ISMRMRD header can't be read \("),
        (lambda xml: xml.replace("matrixSize", "size"), "its ISMRMRD header can't be read"),
        (lambda xml: xml.replace("<x>24</x>", "<x>0</x>", 1), "its ISMRMRD header says 0 x 20 x 1 points"),
        (
            lambda xml: xml.replace("<encoding>", f"{RECEIVERS}<encoding>"),
            "readouts of 3 coils, expected 8, as its header says",
        ),
        (lambda xml: xml.replace("cartesian", "spiral"), "a spiral trajectory by its header, expected a Cartesian one"),
        (
            lambda xml: scans.header(SHAPE, limits=(0, 19, 2)),
            "says lines 0 to 19 about 2, which don't fit in its 20",
        ),
        (lambda xml: '<!DOCTYPE x [<!ENTITY a "a">]>' + xml.split("?>")[1], "its ISMRMRD header can't be read"),
    ],
)
def test_headers_that_make_no_sense(kspace, tmp_path, change, message):
    scans.save_ismrmrd(tmp_path / "x.h5", kspace, change(scans.header(SHAPE)))
    with pytest.raises(StudyError, match=rf"x.h5: .*{message}"), open_kspace(tmp_path / "x.h5"):
        pass


def test_a_mask_in_the_file(kspace, tmp_path):
    for mask in (LINES, np.broadcast_to(LINES, (2, 20)), LINES[None, None, None].astype(np.float32)):
        scans.save_fastmri(tmp_path / "x.h5", kspace, mask=mask)
        with open_kspace(tmp_path / "x.h5") as found:
            np.testing.assert_array_equal(found.mask, np.broadcast_to(LINES, found.shape[2:]))
            assert found.attributes == {"patient": "somebody"}
    for mask, message in (
        (np.stack([LINES, ~LINES]), r"'mask' of shape \(2, 20\) differs between slices or coils; expected one for all"),
        (LINES[:-1], r"'mask' of shape \(19,\), expected 20 lines or 24x20 points"),
        (2.0 * LINES, "'mask' with values other than 0 and 1"),
        (LINES + 0j, "'mask' of complex128, expected 0 and 1, or false and true"),
    ):
        scans.save_fastmri(tmp_path / "x.h5", kspace, mask=mask)
        with pytest.raises(StudyError, match=rf"x.h5: {message}"), open_kspace(tmp_path / "x.h5"):
            pass


def test_pairs_of_bart_that_do_not_match(kspace, tmp_path):
    scans.save_bart(tmp_path / "x.cfl", kspace)
    (tmp_path / "x.cfl").write_bytes((tmp_path / "x.cfl").read_bytes()[:-8])
    with pytest.raises(StudyError, match=r"x.cfl: 23032 bytes, expected 23040 for \[24, 20, 1, 3,.* by .*x.hdr"):
        read(tmp_path / "x.cfl")
    for sizes in ("24 20 2 3", "24 20 1 3 2"):  # a volume, or two sets of maps
        (tmp_path / "x.hdr").write_text(f"# Dimensions\n{sizes}\n")
        np.zeros(np.prod([int(n) for n in sizes.split()]), np.complex64).tofile(tmp_path / "x.cfl")
        with pytest.raises(
            StudyError, match=r"x.hdr: sizes \[24, 20, .*\], expected two of axes 0 to 2, coils on axis 3"
        ):
            read(tmp_path / "x.cfl")
    for text in ("", "# Dimensions\nno numbers\n"):
        (tmp_path / "x.hdr").write_text(text)
        with pytest.raises(StudyError, match=r"x.hdr: not a readable BART header"):
            read(tmp_path / "x.cfl")
    (tmp_path / "x.cfl").unlink()
    (tmp_path / "x.hdr").write_text("# Dimensions\n24 20\n")
    with pytest.raises(StudyError, match=r"x.cfl: no such file"):
        read(tmp_path / "x.hdr")


@pytest.mark.parametrize("name", ["x.npy", "x.mat", "x.h5", "x.cfl"])
def test_files_that_are_missing_no_files_of_their_kind_or_hold_no_complex_numbers(tmp_path, name):
    with pytest.raises(StudyError, match=r"x\.(npy|mat|h5|hdr): no such file"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"neither")
    with pytest.raises(StudyError, match=r"x\.(npy|mat|h5|hdr): (not a readable|no such file)"):
        read(tmp_path / name)
    if name == "x.npy":
        np.save(tmp_path / name, np.ones((3, 24, 20)))
        with pytest.raises(StudyError, match=r"x.npy: values of type float64, expected complex numbers"):
            read(tmp_path / name)
        np.save(tmp_path / name, np.ones((24, 20), complex))
        with pytest.raises(StudyError, match=r"'x.npy' of shape \(24, 20\), expected slices x H x W"):
            read(tmp_path / name)
