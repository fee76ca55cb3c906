"""What the command `reconstruct` reads, slice by slice: k-space, or images for a trial; and NIfTI that it writes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.fft

from kdmri_lib.datasets.folders import NIFTI, ends_in, the_nifti
from kdmri_lib.datasets.nifti import read_magnitudes
from kdmri_lib.datasets.reading import as_complex, reading
from kdmri_lib.deployment.readers import OTHERS, hdf5, is_ismrmrd, open_kspace
from kdmri_lib.deployment.scan import Scan
from kdmri_lib.errors import StudyError


class Images:
    """Slices of one volume of images, each of `shape` (H, W): magnitudes, or complex where `domain` says so."""

    kind, coils = "image", 1

    def __init__(self, array, name: str, path: Path, attributes: dict, domain: str = "magnitude"):
        self.array, self.name, self.path, self.attributes, self.domain = array, name, path, attributes, domain
        self.where, self.remarks = f"{path}: '{name}'", []
        if len(shape := getattr(array, "shape", ())) != 3 or 0 in shape:
            raise StudyError(f"{self.where} of shape {shape or 'none: it is a group'}, expected (slices, H, W)")
        self.shape = tuple(shape[1:])

    def __len__(self) -> int:
        return len(self.array)

    def read(self, first: int, count: int) -> np.ndarray:
        """(count, H, W) slices from `first`, float32 or complex64, checked."""
        with reading(self.path, f"array '{self.name}'"):
            values = np.asarray(self.array[first : first + count])
        if values.dtype.kind in "iuf":
            values = values.astype(np.float32)
        elif self.domain == "complex":
            values = as_complex(values, self.path)
        else:
            raise StudyError(f"{self.where} of type {values.dtype}, expected real numbers (magnitudes)")
        if not np.isfinite(values).all():
            raise StudyError(
                f"{self.path}: NaN or infinite values in slices {first} to {first + count - 1} of '{self.name}'"
            )
        if self.domain == "magnitude" and values.min() < 0:
            raise StudyError(f"{self.path}: negative values in '{self.name}'; expected magnitude images")
        return values

    def kspace(self, first: int, count: int, check: bool = False) -> np.ndarray:
        """The same as fully sampled, unshifted k-space (count, 1, H, W); `check` is for scans."""
        return scipy.fft.fft2(self.read(first, count)[:, None], norm="ortho")


@contextmanager
def open_input(
    path: Path, order: str = "auto", axes: str = "", axis: int = 0, domain: str = "magnitude"
) -> Iterator[list[Scan | Images]]:
    """The volumes of a file: k-space (`open_kspace`), or images: HDF5 with `image` (slices, H, W), or a prepared file's
    volumes; NIfTI, in axial slices.

    Parameters
    ----------
    order : one of `orders.ORDERS`, or "auto", by the data; `axes` as `open_kspace` takes them.
    axis : of (H, W), across which the lines of the model's mask lie.
    domain : what images are, "magnitude" or "complex".
    """
    with ExitStack() as stack:
        if ends_in(path.name, NIFTI):
            slices, spacing, attributes = read_magnitudes(path)
            volumes = [Images(slices, path.name, path, {"spacing": spacing} | attributes)]
        elif ends_in(path.name, OTHERS) or (volumes := _images(hdf5(stack, path), path, domain)) is None:
            volumes = [Scan(stack.enter_context(open_kspace(path, axes, axis)), order, axis)]
        yield volumes


def _images(file: h5py.File, path: Path, domain: str) -> list[Images] | None:
    """The volumes of an HDF5 file, None where it has k-space."""
    with reading(path, "HDF5 file"):
        if isinstance(file.get("kspace"), h5py.Dataset) or is_ismrmrd(file):
            return None
        if isinstance(volumes := file.get("volumes"), h5py.Group):
            found = [(f"volumes/{name}", array, array.attrs) for name, array in sorted(volumes.items())]
        else:
            found = [("image", file["image"], file.attrs)] if isinstance(file.get("image"), h5py.Dataset) else []
        if not found:
            has = ", ".join(file) or "nothing"
            raise StudyError(f"{path}: no array 'kspace' or 'image' and no volumes; it has {has}")
        return [Images(array, name, path, dict(attributes), domain) for name, array, attributes in found]


def write_nifti(temporary: Path, source: Path, slices: np.ndarray) -> None:
    """Axial slices (slices, H, W) as a NIfTI volume that lies where `source` does."""
    original = nibabel.as_closest_canonical(nibabel.load(the_nifti(source)))
    volume = slices[:, ::-1, ::-1].transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(volume), original.affine), temporary)
