"""k-space of a file as the study has it: its order found, what its header says done, what contradicts it refused."""

import numpy as np

from kdmri_lib.deployment.readers import Kspace
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import ORDERS, cropped, from_order, the_order

HOLES = 0.01  # share of the points of measured lines that may be 0
ECHO = 16  # its share of the readout, missing on one side, is a partial echo


class Scan:
    """Slices of k-space, unshifted, of images whose middle is in the middle.

    Attributes
    ----------
    shape, coils : (H, W) of a slice, oversampling of the readout cut off; how many coils.
    lines : which lines across `axis` hold anything, boolean (N,), unshifted, in all slices and coils alike.
    padding : which are known to be zero, since the header says that they were never to be measured.
    remarks : what was found and done, for the user.
    """

    kind = "kspace"

    def __init__(self, kspace: Kspace, order: str, axis: int):
        self._kspace, self.axis, self._readout = kspace, axis, 1 - axis
        self.path, self.name = kspace.path, kspace.name
        self.where = f"{kspace.path}: '{kspace.name}'"
        self.slices, self.coils, *grid = kspace.shape
        self._grid = self.shape = tuple(grid)
        self.attributes, self.remarks = dict(kspace.attributes), []
        self.padding = np.zeros(grid[axis], bool)
        self._order = self._find_order(order)
        if kspace.encoding is not None:
            self._as_the_header_says()
        for number in (self.slices // 2, self.slices // 4, 3 * self.slices // 4):
            self._first, self.lines = number, self._lines(self._whole(number, 1))[0, 0]
            if self.lines.any():  # the middle slice may be empty
                break

    def __len__(self) -> int:
        return self.slices

    def _find_order(self, asked: str):
        places = sorted({self.slices // 4, self.slices // 2, 3 * self.slices // 4})
        values = np.concatenate([self._kspace.read(n, 1) for n in places])
        if not np.isfinite(values).all():
            raise StudyError(f"{self.where} holds NaN or infinite values")
        if not values.any():
            raise StudyError(f"{self.where} is zero in slices {', '.join(map(str, places))}; expected k-space")
        name = the_order(values, asked, self.where)
        zero = "in the middle" if ORDERS[name].kspace_centred else "at index 0"
        image = "about the corners, and is moved back" if ORDERS[name].image_shifted else "in the middle"
        self.remarks.append(
            f"{self.name}: order {name}{', found from the data' if asked == 'auto' else ''} "
            f"(zero frequency {zero}; a plain transform has the object {image})"
        )
        return ORDERS[name]

    def _as_the_header_says(self) -> None:
        encoding, readout = self._kspace.encoding, self._kspace.readout
        if readout == self.axis:
            raise StudyError(
                f"{self.where}: lines lie across axis {1 - readout} of (H, W) by its header, expected axis {self.axis}, as "
                "the model was made for (--axes with W before H turns it)"
            )
        expected = (encoding.samples, encoding.lines) if readout == 0 else (encoding.lines, encoding.samples)
        if self._grid != expected:
            raise StudyError(
                f"{self.where}: slices of {self._grid[0]}x{self._grid[1]}, expected {expected[0]}x{expected[1]}, as its "
                "header says that it was encoded"
            )
        self.attributes["spacing"] = encoding.spacing
        if encoding.pixels < encoding.samples:
            self.shape = tuple(encoding.pixels if n == readout else size for n, size in enumerate(self._grid))
            self.remarks.append(
                f"{self.name}: readout of {encoding.samples} samples, oversampled; its image's middle {encoding.pixels} "
                "pixels are kept"
            )
        first, last = encoding.measured
        if (first, last) != (0, encoding.lines):
            numbers = np.arange(encoding.lines)
            self.padding = np.fft.ifftshift((numbers < first) | (numbers >= last))
            self.remarks.append(
                f"{self.name}: lines {first} to {last - 1} of {encoding.lines} were to be measured, by its header; the "
                "others count as zero"
            )

    def _whole(self, first: int, count: int) -> np.ndarray:
        """(count, coils, H, W) in the study's order, all that was sampled along the readout."""
        values = self._kspace.read(first, count)
        if not np.isfinite(values).all():
            raise StudyError(
                f"{self.path}: NaN or infinite values in slices {first} to {first + count - 1} of '{self.name}'"
            )
        return from_order(values, self._order)

    def _lines(self, values: np.ndarray) -> np.ndarray:
        """Which lines hold anything: (count, coils, N)."""
        return values.any(axis=self._readout - 2)

    def read(self, first: int, count: int, check: bool = False) -> np.ndarray:
        """Slices from `first`, (count, coils, H, W) complex64; with `check`, `StudyError` for slices and coils that aren't
        measured on the lines of the middle slice, or not as the file says."""
        values = self._whole(first, count)
        if check:
            self._check(values, first)
        return values if self.shape == self._grid else cropped(values, self._readout - 2, self.shape[self._readout])

    kspace = read  # as of images

    def _check(self, values: np.ndarray, first: int) -> None:
        for number, (lines, points) in enumerate(zip(self._lines(values), values.any(axis=1), strict=True), first):
            if not lines.any():
                continue  # an empty slice
            if not (held := lines.any(axis=1)).all():
                raise StudyError(
                    f"{self.where}: coil {int(np.argmin(held))} of {self.coils} is zero everywhere in slice {number}; "
                    "expected a signal in each"
                )
            if (other := (lines != self.lines).any(axis=1)).any():
                coil = int(np.argmax(other))
                raise StudyError(
                    f"{self.where}: slice {number}, coil {coil} is measured on {int(lines[coil].sum())} lines, slice "
                    f"{self._first} on {int(self.lines.sum())}, and {int((lines[coil] & self.lines).sum())} are the same; "
                    "expected one mask for all slices and coils"
                )
            if self._kspace.mask is not None:
                self._check_mask(self._kspace.mask)
            self._check_points(points, number)
        if (outside := self.lines & self.padding).any():
            raise StudyError(
                f"{self.where}: {int(outside.sum())} lines hold values that its header says were not to be measured"
            )

    def _check_mask(self, stated: np.ndarray) -> None:
        """What the file says is measured, boolean (H, W), against the lines that hold anything."""
        stated = np.fft.ifftshift(stated) if self._order.kspace_centred else stated
        lines = stated.any(axis=self._readout)
        if (stated != np.expand_dims(lines, self._readout)).any():
            raise StudyError(
                f"{self.path}: its 'mask' isn't of whole lines across axis {self.axis} of (H, W), as the model's is "
                "(--axes says which axis is what)"
            )
        if (differing := (lines & ~self.padding) != self.lines).any():
            raise StudyError(
                f"{self.path}: its 'mask' says {int(lines.sum())} lines, its k-space holds {int(self.lines.sum())}; "
                f"{int(differing.sum())} are in one of the two alone, expected none"
            )

    def _check_points(self, points: np.ndarray, number: int) -> None:
        """`points`, boolean (H, W): what some coil of a slice holds."""
        readout = points.any(axis=self.axis)
        held = np.flatnonzero(np.fft.fftshift(readout))
        if (holes := held[-1] - held[0] + 1 - len(held)) > HOLES * len(readout):
            raise StudyError(
                f"{self.where}: {holes} of {len(readout)} points along the readout are zero on all lines of slice "
                f"{number}, between others that aren't; expected whole lines across axis {self.axis} of (H, W), as the "
                "model's are (is it multiplied by another mask? --axes says which axis is what)"
            )
        along = np.expand_dims(self.lines, self._readout) & np.expand_dims(readout, self.axis)
        if (share := float((along & ~points).sum() / along.sum())) > HOLES:
            raise StudyError(
                f"{self.where}: {share:.0%} of the points on measured lines of slice {number} are zero; expected whole "
                "lines (is it multiplied by another mask?)"
            )
        cut = (~readout).sum() > len(readout) / ECHO and not self._kspace.partial_echo
        if cut and (side := one_sided(~readout, readout)):
            raise StudyError(
                f"{self.where}: the {side} frequencies of the readout are missing, {int((~readout).sum())} of "
                f"{len(readout)} samples: a partial echo that the file doesn't declare; expected all"
            )


def one_sided(missing: np.ndarray, there: np.ndarray) -> str:
    """ "positive" or "negative" when all frequencies that are missing lie beyond all that are there, on that side; ""
    otherwise. Both boolean (N,), unshifted."""
    frequency = np.fft.fftfreq(len(missing), 1 / len(missing))
    lost, held = frequency[missing], frequency[there]
    if not len(lost) or not len(held):
        return ""
    return "positive" if lost.min() > held.max() else "negative" if lost.max() < held.min() else ""
