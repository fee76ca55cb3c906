"""Looking inside a reconstruction: a viewer of one slice by several methods, live in a notebook or as an HTML page.

`Views` computes what is shown (whose slices, under which masks, by which networks), viewer.js shows it; `LookInside` asks a
kernel for it as one looks, `write_page` embeds it. Of complex images the magnitude is shown and measured, and the k-space
is their own.
"""

import base64
import html
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anywidget
import numpy as np
import traitlets
from PIL import Image
from torch import nn

from kdmri_lib.channels import magnitude
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import psnr, reconstruct, ssim
from kdmri_lib.figures import white_of
from kdmri_lib.masks import line_axis
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.storage import write_text

ZERO_FILLED = "Zero-filled"
FAINTEST = -5  # log10 of the magnitude in k-space, over its maximum, that is drawn black
LEAST_STEP = 1 / 512  # of a residue, in the units of the image: finer ones only cost bytes
RESIDUE_PERCENTILE = 99.8
VIEWER, STYLE = ((Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("viewer.js", "viewer.css"))
# What stands in an executed copy that no kernel is behind.
ELSEWHERE = "<p><em>Look inside: live in JupyterLab; the report has a page of its own for it.</em></p>"


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

    def __post_init__(self):
        if not self.people or not self.settings:
            raise StudyError("nothing to look at: at least one person and one setting are needed")
        sizes = {p.image.shape[1:] for p in self.people.values()} | {s.mask.shape for s in self.settings.values()}
        if len(sizes) > 1:
            raise StudyError(f"images and masks of several sizes, {sorted(sizes)}; expected one")

    def index(self, count: int | None = None) -> dict:
        """What there is to choose from, as JSON: people with their slices' numbers, all or `count` about the middle, or as
        many as there are; settings with their measured lines."""
        people, settings = [], []
        for name, person in self.people.items():
            held = len(person.image)
            some = min(count or held, held)
            slices = [(held * (2 * n + 1)) // (2 * some) for n in range(some)]
            people.append({"name": name, "about": person.about, "slices": slices})
        for name, setting in self.settings.items():
            axis = line_axis(setting.mask)
            if axis is None:
                raise StudyError(f"{name}: a mask that isn't made of whole lines, which the viewer doesn't draw")
            kept = np.flatnonzero(setting.mask[:, 0] if axis == 0 else setting.mask[0])
            settings.append({"name": name, "note": setting.note, "axis": axis, "kept": kept.tolist()})
        return {"people": people, "settings": settings}

    def picture(self, person: str, number: int, setting: str) -> dict:
        """One slice by all methods.

        Returns
        -------
        A dict: `key`, the three arguments; `height`, `width`; `peak` and `white`, the slice's maximum and the value shown
        as white; `methods`, each with its name, and PSNR (dB; None where it is infinite) and SSIM of this slice on its own
        maximum; `scale`, the upper end of the residues' colours; and `png`, bytes of an 8-bit image that holds, one below
        the other, the slice (255 is `peak`), its centred k-space (log10 over its maximum, `FAINTEST` to 0), and each
        method's signed residue (128 + residue / its `step`). `StudyError` when there is no such person, slice or setting.
        """
        for name, known in ((person, self.people), (setting, self.settings)):
            if name not in known:
                raise StudyError(f"nothing called '{name}' to look at; there are {', '.join(known)}")
        images, (mask, networks, _) = self.people[person].image, self.settings[setting]
        if not 0 <= number < len(images):
            raise StudyError(f"{person}: no slice {number}; it has 0 to {len(images) - 1}")
        operator = UndersamplingOperator(mask)
        made = {
            name: magnitude(reconstruct(network, operator, images[[number]])[0])
            for name, network in {ZERO_FILLED: None, **networks}.items()
        }
        scanned, target = images[number], magnitude(images[number])
        peak = float(target.max()) or 1.0
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(scanned)))
        kspace = 1 - np.log10(spectrum / (spectrum.max() or 1) + 1e-12) / FAINTEST
        parts, methods = [255 * target / peak, 255 * np.clip(kspace, 0, 1)], []
        for name, image in made.items():
            step = max(float(np.abs(image - target).max()) / 127, LEAST_STEP)
            parts.append(128 + np.clip(np.rint((image - target) / step), -127, 127))
            same = np.array_equal(image, target)  # whose PSNR no JSON holds
            measured = {"psnr": None if same else psnr(target, image, peak), "ssim": ssim(target, image, peak)}
            methods.append({"name": name, "step": step, **measured})
        by_networks = [np.abs(i - target) for name, i in made.items() if name != ZERO_FILLED or len(made) == 1]
        png = io.BytesIO()
        Image.fromarray(np.rint(np.concatenate(parts)).astype(np.uint8)).save(png, "PNG")
        return {
            "key": [person, number, setting],
            **dict(zip(("height", "width"), target.shape, strict=True)),
            "peak": peak,
            "white": white_of(target),
            "scale": float(np.percentile(by_networks, RESIDUE_PERCENTILE)) or peak,
            "methods": methods,
            "png": png.getvalue(),
        }


def write_page(path: Path, views: Views, title: str, words: str = "", count: int = 1) -> Path:
    """Write the viewer on `count` slices of each person about the middle, under all settings, as a page that needs nothing
    beside itself and asks no network for anything; a title and a paragraph (text) above it. Returns `path`.

    About 150 kB per slice of 240×240 and setting.
    """
    index, pictures = views.index(count), []
    for person in index["people"]:
        for number in person["slices"]:
            for setting in index["settings"]:
                picture = views.picture(person["name"], number, setting["name"])
                png = base64.b64encode(picture["png"]).decode()
                pictures.append({**picture, "png": f"data:image/png;base64,{png}"})
    # "</" would end the script element that holds it.
    data = json.dumps({"index": index, "pictures": pictures}).replace("</", "<\\/")
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    title, words = html.escape(title), html.escape(words)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{title}</title>
<style>body{{margin:1rem auto;padding:0 1rem;max-width:62rem;font:16px/1.5 system-ui,sans-serif}}
{STYLE}</style></head>
<body><h1>{title}</h1>
<p>{words}</p>
<div data-look><script type="application/json">{data}</script><noscript>This viewer needs JavaScript.</noscript></div>
<script type="module">{VIEWER}</script></body></html>
"""
    write_text(path, page)
    return path


class LookInside(anywidget.AnyWidget):
    """The viewer in a notebook; `choice`: what is looked at (person, slice, setting), `picture`: that (`Views.picture`)."""

    _esm, _css = VIEWER, STYLE
    index = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)

    def __init__(self, views: Views):
        self._views = views
        super().__init__(index=views.index())

    @traitlets.observe("choice")
    def _look(self, change) -> None:
        wanted = change["new"]
        self.picture = self._views.picture(wanted["person"], wanted["slice"], wanted["setting"])

    def _repr_mimebundle_(self, **more):
        data, *rest = super()._repr_mimebundle_(**more)
        return {**data, "text/html": ELSEWHERE}, *rest
