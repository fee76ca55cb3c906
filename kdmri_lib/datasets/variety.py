"""Variety: what differs between the volumes of a *various* data set, beside the anatomy that its generator draws.

A network that learns from images of one contrast at one noise level is right for these alone. Where images are generated,
what differs between scanners, protocols and people can be drawn at random instead, far beyond what is usual (domain
randomisation; Billot et al., SynthSeg, Medical Image Analysis 2023; for reconstruction Wang et al., arXiv 2307.13220).

Options of a data set: `various: true` draws every kind of variety; `without: noise` all but that one, which stays as the
generator has it otherwise, and `without: all` none, of training subjects alone, so that what is left out is judged on the
same validation and test subjects. `plain_subjects: 12` adds a test set "plain" of so many subjects without variety,
`strangers: 6` one of images that no generator trains on (`strangers`).
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.relaxation import TISSUES, Tissue, contrast, drawn_sequence
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

STREAM = 2  # random streams of a volume's variety, beside those of its image and its phase
KINDS = ("contrast", "stripping", "lesions", "warp", "resolution", "noise", "bias", "gamma", "rounding")
LOWEST_SNR, HIGHEST_SNR = 5, 400


def options(*kinds: str) -> dict[str, Any]:
    """The options of a generator whose variety is of these `kinds`, with their types."""
    count = Annotated[int, Field(gt=0)]
    left_out = Literal[("all", *kinds)]
    return {"various": bool, "without": left_out, "plain_subjects": count, "strangers": count}


class Variety:
    """What is drawn at random for one volume, which is various in `kinds`.

    A method takes what the generator would use, and gives it back where the volume isn't various in that. Each kind has a
    random stream of its own, so that leaving one out leaves all others, and the anatomy, as they are.
    """

    def __init__(self, entropy: tuple[int, ...] = (), kinds: tuple[str, ...] = ()):
        self.entropy, self.kinds = entropy, kinds

    def rng(self, kind: str, part: int = 1) -> np.random.Generator | None:
        """The random stream of a part of a kind, from its start; None where the volume isn't various in it."""
        if kind not in self.kinds:
            return None
        return np.random.default_rng([*self.entropy, STREAM, 1 + KINDS.index(kind), part])

    def between(self, kind: str, part: int, usual: float, low: float, high: float) -> float:
        """A number from `low` to `high`, by the random stream of that part of a kind."""
        rng = self.rng(kind, part)
        return usual if rng is None else rng.uniform(low, high)

    def levels(self, usual: np.ndarray, first: float, last: float) -> np.ndarray:
        """Where slices lie, of those `usual`: one anywhere in each of as many equal parts from `first` to `last`.

        Whatever the kinds, so that subjects of few slices, which various data sets have many of, show all levels.
        """
        if not self.kinds:
            return usual
        rng = np.random.default_rng([*self.entropy, STREAM, 0])
        part = (np.arange(len(usual)) + rng.uniform(size=len(usual))) / len(usual)
        return first + part * (last - first)

    def signals(self, protocol: str, tissues: dict[str, Tissue]) -> dict[str, float]:
        """The signal of each tissue: by the protocol; or, in 45% each within 25% of it, in 15% by another sequence, in 40%
        at random from 0.05 to 1, bone a tenth of that."""
        usual = {name: contrast(protocol, tissue) for name, tissue in tissues.items()}
        rng = self.rng("contrast")
        if rng is None:
            return usual
        way, drawn = rng.uniform(), {name: rng.uniform() for name in TISSUES}
        if way < 0.45:
            return {name: signal * (0.75 + 0.5 * drawn[name]) for name, signal in usual.items()}
        if way < 0.6:
            sequence = drawn_sequence(rng)
            return {name: sequence(tissue) for name, tissue in tissues.items()}
        return {name: (0.05 + 0.95 * drawn[name]) * (0.1 if name == "bone" else 1) for name in tissues}

    def fat(self, usual: float) -> float:
        """The share of fat's signal that a protocol leaves: 0.2 to 1."""
        return self.between("contrast", 2, usual, 0.2, 1)

    def flow(self, usual: float) -> float:
        """Signal of blood that flows, relative to bright tissue: in half of the volumes 0.1, else 0.8 to 1.8."""
        rng = self.rng("contrast", 3)
        if rng is None:
            return usual
        return 0.1 if rng.uniform() < 0.5 else rng.uniform(0.8, 1.8)

    def placed(
        self, here: np.ndarray, middle: np.ndarray, turn: float = 8, sizes: tuple[float, float] = (0.85, 1.1)
    ) -> np.ndarray:
        """Coordinates in mm (dimensions, ...) in a body that is turned by some `turn` degrees, moved by some 6 mm and as
        many times as large along each axis as `sizes` allow, about `middle`."""
        rng = self.rng("warp")
        if rng is None:
            return here
        count = len(here)
        skew = np.triu(rng.normal(0, np.deg2rad(turn), (count, count)), 1)
        rotation, _ = np.linalg.qr(np.eye(count) + skew - skew.T)
        rotation = rotation * np.sign(np.diag(rotation))
        stretch = rotation / rng.uniform(*sizes, count)[:, None]
        moved = here - middle - rng.normal(0, 6, count).reshape(middle.shape)
        return np.tensordot(stretch, moved, 1).astype(here.dtype) + middle.astype(here.dtype)

    def bending(self, smoothness: float, amplitude: float) -> tuple[float, float]:
        """Smoothness and amplitude of a warp, in grid steps: 0.7 to 1.7 times as wide."""
        return smoothness, amplitude * self.between("warp", 2, 1, 0.7, 1.7)

    def blur(self, usual: float) -> float:
        """Width of the point spread at half its height, pixels: 0.9 to 2.2."""
        return self.between("resolution", 1, usual, 0.9, 2.2)

    def thickness(self) -> np.ndarray:
        """Where within a slice its signal comes from, mm from its middle: there alone, or in half of the volumes three
        places across 2 to 7 mm, to be averaged."""
        rng = self.rng("resolution", 2)
        if rng is None or rng.uniform() < 0.5:
            return np.zeros(1)
        return rng.uniform(2, 7) * np.array([-1, 0, 1]) / 3

    def noise(self, usual: float, signal: np.ndarray) -> float:
        """Standard deviation of the noise in either part: from almost none (an SNR of 400) to an SNR of 5, all orders of
        size alike, relative to the mean of `signal` where there is some."""
        rng = self.rng("noise")
        if rng is None:
            return usual
        return typical(signal) * log_uniform(rng, 1 / HIGHEST_SNR, 1 / LOWEST_SNR)

    def bias(self, usual: float) -> float:
        """How far a receive field goes from 1: 0.05 to 0.65."""
        return self.between("bias", 1, usual, 0.05, 0.65)

    def shown(self, image: np.ndarray) -> np.ndarray:
        """An image as it was saved: its magnitude, 1 at most, to the power of 0.7 to 1.4, and in three of ten volumes
        rounded to 8 bits. As it is where the volume is various in neither."""
        gamma, rounding = self.rng("gamma"), self.rng("rounding")
        if gamma is None and rounding is None:
            return image
        size = np.abs(image)
        size = size / size.max()
        shown = size if gamma is None else size ** np.float32(gamma.uniform(0.7, 1.4))
        if rounding is not None and rounding.uniform() < 0.3:
            shown = np.round(shown * 255) / 255
        return shown if np.isrealobj(image) else shown * np.exp(1j * np.angle(image))


PLAIN = Variety()


def variety_of(dataset: Dataset, number: int, known: dict[str, Any]) -> Variety:
    """The variety of volume `number`: none unless the data set is `various`; `known`, the options of its generator, say of
    which kinds it may be."""
    if not dataset.options.get("various"):
        return PLAIN
    left_out = dataset.options.get("without") if number <= dataset.train else None
    if left_out == "all":
        return PLAIN
    kinds = (kind for kind in get_args(known["without"]) if kind not in ("all", left_out))
    return Variety((dataset.seed, number), tuple(kinds))


def further_subjects(dataset: Dataset, number: int) -> Iterator[Member]:
    """Generated images that only test, numbered on after `number`: a set "plain" of subjects without variety, and a set
    "strangers", each named by its signal-to-noise ratio.

    Raises
    ------
    StudyError
        When a kind of variety is left out where there is none.
    """
    if "without" in dataset.options and not dataset.options.get("various"):
        raise StudyError(f"data set '{dataset.name}': option 'without' needs the option various: true")
    for place in range(1, 1 + int(dataset.options.get("plain_subjects", 0))):
        name = f"plain{number + place:03d}"
        yield Member("plain", name, name, {"number": number + place, "plain": True})
    number += int(dataset.options.get("plain_subjects", 0))
    if count := int(dataset.options.get("strangers", 0)):
        for place, snr in enumerate(signal_to_noise(count), 1):
            name = f"stranger{number + place:03d}_" + (f"snr{snr:g}" if np.isfinite(snr) else "clean")
            yield Member("strangers", name, name, {"number": number + place, "snr": snr})


def signal_to_noise(count: int) -> list[float]:
    """The signal-to-noise ratios of so many strangers: the first has no noise, the others go from 80 to 5."""
    return [np.inf, *np.geomspace(80, LOWEST_SNR, count - 1).round().tolist()][: max(count, 1)]


def typical(signal: np.ndarray) -> float:
    """Mean of what is above a tenth of the bright parts (the 99th percentile)."""
    return float(signal[signal > 0.1 * np.percentile(signal, 99)].mean())


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from `low` to `high`, all orders of size alike."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
