"""Readers meet mutated files: a clear error or a correct shape, never a crash, a hang or another kind of exception.

500 files by default, 10,000 with `./run_tests.sh --long`. Each reader runs in a process of its own, so that a crash
inside a C library is seen as one. And they meet folders, of right, foreign, damaged and linked files: `check` and `prepare`
agree, nothing right is lost, nothing foreign gets in. 27 trees by default, 900 with `--long`.
"""

import multiprocessing
import random
import traceback
from pathlib import Path

import h5py
import numpy as np
import pytest

from kdmri_lib.datasets.nifti import read_magnitudes, read_nifti
from kdmri_lib.datasets.prepared import Volume, read_prepared
from kdmri_lib.datasets.preparing import members
from kdmri_lib.datasets.sources import dicom_folder, fastmri, kdmri_h5, knee_matlab
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.declarations import Dataset, Degradation
from kdmri_lib.deployment.export import stamped, to_onnx
from kdmri_lib.deployment.model import FORMAT, read_model
from kdmri_lib.deployment.readers import open_kspace
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.storage import PROJECT, read_checked, read_json, write_checked, write_json
from kdmri_study.build import declared_mask
from kdmri_study.profile import load_profile
from kdmri_study.runs import load_weights
from tests import downloads, trees
from tests.unit.deployment import scans

SECONDS = 20  # for one file; far more than any takes


def declared(source: str) -> Dataset:
    return downloads.declared(source, Path("/"))


def _prepared(path: Path) -> None:
    write_prepared(path, "{}", "code", [Volume("a", "train", downloads.image(1), {"kind": "x"})])


def _fastmri(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["kspace"] = downloads.centred_kspace(downloads.image(1))
        file["ismrmrd_header"] = downloads.HEADER
        file.attrs["patient_id"] = "a"


def _published(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["volfs"] = downloads.image(1).transpose(1, 2, 0)


def _model(path: Path) -> None:
    mask = cartesian_mask((8, 8), 2, centre=2)
    network = build_model("dccnn", mask, cascades=1, convolutions=2, features=2)
    path.write_bytes(stamped(to_onnx(network, 0, (8, 8)), {"format": FORMAT, "mask": {"axis": 0, "shape": [8, 8]}}))


def _weights(path: Path) -> None:
    import safetensors.torch
    import torch

    path.write_bytes(safetensors.torch.save({"a": torch.rand(4, 5)}, {"run": "x"}))


def _read_mask(path: Path):
    dataset = declared("nifti_folder")
    return declared_mask(dataset, Degradation(acceleration=4, mask=str(path)))


def _read_scan(path: Path):
    with open_kspace(path) as kspace:
        return kspace.read(0, kspace.shape[0]).ndim


# What makes a valid file; what reads it; and what is right about a file that is read all the same.
READERS = {
    "prepared.h5": (_prepared, lambda p: [v.image.shape for v in read_prepared(p)], [(3, *downloads.SHAPE)]),
    "rawdata1.mat": (
        lambda p: downloads.save_matlab73(p, "rawdata", downloads.image(1).transpose(1, 2, 0) * 1j),
        lambda p: knee_matlab.read_mat(p, "rawdata").ndim,
        3,
    ),
    "older.mat": (
        lambda p: __import__("scipy.io").io.savemat(p, {"rawdata": downloads.image(1) * 1j}),
        lambda p: knee_matlab.read_mat(p, "rawdata").dtype,
        np.complex64,
    ),
    "kspace.npy": (lambda p: np.save(p, scans.CENTRED), _read_scan, 4),
    "kspace.mat": (lambda p: scans.save_matlab(p, scans.CENTRED), _read_scan, 4),
    "kspace.cfl": (lambda p: scans.save_bart(p, scans.CENTRED), _read_scan, 4),
    "readouts.h5": (
        lambda p: scans.save_ismrmrd(p, scans.CENTRED, scans.header(scans.CENTRED.shape[2:])),
        _read_scan,
        4,
    ),
    "scan.nii": (lambda p: downloads.save_nifti(p, downloads.image(1)), lambda p: read_nifti(p)[0].ndim, 3),
    "scan.nii.gz": (lambda p: downloads.save_nifti(p, downloads.image(1)), lambda p: read_nifti(p)[0].ndim, 3),
    "image.nii": (
        lambda p: downloads.save_nifti(p, downloads.image(1)),
        lambda p: read_magnitudes(p)[0].min() >= 0,
        True,
    ),
    "slice.dcm": (
        lambda p: downloads.save_dicom(p, np.arange(320).reshape(20, 16), 1.0, "1.2.3"),
        lambda p: dicom_folder.make(declared("dicom_folder"), files=[str(p)])[0].shape[1:],
        downloads.SHAPE,
    ),
    "fastmri.h5": (
        _fastmri,
        lambda p: fastmri.make(declared("fastmri"), file=str(p))[0].shape[1:],
        downloads.SHAPE,
    ),
    "published.h5": (
        _published,
        lambda p: kdmri_h5.make(declared("kdmri_h5"), file=str(p))[0].ndim,
        3,
    ),
    "mask.npy": (
        lambda p: np.save(p, np.eye(*downloads.SHAPE)),
        lambda p: _read_mask(p).shape,
        downloads.SHAPE,
    ),
    "profile.yaml": (
        lambda p: p.write_bytes((PROJECT / "profiles" / "smoke.yaml").read_bytes()),
        lambda p: len(load_profile(str(p))),
        2,
    ),
    "network.onnx": (_model, lambda p: read_model(p)[1]["format"], FORMAT),
    "weights.safetensors": (_weights, lambda p: type(load_weights(p)), dict),
    "checkpoint.pt": (lambda p: write_checked(p, lambda f: f.write(b"x" * 500)), lambda p: len(read_checked(p)), 500),
    "run.json": (lambda p: write_json(p, {"a": [1, 2]}), lambda p: read_json(p) is not None, True),
}


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Cut short, bits flipped, a run of bytes overwritten, taken out, doubled or exchanged for the largest numbers."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        # Headers decide most, so half of the changes go there.
        place = rng.randrange(min(len(data), 600) if rng.random() < 0.5 else len(data)) if data else 0
        length = rng.choice((1, 2, 4, 8, 64))
        kind = rng.choice(("flip", "flip", "zero", "ones", "random", "cut", "remove", "double"))
        if kind == "flip" and data:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "zero":
            data[place : place + length] = bytes(len(data[place : place + length]))
        elif kind == "ones":
            data[place : place + length] = b"\xff" * len(data[place : place + length])
        elif kind == "random":
            data[place : place + length] = rng.randbytes(len(data[place : place + length]))
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + length]
        elif kind == "double":
            data[place:place] = data[place : place + length]
    return bytes(data)


def _serve(connection) -> None:
    """Read one file after the other, as asked: (reader's name, path); answers what is wrong with how it was read, or ""."""
    import resource
    import warnings

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    connection.send("ready")
    while True:
        name, path = connection.recv()
        _, read, right = READERS[name]
        try:
            found = read(path)
            connection.send("" if found == right else f"read as {found}, expected {right}")
        except StudyError as error:
            connection.send("" if path.name in str(error) else f"the message doesn't name the file: {error}")
        except BaseException:
            connection.send(traceback.format_exc(limit=-3))


class Server:
    """A process that reads files, started anew when it crashed or hung."""

    def __init__(self):
        self.process = None

    def start(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()
        assert self.connection.recv() == "ready"

    def ask(self, name: str, path: Path) -> str:
        if self.process is None:
            self.start()
        self.connection.send((name, path))
        try:
            if self.connection.poll(SECONDS):
                return self.connection.recv()
            wrong = f"no answer in {SECONDS} s"
        except EOFError:
            wrong = "the process died"
        self.stop()
        return wrong

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_clear_error_or_a_correct_read(name, server, tmp_path, request):
    many = 10_000 if request.config.getoption("--long") else 500
    count = -(-many // len(READERS))
    make, path = READERS[name][0], tmp_path / name
    make(path)
    content = path.read_bytes()
    assert server.ask(name, path) == "", "the file as it was written"
    wrong = {}
    for seed in range(count):
        path.write_bytes(mutated(content, random.Random(f"{name} {seed}")))
        if said := server.ask(name, path):
            wrong[seed] = said
    assert not wrong, f"{len(wrong)} of {count}: " + "\n".join(f"seed {s}: {w}" for s, w in list(wrong.items())[:4])


DOWNLOADS = {
    "acdc": ("acdc", downloads.acdc, {}),
    "mrbrains 2013": ("mrbrains", downloads.mrbrains_2013, {}),
    "mrbrains 2018": ("mrbrains", downloads.mrbrains_2018, {}),
    "knee": ("knee_matlab", downloads.knee, {"contrast": "coronal_pd"}),
    "fastmri": ("fastmri", downloads.fastmri, {}),
    "calgary": ("calgary_campinas", downloads.calgary_nifti, {}),
    "published": ("kdmri_h5", downloads.published, {}),
    "nifti": ("nifti_folder", downloads.nifti, {}),
    "dicom": ("dicom_folder", downloads.dicom, {}),
}


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
def test_nothing_right_is_lost_and_nothing_foreign_gets_in(name, tmp_path, request):
    source, fill, more = DOWNLOADS[name]
    for seed in range(100 if request.config.getoption("--long") else 3):
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
