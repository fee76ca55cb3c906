"""k-space of a file as the study has it: its order found, what its header says done, what contradicts it refused."""

import numpy as np
import torch

from kdmri_lib.deployment.readers import Kspace
from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import uncentred
from kdmri_lib.orders import ORDERS, Order, cropped, from_order, is_image_shifted, is_kspace_centred, looks_like_images

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
        self._kspace, self.axis = kspace, axis
        self.path, self.name = kspace.path, kspace.name
        self.where = f"{kspace.path}: '{kspace.name}'"
        self.slices, self.coils, *grid = kspace.shape
        self._grid, self.shape = tuple(grid), tuple(grid)
        self.attributes, self.remarks = dict(kspace.attributes), []
        self.padding = np.zeros(grid[axis], bool)
        self._order = self._find_order(order)
        if kspace.encoding is not None:
            self._as_the_header_says()
        # Of the middle slice, unless it is empty.
        self._first = self.slices // 2
        self.lines = self._lines(self._whole(self._first, 1))[0, 0]
        for number in (self.slices // 4, 3 * self.slices // 4):
            if not self.lines.any():
                self._first, self.lines = number, self._lines(self._whole(number, 1))[0, 0]

    def __len__(self) -> int:
        return self.slices

    def _find_order(self, order: str) -> Order:
        """The order that is asked for or, for "auto", that the data show; `StudyError` where they don't."""
        if order not in ("auto", *ORDERS):
            raise StudyError(f"order '{order}' is unknown; known: auto, {', '.join(ORDERS)}")
        places = sorted({self.slices // 4, self.slices // 2, 3 * self.slices // 4})
        values = torch.from_numpy(np.concatenate([self._kspace.read(n, 1) for n in places]))
        if not torch.isfinite(torch.view_as_real(values)).all():
            raise StudyError(f"{self.where} holds NaN or infinite values")
        if not values.any():
            raise StudyError(f"{self.where} is zero in slices {', '.join(map(str, places))}; expected k-space")
        if looks_like_images(values):
            raise StudyError(f"{self.where} holds images, whose energy is spread as no k-space's is; expected k-space")
        found = order
        if order == "auto":
            known = Order(is_kspace_centred(values), is_image_shifted(values))
            if None in known:
                what = "where zero frequency is" if known.kspace_centred is None else "where the image's middle is"
                raise StudyError(
                    f"{self.where}: the data don't show {what}; expected --order {', '.join(ORDERS)} to say it"
                )
            found = next(name for name, order in ORDERS.items() if order == known)
        zero = "in the middle" if ORDERS[found].kspace_centred else "at index 0"
        image = "about the corners, and is moved back" if ORDERS[found].image_shifted else "in the middle"
        self.remarks.append(
            f"{self.name}: order {found}{', found from the data' if order == 'auto' else ''} "
            f"(zero frequency {zero}; a plain transform has the object {image})"
        )
        return ORDERS[found]

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
            never = np.ones(encoding.lines, bool)
            never[first:last] = False
            self.padding = np.fft.ifftshift(never)
            self.remarks.append(
                f"{self.name}: lines {first} to {last - 1} of {encoding.lines} were to be measured, by its header; the "
                "others count as zero"
            )

    def _whole(self, first: int, count: int) -> torch.Tensor:
        """(count, coils, H, W) in the study's order, all that was sampled along the readout."""
        values = torch.from_numpy(self._kspace.read(first, count))
        if not torch.isfinite(torch.view_as_real(values)).all():
            raise StudyError(
                f"{self.path}: NaN or infinite values in slices {first} to {first + count - 1} of '{self.name}'"
            )
        return from_order(values, self._order)

    def _lines(self, values: torch.Tensor) -> np.ndarray:
        """Which lines hold anything: (count, coils, N)."""
        return (values != 0).any(dim=-1 if self.axis == 0 else -2).numpy()

    def read(self, first: int, count: int, check: bool = False) -> np.ndarray:
        """Slices from `first`, (count, coils, H, W) complex64.

        Raises
        ------
        StudyError
            For values that aren't finite and, with `check`, for slices and coils that aren't measured on the lines of the
            middle slice, or not as the file says.
        """
        values = self._whole(first, count)
        if check:
            self._check(values, first)
        readout = 1 - self.axis
        if self.shape != self._grid:
            values = cropped(values, readout - 2, self.shape[readout])
        return values.numpy()

    def _check(self, values: torch.Tensor, first: int) -> None:
        for number, (lines, points) in enumerate(zip(self._lines(values), values != 0, strict=True), first):
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
            self._check_points(points.any(dim=0).numpy(), number)
        if (outside := self.lines & self.padding).any():
            raise StudyError(
                f"{self.where}: {int(outside.sum())} lines hold values that its header says were not to be measured"
            )

    def _check_points(self, points: np.ndarray, number: int) -> None:
        """`points`, boolean (H, W): what some coil of a slice holds."""
        if self._kspace.mask is not None:
            stated = torch.from_numpy(self._kspace.mask.copy())
            stated = (uncentred(stated) if self._order.kspace_centred else stated).numpy()
            lines = stated.any(axis=1 - self.axis)
            if (stated != np.expand_dims(lines, 1 - self.axis)).any():
                raise StudyError(
                    f"{self.path}: its 'mask' isn't of whole lines across axis {self.axis} of (H, W), as the model's is "
                    "(--axes says which axis is what)"
                )
            if (differing := (lines & ~self.padding) != self.lines).any():
                raise StudyError(
                    f"{self.path}: its 'mask' says {int(lines.sum())} lines, its k-space holds {int(self.lines.sum())}; "
                    f"{int(differing.sum())} are in one of the two alone, expected none"
                )
        readout = points.any(axis=self.axis)
        if (holes := _between(readout)) > HOLES * len(readout):
            raise StudyError(
                f"{self.where}: {holes} of {len(readout)} points along the readout are zero on all lines of slice "
                f"{number}, between others that aren't; expected whole lines across axis {self.axis} of (H, W), as the "
                "model's are (is it multiplied by another mask? --axes says which axis is what)"
            )
        along = self.lines[:, None] & readout if self.axis == 0 else readout[:, None] & self.lines
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


def _between(there: np.ndarray) -> int:
    """How many frequencies are missing between the outermost that are there, boolean (N,), unshifted."""
    held = np.flatnonzero(np.fft.fftshift(there))
    return int(held[-1] - held[0] + 1 - len(held)) if len(held) else 0


def one_sided(missing: np.ndarray, there: np.ndarray) -> str:
    """ "positive" or "negative" when all frequencies that are missing lie beyond all that are there, on that side; ""
    otherwise. Both boolean (N,), unshifted."""
    frequency = np.fft.fftfreq(len(missing), 1 / len(missing))
    lost, held = frequency[missing], frequency[there]
    if not len(lost) or not len(held):
        return ""
    if lost.min() > held.max():
        return "positive"
    return "negative" if lost.max() < held.min() else ""
