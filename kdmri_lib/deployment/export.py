"""From a trained network to an ONNX file, data consistency included, and its int8 version."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import safetensors.torch
import torch
from torch import nn

from kdmri_lib.deployment.model import CHECKSUM, KEY, Model, graph_checksum, read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.masks import line_axis
from kdmri_lib.operators import Measurement, UndersamplingOperator
from kdmri_lib.storage import write_bytes

TOLERANCE = 1e-5  # between PyTorch and ONNX Runtime, both in float32, on images of [0, 1]
OPSET = 20
INNER = "first and last, last cascade"


def about_mask(mask: np.ndarray, name: str) -> dict:
    """A mask of whole lines as a file holds it; `StudyError`, with the `name` of whose it is, for any other."""
    axis = line_axis(mask)
    if axis is None:
        raise StudyError(f"{name}: its mask isn't made of whole lines; only such networks can be exported")
    lines = mask[:, 0] if axis == 0 else mask[0]
    return {"shape": list(mask.shape), "axis": axis, "kept": np.flatnonzero(lines).tolist()}


def to_onnx(network: nn.Module, axis: int, shape: tuple[int, int], channels: int = 1) -> onnx.ModelProto:
    """A network as ONNX: zero_filled and measured_image (B, C, H, W) in, image out; B and extent along lines free."""
    example = (torch.rand(2, channels, *shape), torch.rand(2, channels, *shape))
    free = {0: torch.export.Dim("batch", min=1, max=2**16), 3 - axis: torch.export.Dim("extent", min=1, max=2**16)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            network.eval().to(memory_format=torch.contiguous_format),
            example,
            dynamo=True,
            input_names=["zero_filled", "measured_image"],
            output_names=["image"],
            dynamic_shapes=(free, free),
            opset_version=OPSET,
            verbose=False,
        )
    return program.model_proto


def stamped(model: onnx.ModelProto, about: dict) -> bytes:
    """The file's content: the model with what it says of itself, and the checksum over both."""
    text = json.dumps(about, sort_keys=True)
    onnx.helper.set_model_props(model, {KEY: text, CHECKSUM: graph_checksum(model.graph, text)})
    return model.SerializeToString()


def largest_difference(network: nn.Module, path: Path, slices: torch.Tensor, operator: UndersamplingOperator) -> float:
    """Between PyTorch and ONNX Runtime in float32, over (B, C, H, W) images, as a batch and as narrower single slices."""
    model = Model(path, engine="onnxruntime", precision="float32")
    narrow, worst = slices[:1].narrow(3 - model.axis, 0, slices.shape[3 - model.axis] // 2), 0.0
    for images in (slices, narrow):
        measurement = operator(images)
        with torch.inference_mode():
            expected = network.eval()(*measurement).numpy()
        worst = max(worst, float(np.abs(model.run(*(v.numpy() for v in measurement)) - expected).max()))
    return worst


def export(network: nn.Module, operator: UndersamplingOperator, about: dict, slices: torch.Tensor, path: Path) -> float:
    """Write a network at `path` (.onnx) and its weights beside it (.safetensors); returns ONNX Runtime's largest difference
    to PyTorch, or raises `StudyError` and leaves no file where they don't agree.

    Parameters
    ----------
    operator : the undersampling operator of the network's mask.
    about : what the file says of itself, with `about_mask` of the mask as "mask".
    slices : true images (B, C, H, W), magnitudes in [0, 1], on which the two are compared.
    """
    mask = about["mask"]
    content = stamped(to_onnx(network, mask["axis"], tuple(mask["shape"]), slices.shape[1]), about)
    with tempfile.TemporaryDirectory() as trial:
        (Path(trial) / "trial.onnx").write_bytes(content)
        difference = largest_difference(network, Path(trial) / "trial.onnx", slices, operator)
    if not difference <= TOLERANCE:
        raise StudyError(f"{path}: ONNX Runtime differs from PyTorch by {difference:.1e} (more than {TOLERANCE})")
    write_bytes(path, content)
    metadata = {KEY: json.dumps(about, sort_keys=True)}
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path.with_suffix(".safetensors"), safetensors.torch.save(weights, metadata))
    return difference


def convolutions(model: onnx.ModelProto) -> list[list[str]]:
    """Names of the convolutions' nodes, cascade by cascade: a cascade ends where the image's channels come out."""
    channels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    weights = {w.name: list(w.dims) for w in model.graph.initializer}
    found: list[list[str]] = [[]]
    for node in model.graph.node:
        if node.op_type == "Conv":
            found[-1].append(node.name)
            if weights[node.input[1]][0] == channels:
                found.append([])
    return [names for names in found if names]


def quantise(path: Path, output: Path, calibration: Iterable[Measurement], kept: str = INNER) -> None:
    """The int8 version of an exported file: weights per channel, activations by the ranges that `calibration` shows.

    `kept` in float32: "nothing"; "first and last", the convolutions of each cascade that have the image's channels on one
    side, next to no work; or these and the "last cascade", whose errors nothing after it corrects (the default).
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, about = read_model(path)
    groups = convolutions(model)
    floating = {
        "nothing": [],
        "first and last": [name for group in groups for name in (group[0], group[-1])],
        INNER: [name for group in groups[:-1] for name in (group[0], group[-1])] + groups[-1],
    }[kept]
    waiting = ({name: value.numpy() for name, value in each._asdict().items()} for each in calibration)
    reader = SimpleNamespace(get_next=lambda: next(waiting, None))
    how = {"per_channel": True, "op_types_to_quantize": ["Conv"], "nodes_to_exclude": floating}
    how |= {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8}
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings(action="ignore"):
        simplified, quantised = Path(work) / "simplified.onnx", Path(work) / "quantised.onnx"
        # ONNX's own shapes suffice for convolutions; the symbolic ones stumble over a complex image's channels.
        quant_pre_process(path, simplified, skip_symbolic_shape=True)
        quantize_static(simplified, quantised, reader, **how)
        model = onnx.load(quantised)
    write_bytes(output, stamped(model, {**about, "precision": "int8", "kept_in_float32": kept}))
