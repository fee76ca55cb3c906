"""The command `reconstruct`: a volume through an exported network, slice by slice, from file to file."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
from tqdm.auto import tqdm

from kdmri_lib.datasets.folders import NIFTI, ends_in
from kdmri_lib.deployment.model import Model
from kdmri_lib.deployment.volumes import InputVolume, open_input, write_nifti
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, sha256_file

LONGEST = 150  # bytes of a name; files' may have 255, and it becomes longer while the file is written


def measured_lines(volume: InputVolume, axis: int) -> np.ndarray:
    """Which lines along `axis` hold anything, boolean (N,), by the volume's middle slice."""
    return np.abs(volume.read(len(volume) // 2, 1)[0]).max(axis=1 - axis) > 0


def reconstruct_file(
    model: Model,
    source: Path,
    output: Path,
    order: str = "auto",
    undersample: bool = False,
    batch: int = 4,
    force: bool = False,
    figures: Path | None = None,
) -> list[str]:
    """Reconstruct every volume of `source` into `output`; returns what was done, one line per volume.

    Parameters
    ----------
    source : HDF5 with `kspace` or `image` (slices, H, W) or a prepared file; NIfTI.
    output : HDF5, the arrays under the same names (`kspace` becomes `image`), with what `source` said of them; for NIfTI,
        NIfTI.
    undersample : take fully sampled k-space, or images, and leave the model's lines of them alone: a retrospective trial.
    figures : folder for one PNG per volume: the middle slice zero-filled and reconstructed.

    Raises
    ------
    StudyError
        When the shape or the mask isn't the model's, values aren't finite, or `output` exists and `force` isn't given.
        Nothing is left half-written.
    """
    if output.exists() and not force:
        raise StudyError(f"{output}: exists already; --force replaces it")
    nifti = ends_in(source.name, NIFTI)
    if nifti != ends_in(output.name, NIFTI):
        raise StudyError(f"{output}: a NIfTI volume becomes a NIfTI volume, and HDF5 becomes HDF5")
    done = []
    with open_input(source, order) as volumes:
        for volume in volumes:
            _check(model, volume, undersample)
        if nifti:
            (volume,) = volumes
            slices = np.empty((len(volume), *volume.shape), np.float32)
            done.append(_reconstruct(model, volume, slices, batch, figures))
            if share := volume.attributes.get("below_zero"):
                done.append(f"{volume.name}: values below 0, {share:.2g} of the signal, were taken as 0")
            with atomic_write(output) as temporary:
                write_nifti(temporary, source, slices)
        else:
            with atomic_write(output) as temporary, h5py.File(temporary, "w") as file:
                file.attrs.update({f"model_{k}": str(v) for k, v in model.about.items() if k != "mask"})
                file.attrs.update({"source": source.name, "source_sha256": sha256_file(source), "engine": model.engine})
                for volume in volumes:
                    name = "image" if volume.kind == "kspace" else volume.name
                    shape = (len(volume), *volume.shape)
                    target = file.create_dataset(name, shape, np.float32, chunks=(1, *volume.shape))
                    target.attrs.update(volume.attributes)
                    done.append(_reconstruct(model, volume, target, batch, figures))
    return done


def _check(model: Model, volume: InputVolume, undersample: bool) -> None:
    name = f"{volume.path}: '{volume.name}'"
    model.check_shape(volume.shape, name)
    if volume.kind == "image":
        if not undersample:
            raise StudyError(
                f"{name} holds images; --undersample takes them for fully sampled, for a retrospective trial"
            )
    elif not undersample:
        model.check_mask(measured_lines(volume, model.axis), name)
    elif not (measured_lines(volume, model.axis) | ~model.lines).all():
        raise StudyError(f"{name}: not all lines of the model's mask are measured")


def _reconstruct(model: Model, volume: InputVolume, target, batch: int, figures: Path | None) -> str:
    """Two passes, so that a volume never is in memory whole: its largest zero-filled magnitude, then the network."""
    fill = model.zero_fill if volume.kind == "kspace" else model.undersample
    blocks = range(0, len(volume), batch)
    scale = max(float(np.abs(fill(volume.read(first, batch))).max()) for first in blocks)
    if scale == 0:
        raise StudyError(f"{volume.path}: '{volume.name}' is zero on all lines of the mask")
    middle, shown = len(volume) // 2, None
    for first in tqdm(blocks, desc=volume.name, unit="batch", mininterval=1):
        zero_filled = fill(volume.read(first, batch))
        images = model.restore(zero_filled, scale)
        target[first : first + len(images)] = images
        if figures is not None and first <= middle < first + len(images):
            shown = np.abs(zero_filled[middle - first]), images[middle - first]
    if shown is not None:
        _picture(figures, volume, shown)
    return f"{volume.name}: {len(volume)} slices of {volume.shape[0]}x{volume.shape[1]}"


def _picture(folder: Path, volume: InputVolume, shown: tuple[np.ndarray, np.ndarray]) -> None:
    import matplotlib.pyplot as plt

    from kdmri_lib.figures import before_and_after

    name = volume.name.replace("/", "_")
    label = f"{volume.path.name.split('.')[0]}_{name.split('.')[0]}"
    if len(label.encode()) > LONGEST:
        label = label.encode()[:LONGEST].decode(errors="ignore") + hashlib.sha256(label.encode()).hexdigest()[:8]
    figure = before_and_after(*shown, title=f"{volume.path.name}, {name}, slice {len(volume) // 2}")
    with atomic_write(folder / f"{label}.png") as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)
