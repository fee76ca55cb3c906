"""Sources of images, by name, and how a declared data set becomes a prepared file.

A source is a module with `cohort(dataset)`, which yields (split, subject, how to make it), and `make(dataset, **how)`,
which returns the raw (slices, H, W) magnitude image and attributes ("kind" and "origin" at least). Everything
else — normalisation, checks, the file — is the same for all of them.
"""

from importlib import import_module
from pathlib import Path

from tqdm.auto import tqdm

from kdmri_lib.datasets.prepared import preparing_code
from kdmri_lib.datasets.writing import checked_volume, write_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.provenance import PREPARING_CODE, code_fingerprint

SOURCES = {
    "embedded_brain": "kdmri_lib.datasets.embedded_brain",
    "cardiac_phantom": "kdmri_lib.datasets.cardiac_phantom",
    "knee_phantom": "kdmri_lib.datasets.knee_phantom",
    "nifti_folder": "kdmri_lib.datasets.nifti_folder",
}


def source(name: str):
    """The module of a source; `StudyError` when there is none of that name."""
    if name not in SOURCES:
        raise StudyError(f"unknown source of images '{name}'; known: {', '.join(sorted(SOURCES))}")
    return import_module(SOURCES[name])


def prepare(dataset: Dataset, path: Path) -> bool:
    """Make every volume of `dataset` and write the prepared file at `path`; False if it is there already, up to date."""
    code = code_fingerprint(PREPARING_CODE)
    if path.exists() and preparing_code(path) == code:
        return False
    module = source(dataset.source)
    cohort = list(module.cohort(dataset))

    def volumes():
        for split, subject, how in tqdm(cohort, desc=f"preparing {dataset.name}", unit="volume", mininterval=2):
            image, attributes = module.make(dataset, **how)
            yield checked_volume(subject, split, image, attributes, dataset.shape)

    write_prepared(path, dataset.model_dump_json(), code, volumes())
    return True
