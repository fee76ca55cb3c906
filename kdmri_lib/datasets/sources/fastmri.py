"""fastMRI (Zbontar et al. 2018): knee and brain, single and multi coil, one HDF5 file per scan.

As distributed: `kspace` (slices, H, W) or (slices, coils, H, W), centred; `reconstruction_esc` or `reconstruction_rss`; an
ISMRMRD header in XML; attributes `acquisition` and `patient_id`. Test files are undersampled, hold a `mask`: refused.
Folders whose name ends in _val hold subjects that only test; those in _test are left alone. Options: `image`, "kspace" (the
default: root sum of squares of the whole field of view) or "reconstruction"; `acquisition`, to take one protocol alone.
"""

from collections.abc import Iterator
from pathlib import Path

import defusedxml.ElementTree as ElementTree
import h5py
import numpy as np
import torch

from kdmri_lib.datasets.cohort import Member, folder_of, in_order, split_subjects
from kdmri_lib.datasets.framing import middle, padded
from kdmri_lib.datasets.reading import as_complex, hdf5_array, open_hdf5
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import magnitude_image

OPTIONS = {"image", "acquisition"}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, by the patient; those of a folder that ends in _val only test."""
    folder = folder_of(dataset)
    subjects: dict[str, list[tuple[str, dict]]] = {}
    testers = set()
    for file in in_order(folder.rglob("*.h5")):
        places = file.relative_to(folder).parts[:-1]
        if any(place.endswith("_test") for place in places):
            continue
        subject, how = file.stem, {"file": str(file)}
        try:
            with open_hdf5(file, "fastMRI file") as data:
                if dataset.options.get("acquisition") not in (None, data.attrs.get("acquisition")):
                    continue
                subject = str(data.attrs.get("patient_id", file.stem))
        except StudyError as error:
            # Whose it is isn't known, so it is left out for good, even if it can be read when its turn comes.
            how["problem"] = str(error)
        subjects.setdefault(subject, []).append((file.stem, how))
        if any(place.endswith("_val") for place in places):
            testers.add(subject)
    return split_subjects(dataset, subjects, reserved=testers)


def spacing(file: h5py.File, path: Path) -> tuple[float, ...]:
    """(slice, row, column) spacing in mm by the ISMRMRD header's reconstructed space; empty where it doesn't say."""
    if "ismrmrd_header" not in file:
        return ()
    header = file["ismrmrd_header"][()]
    try:
        root = ElementTree.fromstring(header)
        found = {}
        for part in ("matrixSize", "fieldOfView_mm"):
            node = root.find(f".//{{*}}encoding/{{*}}reconSpace/{{*}}{part}")
            found[part] = [float(node.find(f"{{*}}{axis}").text) for axis in "zxy"]
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: its ISMRMRD header can't be read ({error})") from None
    return tuple(f / m for f, m in zip(found["fieldOfView_mm"], found["matrixSize"], strict=True))


def _reconstruction(file: h5py.File, path: Path) -> h5py.Dataset:
    return hdf5_array(file, path, "reconstruction_rss" if "reconstruction_rss" in file else "reconstruction_esc")


def count(dataset: Dataset, file: str, problem: str = "") -> int:
    """How many slices `make` will give, from the array's shape."""
    if problem:
        raise StudyError(problem)
    with open_hdf5(Path(file), "fastMRI file") as data:
        return len(middle(len(hdf5_array(data, Path(file), "kspace")), dataset.slices_per_volume))


def make(dataset: Dataset, file: str, problem: str = "") -> tuple[np.ndarray, dict]:
    """One scan, (slices, H, W) float32 in the file's units, and its attributes, `acquisition` and `coils` among them."""
    if problem:
        raise StudyError(problem)
    path, wanted = Path(file), str(dataset.options.get("image", "kspace"))
    if wanted not in ("kspace", "reconstruction"):
        raise StudyError(f"data set '{dataset.name}': image '{wanted}'; known: kspace, reconstruction")
    with open_hdf5(path, "fastMRI file") as data:
        if "mask" in data:
            raise StudyError(f"{path}: undersampled (it holds a mask); expected fully sampled k-space")
        kspace = hdf5_array(data, path, "kspace")
        if kspace.ndim not in (3, 4):
            raise StudyError(f"{path}: k-space of shape {kspace.shape}, expected (slices, [coils,] H, W)")
        source = kspace if wanted == "kspace" else _reconstruction(data, path)
        chosen = middle(len(source), dataset.slices_per_volume)
        images = np.empty((len(chosen), *dataset.shape), np.float32)
        for place, number in enumerate(chosen):  # a slice at a time: all coils can be gigabytes
            image = source[number]
            if wanted == "kspace":
                coils = torch.from_numpy(as_complex(image, path)).reshape(-1, *kspace.shape[-2:])
                image = magnitude_image(coils).numpy()
            images[place] = padded(image, dataset.shape)
        attributes = {
            "kind": "real MR",
            "origin": f"{path.name}, {wanted}",
            "files": [file],
            "spacing": spacing(data, path),
            "acquisition": str(data.attrs.get("acquisition", "")),
            "coils": kspace.shape[1] if kspace.ndim == 4 else 1,
        }
    return images, attributes
