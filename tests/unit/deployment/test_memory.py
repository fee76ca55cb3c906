"""Memory: a large volume is reconstructed in little of it."""

import subprocess
import sys

import h5py
import numpy as np

from kdmri_lib.deployment import Model
from kdmri_lib.storage import PROJECT

CODE = """
import sys
from kdmri_lib.__main__ import main
main()
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def test_memory_does_not_grow_with_the_volume(deployed, tmp_path):
    """A volume of 600 MB through the command, in far less than that above what an empty start takes."""
    path = deployed[1]
    lines = Model(path, engine="onnxruntime", threads=1).lines
    block = np.fft.fft2(np.random.default_rng(0).random((10, 72, 2048), np.float32)) * lines[:, None]
    peaks = {}
    for name, blocks in (("small", 1), ("large", 50)):
        scan = tmp_path / f"{name}.h5"
        with h5py.File(scan, "w") as file:
            array = file.create_dataset("kspace", (10 * blocks, 72, 2048), np.complex64)
            for n in range(blocks):
                array[10 * n : 10 * n + 10] = block
        options = ["--model", path, "--input", scan, "--output", tmp_path / f"{name}_out.h5"]
        more = ["--engine", "onnxruntime", "--order", "unshifted", "--threads", "1"]
        asked = [sys.executable, "-c", CODE, "reconstruct", *options, *more]
        done = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True, check=True)
        peaks[name] = int(done.stdout.split()[-1]) / 1024
    assert scan.stat().st_size > 550e6
    assert peaks["large"] - peaks["small"] < 120, peaks
