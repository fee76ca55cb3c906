"""The command `reconstruct`: a volume through an exported network, slice by slice, from file to file."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import h5py
import nibabel
import numpy as np
from tqdm.auto import tqdm

from kdmri_lib.coils import combined, espirit, power_of_two, summed_squares
from kdmri_lib.datasets.folders import NIFTI, ends_in
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.deployment.model import Model
from kdmri_lib.deployment.phase import check_phase, low_resolution, squares, unit_phase, without_phase
from kdmri_lib.deployment.readers import Stored, open_volumes
from kdmri_lib.deployment.scan import Scan
from kdmri_lib.errors import StudyError
from kdmri_lib.orders import looks_like_images
from kdmri_lib.storage import atomic_write, sha256_file

COILS = ("rss", "espirit")
EXPLAINED = 0.8  # share of the coil images' energy that right sensitivities see; at the worst resolution it is 0.93
SWAPPED = 0.02  # by which it grows when two of the scan's coils are put right; of right ones it falls
HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class How:
    """What is done with a volume."""

    order: str = "auto"  # one of `orders.ORDERS`, or "auto", by the data
    axes: str = ""  # as `readers.open_volumes` takes them
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
    source : k-space or images, as `readers.open_volumes` reads them.
    output : HDF5, the arrays under the same names (k-space becomes `image`), with what `source` said of them; for NIfTI,
        NIfTI. `force` replaces it.
    figures : folder for one PNG per volume: the middle slice zero-filled and reconstructed.

    Raises
    ------
    StudyError
        When the shape or the mask isn't the model's, or the input isn't what it should be. Nothing is left half-written.
    """
    nifti, name = ends_in(source.name, NIFTI), model.path.name
    read = [path for path in (source, model.path, how.sensitivities) if path and path.exists()]
    no_phase = "NIfTI" if nifti else name if model.domain == "magnitude" else ""
    becomes = f"a NIfTI volume becomes a NIfTI volume ({', '.join(NIFTI)}), everything else HDF5 ({', '.join(HDF5)})"
    for wrong, message in (
        (source.is_dir(), f"{source}: a folder; expected a file of k-space or images"),
        (how.batch < 1, f"batch {how.batch}: expected at least 1 slice at a time"),
        (how.coils not in COILS, f"coils '{how.coils}' is unknown; known: {', '.join(COILS)}"),
        (output.exists() and any(map(output.samefile, read)), f"{output}: is read here itself; expected another name"),
        (output.exists() and not force, f"{output}: exists already; --force replaces it"),
        (not ends_in(output.name, NIFTI if nifti else HDF5), f"{output}: {becomes}"),
        (how.sensitivities and how.coils != "rss", f"{how.sensitivities}: sensitivities, and --coils {how.coils} too"),
        (how.complex and no_phase, f"{output}: --complex asks for a phase, which {no_phase} has none of"),
        (
            how.remove_phase and model.domain == "complex",
            f"{name} is a complex model; --remove-phase is for magnitudes",
        ),
    ):
        if wrong:
            raise StudyError(message)
    with open_volumes(source, how.axes, model.axis, model.domain) as volumes:
        passes = [_Reconstruction(model, volume, how) for volume in volumes]
        with atomic_write(output) as temporary:
            done = (_to_nifti if nifti else _to_hdf5)(temporary, source, model, passes)
        for each in passes if figures else ():
            each.draw(figures)
    return done


def _to_nifti(temporary: Path, source: Path, model: Model, passes: list) -> list[str]:
    """Axial slices as a NIfTI volume that lies where `source` does."""
    slices = np.empty((passes[0].scan.slices, *passes[0].scan.shape), np.float32)
    done = passes[0].run(slices)
    original = nibabel.as_closest_canonical(nibabel.load(source))
    volume = np.ascontiguousarray(slices[:, ::-1, ::-1].transpose(2, 1, 0))
    nibabel.save(nibabel.Nifti1Image(volume, original.affine), temporary)
    return done


def _to_hdf5(temporary: Path, source: Path, model: Model, passes: list) -> list[str]:
    done = []
    with h5py.File(temporary, "w", locking=False) as file:
        file.attrs.update({f"model_{k}": str(v) for k, v in model.about.items() if k != "mask"})
        file.attrs.update({"source": source.name, "source_sha256": sha256_file(source), "engine": model.engine})
        for each in passes:
            scan, kind = each.scan, np.complex64 if each.how.complex else np.float32
            name = scan.name if scan.stored.images else "image"
            target = file.create_dataset(name, (scan.slices, *scan.shape), kind, chunks=(1, *scan.shape))
            target.attrs.update(scan.attributes | {"coils": each.combination})
            done += each.run(target)
    return done


class _Reconstruction:
    """One volume through the network, in two passes, so that it never is in memory whole: each coil's largest zero-filled
    magnitude and what else must be known of the whole, then the network."""

    def __init__(self, model: Model, stored: Stored, how: How):
        if stored.images:
            _check_images(stored, how, model.domain)
        self.model, self.how, self.scan = model, how, Scan(stored, how.order, model.axis)
        model.check_shape(self.scan.shape, stored.where)
        self.scan.check_lines(model.lines, model.path.name, how.undersample)
        self.combination = _combination(self.scan, how)
        # A trial takes what a scan would have measured.
        self.lines = model.lines if how.undersample else self.scan.lines
        self.maps = _read_maps(how.sensitivities, self.scan, self.lines) if how.sensitivities else None
        self.by_sensitivities = self.scan.coils > 1 and (self.maps is not None or how.coils == "espirit")
        self.shown = None  # the middle slice, zero-filled and reconstructed

    def _combined(self, first: int, images: np.ndarray, kspace: np.ndarray) -> np.ndarray:
        """(count, H, W) of coil images from slice `first` by sensitivities: given, or estimated from their k-space, both
        (count, coils, H, W)."""
        maps = (
            espirit(one, self.lines, self.scan.where) if self.maps is None else self.maps[number % len(self.maps)]
            for number, one in enumerate(kspace, first)
        )
        return np.stack([combined(image, of) for image, of in zip(images, maps, strict=True)])

    def _blocks(self, check: bool = False) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]:
        """Block by block: the first slice's number, unshifted k-space (count, coils, H, W) as it was measured and without
        the phase at low resolution, and exp(i phase); None where none is taken off."""
        for first in range(0, self.scan.slices, self.how.batch):
            kspace, phase = self.scan.read(first, self.how.batch, check), None
            if self.how.undersample:
                kspace = np.where(self.model.mask, kspace, 0)
            if self.how.remove_phase:
                phase = unit_phase(low_resolution(kspace, self.model.lines))
            yield first, kspace, kspace if phase is None else without_phase(kspace, phase), phase

    def _scales(self) -> np.ndarray:
        """(coils,): the largest zero-filled magnitude of each; `StudyError` when the volume isn't one for this model."""
        model, where = self.model, self.scan.where
        scales, weighted, energy = np.zeros((3, self.scan.coils))
        for _, _, kspace, phase in self._blocks(check=True):
            if model.domain == "magnitude" and phase is None:
                found = squares(low_resolution(kspace, model.lines))
                weighted, energy = weighted + found[0].sum(axis=0), energy + found[1].sum(axis=0)
            scales = np.maximum(scales, np.abs(model.zero_fill(kspace)).max(axis=(0, 2, 3)))
        for coil, scale in enumerate(scales):
            name = f"{where}, coil {coil}" if self.scan.coils > 1 else where
            check_phase(weighted[coil], energy[coil], name, model.path.name)
            if scale == 0:
                raise StudyError(f"{name} is zero on all lines of the mask")
        return scales

    def run(self, target) -> list[str]:
        """Fill `target` (slices, H, W); returns what was found and done, in lines."""
        scan, model, scales = self.scan, self.model, self._scales()
        middle, most = scan.slices // 2, 0.0
        with tqdm(total=scan.slices, desc=scan.name, unit="slice", mininterval=1) as progress:
            for first, measured, kspace, phase in self._blocks():
                zero_filled = model.zero_fill(kspace)
                images = np.stack([model.restore(zero_filled[:, n], scale) for n, scale in enumerate(scales)], axis=1)
                if scan.coils == 1:
                    images = images[:, 0]
                elif self.by_sensitivities:  # these need the phase that was taken off
                    images = self._combined(first, images if phase is None else images * phase, measured)
                else:
                    images = summed_squares(images)
                images = np.abs(images) if np.iscomplexobj(images) and not self.how.complex else images
                most, end = max(most, float(np.abs(images).max())), first + len(images)
                if not np.isfinite(images).all():
                    raise StudyError(f"{scan.where}: its image isn't finite in slices {first} to {end - 1}")
                target[first:end] = images
                progress.update(len(images))
                if first <= middle < end:
                    self.shown = (summed_squares(zero_filled[middle - first]), np.abs(images[middle - first]))
        if not most:
            raise StudyError(f"{scan.where}: its image is 0 everywhere; expected a signal (what are its units?)")
        coils = "" if scan.coils == 1 else f", coils: {self.combination}"
        slices = f"{scan.slices} slice{'s' * (scan.slices > 1)}"
        return [*scan.remarks, f"{scan.name}: {slices} of {scan.shape[0]}x{scan.shape[1]}{coils}"]

    def draw(self, folder: Path) -> None:
        """Write the PNG of the middle slice, once `run` is done."""
        import matplotlib.pyplot as plt

        from kdmri_lib.figures import before_and_after

        names = dict.fromkeys((self.scan.stored.path.name, self.scan.name.replace("/", "_")))  # one, of one volume
        figure = before_and_after(*self.shown, title=f"{', '.join(names)}, slice {self.scan.slices // 2}")
        with atomic_write(folder / f"{'_'.join(name.split('.')[0] for name in names)}.png") as temporary:
            figure.savefig(temporary, dpi=130)
        plt.close(figure)


def _combination(scan: Scan, how: How) -> str:
    """How the coils become one image, in words; `StudyError` when what is asked for doesn't go together."""
    if scan.coils == 1:
        if how.sensitivities:
            raise StudyError(f"{how.sensitivities}: sensitivities, but {scan.where} has one coil")
        return "one"
    if how.sensitivities:
        return f"{scan.coils}, combined with the sensitivities of {how.sensitivities.name}"
    if how.coils == "espirit":
        return f"{scan.coils}, combined with sensitivities estimated from the centre of k-space (ESPIRiT)"
    if how.complex:
        needed = "has no phase; --complex needs --coils espirit or --sensitivities"
        raise StudyError(f"{scan.where} has {scan.coils} coils, whose root sum of squares {needed}")
    return f"{scan.coils}, each reconstructed, combined by root sum of squares"


def _read_maps(path: Path, scan: Scan, lines: np.ndarray) -> np.ndarray:
    """Sensitivities (1 or slices, coils, H, W) for a scan; `StudyError` when they aren't those that its coil images, at the
    resolution of the centre of its measured `lines`, show."""
    with open_volumes(path, name="sensitivities") as (found,):
        maps = found.read(0, found.shape[0])
        maps = maps.swapaxes(-2, -1) if scan.stored.turned else maps  # as the scan was
    expected = [(slices, scan.coils, *scan.shape) for slices in dict.fromkeys((1, scan.slices))]
    if maps.shape not in expected:
        sizes = " or ".join(map(str, expected))
        raise StudyError(
            f"{path}: sensitivities {maps.shape} (slices, coils, H, W), expected {sizes} as in {scan.where}"
        )
    if not (there := maps.any(axis=(0, 2, 3))).all():
        raise StudyError(f"{path}: sensitivities of coil {np.argmin(there)} that are 0 everywhere")
    if not looks_like_images(maps):
        raise StudyError(f"{path}: holds k-space by where its energy is; expected sensitivities, which are images")
    low = low_resolution(scan.read(scan.first, 1)[0], lines)
    share, swapped = _explained(low, maps[scan.first % len(maps)])
    if share < EXPLAINED or swapped > share + SWAPPED:
        explained = f"explain {share:.0%} of the coil images of {scan.where}, expected above {EXPLAINED:.0%}"
        explained += f" and not {swapped:.0%} with two coils swapped"
        hint = "(are its coils in another order, or is it another scan's, turned or moved?)"
        raise StudyError(f"{path}: sensitivities that {explained} {hint}")
    return maps


def _explained(images: np.ndarray, maps: np.ndarray) -> tuple[float, float]:
    """The share of the energy of coil images that is one image seen with these sensitivities, all (coils, H, W), where
    there are some; and the largest such share with the sensitivities of two coils swapped."""
    there = (size := summed_squares(maps)) > 0
    maps, images = maps[:, there] / size[there], images[:, there] / power_of_two(np.abs(images).max())

    def share(seen: np.ndarray) -> float:
        return float(np.square(np.abs(seen), dtype=np.float64).sum() / total)

    total = max(np.square(np.abs(images), dtype=np.float64).sum(), np.finfo(np.float64).tiny)
    seen, pairs = (maps.conj() * images).sum(axis=0), combinations(range(len(maps)), 2)
    swapped = (share(seen + (maps[a] - maps[b]).conj() * (images[b] - images[a])) for a, b in pairs)
    return share(seen), max(swapped)


def _check_images(stored: Stored, how: How, domain: str) -> None:
    of_kspace = ("order", "axes", "coils", "remove_phase")
    if given := [f"--{name.replace('_', '-')}" for name in of_kspace if getattr(how, name) != getattr(How, name)]:
        raise StudyError(f"{stored.where} holds images; {', '.join(given)} is for k-space")
    if not how.undersample:
        trial = "--undersample takes them for fully sampled, for a retrospective trial"
        raise StudyError(f"{stored.where} holds images, expected k-space; {trial}")
    if domain == "magnitude":
        places = sorted({stored.shape[0] * n // 4 for n in (1, 2, 3)})
        magnitudes(np.concatenate([stored.read(n, 1) for n in places]), stored.path)
