"""fastMRI (Zbontar et al. 2018): knee and brain, single and multi coil, one HDF5 file per scan.

As distributed: `kspace` (slices, H, W) or (slices, coils, H, W), centred, or in another order that it shows;
`reconstruction_esc` or `reconstruction_rss`; an ISMRMRD header in XML; attributes `acquisition` and `patient_id`. Files
that are undersampled, by a `mask` in them or by holes in their k-space, are refused. Folders called ``…_val``, or
``…_val_batch_0`` as archives unpack, hold subjects that only test; those called ``…_test`` are left alone. Options: `image`
is "kspace" (the default: root sum of squares of the whole field of view) or "reconstruction"; `acquisition` takes one
protocol alone. In a complex data set the k-space's complex image, several coils combined by ESPIRiT (`kdmri_lib.coils`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import defusedxml.ElementTree as ElementTree
import h5py
import numpy as np

from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import files_of
from kdmri_lib.datasets.framing import middle, padded
from kdmri_lib.datasets.kspace import slice_images
from kdmri_lib.datasets.reading import as_complex, hdf5_array, open_hdf5, text_attribute
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = (".h5",)
OPTIONS = {"image": Literal["kspace", "reconstruction"], "acquisition": str}
PART = re.compile(r"_(val|test)(_full)?(_batch_\d+)?$")  # of a folder's name


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, by the patient; those of a folder for validation only test."""
    if dataset.channels == 2 and dataset.options.get("image") == "reconstruction":
        raise StudyError(
            f"data set '{dataset.name}': reconstructions are magnitudes; a complex one takes image: kspace"
        )
    for entry in files_of(dataset, ENDINGS):
        file, name = entry.file, entry.bare.name
        parts = {found[1] for place in entry.place.parts[:-1] if (found := PART.search(place))}
        if "test" in parts:
            continue
        subject, how = name, {"file": str(file)}
        try:
            with open_hdf5(file, "fastMRI file") as data:
                if dataset.options.get("acquisition") not in (None, text_attribute(data.attrs, "acquisition")):
                    continue
                subject = text_attribute(data.attrs, "patient_id") or _patient(data) or name
        except StudyError as error:
            # Whose it is isn't known, so it is left out for good, even if it can be read when its turn comes.
            how["problem"] = str(error)
        yield Member("test" if "val" in parts else "", subject, name, how)


def _patient(file: h5py.File) -> str:
    """Whose scan it is by its ISMRMRD header; empty where that doesn't say, or can't be read, which `spacing` refuses."""
    with suppress(ElementTree.ParseError, KeyError, TypeError):
        header = ElementTree.fromstring(file["ismrmrd_header"][()])
        return (header.findtext(".//{*}subjectInformation/{*}patientID") or "").strip()
    return ""


def spacing(file: h5py.File, path: Path) -> tuple[float, ...]:
    """(slice, row, column) spacing in mm by the ISMRMRD header's reconstructed space; empty where it doesn't say."""
    if "ismrmrd_header" not in file:
        return ()
    header = file["ismrmrd_header"][()]
    try:
        space = ElementTree.fromstring(header).find(".//{*}encoding/{*}reconSpace")
        extent = [float(space.find(f"{{*}}fieldOfView_mm/{{*}}{axis}").text) for axis in "zxy"]
        points = [float(space.find(f"{{*}}matrixSize/{{*}}{axis}").text) for axis in "zxy"]
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: its ISMRMRD header can't be read ({error})") from None
    return tuple(size / count for size, count in zip(extent, points, strict=True))


@contextmanager
def _opened(dataset: Dataset, file: str, problem: str):
    """Yield a file; what slices are made from, unread: k-space (slices, [coils,] H, W), or reconstructions (slices, H, W);
    which of them count; and their spacing. `StudyError` when `cohort` had a `problem` with it."""
    if problem:
        raise StudyError(problem)
    path, name, axes, expected = Path(file), "kspace", (3, 4), "(slices, [coils,] H, W)"
    with open_hdf5(path, "fastMRI file") as data:
        if "mask" in data:
            raise StudyError(f"{path}: undersampled (it holds a mask); expected fully sampled k-space")
        if dataset.options.get("image") == "reconstruction":
            name = "reconstruction_rss" if "reconstruction_rss" in data else "reconstruction_esc"
            axes, expected = (3,), "(slices, H, W)"
        found = hdf5_array(data, path, name)
        if found.ndim not in axes or 0 in found.shape:
            raise StudyError(f"{path}: {name} of shape {found.shape}, expected {expected}")
        yield data, found, middle(len(found), dataset.slices_per_volume), spacing(data, path)


def count(dataset: Dataset, file: str, problem: str = "") -> int:
    """How many slices `make` will give, from the array's shape."""
    with _opened(dataset, file, problem) as (_, _, chosen, _):
        return len(chosen)


def make(dataset: Dataset, file: str, problem: str = "") -> tuple[np.ndarray, dict]:
    """One scan, (slices, H, W) float32 or complex64 in the file's units, and its attributes, `acquisition` and `coils`
    among them."""
    path, wanted, below_zero = Path(file), dataset.options.get("image", "kspace"), {}
    with _opened(dataset, file, problem) as (data, source, chosen, voxel):
        if wanted == "reconstruction":
            images, below_zero = magnitudes(source[chosen.start : chosen.stop], path)
            images = padded(images, dataset.shape)
        else:

            def read(number: int) -> np.ndarray:
                return as_complex(source[number], path).reshape(-1, *source.shape[-2:])

            def centre(rows: slice, columns: slice) -> np.ndarray:
                return as_complex(source[..., rows, columns], path)

            images = slice_images(dataset, read, chosen, "centred", lambda _: file, centre)
        attributes = {
            "origin": f"{path.name}, {wanted}",
            "spacing": voxel,
            "acquisition": text_attribute(data.attrs, "acquisition"),
            "coils": data["kspace"].shape[1] if "kspace" in data and data["kspace"].ndim == 4 else 1,
        }
    return images, attributes | below_zero
