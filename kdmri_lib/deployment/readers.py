"""The one place that opens a file for `reconstruct`: by its ending, HDF5 by what it holds; it is read slice by slice.

- HDF5: the array `kspace`, (slices, [coils,] H, W), in fastMRI's files (Zbontar et al. 2018) with a `mask` and an
  `ismrmrd_header`, the readout first in the plane. Without k-space, images: `image`, or the volumes of a prepared file.
- ISMRMRD (Inati et al. 2017): the readouts of a two-dimensional Cartesian scan, one image per slice. Those that aren't of
  the image are passed over; one shorter than the encoded matrix (partial echo) lies where its centre sample says; lines
  measured more than once are refused, since nothing says how they are to be combined.
- MATLAB: the array `kspace`, (H, W, [coils,] slices), or the only complex one; before 7.3 it is read whole.
- NumPy's .npy: (slices, [coils,] H, W). NIfTI: images, in axial slices.
- BART's pair (Uecker et al. 2015): x.hdr, dimensions in text, and x.cfl, complex64 with the first axis fastest. Axes 0 to 2
  are readout, first and second phase encoding, of which two count here; axis 3 is coils, axis 13 slices.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import defusedxml
import defusedxml.ElementTree as ElementTree
import h5py
import numpy as np

from kdmri_lib.datasets.folders import NIFTI, ends_in
from kdmri_lib.datasets.matlab import is_older, read_mat
from kdmri_lib.datasets.nifti import read_nifti
from kdmri_lib.datasets.reading import as_complex, hdf5, hdf5_array, reading
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import mask_of_lines

KINDS = {".npy": "NumPy array", ".mat": "MATLAB file"}  # by ending; others that are opened here are HDF5
TURN = str.maketrans("HW", "WH")
BART = {3: "C", 13: "S"}  # its axes beside those in the plane
READOUTS = "dataset"  # ISMRMRD's group
ECHO = 16  # its share of the readout, missing on one side, is a partial echo; on both sides, a header that isn't true
# ISMRMRD's flags of readouts that aren't of the image.
PASSED_OVER = {19: "noise", 20: "calibration alone", 23: "navigators", 24: "phase correction", 26: "feedback"}
PASSED_OVER |= {27: "dummies", 28: "feedback", 29: "correction of the coils"}
REVERSED = 22
AXES_HINT = "(--axes says which axis is what)"
COUNTERS = ("kspace_encode_step_2", "contrast", "phase", "repetition", "set", "average")


class Encoding(NamedTuple):
    """What an ISMRMRD header says of one k-space."""

    samples: int  # of the encoded matrix along the readout; k-space is padded to it with zeros
    lines: int  # across the readout
    pixels: int  # along the readout, of the image once oversampling is cut off
    measured: tuple[int, int]  # first and one past the last line to measure, zero frequency at lines // 2
    centre: int  # the line of zero frequency, as acquisitions count
    spacing: tuple[float, float, float]  # of the encoded voxels in mm: slice, readout, across
    trajectory: str  # "cartesian" or another
    coils: int  # 0 where it doesn't say

    def across(self, axis: int, readout: int) -> tuple[int, int]:
        """(H, W) of a slice whose lines lie across that axis, of so many points along the readout."""
        return (readout, self.lines) if axis == 1 else (self.lines, readout)


@dataclass(frozen=True)
class Stored:
    """A volume as its file has it: k-space, sensitivities or images."""

    path: Path
    name: str
    shape: tuple[int, int, int, int]  # (slices, coils, H, W)
    values: Callable[[int, int], np.ndarray]  # what `read` checks
    attributes: dict  # what the file says of the scan, for the output
    images: bool = False
    mask: np.ndarray | None = None  # what it says is measured, boolean (H, W)
    encoding: Encoding | None = None
    readout: int = 0  # the axis of (H, W) that it runs along, where `encoding` is known
    partial_echo: bool = False  # whether readouts are declared to be cut on one side
    passed_over: str = ""  # of its readouts, in words
    turned: bool = False  # whether its first axis in the plane is W, so that the readout lies as the model's does

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.path}: '{self.name}'"

    def read(self, first: int, count: int) -> np.ndarray:
        """Slices from `first`: (count, coils, H, W) complex64, of real images float32; `StudyError` where not finite."""
        with reading(self.path, f"array '{self.name}'"):
            values = self.values(first, count)
        if not np.isfinite(values).all():
            which = f"slices {first} to {first + len(values) - 1}"
            raise StudyError(f"{self.where} holds NaN or infinite values in {which}")
        return values


@contextmanager
def open_volumes(
    path: Path, axes: str = "", lines_axis: int = 1, domain: str = "magnitude", name: str = "kspace"
) -> Iterator[list[Stored]]:
    """The k-space of a file, or its sensitivities, or its volumes of images.

    Parameters
    ----------
    axes : what an array's axes are, in order: S slices, C coils, H rows, W columns; each format's usual ones when empty.
    lines_axis : the axis of (H, W) across which lines of a scan lie whose file has readouts and no array.
    domain : what images are, "magnitude" or "complex".
    name : of the array, in formats that hold several. Of "sensitivities" a third axis is coils, and not slices.
    """
    if axes and "".join(sorted(axes)) not in ("HW", "HSW", "CHW", "CHSW"):
        raise StudyError(f"axes '{axes}': expected H and W, with S (slices) and C (coils) where there are, each once")
    ending, third = path.suffix.lower(), "C" if name == "sensitivities" else "S"
    usual = [f"HW{third}", "HWCS"] if ending == ".mat" else [f"{third}HW", "SCHW"]
    letters = [axes] if axes else usual
    with ExitStack() as stack:
        with reading(path, KINDS.get(ending, "HDF5 file")):
            if ends_in(path.name, NIFTI):
                slices, spacing, attributes = read_nifti(path)
                found = [_of_images(slices, path, path.name, {"spacing": spacing} | attributes)]
            elif ending in (".cfl", ".hdr"):
                found = [_bart(path, axes, lines_axis, name)]
            elif ending == ".npy":
                found = [_of_array(np.load(path, mmap_mode="r", allow_pickle=False), path, path.name, letters)]
            elif ending == ".mat" and is_older(path):
                found = [_of_array(read_mat(path, name, alone=True), path, name, letters)]
            else:
                file = stack.enter_context(hdf5(path))
                if ending == ".mat":
                    found = [_matlab(file, path, name, letters)]
                elif isinstance(file.get(READOUTS), h5py.Group) and {"data", "xml"} <= set(file[READOUTS]):
                    found = [_readouts(file, path, axes, lines_axis)]
                elif name == "kspace" and not isinstance(file.get(name), h5py.Dataset):
                    found = _images(file, path, domain)
                else:
                    found = [_hdf5(file, path, name, letters, lines_axis, not axes)]
        yield found


def _of_array(array, path: Path, name: str, letters: Sequence[str], convert=as_complex, hint=f" {AXES_HINT}") -> Stored:
    """A volume of an array that is read by slicing, its axes the first of `letters` that are as many as it has."""
    found = tuple(getattr(array, "shape", ()))
    axes = next((one for one in letters if len(one) == len(found)), letters[0])
    if len(found) != len(axes) or 0 in found:
        expected = " x ".join({"S": "slices", "C": "coils"}.get(letter, letter) for letter in axes)
        raise StudyError(f"{path}: '{name}' of shape {found or 'none: it is a group'}, expected {expected}{hint}")
    missing = [letter for letter in "SCHW" if letter not in axes]
    places = [(axes + "".join(missing)).index(letter) for letter in "SCHW"]

    def values(first: int, count: int) -> np.ndarray:
        index = tuple(slice(first, first + count) if letter == "S" else slice(None) for letter in axes)
        values = convert(np.asarray(array[index]), path)
        values = values.reshape(*values.shape, *[1] * len(missing)).transpose(places)
        return np.array(values, order="C")  # its own memory, not the file's

    return Stored(path, name, tuple([*found, 1, 1][place] for place in places), values, {})


def _of_images(array, path: Path, name: str, attributes: dict, domain: str = "magnitude") -> Stored:
    def convert(values: np.ndarray, path: Path) -> np.ndarray:
        if values.dtype.kind not in "iuf":
            if domain == "complex":
                return as_complex(values, path)
            raise StudyError(f"{path}: '{name}' of type {values.dtype}, expected real numbers (magnitudes)")
        if domain == "magnitude" and values.min() < 0:
            raise StudyError(f"{path}: negative values in '{name}'; expected magnitude images")
        return values.astype(np.float32)

    return replace(_of_array(array, path, name, ["SHW"], convert, ""), attributes=attributes, images=True)


def _images(file: h5py.File, path: Path, domain: str) -> list[Stored]:
    if isinstance(volumes := file.get("volumes"), h5py.Group):
        found = [(f"volumes/{name}", array, array.attrs) for name, array in sorted(volumes.items())]
    else:
        found = [("image", file["image"], file.attrs)] if isinstance(file.get("image"), h5py.Dataset) else []
    if not found:
        has = ", ".join(file) or "nothing"
        raise StudyError(f"{path}: no array 'kspace' or 'image' and no volumes; it has {has}")
    return [_of_images(array, path, name, dict(attributes), domain) for name, array, attributes in found]


def _matlab(file: h5py.File, path: Path, name: str, letters: Sequence[str]) -> Stored:
    """A 7.3 file: HDF5 with axes reversed and complex numbers as compounds."""
    of_complex = [n for n, a in file.items() if isinstance(a, h5py.Dataset) and a.dtype.names == ("real", "imag")]
    name = of_complex[0] if name not in file and len(of_complex) == 1 else name
    return _of_array(hdf5_array(file, path, name), path, name, [axes[::-1] for axes in letters])


def _bart(path: Path, axes: str, lines_axis: int, name: str) -> Stored:
    """`axes` : of all its axes but those in the plane that are of one point; by default the readout is the first, unless
    lines are missing across it, and lies as the model's does."""
    header, data = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    with reading(header, "BART header"):
        text = [line for line in header.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        sizes = [int(size) for size in text[0].split()]
    with reading(data, "BART array"):
        if (size := data.stat().st_size) != (expected := 8 * np.prod(sizes, dtype=object)):
            raise StudyError(f"{data}: {size} bytes, expected {expected} for {sizes} by {header}")
        plane = [axis for axis in range(3) if len(sizes) > axis and sizes[axis] > 1]
        letters = dict(zip(plane, "HW", strict=False)) | BART
        if len(plane) != 2 or any(size > 1 for axis, size in enumerate(sizes) if axis not in letters):
            expected = "two of axes 0 to 2, coils on axis 3, slices on axis 13"
            raise StudyError(f"{header}: sizes {sizes}, expected {expected}")
        array = np.memmap(data, np.complex64, mode="r", shape=tuple(sizes), order="F")
    kept = [axis for axis in range(len(sizes)) if axis in letters]
    array = array.reshape([sizes[axis] for axis in kept], order="F")
    one = array[tuple(slice(None) if axis in plane else 0 for axis in kept)]
    missing = [not one.any(axis=1 - axis).all() for axis in (0, 1)]
    turned = not axes and name == "kspace" and lines_axis != int(missing != [True, False])
    usual = "".join(letters[axis] for axis in kept).translate(TURN if turned else {})
    return replace(_of_array(array, data, data.name, [axes or usual]), turned=turned)


def _hdf5(file: h5py.File, path: Path, name: str, letters: Sequence[str], lines_axis: int, usual: bool) -> Stored:
    """`usual` : whether the axes are fastMRI's, whose header says that the readout is the first, and not said otherwise."""
    usual = usual and "ismrmrd_header" in file and lines_axis == 0
    letters = [axes.translate(TURN) for axes in letters] if usual else letters
    found = _of_array(hdf5_array(file, path, name), path, name, letters)
    turned = letters[0].index("W") < letters[0].index("H")
    encoding = encoding_of(file["ismrmrd_header"][()], path) if "ismrmrd_header" in file else None
    mask = _mask(file, path, found.shape[2:], turned, lines_axis if encoding is None else int(not turned))
    return replace(found, attributes=dict(file.attrs), mask=mask, encoding=encoding, readout=int(turned), turned=usual)


def _mask(file: h5py.File, path: Path, plane: tuple[int, int], turned: bool, across: int) -> np.ndarray | None:
    """What a file's mask says is measured, boolean (H, W); one for all slices and coils. `turned` : whether the file has
    columns before rows; `across` : the axis of (H, W) that a mask of lines lies along."""
    if not isinstance(file.get("mask"), h5py.Dataset):
        return None
    mask, grid = np.asarray(file["mask"][()]), plane[::-1] if turned else plane
    if mask.dtype.kind not in "buif" or not np.isin(mask, (0, 1)).all():
        raise StudyError(f"{path}: 'mask' of {mask.dtype} with values other than 0 and 1, or false and true")
    points = mask.shape[-2:] == grid
    wanted = grid if points else (plane[across],)
    if mask.shape[-len(wanted) :] != wanted:
        expected = f"{plane[across]} lines or {grid[0]}x{grid[1]} points, as its k-space has {AXES_HINT}"
        raise StudyError(f"{path}: 'mask' of shape {mask.shape}, expected {expected}")
    first, *others = mask.astype(bool).reshape(-1, *wanted)
    if any((other != first).any() for other in others):
        raise StudyError(f"{path}: 'mask' of shape {mask.shape} differs between slices or coils; expected one for all")
    if not points:
        return mask_of_lines(first, plane, across)
    return first.T if turned else first


def encoding_of(header: str | bytes, path: Path) -> Encoding:
    """The first encoding of an ISMRMRD header in XML; `StudyError` when it can't be read, or contradicts itself."""
    try:
        tree = ElementTree.fromstring(header)
        space = tree.find(".//{*}encoding")

        def three(place: str) -> list[float]:
            return [float(space.find(f"{{*}}{place}/{{*}}{axis}").text) for axis in "xyz"]

        fields, wanted = three("encodedSpace/{*}fieldOfView_mm"), three("reconSpace/{*}fieldOfView_mm")
        samples, lines, slices = map(int, three("encodedSpace/{*}matrixSize"))
        limits = space.find("{*}encodingLimits/{*}kspace_encoding_step_1")
        first, last, centre = 0, lines - 1, lines // 2
        if limits is not None:
            first, last, centre = (int(limits.find(f"{{*}}{name}").text) for name in ("minimum", "maximum", "center"))
        trajectory = space.findtext("{*}trajectory", "cartesian").strip().lower()
        coils = int(tree.findtext("{*}acquisitionSystemInformation/{*}receiverChannels", "0"))
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: its ISMRMRD header can't be read ({error})") from None
    says, start = f"{path}: its ISMRMRD header says", lines // 2 - centre
    if min(samples, lines, slices, *fields, wanted[0]) <= 0:
        raise StudyError(f"{says} {samples} x {lines} x {slices} points of {fields} mm")
    if not 0 <= start + first < start + last + 1 <= lines:
        raise StudyError(f"{says} lines {first} to {last} about {centre}, which don't fit in its {lines}")
    pixels = min(samples, round(samples * wanted[0] / fields[0]))
    spacing = (fields[2] / slices, fields[0] / samples, fields[1] / lines)
    return Encoding(samples, lines, pixels, (start + first, start + last + 1), centre, spacing, trajectory, coils)


def _readouts(file: h5py.File, path: Path, axes: str, lines_axis: int) -> Stored:
    """An ISMRMRD file's readouts as an array, lines along axis `lines_axis` of (H, W); what is missing is zero."""
    import ismrmrd

    if axes:
        raise StudyError(f"{path}: axes '{axes}', but its readouts say where they belong; expected none")
    encoding = encoding_of(file[f"{READOUTS}/xml"][0], path)
    heads = file[f"{READOUTS}/data"].fields("head")[:]
    kinds = np.full(len(heads), "of the image", object)
    for flag, kind in reversed(PASSED_OVER.items()):
        kinds[_flagged(heads, flag)] = kind
    chosen = np.flatnonzero(of_image := kinds == "of the image")
    passed_over = ", ".join(f"{count} flagged {kind}" for kind, count in Counter(kinds[~of_image]).items())
    heads = heads[chosen]
    places = _places(path, heads, encoding)
    of_slice, readouts = heads["idx"]["slice"], ismrmrd.file.Acquisitions(file[f"{READOUTS}/data"])
    coils, slices = int(heads["active_channels"][0]), int(of_slice.max()) + 1

    def values(first: int, count: int) -> np.ndarray:
        values = np.zeros((min(count, slices - first), coils, encoding.samples, encoding.lines), np.complex64)
        for at in np.flatnonzero((of_slice >= first) & (of_slice < first + count)).tolist():
            readout = readouts[int(chosen[at])]
            start = encoding.samples // 2 - readout.center_sample
            kept = slice(readout.discard_pre, readout.number_of_samples - readout.discard_post)
            line = values[of_slice[at] - first, :, :, places[at]]
            line[:, start + kept.start : start + kept.stop] = readout.data[:, kept]
        return values if lines_axis == 1 else np.ascontiguousarray(values.swapaxes(-2, -1))

    short = bool((heads["number_of_samples"] < encoding.samples).any())
    how = {"encoding": encoding, "readout": 1 - lines_axis, "partial_echo": short}
    how["passed_over"] = f"readouts passed over: {passed_over}" if passed_over else ""
    return Stored(path, READOUTS, (slices, coils, *encoding.across(lines_axis, encoding.samples)), values, {}, **how)


def _flagged(heads: np.ndarray, flag: int) -> np.ndarray:
    """Which readouts have this flag of ISMRMRD's, which counts them from 1."""
    return heads["flags"] & (1 << (flag - 1)) != 0


def _places(path: Path, heads: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Where the line of each readout lies, counted with zero frequency at `encoding.lines` // 2; raises for what isn't a
    two-dimensional Cartesian scan of one image per slice that fits the header."""
    if not len(heads):
        raise StudyError(f"{path}: no readout of an image; expected a scan")
    index, samples, (first, last) = heads["idx"], heads["number_of_samples"], encoding.measured
    counted = [f"{counter} counts to {index[counter].max()}" for counter in COUNTERS if index[counter].any()]
    coils, spaces = np.unique(heads["active_channels"]), int(heads["encoding_space_ref"].max()) + 1
    turned = int(_flagged(heads, REVERSED).sum())
    start = encoding.samples // 2 - heads["center_sample"].astype(int)
    longer = start.min() < 0 or (start + samples).max() > encoding.samples
    both = int(np.minimum(start, encoding.samples - start - samples).max())
    centred = f"readouts of {samples.max()} samples about {heads['center_sample'].max()}"
    places = index["kspace_encode_step_1"].astype(int) - encoding.centre + encoding.lines // 2
    outside, lines = places.min() < first or places.max() >= last, f"lines {places.min()} to {places.max()}"
    repeated = len(places) - len(np.unique(index["slice"].astype(int) * encoding.lines + places))
    for wrong, found, expected in (
        (encoding.trajectory != "cartesian", f"a {encoding.trajectory} trajectory by its header", "a Cartesian one"),
        (counted, ", ".join(counted), "one image per slice, 0 throughout"),
        (len(coils) > 1, f"readouts of {coils[0]} and of {coils[-1]} coils", "as many in each"),
        (encoding.coils not in (0, coils[0]), f"readouts of {coils[0]} coils", f"{encoding.coils}, as its header says"),
        (spaces > 1, f"readouts of {spaces} encodings", "those of one"),
        (turned, f"{turned} readouts flagged as reversed (echo-planar)", "all in one direction, corrected before"),
        (longer, centred, f"at most {encoding.samples} by its header"),
        (both > encoding.samples / ECHO, f"{centred}, short of {encoding.samples} on both sides", "a true header"),
        (outside, f"{lines} of {encoding.lines}", f"{first} to {last - 1}, as its header says"),
        (repeated, f"{repeated} lines are measured more than once", "each line of a slice once"),
    ):
        if wrong:
            raise StudyError(f"{path}: {found}; expected {expected}")
    return places
