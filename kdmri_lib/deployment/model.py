"""A network from its ONNX file: what it was made for, and reconstruction with it. Needs NumPy, SciPy and a runtime only."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import scipy.fft

from kdmri_lib.deployment.phase import check_phase, low_resolution, squares
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import mask_of_lines

FORMAT = "kdmri-onnx-3"  # it says its domain
KNOWN = (FORMAT, "kdmri-onnx-2")  # 2: of magnitudes, since there was nothing else
KEY, CHECKSUM = "kdmri", "kdmri_sha256"
ENGINES = ("auto", "openvino", "onnxruntime")
PRECISIONS = ("auto", "float32", "bfloat16")
OFF_CENTRE = 0.02  # share of the lines; the largest is zero frequency's but for a strong phase


def graph_checksum(graph: onnx.GraphProto, about: str) -> str:
    """SHA-256 over a network's graph with its weights, and over what the file says of itself."""
    return hashlib.sha256(graph.SerializeToString(deterministic=True) + about.encode()).hexdigest()


def read_model(path: Path) -> tuple[onnx.ModelProto, dict]:
    """The ONNX model and what the file says of it; `StudyError` when it isn't ours, is damaged, or of a newer format."""
    path = Path(path)
    if not path.exists():
        raise StudyError(f"{path}: no such file")
    try:
        model = onnx.load_from_string(path.read_bytes())
    except OSError as error:
        raise StudyError(f"{path}: can't be read ({error})") from None
    except Exception:  # protobuf raises kinds of its own
        raise StudyError(f"{path}: not an ONNX file, or cut short") from None
    stated = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in stated:
        raise StudyError(f"{path}: an ONNX file, but not one of KD-MRI's: it doesn't say which mask it was made for")
    try:
        about = json.loads(stated[KEY])
        found = about["format"]
    except (ValueError, KeyError, TypeError):
        raise StudyError(f"{path}: what it says of itself can't be read; the file is damaged") from None
    if found not in KNOWN:
        how = "export it again" if found == "kdmri-onnx-1" else "a newer file needs a newer version"
        raise StudyError(f"{path}: format {found!r}, expected {' or '.join(KNOWN)}; {how}")
    if stated.get(CHECKSUM) != graph_checksum(model.graph, stated[KEY]):
        raise StudyError(f"{path}: damaged, its checksum is wrong")
    return model, about


def _openvino(path: Path, precision: str, threads: int, device: str) -> Callable:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda zero_filled, measured_image: request.infer({0: zero_filled, 1: measured_image})[0].copy()


def _onnxruntime(path: Path, precision: str, threads: int, device: str) -> Callable:
    import onnxruntime

    if precision == "bfloat16":
        raise StudyError("precision bfloat16: ONNX Runtime computes it on no CPU; use engine openvino")
    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if providers[device] not in onnxruntime.get_available_providers():
        available = ", ".join(n for n, p in providers.items() if p in onnxruntime.get_available_providers())
        raise StudyError(f"device {device}: not there for ONNX Runtime; available: {available}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=[providers[device]])

    def run(zero_filled: np.ndarray, measured_image: np.ndarray) -> np.ndarray:
        return session.run(None, {"zero_filled": zero_filled, "measured_image": measured_image})[0]

    return run


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
    mask : boolean (H, W), unshifted. The extent of the image along its lines may be another.

    `StudyError` when the file isn't one, is damaged, or the device or engine isn't there.
    """

    def __init__(
        self, path: str | Path, engine: str = "auto", precision: str = "auto", threads: int = 0, device: str = "cpu"
    ):
        for name, value, known in (
            ("engine", engine, ENGINES),
            ("precision", precision, PRECISIONS),
            ("device", device, ("cpu", "cuda")),
        ):
            if value not in known:
                raise StudyError(f"{name} '{value}' is unknown; known: {', '.join(known)}")
        if threads < 0:
            raise StudyError(f"threads {threads}: expected their number, or 0 for all cores")
        self.path = Path(path)
        _, self.about = read_model(self.path)
        self.axis: int | None = self.about["mask"]["axis"]
        self.shape = tuple(self.about["mask"]["shape"])
        threads = threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        if engine == "auto":
            engine = "openvino" if device == "cpu" else "onnxruntime"
        if engine == "openvino" and device != "cpu":
            raise StudyError(f"device {device}: engine openvino runs on the CPU; use onnxruntime")
        if precision == "auto":
            precision = "bfloat16" if engine == "openvino" and has_bfloat16() else "float32"
        self.engine, self.precision = engine, precision
        runtime = _openvino if engine == "openvino" else _onnxruntime
        self.run = runtime(self.path, precision, threads, device)

    @property
    def domain(self) -> str:
        """What its images are: "magnitude" or "complex"."""
        return self.about.get("domain", "magnitude")

    @property
    def lines(self) -> np.ndarray:
        """Kept frequencies along `axis`, boolean (N,), unshifted."""
        kept = np.zeros(self.shape[self.axis], dtype=bool)
        kept[self.about["mask"]["kept"]] = True
        return kept

    @property
    def mask(self) -> np.ndarray:
        """The mask that it was made for: boolean (H, W), unshifted."""
        return mask_of_lines(self.lines, self.shape, self.axis)

    def check_shape(self, shape: tuple[int, int], name: str = "image") -> None:
        """`StudyError` when a slice of this (H, W) isn't one that the mask allows."""
        if shape[self.axis] != self.shape[self.axis]:
            wanted = ["any", "any"]
            wanted[self.axis] = str(self.shape[self.axis])
            raise StudyError(
                f"{name}: slices of {shape[0]}x{shape[1]}, but {self.path.name} was made for {' x '.join(wanted)} (H x W)"
            )

    def check_mask(self, measured: np.ndarray, name: str = "k-space") -> None:
        """`StudyError` when the measured lines, boolean (N,) along the mask's axis, aren't the model's."""
        lines = self.lines
        if not np.array_equal(measured, lines):
            raise StudyError(
                f"{name}: {int(measured.sum())} of {len(lines)} lines along axis {self.axis} are measured, "
                f"{int((measured & lines).sum())} of them among the {int(lines.sum())} that {self.path.name} was made for"
            )

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
        if batch < 1:
            raise StudyError(f"batch {batch}: expected at least 1 slice at a time")
        kspace = kspace.astype(np.complex64, copy=False)
        if missing := int((self.lines & ~kspace.any(axis=(0, 2 - self.axis))).sum()):
            raise StudyError(
                f"k-space: {missing} of the {int(self.lines.sum())} lines of the mask that {self.path.name} was made for "
                "are zero; expected it unshifted (zero frequency at index 0), measured on that mask"
            )
        energy = (np.abs(kspace) ** 2).sum(axis=(0, 2 - self.axis))
        far = int(np.abs(np.fft.fftfreq(len(energy), 1 / len(energy)))[energy.argmax()])
        if far > OFF_CENTRE * len(energy):
            raise StudyError(
                f"k-space: most energy is {far} lines from index 0; expected it unshifted (zero frequency at index 0)"
            )
        if self.domain == "magnitude":
            check_phase(*map(np.sum, squares(low_resolution(kspace, self.lines))), "k-space", self.path.name)
        zero_filled = self.zero_fill(kspace)
        scale, starts = float(np.abs(zero_filled).max()), range(0, len(zero_filled), batch)
        images = np.concatenate([self.restore(zero_filled[n : n + batch], scale) for n in starts])
        return images if phase or self.domain != "complex" else np.abs(images)
