"""What the viewer shows: whose slices, under which masks, by which networks; and a slice of them as one picture.

Of complex images the magnitude is shown and measured, and the k-space is their own.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import nn

from kdmri_lib.channels import magnitude
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import psnr, reconstruct, ssim
from kdmri_lib.figures import DISPLAY_PERCENTILE
from kdmri_lib.masks import line_axis
from kdmri_lib.operators import Undersampling

ZERO_FILLED = "Zero-filled"
FAINTEST = -5  # log10 of the magnitude in k-space, over its maximum, that is drawn black
LEAST_STEP = 1 / 512  # of a residue, in the units of the image: finer ones only cost bytes
RESIDUE_PERCENTILE = 99.8


class Person(NamedTuple):
    """Whose slices: `image` (slices, H, W), float32 in [0, 1] or complex64, and a line that says what it is and whose."""

    image: np.ndarray
    about: str = ""


class Setting(NamedTuple):
    """A mask, boolean (H, W), unshifted; the networks made for it, by what people call them; a word about them."""

    mask: np.ndarray
    networks: Mapping[str, nn.Module]
    note: str = ""


@dataclass(frozen=True)
class Views:
    """People and settings, each by name in the order of choice; all images and masks are of one size (H, W).

    Raises
    ------
    StudyError
        When there is nothing to choose, or sizes differ.
    """

    people: Mapping[str, Person]
    settings: Mapping[str, Setting]
    _operators: dict[str, Undersampling] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if not self.people or not self.settings:
            raise StudyError("nothing to look at: at least one person and one setting are needed")
        sizes = {p.image.shape[1:] for p in self.people.values()} | {s.mask.shape for s in self.settings.values()}
        if len(sizes) > 1:
            raise StudyError(f"images and masks of several sizes, {sorted(sizes)}; expected one")

    def index(self) -> dict:
        """What there is to choose from, as JSON: people with their slices' numbers; settings with their measured lines."""
        people = [
            {"name": name, "about": person.about, "slices": list(range(len(person.image)))}
            for name, person in self.people.items()
        ]
        settings = []
        for name, setting in self.settings.items():
            axis = line_axis(setting.mask)
            if axis is None:
                raise StudyError(f"{name}: a mask that isn't made of whole lines, which the viewer doesn't draw")
            kept = np.flatnonzero(setting.mask[:, 0] if axis == 0 else setting.mask[0])
            settings.append({"name": name, "note": setting.note, "axis": axis, "kept": kept.tolist()})
        return {"people": people, "settings": settings}

    def reconstructions(self, person: str, number: int, setting: str) -> dict[str, np.ndarray]:
        """One slice by each network of a setting, zero-filled first: (H, W) by name, of the images' dtype.

        Raises
        ------
        StudyError
            When there is no such person, slice or setting.
        """
        for name, known in ((person, self.people), (setting, self.settings)):
            if name not in known:
                raise StudyError(f"nothing called '{name}' to look at; there are {', '.join(known)}")
        images, chosen = self.people[person].image, self.settings[setting]
        if not 0 <= number < len(images):
            raise StudyError(f"{person}: no slice {number}; it has 0 to {len(images) - 1}")
        if setting not in self._operators:
            self._operators[setting] = Undersampling(chosen.mask)
        networks = {ZERO_FILLED: None, **chosen.networks}
        return {n: reconstruct(net, self._operators[setting], images[[number]])[0] for n, net in networks.items()}

    def picture(self, person: str, number: int, setting: str) -> dict:
        """One slice by all methods.

        Returns
        -------
        A dict: `key`, the three arguments; `height`, `width`; `peak` and `white`, the slice's maximum and the value shown
        as white; `methods`, each with its name, and PSNR (dB; None where it is infinite) and SSIM of this slice on its own
        maximum; `scale`, the upper end of the residues' colours; and `png`, bytes of an 8-bit image that holds, one below
        the other, the slice (255 is `peak`), its centred k-space (log10 over its maximum, `FAINTEST` to 0), and each
        method's signed residue (128 + residue / its `step`).
        """
        made = self.reconstructions(person, number, setting)
        scanned = self.people[person].image[number]
        target = magnitude(scanned)
        peak = float(target.max()) or 1.0
        parts, methods, residues = [np.rint(255 * target / peak), _kspace(scanned)], [], {}
        for name, image in ((name, magnitude(image)) for name, image in made.items()):
            residues[name] = image - target
            step = max(float(np.abs(residues[name]).max()) / 127, LEAST_STEP)
            parts.append(128 + np.clip(np.rint(residues[name] / step), -127, 127))
            same = np.array_equal(image, target)  # whose PSNR no JSON holds
            measured = {"psnr": None if same else psnr(target, image, peak), "ssim": ssim(target, image, peak)}
            methods.append({"name": name, "step": step, **measured})
        by_networks = [np.abs(r) for name, r in residues.items() if name != ZERO_FILLED or len(residues) == 1]
        return {
            "key": [person, number, setting],
            "height": target.shape[0],
            "width": target.shape[1],
            "peak": peak,
            "white": float(np.percentile(target, DISPLAY_PERCENTILE)) or peak,
            "scale": float(np.percentile(by_networks, RESIDUE_PERCENTILE)) or peak,
            "methods": methods,
            "png": _png(np.concatenate(parts)),
        }


def _kspace(image: np.ndarray) -> np.ndarray:
    """Centred k-space of an image (H, W) as 0 to 255."""
    magnitude = np.abs(np.fft.fftshift(np.fft.fft2(image)))
    logarithm = np.log10(magnitude / (magnitude.max() or 1) + 1e-12)
    return np.rint(255 * np.clip(1 - logarithm / FAINTEST, 0, 1))


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
