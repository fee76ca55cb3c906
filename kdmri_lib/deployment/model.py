"""A network from its ONNX file: what it was made for, and reconstruction with it. Needs NumPy, SciPy and a runtime only."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import scipy.fft

from kdmri_lib.datasets.reading import reading
from kdmri_lib.deployment.phase import check_phase, low_resolution, squares
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import mask_of_lines
from kdmri_lib.orders import is_kspace_centred

FORMAT = "kdmri-onnx-3"  # it says its domain
KNOWN = (FORMAT, "kdmri-onnx-2")  # 2: of magnitudes, since there was nothing else
KEY, CHECKSUM = "kdmri", "kdmri_sha256"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}  # ONNX Runtime's, by device
UNSHIFTED = "expected it unshifted (zero frequency at index 0)"
CHOICES = {"engine": ("auto", "openvino", "onnxruntime"), "precision": ("auto", "float32", "bfloat16")}


def graph_checksum(graph: onnx.GraphProto, about: str) -> str:
    """SHA-256 over a network's graph with its weights, and over what the file says of itself."""
    return hashlib.sha256(graph.SerializeToString(deterministic=True) + about.encode()).hexdigest()


def read_model(path: Path) -> tuple[onnx.ModelProto, dict]:
    """The ONNX model and what the file says of it; `StudyError` when it isn't ours, is damaged, or of a newer format."""
    with reading(path, "ONNX file"):
        model = onnx.load_from_string(path.read_bytes())
    stated = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in stated:
        raise StudyError(f"{path}: an ONNX file, but not one of KD-MRI's: it doesn't say which mask it was made for")
    with reading(path, "account of which mask it was made for"):
        about = json.loads(stated[KEY])
        found = about["format"]
    if found not in KNOWN:
        how = "an older file is to be exported again, a newer one needs a newer version"
        raise StudyError(f"{path}: format {found!r}, expected {' or '.join(KNOWN)}; {how}")
    if stated.get(CHECKSUM) != graph_checksum(model.graph, stated[KEY]):
        raise StudyError(f"{path}: damaged, its checksum is wrong")
    return model, about


def _runtime(path: Path, engine: str, precision: str, threads: int, device: str) -> Callable:
    """What computes a network: zero_filled and measured_image (B, C, H, W) float32 in, the image out."""
    if engine == "openvino":
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        return lambda zero_filled, measured_image: request.infer({0: zero_filled, 1: measured_image})[0].copy()
    import onnxruntime

    if precision == "bfloat16":
        raise StudyError("precision bfloat16: ONNX Runtime computes it on no CPU; use engine openvino")
    there = [name for name, it in PROVIDERS.items() if it in onnxruntime.get_available_providers()]
    if device not in there:
        raise StudyError(f"device {device}: not there for ONNX Runtime; available: {', '.join(there)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=[PROVIDERS[device]])
    inputs = ("zero_filled", "measured_image")
    return lambda *images: session.run(None, dict(zip(inputs, images, strict=True)))[0]


def has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16, by what OpenVINO finds."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Model:
    """A trained network for one undersampling mask.

    Parameters
    ----------
    path : file that `export` wrote.
    engine : "openvino" or "onnxruntime"; "auto" takes OpenVINO on a CPU, where it was the faster.
    precision : "float32" or "bfloat16"; "auto" takes bfloat16 where the CPU has it. An int8 file brings its own.
    threads : all cores by default.
    device : "cpu", or "cuda" with a GPU build of ONNX Runtime.

    Attributes
    ----------
    about : dict: data set, acceleration, run, domain, normalisation, parameters, precision.
    domain : what its images are, "magnitude" or "complex".
    mask, lines : boolean (H, W) and, along `axis`, (N,), unshifted. The extent of the image along its lines is free.

    `StudyError` when the file isn't one, is damaged, or the device or engine isn't there.
    """

    def __init__(
        self, path: str | Path, engine: str = "auto", precision: str = "auto", threads: int = 0, device: str = "cpu"
    ):
        asked = {"engine": engine, "precision": precision, "device": device}
        for name, known in (CHOICES | {"device": PROVIDERS}).items():
            if asked[name] not in known:
                raise StudyError(f"{name} '{asked[name]}' is unknown; known: {', '.join(known)}")
        if threads < 0:
            raise StudyError(f"threads {threads}: expected their number, or 0 for all cores")
        if engine == "openvino" and device != "cpu":
            raise StudyError(f"device {device}: engine openvino runs on the CPU; use onnxruntime")
        self.path = Path(path)
        _, self.about = read_model(self.path)
        self.domain, mask = self.about.get("domain", "magnitude"), self.about["mask"]
        self.axis, self.shape = mask["axis"], tuple(mask["shape"])
        self.lines = np.isin(np.arange(self.shape[self.axis]), mask["kept"])
        if engine == "auto":
            engine = "openvino" if device == "cpu" else "onnxruntime"
        if precision == "auto":
            precision = "bfloat16" if engine == "openvino" and has_bfloat16() else "float32"
        self.engine, self.precision = engine, precision
        threads = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        self.run = _runtime(self.path, engine, precision, threads, device)

    @property
    def mask(self) -> np.ndarray:
        """The mask that it was made for: boolean (H, W), unshifted."""
        return mask_of_lines(self.lines, self.shape, self.axis)

    def check_shape(self, shape: tuple[int, int], name: str) -> None:
        """`StudyError` when a slice of this (H, W) isn't one that the mask allows."""
        if shape[self.axis] != self.shape[self.axis]:
            wanted = " x ".join(str(size) if n == self.axis else "any" for n, size in enumerate(self.shape))
            made = f"{self.path.name} was made for {wanted} (H x W)"
            raise StudyError(f"{name}: slices of {shape[0]}x{shape[1]}, but {made}")

    def zero_fill(self, kspace: np.ndarray) -> np.ndarray:
        """Complex images (..., H, W) of unshifted k-space, its lines outside the mask set to zero."""
        along = np.expand_dims(self.lines, 1 - self.axis)
        return scipy.fft.ifft2(np.where(along, kspace, 0), norm="ortho")

    def restore(self, zero_filled: np.ndarray, scale: float) -> np.ndarray:
        """The network on complex zero-filled images (slices, H, W), in their own units: magnitudes, float32, or complex64
        of a complex model. `scale` : the maximum of the volume's zero-filled magnitude, for the image's isn't known."""
        if self.domain == "complex":
            inputs = [np.stack((zero_filled.real, zero_filled.imag), axis=1)] * 2
        else:
            inputs = [np.abs(zero_filled)[:, None], zero_filled.real[:, None]]
        image = self.run(*(np.ascontiguousarray(v / scale, dtype=np.float32) for v in inputs)) * np.float32(scale)
        return image[:, 0] + 1j * image[:, 1] if self.domain == "complex" else image[:, 0]

    def reconstruct(self, kspace: np.ndarray, batch: int = 1, phase: bool = False) -> np.ndarray:
        """Reconstruct a volume of unshifted k-space.

        Parameters
        ----------
        kspace : (slices, H, W) complex, orthonormal FFT, measured on the model's mask; other lines are set to zero.
        phase : return complex images, of a complex model; otherwise magnitudes. (slices, H, W) complex64 or float32, in the
            units of the k-space.

        Raises
        ------
        StudyError
            When the shape isn't the mask's, or values aren't finite; when a line of the mask is zero, or zero frequency
            isn't at index 0; when a magnitude model is given images with a phase (`kdmri_lib.deployment.phase` takes a
            smooth one off). `kdmri_lib.deployment.reconstruct.reconstruct_file` takes files, finds orders, combines coils.
        """
        if phase and self.domain != "complex":
            raise StudyError(f"{self.path.name} was made for magnitudes; its images have no phase")
        kspace = np.asarray(kspace)
        if kspace.ndim != 3 or not np.iscomplexobj(kspace):
            raise StudyError(f"k-space: {kspace.dtype} of shape {kspace.shape}, expected complex (slices, H, W)")
        self.check_shape(kspace.shape[1:], "k-space")
        if not np.isfinite(kspace).all():
            raise StudyError("k-space: NaN or infinite values")
        kspace = kspace.astype(np.complex64, copy=False)
        if missing := int((self.lines & ~kspace.any(axis=(0, 2 - self.axis))).sum()):
            of_mask = f"{missing} of the {self.lines.sum()} lines of the mask that {self.path.name} was made for"
            raise StudyError(f"k-space: {of_mask} are zero; {UNSHIFTED}, measured on that mask")
        if is_kspace_centred(kspace) is not False:
            raise StudyError(f"k-space: most energy isn't about index 0; {UNSHIFTED}")
        if self.domain == "magnitude":
            check_phase(*map(np.sum, squares(low_resolution(kspace, self.lines))), "k-space", self.path.name)
        zero_filled = self.zero_fill(kspace)
        scale, starts = float(np.abs(zero_filled).max()), range(0, len(zero_filled), batch)
        images = np.concatenate([self.restore(zero_filled[n : n + batch], scale) for n in starts])
        return images if phase or self.domain != "complex" else np.abs(images)
