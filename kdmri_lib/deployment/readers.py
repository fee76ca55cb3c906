"""The one place that opens a file of k-space, by its ending, HDF5 by what it holds; it is read slice by slice.

- HDF5: the array `kspace`, (slices, [coils,] H, W). As in fastMRI's files (Zbontar et al. 2018) a `mask` says which lines
  are measured, an `ismrmrd_header` how they were encoded, the readout along the first axis in the plane; without a header a
  mask of lines is one of the lines that the model wants.
- ISMRMRD (Inati et al. 2017): the readouts of a two-dimensional Cartesian scan, one image per slice. Noise, navigators and
  others that aren't of the image are passed over; one shorter than the encoded matrix (partial echo) lies where its centre
  sample says; lines measured more than once are refused, since nothing says how they are to be combined.
- MATLAB: the array `kspace`, (H, W, [coils,] slices), or in a 7.3 file the only complex one; an older file is read whole.
- NumPy's .npy: (slices, [coils,] H, W).
- BART's pair (Uecker et al. 2015): x.hdr, dimensions in text, and x.cfl, complex64 with the first axis fastest. Axes 0 to 2
  are readout, first and second phase encoding, of which two count here; axis 3 is coils, axis 13 slices.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import defusedxml
import defusedxml.ElementTree as ElementTree
import h5py
import numpy as np

from kdmri_lib.datasets.matlab import is_older, read_mat
from kdmri_lib.datasets.reading import as_complex, hdf5_array, open_hdf5, reading
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import mask_of_lines

OTHERS = (".cfl", ".hdr", ".mat", ".npy")  # endings of what isn't HDF5, or not by its name
BART = {3: "C", 13: "S"}  # its axes beside those in the plane
READOUTS = "dataset"  # ISMRMRD's group
# ISMRMRD's flags of noise, calibration, navigators, phase correction, both feedbacks, dummies, correction of the coils.
PASSED_OVER, REVERSED = (19, 20, 23, 24, 26, 27, 28, 29), 22
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


class Kspace(NamedTuple):
    """k-space in a file, in the order that the file has."""

    path: Path
    name: str
    shape: tuple[int, int, int, int]  # (slices, coils, H, W)
    read: Callable[[int, int], np.ndarray]  # slices from the first, that many: (count, coils, H, W) complex64
    attributes: dict  # what the file says of the scan, for the output
    mask: np.ndarray | None = None  # what it says is measured, boolean (H, W)
    encoding: Encoding | None = None
    readout: int = 0  # the axis of (H, W) that it runs along, where `encoding` is known
    partial_echo: bool = False  # whether readouts are declared to be cut on one side


@contextmanager
def open_kspace(path: Path, axes: str = "", lines_axis: int = 1, name: str = "kspace") -> Iterator[Kspace]:
    """The k-space of a file, or sensitivities.

    Parameters
    ----------
    axes : what an array's axes are, in order: S slices, C coils, H rows, W columns; each format's usual ones when empty.
    lines_axis : the axis of (H, W) across which lines of a scan lie whose file has readouts and no array.
    name : of the array, in formats that hold several. Of "sensitivities" a third axis is coils, and not slices.
    """
    if axes and sorted(axes) not in [sorted(letters) for letters in ("HW", "SHW", "CHW", "SCHW")]:
        raise StudyError(f"axes '{axes}': expected H and W, with S (slices) and C (coils) where there are, each once")
    ending, third = path.suffix.lower(), "C" if name == "sensitivities" else "S"
    usual = [f"HW{third}", "HWCS"] if ending == ".mat" else [f"{third}HW", "SCHW"]
    letters = [axes] if axes else usual
    with ExitStack() as stack:
        if ending in (".cfl", ".hdr"):
            found = _bart(path, axes)
        elif ending == ".npy":
            with reading(path, "NumPy array"):
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            found = _of_array(array, path, path.name, letters)
        elif ending == ".mat" and is_older(path):
            found = _of_array(read_mat(path, name), path, name, letters)
        elif ending == ".mat":
            with reading(path, "MATLAB file"):
                found = _matlab(hdf5(stack, path, "MATLAB file"), path, name, letters)
        else:
            with reading(path, "HDF5 file"):
                file = hdf5(stack, path)
                if is_ismrmrd(file):
                    with reading(path, "ISMRMRD file"):
                        found = _readouts(file, path, axes, lines_axis)
                else:
                    found = _hdf5(file, path, name, letters, lines_axis)
        yield found


def hdf5(stack: ExitStack, path: Path, what: str = "HDF5 file") -> h5py.File:
    """An HDF5 file, closed with the stack."""
    opening = open_hdf5(path, what)
    file = opening.__enter__()
    stack.callback(opening.__exit__, None, None, None)  # so that what fails outside isn't blamed on the file
    return file


def is_ismrmrd(file: h5py.File) -> bool:
    """Whether an HDF5 file is laid out as ISMRMRD's are."""
    return isinstance(file.get(READOUTS), h5py.Group) and {"data", "xml"} <= set(file[READOUTS])


def _of_array(array, path: Path, name: str, letters: Sequence[str]) -> Kspace:
    """k-space of an array that is read by slicing, its axes the first of `letters` that are as many as it has."""
    found = tuple(getattr(array, "shape", ()))
    axes = next((one for one in letters if len(one) == len(found)), letters[0])
    if len(found) != len(axes) or 0 in found:
        expected = " x ".join({"S": "slices", "C": "coils"}.get(letter, letter) for letter in axes)
        raise StudyError(f"{path}: '{name}' of shape {found}, expected {expected} (--axes says which axis is what)")
    missing = [letter for letter in "SCHW" if letter not in axes]
    places = [(axes + "".join(missing)).index(letter) for letter in "SCHW"]

    def read(first: int, count: int) -> np.ndarray:
        index = tuple(slice(first, first + count) if letter == "S" else slice(None) for letter in axes)
        with reading(path, f"array '{name}'"):
            values = as_complex(np.asarray(array[index]), path)
        values = values.reshape(*values.shape, *[1] * len(missing)).transpose(places)
        return np.array(values, order="C")  # its own memory, not the file's

    return Kspace(path, name, tuple([*found, 1, 1][place] for place in places), read, {})


def _matlab(file: h5py.File, path: Path, name: str, letters: Sequence[str]) -> Kspace:
    """A 7.3 file: HDF5 with axes reversed and complex numbers as compounds."""
    of_complex = [n for n, a in file.items() if isinstance(a, h5py.Dataset) and a.dtype.names == ("real", "imag")]
    name = of_complex[0] if name not in file and len(of_complex) == 1 else name
    return _of_array(hdf5_array(file, path, name), path, name, [axes[::-1] for axes in letters])


def _bart(path: Path, axes: str) -> Kspace:
    if axes:
        raise StudyError(f"{path}: axes '{axes}', but BART's are fixed; expected none")
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
            raise StudyError(
                f"{header}: sizes {sizes}, expected two of axes 0 to 2, coils on axis 3 and slices on axis 13"
            )
        array = np.memmap(data, np.complex64, mode="r", shape=tuple(sizes), order="F")
        array = array.reshape([size for axis, size in enumerate(sizes) if axis in letters], order="F")
    axes = "".join(letters[axis] for axis in range(len(sizes)) if axis in letters)
    return _of_array(array, data, data.name, [axes])


def _hdf5(file: h5py.File, path: Path, name: str, letters: Sequence[str], lines_axis: int) -> Kspace:
    found = _of_array(hdf5_array(file, path, name), path, name, letters)
    turned = letters[0].index("W") < letters[0].index("H")
    encoding = encoding_of(file["ismrmrd_header"][()], path) if "ismrmrd_header" in file else None
    mask = _mask(file, path, found.shape[2:], turned, lines_axis if encoding is None else int(not turned))
    return found._replace(attributes=dict(file.attrs), mask=mask, encoding=encoding, readout=int(turned))


def _mask(file: h5py.File, path: Path, plane: tuple[int, int], turned: bool, across: int) -> np.ndarray | None:
    """What a file's mask says is measured, boolean (H, W); one for all slices and coils.

    `turned` : whether the file has columns before rows; `across` : the axis of (H, W) that a mask of lines lies along.
    """
    if not isinstance(file.get("mask"), h5py.Dataset):
        return None
    mask, grid = np.asarray(file["mask"][()]), plane[::-1] if turned else plane
    if mask.dtype.kind not in "buif":
        raise StudyError(f"{path}: 'mask' of {mask.dtype}, expected 0 and 1, or false and true")
    if not np.isin(mask, (0, 1)).all():
        raise StudyError(f"{path}: 'mask' with values other than 0 and 1")
    points = mask.shape[-2:] == grid
    if not points and mask.shape[-1:] != (plane[across],):
        raise StudyError(
            f"{path}: 'mask' of shape {mask.shape}, expected {plane[across]} lines or {grid[0]}x{grid[1]} points, as its "
            "k-space has (--axes says which axis is what)"
        )
    each = mask.astype(bool).reshape(-1, *(grid if points else mask.shape[-1:]))
    if (each != each[0]).any():
        raise StudyError(f"{path}: 'mask' of shape {mask.shape} differs between slices or coils; expected one for all")
    if points:
        return each[0].T if turned else each[0]
    return mask_of_lines(each[0], plane, across)


def encoding_of(header: str | bytes, path: Path) -> Encoding:
    """The first encoding of an ISMRMRD header in XML; `StudyError` when it can't be read, or contradicts itself."""
    try:
        tree = ElementTree.fromstring(header)
        space = tree.find(".//{*}encoding")

        def three(place: str) -> list[float]:
            return [float(space.find(f"{{*}}{place}/{{*}}{axis}").text) for axis in "xyz"]

        sizes, fields = three("encodedSpace/{*}matrixSize"), three("encodedSpace/{*}fieldOfView_mm")
        _, wanted = three("reconSpace/{*}matrixSize"), three("reconSpace/{*}fieldOfView_mm")
        samples, lines, slices = map(int, sizes)
        limits = space.find("{*}encodingLimits/{*}kspace_encoding_step_1")
        first, last, centre = 0, lines - 1, lines // 2
        if limits is not None:
            first, last, centre = (int(limits.find(f"{{*}}{name}").text) for name in ("minimum", "maximum", "center"))
        trajectory = space.findtext("{*}trajectory", "cartesian").strip().lower()
        coils = int(tree.findtext("{*}acquisitionSystemInformation/{*}receiverChannels", "0"))
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: its ISMRMRD header can't be read ({error})") from None
    if min(samples, lines, slices, *fields, wanted[0]) <= 0:
        raise StudyError(f"{path}: its ISMRMRD header says {samples} x {lines} x {slices} points of {fields} mm")
    start = lines // 2 - centre
    if not 0 <= start + first < start + last + 1 <= lines:
        raise StudyError(
            f"{path}: its ISMRMRD header says lines {first} to {last} about {centre}, which don't fit in its {lines}"
        )
    pixels = min(samples, round(samples * wanted[0] / fields[0]))
    spacing = (fields[2] / slices, fields[0] / samples, fields[1] / lines)
    return Encoding(samples, lines, pixels, (start + first, start + last + 1), centre, spacing, trajectory, coils)


def _readouts(file: h5py.File, path: Path, axes: str, lines_axis: int) -> Kspace:
    """An ISMRMRD file's readouts as an array, lines along axis `lines_axis` of (H, W); what is missing is zero."""
    import ismrmrd

    if axes:
        raise StudyError(f"{path}: axes '{axes}', but its readouts say where they belong; expected none")
    encoding = encoding_of(file[f"{READOUTS}/xml"][0], path)
    if encoding.trajectory != "cartesian":
        raise StudyError(f"{path}: a {encoding.trajectory} trajectory by its header, expected a Cartesian one")
    heads = file[f"{READOUTS}/data"].fields("head")[:]
    chosen = np.flatnonzero((heads["flags"] & sum(1 << (flag - 1) for flag in PASSED_OVER)) == 0)
    heads = heads[chosen]
    places = _places(path, heads, encoding)
    of_slice = heads["idx"]["slice"]
    readouts = ismrmrd.file.Acquisitions(file[f"{READOUTS}/data"])
    coils, slices = int(heads["active_channels"][0]), int(of_slice.max()) + 1

    def read(first: int, count: int) -> np.ndarray:
        count = min(count, slices - first)
        values = np.zeros((count, coils, encoding.samples, encoding.lines), np.complex64)
        with reading(path, "ISMRMRD file"):
            for at in np.flatnonzero((of_slice >= first) & (of_slice < first + count)).tolist():
                readout = readouts[int(chosen[at])]
                start = encoding.samples // 2 - readout.center_sample
                kept = slice(readout.discard_pre, readout.number_of_samples - readout.discard_post)
                line = values[of_slice[at] - first, :, :, places[at]]
                line[:, start + kept.start : start + kept.stop] = readout.data[:, kept]
        return values if lines_axis == 1 else np.ascontiguousarray(values.swapaxes(-2, -1))

    grid = (encoding.samples, encoding.lines) if lines_axis == 1 else (encoding.lines, encoding.samples)
    short = bool((heads["number_of_samples"] < encoding.samples).any())
    return Kspace(path, READOUTS, (slices, coils, *grid), read, {}, None, encoding, 1 - lines_axis, short)


def _places(path: Path, heads: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Where the line of each readout lies, counted with zero frequency at `encoding.lines` // 2; raises for what isn't a
    two-dimensional scan of one image per slice that fits the header."""
    if not len(heads):
        raise StudyError(f"{path}: no readout of an image; expected a scan")
    for counter in COUNTERS:
        if (most := int(heads["idx"][counter].max())) > 0:
            raise StudyError(f"{path}: {counter} counts to {most}; expected one image per slice, 0 throughout")
    if (found := np.unique(heads["active_channels"])).size > 1:
        raise StudyError(f"{path}: readouts of {found.min()} and of {found.max()} coils; expected as many in each")
    if encoding.coils not in (0, found[0]):
        raise StudyError(f"{path}: readouts of {found[0]} coils, expected {encoding.coils}, as its header says")
    if (space := int(heads["encoding_space_ref"].max())) > 0:
        raise StudyError(f"{path}: readouts of {space + 1} encodings; expected those of one")
    if turned := int((heads["flags"] & (1 << (REVERSED - 1)) != 0).sum()):
        raise StudyError(
            f"{path}: {turned} readouts are flagged as measured in reverse (echo-planar); expected all in one direction, "
            "corrected before"
        )
    start = encoding.samples // 2 - heads["center_sample"].astype(int)
    if start.min() < 0 or (start + heads["number_of_samples"]).max() > encoding.samples:
        raise StudyError(
            f"{path}: readouts of {heads['number_of_samples'].max()} samples about {heads['center_sample'].max()}, "
            f"expected at most {encoding.samples} by its header"
        )
    places = heads["idx"]["kspace_encode_step_1"].astype(int) - encoding.centre + encoding.lines // 2
    first, last = encoding.measured
    if places.min() < first or places.max() >= last:
        raise StudyError(
            f"{path}: lines {places.min()} to {places.max()} of {encoding.lines}, expected {first} to {last - 1}, as its "
            "header says"
        )
    pairs = heads["idx"]["slice"].astype(int) * encoding.lines + places
    if (repeated := len(pairs) - len(np.unique(pairs))) > 0:
        raise StudyError(f"{path}: {repeated} lines are measured more than once; expected each line of a slice once")
    return places
