"""Virtual brain subjects made from the MNI152 template that the nilearn package carries, and real images.

The template (ICBM 2009a, T1, 1 mm; Fonov et al. 2011) is real MR, averaged over 152 people, skull-stripped and smooth. A
virtual subject is the template's tissue maps warped by a random diffeomorphism, to which is added what averaging took
away: cortical folds, vessels, cerebrospinal fluid, skull and scalp, texture, a receive field; contrast from the signal
equations, a scanner's point spread and Rician noise. It is not a person: its folds are level sets of random fields,
without the anatomy of real sulci, its vessels form no tree, below the skull base nothing is modelled, and all subjects
share one template. A *various* data set (`variety`) has subjects in any contrast, turned and bent further, a part of them
skull-stripped, with lesions, at any noise level.
"""

import itertools
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import nilearn
import numpy as np
from matplotlib import cbook
from pydantic import Field
from scipy import ndimage
from skimage.transform import resize

from kdmri_lib.datasets import fields, generated, people
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.fields import band_noise, sheet_distance, smooth_step
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.nifti import read_nifti
from kdmri_lib.datasets.relaxation import TISSUES
from kdmri_lib.datasets.variety import KINDS, PLAIN, Variety
from kdmri_lib.declarations import Dataset

GRID = (240, 240)  # at 1 mm; another shape covers the same field of view with larger or smaller pixels
COARSE = 3  # mm between the nodes on which warps and folds are drawn
FIRST_SLICE, LAST_SLICE = 42, 138  # template slices between skull base and vertex

# Contrasts, as `relaxation.contrast` knows them, of further test subjects, and how many of each: "flair:6 ir:6".
_CONTRAST = r"(t1|ir|flair|bssfp|pd):[1-9]\d*"
_CONTRASTS = Annotated[str, Field(pattern=rf"^{_CONTRAST}( {_CONTRAST})*$")]
OPTIONS = {"further_contrasts": _CONTRASTS} | generated.options(*KINDS)


@cache
def template_maps() -> dict[str, np.ndarray]:
    """The packaged T1 image and tissue probabilities, each (z, y, x) float32 in [0, 1], axial slices first; and "depth" in
    the brain, mm, negative outside."""
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    maps = {}
    for name, code in {"t1": "t1", "grey": "gm", "white": "wm"}.items():
        maps[name] = read_nifti(folder / f"mni_icbm152_{code}_tal_nlin_sym_09a_converted.nii.gz")[0] / 255
    brain = maps["grey"] + maps["white"] > 0.3
    # Within its bounding box and a margin, what is inside the brain is found in half the time.
    (box,) = ndimage.find_objects(brain.astype(int))
    box = tuple(slice(max(side.start - 3, 0), side.stop + 3) for side in box)
    brain[box] = ndimage.binary_opening(ndimage.binary_fill_holes(brain[box]), iterations=2)
    depth = 0.5 - ndimage.distance_transform_edt(~brain)
    depth[box] = np.where(brain[box], ndimage.distance_transform_edt(brain[box]) - 0.5, depth[box])
    return maps | {"depth": depth.astype(np.float32)}


def on_grid(slices: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(slices, H, W) at 1 mm framed on the 240 x 240 grid, resampled where `shape` is another one: (slices, *shape)."""
    slices = padded(slices, GRID)
    if tuple(shape) != GRID:
        slices = resize(slices, (len(slices), *shape), anti_aliasing=True)
    return slices


def individual_slice(shape: tuple[int, int] = GRID) -> np.ndarray:
    """One sagittal head slice of one person, (1, H, W) float32: real MR, the sample image that matplotlib carries."""
    with cbook.get_sample_data("s1045.ima.gz") as file:
        image = np.frombuffer(file.read(), np.uint16).reshape(1, 256, 256)
    return on_grid(image.astype(np.float32), shape)


def virtual_subject(
    rng: np.random.Generator,
    slices: int,
    shape: tuple[int, int] = GRID,
    protocol: str = "t1",
    phase: np.ndarray | None = None,
    variety: Variety = PLAIN,
) -> np.ndarray:
    """One virtual subject, (slices, H, W) float32 in [0, 1], or complex64 at a `phase`, evenly spaced axial slices (of one
    with a `variety`, anywhere)."""
    maps = template_maps()
    size = maps["t1"].shape
    coarse_shape = tuple(n // COARSE + 1 for n in size)
    # Millimetres in the subject, for each voxel of the slices that are kept.
    z = variety.levels(np.linspace(FIRST_SLICE, LAST_SLICE, slices), FIRST_SLICE, LAST_SLICE) + rng.uniform(-2, 2)
    within = variety.thickness()
    z = np.add.outer(z, within).ravel()
    rows, columns = (
        (np.arange(n) - n // 2) * (full / n) + extent // 2
        for n, full, extent in zip(shape, GRID, size[1:], strict=True)
    )
    here = np.stack(np.meshgrid(z, rows, columns, indexing="ij")).astype(np.float32)

    def at(field: np.ndarray, where: np.ndarray = here / COARSE) -> np.ndarray:
        return ndimage.map_coordinates(field, where, order=1, mode="nearest", output=np.float32)

    amplitude = 1.2 * variety.between("warp", 2, 1, 0.7, 1.7)
    warp = COARSE * fields.diffeomorphic_displacement(rng, coarse_shape, 7, amplitude)
    scale = rng.uniform(0.95, 1.04, 3)[:, None, None, None]
    middle = np.array(size)[:, None, None, None] / 2
    there = (variety.placed(here, middle) - middle) / scale + middle + np.stack([at(w) for w in warp])
    there = there.astype(np.float32)
    grey, white, depth = (at(maps[name], there) for name in ("grey", "white", "depth"))
    if variety.kinds:  # far enough turned and moved, the template's edges are in sight: the depth falls on beyond them
        last = np.array(size)[:, None, None, None] - 1
        depth = depth - np.maximum(np.maximum(-there, there - last), 0).max(axis=0)
    else:
        depth = np.where((there < 0).any(0), -50, depth)

    # Folds: the zero level of a random field is a set of sheets.
    fold = sheet_distance(band_noise(rng, coarse_shape, low=11 / COARSE, high=30 / COARSE), COARSE, at)
    reach = 12 + 4 * at(band_noise(rng, coarse_shape, low=10, high=40))  # how deep a sulcus goes, mm
    cortex = smooth_step(reach - depth, 2) * smooth_step(depth, 0.7)
    deep_grey = smooth_step(depth - 28, 4) * grey
    sulcus = cortex * smooth_step(rng.uniform(0.5, 0.9) - fold, 0.5)
    ribbon_width = rng.uniform(2.3, 2.9)
    ribbon = np.maximum(
        cortex * smooth_step(ribbon_width + 0.7 - fold, 0.6),
        smooth_step(ribbon_width - depth, 0.6) * smooth_step(depth, 0.6),
    )
    brain = smooth_step(depth, 0.6)
    # The template's own maps, sharpened, rule where they are sure: ventricles, deep nuclei, cerebellum, large sulci.
    fluid = np.maximum(brain * smooth_step(0.35 - grey - white, 0.2), sulcus)
    grey_share = np.maximum.reduce([ribbon, deep_grey, smooth_step(grey - 0.62, 0.25)])
    grey_share = grey_share * (1 - fluid) * brain
    share = {"csf": fluid, "grey": grey_share, "white": np.clip(brain - fluid - grey_share, 0, 1)}

    # Outside the brain, layer by layer: fluid, bone with marrow in it, fat, muscle, skin.
    outside, wobble = -depth, at(band_noise(rng, coarse_shape, low=6, high=30))
    edges = np.cumsum([0, rng.uniform(1.5, 3), rng.uniform(5, 7.5), rng.uniform(3, 6), rng.uniform(1.5, 2.5)])
    edges = [edge + min(i, 1) * (0.4 + 0.1 * i) * wobble for i, edge in enumerate(edges)]
    layers = [smooth_step(outside - a, 0.6) * smooth_step(b - outside, 0.6) for a, b in itertools.pairwise(edges)]
    marrow = smooth_step(1.1 - np.abs(outside - (edges[1] + edges[2]) / 2), 0.7) * smooth_step(wobble + 0.8, 0.6)
    share["csf"] = share["csf"] + layers[0]
    share["bone"] = layers[1] * (1 - marrow)
    strands = smooth_step(at(band_noise(rng, coarse_shape, low=2.2, high=8)) - 0.9, 0.3)
    share["fat"] = layers[1] * marrow * 0.7 + layers[2] * (1 - strands)
    share["muscle"] = layers[2] * strands + layers[3]

    # Vessels: where two sheets cross is a curve; the distance to both makes it a tube that lies within sulci.
    other = sheet_distance(band_noise(rng, coarse_shape, low=11 / COARSE, high=40 / COARSE), COARSE, at)
    crossing = np.hypot(fold, other)
    vessel = smooth_step(rng.uniform(0.6, 1.0) - crossing, 0.5) * smooth_step(depth + 2, 1)
    vessel = vessel * smooth_step(at(band_noise(rng, coarse_shape, low=5, high=30)) - 0.3, 0.3)

    # Most brain protocols saturate or miss part of the fat signal; how much differs from scan to scan.
    share["fat"] = share["fat"] * variety.between("contrast", 2, rng.uniform(0.35, 0.7), 0.2, 1)
    tissues = {name: TISSUES[name]._replace(t1=TISSUES[name].t1 * rng.normal(1, 0.04)) for name in share}
    signals = variety.signals(protocol, tissues)
    signal = sum(weight * signals[name] for name, weight in share.items())
    bright = max(variety.signals(protocol, TISSUES)[t] for t in ("white", "grey"))
    # Inflow makes arteries bright on gradient echoes, flow voids make them dark on spin echoes.
    signal = signal * (1 - vessel) + vessel * (variety.flow(1.3 if protocol == "t1" else 0.1) * bright)
    signal = with_lesions(variety.rng("lesions"), signal, here, depth, wobble, bright)
    signal = signal.reshape(slices, len(within), *shape).mean(axis=1)
    texture = fields.power_law_noise(rng, (slices, *shape), 1.0, high=60)
    bias = fields.bias_field(rng, (slices, *shape), variety.between("bias", 1, 0.2, 0.05, 0.65))
    signal = signal * (1 + 0.025 * texture) * bias
    # What a scanner resolves, in pixels as fine as it acquires: 1.2 of them at half height where all of k-space counts
    # alike, 1.8 where it is Hamming-weighted (Harris 1978). Without it there is, beyond 0.3 cycles per pixel, two to
    # seven times the power of the two real images that `spectrum` compares with.
    signal = fields.point_spread(signal, variety.between("resolution", 1, rng.uniform(1.2, 1.8), 0.9, 2.2))
    # Noise relative to white matter, so that it is the same whatever the brightest voxel is: up to BrainWeb's usual 3%
    # (Collins et al. 1998). With it and the blur, spectra are within a factor of two of two real ones (`spectrum`).
    image = fields.measured(rng, signal, variety.noise(rng.uniform(0.02, 0.03) * bright, signal), phase)
    middle_of = slice(len(within) // 2, None, len(within))
    image = stripped(variety.rng("stripping"), image, depth[middle_of], wobble[middle_of])
    return variety.shown(image / np.abs(image).max())


def with_lesions(
    rng: np.random.Generator | None,
    signal: np.ndarray,
    here: np.ndarray,
    depth: np.ndarray,
    wobble: np.ndarray,
    bright: float,
) -> np.ndarray:
    """`signal` (N, H, W) with lesions in the brain, in half of the subjects; none where `rng` is None.

    One to six, 3 to 36 mm across, dark or bright, with edges that are sharp or not; one in three has a rim that takes
    contrast agent up. `here` : (3, N, H, W) in mm, `depth` in the brain in mm, `wobble` : a random field that bends edges.
    """
    if rng is None or rng.uniform() < 0.5:
        return signal
    places = np.argwhere(depth > 3)
    for _ in range(rng.integers(1, 7)):
        centre = here[:, *places[rng.integers(len(places))]].reshape(3, 1, 1, 1)
        away = np.sqrt((((here - centre) / rng.uniform(0.7, 1.3, (3, 1, 1, 1))) ** 2).sum(axis=0))
        radius = fields.log_uniform(rng, 1.5, 18)
        inside = radius * (1 + 0.2 * wobble) - away
        share = smooth_step(inside, rng.uniform(0.6, 3)) * smooth_step(depth, 0.6)
        signal = signal * (1 - share) + share * bright * rng.uniform(0.1, 1.6)
        if rng.uniform() < 0.33:
            rim = smooth_step(rng.uniform(0.5, 1.5) - np.abs(inside), 0.6) * smooth_step(depth, 0.6)
            signal = signal * (1 - rim) + rim * bright * rng.uniform(1.2, 2)
    return signal


def stripped(rng: np.random.Generator | None, image: np.ndarray, depth: np.ndarray, wobble: np.ndarray) -> np.ndarray:
    """The image (slices, H, W), in 40% of the subjects without what is outside the brain: 0 there, as a brain extraction
    leaves it, up to 3 mm too far out or too far in by a little. As it is where `rng` is None."""
    if rng is None or rng.uniform() > 0.4:
        return image
    return image * smooth_step(depth + rng.uniform(-0.5, 3) + rng.uniform(0, 1) * wobble, rng.uniform(0.3, 1))


def cohort(dataset: Dataset) -> Iterator[Member]:
    """The virtual subjects; and, each a test set of its own, further ones of other contrasts, the unwarped template, one
    person's slice and nine people; plain subjects and strangers, where the data set asks for some."""
    asked = [pair.split(":") for pair in str(dataset.options.get("further_contrasts", "")).split()]
    further = tuple(protocol for protocol, count in asked for _ in range(int(count)))
    yield from generated.cohort(dataset, "virtual", further)
    yield Member("template", "mni152", "mni152", {"real": "mni152"})
    yield Member("individual", "s1045", "s1045", {"real": "s1045"})
    yield from people.cohort()


def make(
    dataset: Dataset, number: int = 0, real: str = "", file: str = "", protocol: str = "", plain: bool = False, **how
) -> tuple[np.ndarray, dict]:
    """Virtual subject `number` (or stranger, as `generated.make` knows `how`), a real image or that of a person's `file`:
    (slices, H, W) float32 or complex64 in any unit, and its attributes. One of another `protocol` than the data set's
    has no variety; real images are, in a complex data set, at a simulated phase, and say so."""
    if number:
        subject = partial(virtual_subject, protocol=protocol or dataset.contrast)
        about = {"kind": "virtual subject", "origin": "tissue maps of the MNI152 template, warped; see embedded_brain"}
        return generated.make(subject, OPTIONS, about, dataset, number, bool(protocol or plain), **how)
    count, shape = dataset.slices_per_volume, dataset.shape
    if file:
        # Various data sets have many subjects of few slices; of a person as many as there were before.
        image, about = people.make(file, max(count, 8) if dataset.options.get("various") else count)
        about["spacing"] = (about["spacing"][0], *(full / n for full, n in zip(GRID, shape, strict=True)))
        image = on_grid(image, shape)
    elif real == "mni152":
        image = on_grid(template_maps()["t1"][np.linspace(FIRST_SLICE, LAST_SLICE, count).round().astype(int)], shape)
        about = {"origin": "MNI152 T1 1 mm template (ICBM 2009a), packaged with nilearn"}
    else:
        image = individual_slice(shape)
        about = {"origin": "one person's sagittal slice s1045, packaged with matplotlib"}
    image, kind = fields.at_declared_phase(dataset, real or Path(file).name, image, "real MR")
    return image, about | {"kind": kind}
