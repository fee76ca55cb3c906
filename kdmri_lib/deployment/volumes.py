"""Volumes in files, slice by slice: what the command `reconstruct` reads and writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel
import numpy as np

from kdmri_lib.datasets.folders import NIFTI, ends_in, the_nifti
from kdmri_lib.datasets.nifti import read_magnitudes
from kdmri_lib.datasets.reading import as_complex, open_hdf5, reading
from kdmri_lib.errors import StudyError


class InputVolume:
    """Slices of one volume: k-space (complex, unshifted) or images (real), each (H, W).

    `kind` is "kspace" or "image"; `name` the array's path in an HDF5 file.
    """

    def __init__(self, array, kind: str, name: str, path: Path, attributes: dict, centred: bool = False):
        self.array, self.kind, self.name, self.path, self.attributes = array, kind, name, path, attributes
        self.centred = centred

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of a slice."""
        return tuple(self.array.shape[1:])

    def read(self, first: int, count: int) -> np.ndarray:
        """(count, H, W) slices from `first`; `StudyError` for values that aren't finite, or negative magnitudes."""
        with reading(self.path, f"array '{self.name}'"):
            values = np.asarray(self.array[first : first + count])
        if self.kind == "kspace":
            values = as_complex(values, self.path)
            values = np.fft.ifftshift(values, axes=(-2, -1)) if self.centred else values
        elif values.dtype.kind not in "iuf":
            raise StudyError(f"{self.path}: '{self.name}' of type {values.dtype}, expected real numbers (magnitudes)")
        else:
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise StudyError(
                f"{self.path}: NaN or infinite values in slices {first} to {first + count - 1} of '{self.name}'"
            )
        if self.kind == "image" and values.min() < 0:
            raise StudyError(f"{self.path}: negative values in '{self.name}'; expected magnitude images")
        return values


def is_centred(array, path: Path = Path("k-space")) -> bool:
    """Whether zero frequency is in the middle: by what the middle slice's largest value is nearer to, middle or corner."""
    values = np.abs(as_complex(np.asarray(array[len(array) // 2]), path))
    place = np.array(np.unravel_index(values.argmax(), values.shape))
    size = np.array(values.shape)
    to_corner = np.minimum(place, size - place)
    return bool((np.abs(place - size // 2) < to_corner).sum() == 2 or np.abs(place - size // 2).sum() < to_corner.sum())


@contextmanager
def open_input(path: Path, order: str = "auto") -> Iterator[list[InputVolume]]:
    """The volumes of a file.

    HDF5: `kspace` (slices, H, W), `image` (slices, H, W), or a prepared file's volumes. NIfTI: axial slices of the volume.

    Parameters
    ----------
    order : where zero frequency of k-space is; "auto" looks where the largest value is.
    """
    if ends_in(path.name, NIFTI):
        slices, spacing, attributes = read_magnitudes(path)
        yield [InputVolume(slices, "image", path.name, path, {"spacing": spacing} | attributes)]
        return
    with open_hdf5(path, "HDF5 file") as file:
        found = []
        if isinstance(file.get("kspace"), h5py.Dataset):
            array = file["kspace"]
            _check_form(array, "kspace", path)
            centred = is_centred(array, path) if order == "auto" else order == "centred"
            found.append(InputVolume(array, "kspace", "kspace", path, dict(file.attrs), centred))
        elif isinstance(file.get("volumes"), h5py.Group):
            for name, array in sorted(file["volumes"].items()):
                _check_form(array, f"volumes/{name}", path)
                found.append(InputVolume(array, "image", f"volumes/{name}", path, dict(array.attrs)))
        elif isinstance(file.get("image"), h5py.Dataset):
            _check_form(file["image"], "image", path)
            found.append(InputVolume(file["image"], "image", "image", path, dict(file.attrs)))
        if not found:
            raise StudyError(
                f"{path}: no array 'kspace' or 'image' and no volumes; it has {', '.join(file) or 'nothing'}"
            )
        yield found


def _check_form(array, name: str, path: Path) -> None:
    shape = getattr(array, "shape", "none: it is a group")
    if len(shape) != 3 or 0 in shape:
        coils = " (a coil axis? the networks take one channel: combine coils first)" if len(shape) == 4 else ""
        raise StudyError(f"{path}: '{name}' of shape {shape}, expected (slices, H, W){coils}")


def write_nifti(temporary: Path, source: Path, slices: np.ndarray) -> None:
    """Axial slices (slices, H, W) as a NIfTI volume that lies where `source` does."""
    original = nibabel.as_closest_canonical(nibabel.load(the_nifti(source)))
    volume = slices[:, ::-1, ::-1].transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(volume), original.affine), temporary)
