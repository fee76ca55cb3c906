"""ISMRMRD's HDF5 (Inati et al. 2017): readouts one by one, each with the number of its line, slice and repetition.

Two-dimensional Cartesian scans of one image per slice. Noise, navigators and other readouts that aren't of the image are
passed over. A readout shorter than the encoded matrix (partial echo) lies where its centre sample says. Lines measured more
than once are refused, since nothing says how they are to be combined.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.datasets.reading import open_hdf5, reading
from kdmri_lib.deployment.readers.base import Kspace
from kdmri_lib.deployment.readers.encoding import Encoding, encoding_of
from kdmri_lib.errors import StudyError

GROUP = "dataset"
REVERSED = 22  # ISMRMRD's flag ACQ_IS_REVERSE
COUNTERS = ("kspace_encode_step_2", "contrast", "phase", "repetition", "set", "average")


def is_ismrmrd(file: h5py.File) -> bool:
    """Whether an HDF5 file is laid out as ISMRMRD's are."""
    return isinstance(file.get(GROUP), h5py.Group) and {"data", "xml"} <= set(file[GROUP])


@contextmanager
def opened(path: Path, axes: str = "", name: str = GROUP, lines_axis: int = 1, third: str = "S") -> Iterator[Kspace]:
    """The image's readouts as an array, lines along axis `lines_axis` of (H, W); what is missing is zero."""
    import ismrmrd

    if axes:
        raise StudyError(f"{path}: axes '{axes}', but its readouts say where they belong; expected none")
    with open_hdf5(path, "ISMRMRD file") as file:
        encoding = encoding_of(file[f"{GROUP}/xml"][0], path)
        if encoding.trajectory != "cartesian":
            raise StudyError(f"{path}: a {encoding.trajectory} trajectory by its header, expected a Cartesian one")
        heads = file[f"{GROUP}/data"].fields("head")[:]
        readouts = ismrmrd.file.Acquisitions(file[f"{GROUP}/data"])
        others = (
            ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
            ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,
            ismrmrd.ACQ_IS_NAVIGATION_DATA,
            ismrmrd.ACQ_IS_PHASECORR_DATA,
            ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
            ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
            ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
            ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        )
        chosen = np.flatnonzero((heads["flags"] & sum(1 << (flag - 1) for flag in others)) == 0)
        places = _places(path, heads[chosen], encoding)
        coils, slices = int(heads["active_channels"][chosen[0]]), int(heads["idx"]["slice"][chosen].max()) + 1
        by_slice = [chosen[heads["idx"]["slice"][chosen] == n] for n in range(slices)]
        line_of = dict(zip(chosen.tolist(), places.tolist(), strict=True))

        def read(first: int, count: int) -> np.ndarray:
            count = min(count, slices - first)
            values = np.zeros((count, coils, encoding.samples, encoding.lines), np.complex64)
            with reading(path, "ISMRMRD file"):
                for place in range(count):
                    for number in by_slice[first + place].tolist():
                        readout = readouts[number]
                        start = encoding.samples // 2 - readout.center_sample
                        kept = slice(readout.discard_pre, readout.number_of_samples - readout.discard_post)
                        values[place, :, start + kept.start : start + kept.stop, line_of[number]] = readout.data[
                            :, kept
                        ]
            return values if lines_axis == 1 else np.ascontiguousarray(values.swapaxes(-2, -1))

        grid = (encoding.samples, encoding.lines) if lines_axis == 1 else (encoding.lines, encoding.samples)
        short = bool((heads["number_of_samples"][chosen] < encoding.samples).any())
        yield Kspace(path, GROUP, (slices, coils, *grid), read, {}, None, encoding, 1 - lines_axis, short)


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
    longest = int((start + heads["number_of_samples"]).max())
    if start.min() < 0 or longest > encoding.samples:
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
