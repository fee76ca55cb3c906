"""The knee data of Hammernik et al. (2018): raw k-space of 15 coils, MATLAB files slice by slice.

As distributed: ``<contrast>/<subject>/rawdataN.mat`` with `rawdata` (640, 368, 15), centred k-space, and ``espiritN.mat``
with `sensitivities` of the same shape, one of each per slice. MATLAB v7.3 is HDF5, where complex
numbers are compounds and axes come reversed; older files are read by SciPy. `Dataset.contrast` names the folder
(coronal_pd, …). `slices_per_volume` takes that many in the middle; where one is missing among them, by its number, the
volume is refused. Option `combination`: "rss" (root sum of squares, the paper's single channel; the default) or
"sensitivity" (|sum of conj(S) x|, Roemer et al. 1990). A complex data set is that sum itself.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import Entry, files_in, folder_of
from kdmri_lib.datasets.framing import middle
from kdmri_lib.datasets.kspace import slice_images
from kdmri_lib.datasets.matlab import read_mat
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import centred, to_image, uncentred

ENDINGS = (".mat",)
OPTIONS = {"combination": Literal["rss", "sensitivity"]}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per subject's folder, with the files of its middle slices."""
    combination = dataset.options.get("combination", "rss" if dataset.channels == 1 else "sensitivity")
    if dataset.channels == 2 and combination == "rss":
        raise StudyError(
            f"data set '{dataset.name}': a root sum of squares has no phase; a complex one takes combination: sensitivity"
        )
    folder = folder_of(dataset)
    place = place if (place := folder / dataset.contrast).is_dir() else folder
    found: dict[str, list[Entry]] = {}
    for entry in files_in(place, ENDINGS, dataset.pattern or "*/rawdata*"):
        if re.fullmatch(r"rawdata\d+", entry.bare.name) and len(entry.place.parts) > 1:
            found.setdefault(entry.place.parts[-2], []).append(entry)
    if not found:
        folders = ", ".join(sorted(each.name for each in folder.iterdir() if each.is_dir())[:5]) or "none"
        looked = (
            f"no {dataset.pattern or '<subject>/rawdataN.mat'} in it, nor in a folder of contrast '{dataset.contrast}'"
        )
        raise StudyError(f"{folder}: 0 subjects found: {looked}; folders there (contrast may be one): {folders}")
    for subject, slices in found.items():
        chosen = [slices[n] for n in middle(len(slices), dataset.slices_per_volume)]
        how = {"files": [str(entry.file) for entry in chosen]}
        if combination == "sensitivity":
            how["sensitivity_files"] = [
                str(place / entry.place.with_name(entry.place.name.replace("rawdata", "espirit"))) for entry in chosen
            ]
        yield Member("", subject, f"{place.name}_{subject}", how)


def _without_gaps(files: Sequence[str]) -> None:
    """`StudyError` when a slice is missing, by the files' numbers."""
    numbered = [(int(re.search(r"(\d+)$", Path(file).stem)[1]), file) for file in files]
    for (before, _), (number, file) in pairwise(numbered):
        if number != before + 1:
            raise StudyError(f"{file}: follows rawdata{before}; expected rawdata{before + 1}: a slice is missing")


def count(dataset: Dataset, files: list[str], sensitivity_files: Sequence[str] = ()) -> int:
    """How many slices `make` will give, from the number of files."""
    _without_gaps(files)
    return len(files)


def make(dataset: Dataset, files: list[str], sensitivity_files: Sequence[str] = ()) -> tuple[np.ndarray, dict]:
    """One knee, (slices, H, W) float32 or complex64 in the k-space's units, its coils combined, and its attributes."""
    shapes: dict[Path, tuple[int, ...]] = {}
    _without_gaps(files)

    def read(number: int) -> np.ndarray:
        kspace = read_mat(path := Path(files[number]), "rawdata")
        first, shape = next(iter(shapes.items()), (path, kspace.shape))
        if kspace.ndim != 3 or kspace.shape != shape or 0 in shape:
            raise StudyError(f"{path}: k-space of shape {kspace.shape}, expected (H, W, coils) as in {first}: {shape}")
        shapes[path] = shape
        return np.ascontiguousarray(kspace.transpose(2, 0, 1))

    def by_sensitivities(number: int, kspace: np.ndarray) -> np.ndarray:
        maps = read_mat(path := Path(sensitivity_files[number]), "sensitivities")
        if maps.shape != (expected := (*kspace.shape[1:], len(kspace))):
            raise StudyError(f"{path}: sensitivities of shape {maps.shape}, expected {expected}")
        maps = torch.from_numpy(maps).permute(2, 0, 1).contiguous()
        image = (maps.conj() * centred(to_image(uncentred(torch.from_numpy(kspace))))).sum(dim=0)
        return (image.abs() if dataset.channels == 1 else image).numpy()

    combination, combine = ("sensitivity", by_sensitivities) if sensitivity_files else ("rss", None)
    images = slice_images(dataset, read, range(len(files)), "centred", files.__getitem__, combine=combine)
    origin = f"{Path(files[0]).parent.name}, {len(files)} slices"
    return images, {"origin": origin, "coils": next(iter(shapes.values()))[2], "combination": combination}
