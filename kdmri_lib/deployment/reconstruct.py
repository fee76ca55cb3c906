"""The command `reconstruct`: a volume through an exported network, slice by slice, from file to file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm.auto import tqdm

from kdmri_lib.coils import combined, combined_kspace, espirit, summed_squares
from kdmri_lib.datasets.folders import NIFTI, ends_in
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.deployment.model import Model
from kdmri_lib.deployment.phase import check_phase, low_resolution, squares, unit_phase, without_phase
from kdmri_lib.deployment.readers import open_kspace
from kdmri_lib.deployment.scan import Scan, one_sided
from kdmri_lib.deployment.volumes import Images, open_input, write_nifti
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import looks_like_images
from kdmri_lib.storage import atomic_write, sha256_file

LONGEST = 150  # bytes of a name; files' may have 255, and it becomes longer while the file is written
COILS = ("rss", "espirit")
HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class How:
    """What is done with a volume."""

    order: str = "auto"  # this and `axes` as `volumes.open_input` takes them
    axes: str = ""
    undersample: bool = False  # a trial: of fully sampled k-space, or of images, the model's lines alone
    coils: str = "rss"  # or "espirit"; not asked where there are sensitivities, or one coil
    sensitivities: Path | None = None
    remove_phase: bool = False  # for a magnitude model: take the phase at low resolution off first, of each coil
    complex: bool = False  # write the complex result
    batch: int = 4  # slices at a time


def reconstruct_file(
    model: Model, source: Path, output: Path, how: How = How(), force: bool = False, figures: Path | None = None
) -> list[str]:
    """Reconstruct every volume of `source` into `output`; returns what was found and done, in lines. Needs no PyTorch but
    for `figures`.

    Parameters
    ----------
    source : k-space or images, as `volumes.open_input` reads them.
    output : HDF5, the arrays under the same names (k-space becomes `image`), with what `source` said of them; for NIfTI,
        NIfTI. `force` replaces it.
    figures : folder for one PNG per volume: the middle slice zero-filled and reconstructed.

    Raises
    ------
    StudyError
        When the shape or the mask isn't the model's, or the input isn't what it should be. Nothing is left half-written.
    """
    if source.is_dir():
        raise StudyError(f"{source}: a folder; expected a file of k-space or images")
    if how.batch < 1:
        raise StudyError(f"batch {how.batch}: expected at least 1 slice at a time")
    for other in filter(None, (source, model.path, how.sensitivities)):
        if output.exists() and other.exists() and output.samefile(other):
            raise StudyError(f"{output}: is read here itself; expected another name for what is written")
    if output.exists() and not force:
        raise StudyError(f"{output}: exists already; --force replaces it")
    nifti = ends_in(source.name, NIFTI)
    if not ends_in(output.name, NIFTI if nifti else HDF5):
        raise StudyError(
            f"{output}: a NIfTI volume becomes a NIfTI volume ({', '.join(NIFTI)}), and everything else HDF5 "
            f"({', '.join(HDF5)})"
        )
    if how.sensitivities is not None and how.coils != "rss":
        raise StudyError(f"{how.sensitivities}: sensitivities, and --coils {how.coils} too; expected one of them")
    if how.complex and (model.domain == "magnitude" or nifti):
        raise StudyError(
            f"{output}: --complex asks for a phase, which {'NIfTI' if nifti else model.path.name} has none of"
        )
    if how.remove_phase and model.domain == "complex":
        raise StudyError(f"{model.path.name} is a complex model; --remove-phase is for magnitude models")
    with open_input(source, how.order, how.axes, model.axis, model.domain) as volumes:
        passes = [_Reconstruction(model, volume, how) for volume in volumes]
        with atomic_write(output) as temporary:
            done = (_to_nifti if nifti else _to_hdf5)(temporary, source, model, passes)
        for each in passes if figures is not None else ():
            _picture(figures, each.volume, each.shown)
    return done


def _to_nifti(temporary: Path, source: Path, model: Model, passes: list) -> list[str]:
    (each,) = passes
    volume, slices = each.volume, np.empty((len(each.volume), *each.volume.shape), np.float32)
    done = each.run(slices)
    if share := volume.attributes.get("below_zero"):
        done.append(f"{volume.name}: values below 0, {share:.2g} of the signal, were taken as 0")
    write_nifti(temporary, source, slices)
    return done


def _to_hdf5(temporary: Path, source: Path, model: Model, passes: list) -> list[str]:
    done = []
    with h5py.File(temporary, "w") as file:
        file.attrs.update({f"model_{k}": str(v) for k, v in model.about.items() if k != "mask"})
        file.attrs.update({"source": source.name, "source_sha256": sha256_file(source), "engine": model.engine})
        for each in passes:
            volume, kind = each.volume, np.complex64 if each.how.complex else np.float32
            name = "image" if volume.kind == "kspace" else volume.name
            target = file.create_dataset(name, (len(volume), *volume.shape), kind, chunks=(1, *volume.shape))
            target.attrs.update(volume.attributes | {"coils": each.combination})
            done += each.run(target)
    return done


class _Reconstruction:
    """One volume through the network, in two passes, so that it never is in memory whole: each coil's largest zero-filled
    magnitude and what else must be known of the whole, then the network."""

    def __init__(self, model: Model, volume: Scan | Images, how: How):
        self.model, self.volume, self.how = model, volume, how
        self.combination = _combination(volume, how)
        self.maps = _read_maps(how.sensitivities, volume) if how.sensitivities else None
        self.by_sensitivities = volume.coils > 1 and (self.maps is not None or how.coils == "espirit")
        # Fully sampled k-space can be combined first.
        self.coils = 1 if how.undersample and self.by_sensitivities else volume.coils
        self.shown: tuple[np.ndarray, np.ndarray] | None = None
        """The middle slice, zero-filled and reconstructed."""
        model.check_shape(volume.shape, volume.where)
        if volume.kind == "image":
            _check_images(volume, how)
        else:
            _check_lines(model, volume, how)

    def _sensitivities(self, number: int, kspace: np.ndarray) -> np.ndarray:
        """(coils, H, W) of a slice, whose k-space is (coils, H, W)."""
        if self.maps is not None:
            return self.maps[number % len(self.maps)]
        return espirit(kspace, self.volume.lines, self.volume.where)

    def _blocks(self, check: bool = False) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]:
        """Block by block: the first slice's number, unshifted k-space (count, coils, H, W) as it was measured and without
        the phase at low resolution, and exp(i phase); None where none is taken off."""
        for first in range(0, len(self.volume), self.how.batch):
            kspace, phase = self.volume.kspace(first, self.how.batch, check), None
            if self.coils < self.volume.coils:
                slices = enumerate(kspace, first)
                kspace = np.stack([combined_kspace(one, self._sensitivities(n, one)) for n, one in slices])
            if self.how.remove_phase:
                phase = unit_phase(low_resolution(kspace, self.model.lines))
            yield first, kspace, kspace if phase is None else without_phase(kspace, phase), phase

    def _scales(self) -> np.ndarray:
        """(coils,): the largest zero-filled magnitude of each; `StudyError` when the volume isn't one for this model."""
        model, where = self.model, self.volume.where
        scales, weighted, energy = np.zeros((3, self.coils))
        for _, _, kspace, phase in self._blocks(check=True):
            if model.domain == "magnitude" and phase is None:
                found = squares(low_resolution(kspace, model.lines))
                weighted, energy = weighted + found[0].sum(axis=0), energy + found[1].sum(axis=0)
            scales = np.maximum(scales, np.abs(model.zero_fill(kspace)).max(axis=(0, 2, 3)))
        for coil, scale in enumerate(scales):
            name = f"{where}, coil {coil}" if self.coils > 1 else where
            check_phase(weighted[coil], energy[coil], name, model.path.name)
            if scale == 0:
                raise StudyError(f"{name} is zero on all lines of the mask")
        return scales

    def run(self, target) -> list[str]:
        """Fill `target` (slices, H, W); returns what was found and done, in lines."""
        volume, model, scales = self.volume, self.model, self._scales()
        middle = len(volume) // 2
        with tqdm(total=len(volume), desc=volume.name, unit="slice", mininterval=1) as progress:
            for first, measured, kspace, phase in self._blocks():
                zero_filled = model.zero_fill(kspace)
                coils = np.stack([model.restore(zero_filled[:, n], scale) for n, scale in enumerate(scales)], axis=1)
                images = self._combined(first, measured, coils, phase)
                images = np.abs(images) if np.iscomplexobj(images) and not self.how.complex else images
                target[first : first + len(images)] = images
                progress.update(len(images))
                if first <= middle < first + len(images):
                    self.shown = (summed_squares(zero_filled[middle - first]), np.abs(images[middle - first]))
        coils = "" if volume.coils == 1 else f", coils: {self.combination}"
        slices = f"{len(volume)} slice{'s' * (len(volume) > 1)}"
        return [*volume.remarks, f"{volume.name}: {slices} of {volume.shape[0]}x{volume.shape[1]}{coils}"]

    def _combined(self, first: int, measured: np.ndarray, coils: np.ndarray, phase: np.ndarray | None) -> np.ndarray:
        """(count, H, W) of the coils' images, which sensitivities need with the phase that was taken off."""
        if self.coils == 1:
            return coils[:, 0]
        if not self.by_sensitivities:
            return summed_squares(coils)
        slices = enumerate(zip(coils if phase is None else coils * phase, measured, strict=True), first)
        return np.stack([combined(images, self._sensitivities(n, one)) for n, (images, one) in slices])


def _combination(volume: Scan | Images, how: How) -> str:
    """How the coils become one image, in words; `StudyError` when what is asked for doesn't go together."""
    if how.coils not in COILS:
        raise StudyError(f"coils '{how.coils}' is unknown; known: {', '.join(COILS)}")
    if volume.coils == 1:
        if how.sensitivities is not None:
            raise StudyError(f"{how.sensitivities}: sensitivities, but {volume.where} has one coil")
        return "one"
    if how.sensitivities is not None:
        return f"{volume.coils}, combined with the sensitivities of {how.sensitivities.name}"
    if how.coils == "espirit":
        return f"{volume.coils}, combined with sensitivities estimated from the centre of k-space (ESPIRiT)"
    if how.complex:
        raise StudyError(
            f"{volume.where} has {volume.coils} coils, whose root sum of squares has no phase; --complex needs "
            "--coils espirit or --sensitivities"
        )
    return f"{volume.coils}, each reconstructed, combined by root sum of squares"


def _read_maps(path: Path, volume: Scan) -> np.ndarray:
    """Sensitivities (1 or slices, coils, H, W) for a volume, of images whose middle is in the middle."""
    with open_kspace(path, name="sensitivities") as found:
        slices, coils, *grid = found.shape
        if slices not in (1, len(volume)) or (coils, *grid) != (volume.coils, *volume.shape):
            raise StudyError(
                f"{path}: sensitivities of {coils} coils, {slices} x {grid[0]}x{grid[1]}, expected {volume.coils} coils, "
                f"1 or {len(volume)} x {volume.shape[0]}x{volume.shape[1]} as in {volume.where}"
            )
        maps = found.read(0, slices)
    finite, there = np.isfinite(maps).all(), maps.any(axis=(0, 2, 3))
    if not finite or not there.all():
        which = f"of coil {int(np.argmin(there))} " if finite else ""
        raise StudyError(f"{path}: sensitivities {which}that are NaN or infinite, or 0 everywhere")
    if not looks_like_images(maps):
        raise StudyError(f"{path}: holds k-space by where its energy is; expected sensitivities, which are images")
    return maps


def _check_images(volume: Images, how: How) -> None:
    of_kspace = {
        "--order": how.order != "auto",
        "--axes": how.axes,
        "--coils": how.coils != "rss",
        "--remove-phase": how.remove_phase,
    }
    if given := [name for name, asked in of_kspace.items() if asked]:
        raise StudyError(f"{volume.where} holds images; {', '.join(given)} is for k-space")
    if not how.undersample:
        raise StudyError(
            f"{volume.where} holds images, expected k-space; --undersample takes them for fully sampled, for a "
            "retrospective trial"
        )
    if volume.domain == "magnitude":
        places = sorted({len(volume) * n // 4 for n in (1, 2, 3)})
        magnitudes(np.concatenate([volume.read(n, 1) for n in places]), volume.path)


def _check_lines(model: Model, volume: Scan, how: How) -> None:
    known = volume.lines | volume.padding
    wanted = np.ones_like(known) if how.undersample else model.lines
    if side := one_sided(wanted & ~known, volume.lines):
        raise StudyError(
            f"{volume.where}: {int((wanted & ~known).sum())} lines beyond the outermost {side} frequency that is measured "
            "are missing, a partial Fourier acquisition that the file doesn't declare; expected all of "
            f"{'k-space' if how.undersample else 'the mask'}"
        )
    if not how.undersample:
        model.check_mask(known & model.lines | volume.lines, volume.where)
    elif not known.all():
        raise StudyError(
            f"{volume.where}: {int(volume.lines.sum())} of {len(known)} lines are measured, expected all, as --undersample "
            "takes them (is it multiplied by another mask?)"
        )


def _picture(folder: Path, volume: Scan | Images, shown: tuple[np.ndarray, np.ndarray]) -> None:
    import matplotlib.pyplot as plt

    from kdmri_lib.figures import before_and_after

    name = volume.name.replace("/", "_")
    label = f"{volume.path.name.split('.')[0]}_{name.split('.')[0]}"
    if len(label.encode()) > LONGEST:
        label = label.encode()[:LONGEST].decode(errors="ignore") + hashlib.sha256(label.encode()).hexdigest()[:8]
    named = ", ".join(dict.fromkeys((volume.path.name, name)))  # a file of one volume has its name
    figure = before_and_after(*shown, title=f"{named}, slice {len(volume) // 2}")
    with atomic_write(folder / f"{label}.png") as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)
