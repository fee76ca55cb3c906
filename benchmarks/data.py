"""How fast data are prepared and loaded, on files made by code: `python -m kdmri_lib benchmark data`."""

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd

from benchmarks.memory import peak_memory
from kdmri_lib.batches import Batches
from kdmri_lib.datasets.prepared import Slices, Volume
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.declarations import Dataset
from kdmri_study.provenance import preparing_code, processor_name

PEOPLE = 24


def _declared(source: str, folder: Path, shape: tuple[int, int]) -> Dataset:
    return Dataset(name="made", source=source, folder=str(folder), shape=shape, train=PEOPLE - 2, validation=1, test=1)


def _write_nifti(folder: Path) -> None:
    """Gzip NIfTI volumes of 256 x 256 x 128 16-bit values."""
    rng = np.random.default_rng(0)
    for number in range(PEOPLE):
        smooth = np.add.outer(np.arange(256) % 97, np.arange(256))[..., None] + np.arange(128)
        image = (smooth * 8 + rng.integers(0, 64, smooth.shape)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"person{number}.nii.gz")


def _write_kspace(folder: Path, slices: int = 72, coils: int = 15) -> None:
    """A fastMRI file of 2 GB (640 x 368, 15 coils), and files of one slice beside it."""
    rng = np.random.default_rng(0)
    for number in range(PEOPLE):
        with h5py.File(folder / f"file{number}.h5", "w") as file:
            count = slices if number == 0 else 1
            kspace = file.create_dataset("kspace", (count, coils, 640, 368), np.complex64)
            for n in range(count):
                parts = rng.standard_normal((2, coils, 640, 368), np.float32)
                kspace[n] = parts[0] + 1j * parts[1]
            file.attrs["patient_id"] = f"person{number}"


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.iterdir()) / 1e6


def _library_nifti(folder: Path) -> None:
    for file in folder.iterdir():
        np.asarray(nibabel.load(file).dataobj, dtype=np.float32)


def _library_hdf5(folder: Path) -> None:
    for file in folder.iterdir():
        with h5py.File(file) as data:
            for n in range(len(data["kspace"])):
                data["kspace"][n]


def _prepare(source: str, folder: Path, path: Path, shape: tuple[int, int], jobs: int) -> float:
    """Prepare in a process of its own; returns its peak memory in MB."""
    dataset = _declared(source, folder, shape)
    prepare(dataset, path, preparing_code(dataset), jobs)
    return peak_memory()


def _timed(function, *arguments) -> tuple[float, object]:
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def _preparing(work: Path) -> pd.DataFrame:
    kinds = [
        ("NIfTI, gzip", "nifti_folder", _write_nifti, _library_nifti, (256, 256), 128 * PEOPLE),
        ("k-space, 15 coils", "fastmri", _write_kspace, _library_hdf5, (640, 368), 72 + PEOPLE - 1),
    ]
    rows = []
    for label, source, write, read, shape, slices in kinds:
        folder = work / source
        folder.mkdir()
        write(folder)
        megabytes = _megabytes(folder)
        seconds, _ = _timed(read, folder)
        rows.append({"files": label, "MB": megabytes, "what": "read by the library alone", "s": seconds})
        for jobs in (1, 2):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(os.getpid).result()  # started before the clock is
                path = work / f"{source}{jobs}.h5"
                seconds, peak = _timed(lambda: pool.submit(_prepare, source, folder, path, shape, jobs).result())  # noqa: B023
            row = {"files": label, "MB": megabytes, "what": f"prepared, {jobs} at a time", "s": seconds}
            rows.append(row | ({"peak MB": peak} if jobs == 1 else {}))
        for row in rows[-3:]:
            row |= {"slices/s": slices / row["s"], "MB/s": megabytes / row["s"]}
    return pd.DataFrame(rows)


def _forget(path: Path) -> None:
    """Ask the system to drop its copy of the file, as if it were larger than memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _loading(work: Path, slices: int = 1000, shape: tuple[int, int] = (640, 368), batch: int = 4) -> pd.DataFrame:
    """Batches per second of a prepared file, whole slices: held in memory, and read from the file chunk by chunk."""
    path = work / "loading.h5"
    rng = np.random.default_rng(0)
    volumes = (Volume(f"v{n}", "train", rng.random((20, *shape), np.float32), {}) for n in range(slices // 20))
    write_prepared(path, "{}", "", volumes)
    rows = []
    for label, held, cold in (
        ("held in memory", 2**40, False),
        ("read from the file", 0, False),
        ("read from the file, forgotten by the system", 0, True),
    ):
        batches = Batches(Slices(path, "train", held_bytes=held), batch, seed=0)
        if cold:
            _forget(path)
        seconds, _ = _timed(lambda batches=batches: [batches(step) for step in range(slices // batch)])
        rows.append({"slices": label, "ms per batch": 1000 * seconds / (slices // batch), "slices/s": slices / seconds})
    return pd.DataFrame(rows)


def measured() -> str:
    """Both tables as text."""
    with tempfile.TemporaryDirectory() as folder:
        preparing, loading = _preparing(Path(folder)), _loading(Path(folder))
    return "\n\n".join(
        [
            f"{processor_name()}\npreparing\n{preparing.round(1).to_string(index=False, na_rep='')}",
            f"loading in training, 640x368, batch 4\n{loading.round(1).to_string(index=False)}",
        ]
    )
