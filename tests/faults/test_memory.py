"""Memory: a large volume is reconstructed in little of it."""

import subprocess
import sys

import h5py
import numpy as np

from kdmri_lib.deployment import Model
from kdmri_lib.storage import PROJECT
from kdmri_study.deploying import export
from kdmri_study.runs import trained
from tests.studies import CELL


def test_memory_does_not_grow_with_the_volume(study, tmp_path):
    """A volume of 600 MB through the command, in far less than that above what an empty start takes."""
    path = tmp_path / "student.onnx"
    export(trained(study, study.methods(CELL, 0)["student"]), path)
    model = Model(path, engine="onnxruntime", threads=1)
    block = np.fft.fft2(np.random.default_rng(0).random((10, 72, 2048), np.float32)) * model.lines[:, None]
    for name, blocks in (("small", 1), ("large", 50)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            array = file.create_dataset("kspace", (10 * blocks, 72, 2048), np.complex64)
            for n in range(blocks):
                array[10 * n : 10 * n + 10] = block
    code = (
        "import sys; from kdmri_lib.__main__ import main; sys.argv[0] = 'kdmri'; main();"
        "print([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1])"
    )
    peaks = {}
    for name in ("small", "large"):
        options = ["--model", path, "--input", tmp_path / f"{name}.h5", "--output", tmp_path / f"{name}_out.h5"]
        more = ["--engine", "onnxruntime", "--order", "unshifted", "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "-c", code, "reconstruct", *map(str, options), *more],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[name] = int(done.stdout.split()[-1]) / 1024
    assert (tmp_path / "large.h5").stat().st_size > 550e6
    assert peaks["large"] - peaks["small"] < 120, peaks
