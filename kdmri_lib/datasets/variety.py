"""Variety: what differs between the volumes of a *various* data set, beside the anatomy that its generator draws.

A network that learns from images of one contrast at one noise level is right for these alone. Where images are generated,
what differs between scanners, protocols and people can be drawn at random instead, far beyond what is usual (domain
randomisation; Billot et al., SynthSeg, Medical Image Analysis 2023; for reconstruction Wang et al., arXiv 2307.13220).
"""

import numpy as np

from kdmri_lib.datasets.fields import log_uniform, typical
from kdmri_lib.datasets.relaxation import TISSUES, Tissue, contrast, drawn_sequence

STREAM = 2  # random streams of a volume's variety, beside those of its image and its phase
KINDS = ("contrast", "stripping", "lesions", "warp", "resolution", "noise", "bias", "gamma", "rounding")
LOWEST_SNR, HIGHEST_SNR = 5, 400


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
        if (rng := self.rng("contrast")) is None:
            return usual
        way, drawn = rng.uniform(), {name: rng.uniform() for name in TISSUES}
        if way < 0.45:
            return {name: signal * (0.75 + 0.5 * drawn[name]) for name, signal in usual.items()}
        if way < 0.6:
            sequence = drawn_sequence(rng)
            return {name: sequence(tissue) for name, tissue in tissues.items()}
        return {name: (0.05 + 0.95 * drawn[name]) * (0.1 if name == "bone" else 1) for name in tissues}

    def flow(self, usual: float) -> float:
        """Signal of blood that flows, relative to bright tissue: in half of the volumes 0.1, else 0.8 to 1.8."""
        if (rng := self.rng("contrast", 3)) is None:
            return usual
        return 0.1 if rng.uniform() < 0.5 else rng.uniform(0.8, 1.8)

    def placed(
        self, here: np.ndarray, middle: np.ndarray, turn: float = 8, sizes: tuple[float, float] = (0.85, 1.1)
    ) -> np.ndarray:
        """Coordinates in mm (dimensions, ...) in a body that is turned by some `turn` degrees, moved by some 6 mm and as
        many times as large along each axis as `sizes` allow, about `middle`."""
        if (rng := self.rng("warp")) is None:
            return here
        count = len(here)
        skew = np.triu(rng.normal(0, np.deg2rad(turn), (count, count)), 1)
        rotation, _ = np.linalg.qr(np.eye(count) + skew - skew.T)
        rotation = rotation * np.sign(np.diag(rotation))
        stretch = rotation / rng.uniform(*sizes, count)[:, None]
        moved = here - middle - rng.normal(0, 6, count).reshape(middle.shape)
        return np.tensordot(stretch, moved, 1).astype(here.dtype) + middle.astype(here.dtype)

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
        if (rng := self.rng("noise")) is None:
            return usual
        return typical(signal) * log_uniform(rng, 1 / HIGHEST_SNR, 1 / LOWEST_SNR)

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
