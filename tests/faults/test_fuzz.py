"""Readers meet mutated files: a clear error or a correct shape, never a crash, a hang or another kind of exception.

300 files by default, 10,000 with `./run_tests.sh --long`. They are read in a process of its own, so that a crash inside a C
library is seen as one. And they meet folders, of right, foreign, damaged and linked files: `check` and `prepare` agree,
nothing right is lost, nothing foreign gets in. 18 trees by default, 900 with `--long`.
"""

import multiprocessing
import random
import resource
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from kdmri_lib.datasets.nifti import read_nifti
from kdmri_lib.datasets.prepared import Volume, read_prepared, write_prepared
from kdmri_lib.datasets.preparing import members
from kdmri_lib.datasets.sources import dicom_folder, fastmri, kdmri_h5, knee_matlab
from kdmri_lib.declarations import Undersampling
from kdmri_lib.declared import declared_mask
from kdmri_lib.deployment.export import stamped, to_onnx
from kdmri_lib.deployment.model import FORMAT, read_model
from kdmri_lib.deployment.readers import open_volumes
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.storage import PROJECT, read_checked, read_json, write_checked, write_json
from kdmri_study.profile import load_profile
from kdmri_study.runs import load_weights
from tests import downloads, trees
from tests.unit.deployment import scans

SECONDS = 20  # for one file; far more than any takes
IMAGE, SHAPE = downloads.image(1), downloads.SHAPE


def save_hdf5(path: Path, content: dict[str, np.ndarray | bytes], **attributes) -> None:
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
        file.attrs.update(attributes)


def save_model(path: Path) -> None:
    mask = cartesian_mask((8, 8), 2, centre=2)
    network = build_model("dccnn", mask, cascades=1, convolutions=2, features=2)
    path.write_bytes(stamped(to_onnx(network, 0, (8, 8)), {"format": FORMAT, "mask": {"axis": 0, "shape": [8, 8]}}))


def read_mask(path: Path) -> tuple[int, int]:
    mask = Undersampling(acceleration=4, mask=str(path))
    return declared_mask(downloads.declared("nifti_folder", Path("/")), mask).shape


def read_scan(path: Path) -> int:
    with open_volumes(path) as (kspace,):
        return kspace.read(0, kspace.shape[0]).ndim


def read_knee(path: Path) -> int:
    return knee_matlab.read_mat(path, "rawdata").ndim


def made_by(source: ModuleType, **file) -> tuple[int, int]:
    """The shape of the slices that a source makes of a file."""
    return source.make(downloads.declared(source.__name__.rpartition(".")[2], Path("/")), **file)[0].shape[1:]


# What makes a valid file; what reads it; and what is right about a file that is read all the same.
VOLUME = [Volume("a", "train", IMAGE, {"kind": "x"})]
FASTMRI = {"kspace": downloads.centred_kspace(IMAGE), "ismrmrd_header": downloads.HEADER}
HEADER = scans.header(scans.CENTRED.shape[2:])
VOLFS = {"volfs": IMAGE.transpose(1, 2, 0)}
PIXELS = np.arange(320).reshape(20, 16)
PROFILE = (PROJECT / "profiles" / "smoke.yaml").read_bytes()
WEIGHTS = {"a": torch.rand(4, 5)}
READERS = {
    "prepared.h5": (
        lambda p: write_prepared(p, "{}", 1, VOLUME),
        lambda p: next(iter(read_prepared(p))).image.shape,
        (3, *SHAPE),
    ),
    "rawdata1.mat": (lambda p: downloads.save_matlab73(p, "rawdata", IMAGE * 1j), read_knee, 3),
    "older.mat": (lambda p: savemat(p, {"rawdata": IMAGE * 1j}), read_knee, 3),
    "kspace.npy": (lambda p: np.save(p, scans.CENTRED), read_scan, 4),
    "kspace.mat": (lambda p: downloads.save_matlab73(p, "kspace", scans.as_in_matlab(scans.CENTRED)), read_scan, 4),
    "kspace.cfl": (lambda p: scans.save_bart(p, scans.CENTRED), read_scan, 4),
    "readouts.h5": (lambda p: scans.save_ismrmrd(p, scans.CENTRED, HEADER), read_scan, 4),
    "scan.nii.gz": (lambda p: downloads.save_nifti(p, IMAGE), lambda p: read_nifti(p)[0].ndim, 3),
    "image.nii": (lambda p: downloads.save_nifti(p, IMAGE), lambda p: read_nifti(p)[0].min() >= 0, True),
    "slice.dcm": (
        lambda p: downloads.save_dicom(p, PIXELS, 1.0, "1.2.3"),
        lambda p: made_by(dicom_folder, files=[str(p)]),
        SHAPE,
    ),
    "fastmri.h5": (lambda p: save_hdf5(p, FASTMRI, patient_id="a"), lambda p: made_by(fastmri, file=str(p)), SHAPE),
    "published.h5": (lambda p: save_hdf5(p, VOLFS), lambda p: len(made_by(kdmri_h5, file=str(p))), 2),
    "mask.npy": (lambda p: np.save(p, np.eye(*SHAPE)), read_mask, SHAPE),
    "profile.yaml": (lambda p: p.write_bytes(PROFILE), lambda p: len(load_profile(str(p))), 2),
    "network.onnx": (save_model, lambda p: read_model(p)[1]["format"], FORMAT),
    "weights.safetensors": (lambda p: save_file(WEIGHTS, p), lambda p: type(load_weights(p)), dict),
    "checkpoint.pt": (lambda p: write_checked(p, b"x" * 500), lambda p: len(read_checked(p)), 500),
    "run.json": (lambda p: write_json(p, {"a": [1, 2]}), lambda p: read_json(p) is not None, True),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Cut short, bits flipped, a run of bytes overwritten, taken out, doubled or exchanged for the largest numbers."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        # Headers decide most, so half of the changes go there.
        place = rng.randrange(min(len(data), 600) if rng.random() < 0.5 else len(data)) if data else 0
        run = bytes(data[place : place + rng.choice((1, 2, 4, 8, 64))])
        if rng.random() < 0.125:
            del data[place:]
            continue
        flip = bytes([run[0] ^ 1 << rng.randrange(8)]) + run[1:] if run else b""
        others = (bytes(len(run)), b"\xff" * len(run), rng.randbytes(len(run)), b"", run + run)
        data[place : place + len(run)] = rng.choice((flip, flip, *others))
    return bytes(data)


def limited() -> None:
    """A damaged header may ask for more memory than there is."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))


def tried(name: str, path: Path) -> str:
    """What is wrong with how a file is read; empty where it is right, or refused by name."""
    _, read, right = READERS[name]
    try:
        found = read(path)
        return "" if found == right else f"read as {found}, expected {right}"
    except StudyError as error:
        return "" if path.name in str(error) else f"the message doesn't name the file: {error}"
    except BaseException:
        return traceback.format_exc(limit=-3)


@pytest.fixture(scope="module")
def reader():
    """A process that reads files; where one crashes or hangs it, that file is left in the test's folder."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), limited) as pool:
        pool.submit(limited).result()  # its imports take longer than any file
        yield pool
        for process in multiprocessing.active_children():
            process.kill()


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_clear_error_or_a_correct_read(name, reader, tmp_path, request):
    many = 10_000 if request.config.getoption("--long") else 300
    make, path = READERS[name][0], tmp_path / name
    make(path)
    content, wrong = path.read_bytes(), {}
    assert reader.submit(tried, name, path).result(SECONDS) == "", "the file as it was written"
    for seed in range(-(-many // len(READERS))):
        path.write_bytes(mutated(content, random.Random(f"{name} {seed}")))
        if said := reader.submit(tried, name, path).result(SECONDS):
            wrong[seed] = said
    assert not wrong, "\n".join(f"seed {seed}: {said}" for seed, said in list(wrong.items())[:4])


@pytest.mark.parametrize("name", sorted(downloads.SOURCES))
def test_nothing_right_is_lost_and_nothing_foreign_gets_in(name, tmp_path, request):
    source, fill, more = downloads.SOURCES[name]
    for seed in range(100 if request.config.getoption("--long") else 2):
        chance, place = random.Random(f"{name} {seed}"), tmp_path / str(seed)
        (place / "download").mkdir(parents=True)
        expected, dataset = fill(place / "download"), downloads.declared(source, place / "download", **more)
        of_subject = {member.volume: member.subject for member in members(dataset)}
        spoilt = set()
        for member in chance.sample(members(dataset), chance.randint(0, 2)):
            file = Path(chance.choice(member.how.get("files") or [member.how["file"]]))
            chance.choice(trees.DAMAGE)(file)
            spoilt.add(member.subject)
        for change in trees.HARMLESS:
            if chance.random() < 0.5:
                change(place / "download", place / "elsewhere", chance)
        found, left_out, error = trees.agreed(dataset, place / "out.h5")
        said = f"seed {seed}, spoilt {sorted(spoilt)}: {left_out} {error}"
        assert spoilt or not (left_out or error), said
        for volume, image in found.items():
            if of_subject.get(volume) not in spoilt:
                np.testing.assert_allclose(image, expected[volume], atol=2e-6, err_msg=f"{volume}, {said}")
        if not error and name not in ("fastmri", "dicom"):  # where a damaged file's subject, or series, isn't known
            lost = of_subject.keys() - found.keys()
            assert {of_subject[volume] for volume in lost} <= spoilt and lost == left_out.keys(), said
