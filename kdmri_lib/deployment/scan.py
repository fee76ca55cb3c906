"""What k-space is: its order found, what its header says done, what contradicts it refused."""

import numpy as np
import scipy.fft

from kdmri_lib.deployment.readers import AXES_HINT, ECHO, Stored
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import ORDERS, check_slices, cropped, from_order, sampled, the_order

HOLES = 0.01  # share of the points of measured lines that may be 0
REMASKED = "(is it multiplied by another mask?)"


class Scan:
    """Slices of unshifted k-space of images whose middle is in the middle; that of images is whole.

    Attributes
    ----------
    shape, coils : (H, W) of a slice, oversampling of the readout cut off; how many coils.
    lines : which lines across `axis` hold anything, boolean (N,), unshifted, in all slices and coils alike.
    first : the first slice of those looked at that holds anything, the middle one usually.
    padding : which are known to be zero, since the header says that they were never to be measured.
    remarks : what was found and done, for the user.
    """

    def __init__(self, stored: Stored, order: str = "auto", axis: int = 0):
        self.stored, self.name, self.where, self.axis = stored, stored.name, stored.where, axis
        self._readout, self.attributes, self.remarks = 1 - axis, dict(stored.attributes), []
        self.slices, self.coils, *grid = stored.shape
        self._centres: list[np.ndarray] = []  # of each slice, what is about zero frequency
        self._grid = self.shape = tuple(grid)
        self.padding, self.lines = np.zeros(grid[axis], bool), np.ones(grid[axis], bool)
        if share := stored.attributes.get("below_zero"):
            self.remarks.append(f"{self.name}: values below 0, {share:.2g} of the signal, were taken as 0")
        if stored.passed_over:
            self.remarks.append(f"{self.name}: {stored.passed_over}")
        if stored.images:
            return
        places = sampled(range(self.slices))
        values = np.concatenate([stored.read(n, 1) for n in places])
        if not values.any():
            raise StudyError(f"{self.where} is zero in slices {sorted({*places})}; expected k-space")
        name = the_order(values, order, self.where)
        self._order, found = ORDERS[name], ", found from the data" if order == "auto" else ""
        zero = "in the middle" if self._order.kspace_centred else "at index 0"
        image = "about the corners, and is moved back" if self._order.image_shifted else "in the middle"
        zero = f"zero frequency {zero}; a plain transform has the object {image}"
        self.remarks.append(f"{self.name}: order {name}{found} ({zero})")
        if stored.encoding is not None:
            self._as_the_header_says()
        # The middle slice may be empty.
        self.first = next(n for n, one in zip(places, values, strict=True) if one.any())
        self.lines = self._whole(self.first, 1)[0, 0].any(axis=self._readout)

    def _as_the_header_says(self) -> None:
        encoding, across, (height, width) = self.stored.encoding, 1 - self.stored.readout, self._grid
        if across != self.axis:
            wanted = f"expected axis {self.axis} (--axes with W before H turns it)"
            raise StudyError(f"{self.where}: lines across axis {across} by its header, {wanted}")
        if self._grid != (expected := encoding.across(across, encoding.samples)):
            expected = f"{expected[0]}x{expected[1]}, as its header says that it was encoded"
            raise StudyError(f"{self.where}: slices of {height}x{width}, expected {expected}")
        self.attributes["spacing"] = encoding.spacing
        if encoding.pixels < encoding.samples:
            self.shape = encoding.across(across, encoding.pixels)
            kept = f"oversampled; its image's middle {encoding.pixels} pixels are kept"
            self.remarks.append(f"{self.name}: readout of {encoding.samples} samples, {kept}")
        (first, last), lines = encoding.measured, np.arange(encoding.lines)
        self.padding = np.fft.ifftshift((lines < first) | (lines >= last))
        if self.padding.any():
            said = "were to be measured, by its header; the others count as zero"
            self.remarks.append(f"{self.name}: lines {first} to {last - 1} of {encoding.lines} {said}")

    def _whole(self, first: int, count: int) -> np.ndarray:
        """(count, coils, H, W) in the study's order, all that was sampled along the readout."""
        values = self.stored.read(first, count)
        return scipy.fft.fft2(values, norm="ortho") if self.stored.images else from_order(values, self._order)

    def read(self, first: int, count: int, check: bool = False) -> np.ndarray:
        """Slices from `first`, (count, coils, H, W) complex64; with `check`, `StudyError` for slices and coils that aren't
        measured on the lines of the middle slice, or not as the file says."""
        values = self._whole(first, count)
        if check and not self.stored.images:
            for number, slice_ in enumerate(values, first):
                self._centres.append(slice_[:, :2, :2].copy())  # a view would keep the slice
                if slice_.any():
                    self._check(slice_, number)
            if first + count >= self.slices and (said := check_slices(np.stack(self._centres), self.where)):
                self.remarks.append(f"{self.name}: {said}")
        return values if self.shape == self._grid else cropped(values, self._readout - 2, self.shape[self._readout])

    def _check(self, values: np.ndarray, number: int) -> None:
        """Slice `number`, (coils, H, W), against all that is known of its lines and points."""
        where, lines, points = f"{self.where}: slice {number}", values.any(axis=self._readout - 2), values.any(axis=0)
        readout, measured, total = points.any(axis=self.axis), self.lines.sum(), points.shape[self._readout]
        for coil, held in enumerate(lines):
            if not held.any():
                raise StudyError(f"{where}: coil {coil} of {self.coils} is zero everywhere; expected a signal in each")
            if (held != self.lines).any():
                beside = f"slice {self.first} on {measured}, and {(held & self.lines).sum()} are the same"
                beside += "; expected one mask for all slices and coils"
                raise StudyError(f"{where}, coil {coil} is measured on {held.sum()} lines, {beside}")
        if outside := (self.lines & self.padding).sum():
            raise StudyError(f"{where}: {outside} lines hold values that its header says were not to be measured")
        if (stated := self.stored.mask) is not None:
            stated = np.fft.ifftshift(stated) if self._order.kspace_centred else stated
            kept = stated.any(axis=self._readout)
            if (stated != np.expand_dims(kept, self._readout)).any():
                raise StudyError(f"{self.where}: its 'mask' isn't of whole lines across axis {self.axis} {AXES_HINT}")
            if apart := ((kept & ~self.padding) != self.lines).sum():
                apart = f"its k-space holds {measured}; {apart} are in one of the two alone, expected none"
                raise StudyError(f"{self.where}: its 'mask' says {kept.sum()} lines, {apart}")
        inside = np.flatnonzero(np.fft.fftshift(readout))
        if (holes := np.ptp(inside) + 1 - len(inside)) > HOLES * total:
            hint = f"expected whole lines across axis {self.axis} {REMASKED} {AXES_HINT}"
            raise StudyError(f"{where}: {holes} of {total} points along the readout are zero on all lines; {hint}")
        along = np.expand_dims(self.lines, self._readout) & np.expand_dims(readout, self.axis)
        if (share := (along & ~points).sum() / along.sum()) > HOLES:
            zero = f"{share:.0%} of the points on measured lines are zero"
            raise StudyError(f"{where}: {zero}; expected whole lines {REMASKED}")
        missing = total - readout.sum()
        if missing > total / ECHO and not self.stored.partial_echo and (side := _one_sided(~readout, readout)):
            echo = f"{missing} of {total} samples: a partial echo that the file doesn't declare; expected all"
            raise StudyError(f"{where}: the {side} frequencies of the readout are missing, {echo}")

    def check_lines(self, wanted: np.ndarray, model: str, whole: bool) -> None:
        """`StudyError` when it isn't measured on the lines `wanted`, boolean (N,), that a model was made for; or not on all
        lines, where it is to be `whole`."""
        known, wanted = self.lines | self.padding, np.ones_like(wanted) if whole else wanted
        missing, measured = wanted & ~known, known & wanted | self.lines
        if side := _one_sided(missing, self.lines):
            beyond = f"{missing.sum()} lines beyond the outermost {side} frequency that is measured are missing"
            undeclared = "a partial Fourier acquisition that the file doesn't declare; expected all"
            raise StudyError(f"{self.where}: {beyond}, {undeclared}")
        if (measured != wanted).any():
            found = f"{measured.sum()} of {len(wanted)} lines along axis {self.axis} are measured"
            expected = f"{(measured & wanted).sum()} of them among the {wanted.sum()} that {model} was made for"
            expected = f"expected all, as --undersample takes them {REMASKED}" if whole else expected
            expected += " (--undersample takes these alone, for a trial)" if not whole and known.all() else ""
            expected += f" ({self.stored.passed_over})" if self.stored.passed_over else ""
            raise StudyError(f"{self.where}: {found}, {expected}")


def _one_sided(missing: np.ndarray, there: np.ndarray) -> str:
    """ "positive" or "negative" when all frequencies that are missing lie beyond all that are there, on that side; ""
    otherwise. Both boolean (N,), unshifted."""
    frequency = np.fft.fftfreq(len(missing), 1 / len(missing))
    lost, held = frequency[missing], frequency[there]
    if not len(lost) or not len(held):
        return ""
    return "positive" if lost.min() > held.max() else "negative" if lost.max() < held.min() else ""
