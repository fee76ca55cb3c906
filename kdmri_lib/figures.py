"""Every plot of the study. Functions return figures; `save` writes PNG and PDF and says what they were made from.

Of complex images the magnitude is shown; so are residues, between magnitudes, as metrics see them.

One size of letters, so that none is lost when a figure is made smaller. Lines are told apart by dashes and markers as well
as by colours (Okabe and Ito's, made for the colour-blind, and a wine red), so that they can be in grey print too.
"""

import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import ndimage

from kdmri_lib.channels import magnitude
from kdmri_lib.evaluation import psnr, ssim
from kdmri_lib.fourier import centred, to_kspace
from kdmri_lib.masks import line_axis
from kdmri_lib.statistics import MARGIN
from kdmri_lib.storage import atomic_write

FEW_TICKS = 8  # values along a logarithmic axis that are each written out
DISPLAY_PERCENTILE = 99.7  # of a slice's values, shown as white: single bright vessels would darken the rest
LETTERS = 9  # points, of every letter
MOST_LETTERS = 15  # of a name above a small image
TO_A_LINE = 28  # letters of a name above a larger one
NEUTRAL = "0.35"  # of lines and letters that stand for no method
SAMPLES = 125  # of k-space in an inch, less than the pixels of a picture: no line of a mask is lost
ZOOM = 0.4  # how wide a zoom is, of an image's shorter side
FRAME = "#56B4E9"  # of a zoom and of its place, on grey and on inferno
STYLE = {
    "font.size": LETTERS,
    **dict.fromkeys(("axes.titlesize", "axes.labelsize", "figure.titlesize"), LETTERS),
    **dict.fromkeys(("legend.fontsize", "legend.title_fontsize", "xtick.labelsize", "ytick.labelsize"), LETTERS),
    "figure.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "pdf.fonttype": 42,
}
COLOURS = ("black", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#882255")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = "osD^vPX*<>"


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(STYLE):
        yield
        # The first figure makes a notebook's backend show figures by themselves; `rc_context` alone would undo that.
        shown = mpl.is_interactive()
    mpl.interactive(shown)


styled = _style()
"""Decorator of a function that draws."""


def line_style(number: int) -> dict:
    """Colour, dashes and marker of the line of that number; of 24 lines no two have the same dashes and colour."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


@styled
def save(figure: Figure, path: Path, stamp: str, runs: Sequence[str] = ()) -> None:
    """Write `path` (PNG) and the same as PDF, stamped at the foot; the names of the run folders go into the metadata."""
    foot = 0.25 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    figure.text(0.995, 0.2 * foot, stamp, ha="right", va="bottom", color=NEUTRAL)
    made_from = "made from runs: " + (", ".join(sorted(set(runs))) or "none")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Description": f"{stamp}; {made_from}"})
    with atomic_write(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"Subject": stamp, "Keywords": made_from, "CreationDate": None})


def grid(
    heights: Sequence[float], columns: int, width: float, wide: float = 1.1, titles: float | None = None
) -> tuple[Figure, np.ndarray]:
    """Figure and (rows, columns) axes without ticks or frames, for rows of images this high and wide (inches).

    `wide` : inches beside them, for scales. `titles` : inches of all titles above rows together, a line each by default.
    """
    titles = 0.25 * len(heights) if titles is None else titles
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=(max(width * columns + wide, 5), sum(heights) + titles + 0.5),
        layout="compressed",
        squeeze=False,
        height_ratios=heights,
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    return figure, axes


def white_of(image: np.ndarray) -> float:
    """The value that is shown as white."""
    return float(np.percentile(image, DISPLAY_PERCENTILE)) or 1.0


def _grey(axis: Axes, image: np.ndarray, white: float):
    return axis.imshow(image, cmap="gray", vmin=0, vmax=white)


def packed(groups: Mapping[str, Mapping[str, np.ndarray]], columns: int) -> list[list[tuple[str, str, np.ndarray]]]:
    """Rows of at most so many (group, label, image); a group begins a row of its own where the last one can't hold it."""
    rows: list[list[tuple[str, str, np.ndarray]]] = []
    for name, images in groups.items():
        listed = [(name, label, image) for label, image in images.items()]
        if rows and len(rows[-1]) + len(listed) <= columns:
            rows[-1] += listed
        else:
            rows += [listed[first : first + columns] for first in range(0, len(listed), columns)]
    return rows


@styled
def contact_sheet(groups: Mapping[str, Mapping[str, np.ndarray]], title: str, columns: int = 9) -> Figure:
    """Many small images, group by group (name: {label: (H, W)}), the group's name beside its first; grey is magnitude, each
    on its own scale from 0."""
    rows, named = packed(groups, columns), set()
    height, width = rows[0][0][2].shape
    figure, axes = grid([1.15 * height / width] * len(rows), max(map(len, rows)), 1.15, wide=0.8)
    for axes_row, row in zip(axes, rows, strict=True):
        for axis, (name, label, shown) in zip(axes_row, row, strict=False):
            image = magnitude(shown)
            _grey(axis, image, white_of(image))
            axis.set_title(label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1]}…")
            if name not in named:
                axis.set_ylabel(name, fontweight="bold")
            named.add(name)
    figure.suptitle(title)
    return figure


@styled
def before_and_after(zero_filled: np.ndarray, image: np.ndarray, title: str) -> Figure:
    """Zero-filled and reconstructed slice (H, W) side by side, on one grey scale, in the units of the measurement."""
    zero_filled, image = magnitude(zero_filled), magnitude(image)
    figure, axes = grid([3.2 * image.shape[0] / image.shape[1]], 2, 3.2)
    for axis, (label, picture) in zip(
        axes.flat, {"zero-filled": zero_filled, "reconstructed": image}.items(), strict=True
    ):
        shown = _grey(axis, picture, white_of(image))
        axis.set_title(label)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="magnitude", extend="max")
    figure.suptitle(title, wrap=True)
    return figure


@styled
def slices(volumes: Mapping[str, np.ndarray], columns: int = 5, title: str = "") -> Figure:
    """A row per volume (label: (slices, H, W)), `columns` evenly spaced slices of each; grey is magnitude, 0 to 1."""
    first = next(iter(volumes.values()))
    figure, axes = grid([1.7 * first.shape[1] / first.shape[2]] * len(volumes), columns, 1.7)
    for row, (label, volume) in zip(axes, volumes.items(), strict=True):
        volume, chosen = magnitude(volume), np.linspace(0, len(volume) - 1, columns).round().astype(int)
        # A volume of fewer slices than columns leaves the rest of its row empty.
        for axis, number in zip(row, dict.fromkeys(chosen.tolist()), strict=False):
            picture = _grey(axis, volume[number], white_of(volume))
            axis.set_title(f"slice {number + 1} of {len(volume)}")
        row[0].set_ylabel(label)
        figure.colorbar(picture, ax=row.tolist(), shrink=0.8, label="magnitude", pad=0.01, extend="max")
    figure.suptitle(title)
    return figure


def _name_kspace(axis: Axes, mask: np.ndarray) -> None:
    """Axes of a centred k-space, by the direction that the mask varies on; frequencies in cycles per pixel."""
    lines = line_axis(mask)
    names = {None: ("", ""), 0: (" (readout)", " (phase encoding)"), 1: (" (phase encoding)", " (readout)")}[lines]
    for number, (direction, size) in enumerate(zip("xy", mask.shape[::-1], strict=True)):
        ticks = [0, size // 2, size - 1]
        which = {0: "x", 1: "y"}[number]
        axis.set(**{f"{which}ticks": ticks, f"{which}ticklabels": ["−½", "0", "½"]})
        axis.set(**{f"{which}label": f"$k_{direction}${names[number]}"})
    axis.set_frame_on(True)


def _draw_mask(axis: Axes, mask: np.ndarray, interpolation: str = "nearest") -> None:
    axis.imshow(np.fft.fftshift(mask), cmap="gray", vmin=0, vmax=1, interpolation=interpolation)
    _name_kspace(axis, mask)


@styled
def masks(rows: Mapping[str, Mapping[str, np.ndarray]], title: str = "Undersampling masks") -> Figure:
    """Masks (H, W), unshifted, drawn centred and in their true shape, a row per data set (name: {label: mask}): white is
    measured (appendix C)."""
    shapes = [next(iter(named.values())).shape for named in rows.values()]
    width = max(1.9, *(columns / SAMPLES for _, columns in shapes))
    heights = [width * rows / columns + 0.9 for rows, columns in shapes]
    figure, axes = grid(heights, max(map(len, rows.values())), width + 0.75, wide=0.1, titles=0.2)
    for axes_row, named in zip(axes, rows.values(), strict=True):
        for axis, (label, mask) in zip(axes_row, named.items(), strict=False):
            _draw_mask(axis, mask)
            axis.set_title(f"{label}\n{mask.mean():.1%} measured")
    figure.suptitle(f"{title}\nwhite: measured; frequencies in cycles per pixel")
    return figure


@styled
def undersampling(image: np.ndarray, mask: np.ndarray, zero_filled: np.ndarray, title: str = "") -> Figure:
    """From image to zero-filled image by way of k-space: image, its k-space, the mask; what is measured, zero-filled, its
    error. What isn't measured is black in the mask and in k-space."""
    kspace = centred(to_kspace(torch.from_numpy(image))).abs().numpy()
    logarithm = np.log10(kspace / kspace.max() + 1e-6)
    image, zero_filled = magnitude(image), magnitude(zero_filled)
    measured = np.where(np.fft.fftshift(mask), logarithm, np.nan)
    # Tall images are drawn narrower, lest the figure be higher than a page.
    height = min(2.3 * image.shape[0] / image.shape[1], 3.6)
    sampled = "nearest" if image.shape[0] / height < SAMPLES else "antialiased"  # lines finer than a pixel aren't lost
    figure, axes = grid([height, height], 3, 3.1, wide=0.3)
    named = dict(zip(("image", "its k-space", "mask: white is measured"), axes[0], strict=True))
    named |= dict(zip(("measured k-space: the rest is 0", "zero-filled image", "its |error|"), axes[1], strict=True))
    place, space, of_mask, kept, filled, error = named.values()
    for name, axis in named.items():
        axis.set_title(name)
    colours = plt.get_cmap("magma").with_extremes(bad="black")
    for axis, picture in ((space, logarithm), (kept, measured)):
        shown = axis.imshow(picture, cmap=colours, vmin=-5, vmax=0, interpolation=sampled)
        _name_kspace(axis, mask)
        figure.colorbar(shown, ax=axis, shrink=0.8, label="log₁₀ (magnitude / largest)", extend="min")
    _draw_mask(of_mask, mask, sampled)
    white = white_of(image)
    for axis, picture in ((place, image), (filled, zero_filled)):
        figure.colorbar(_grey(axis, picture, white), ax=axis, shrink=0.8, label="magnitude", extend="max")
    shown = error.imshow(np.abs(zero_filled - image), cmap="inferno", vmin=0)
    figure.colorbar(shown, ax=error, shrink=0.8, label="magnitude")
    figure.suptitle(title)
    return figure


def radial_power(image: np.ndarray, bins: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of (slices, H, W) on rings of spatial frequency, over that at zero: (cycles per pixel, power)."""
    power = (np.abs(np.fft.fft2(image, norm="ortho")) ** 2).mean(axis=0)
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in image.shape[1:]], indexing="ij"))
    edges = np.linspace(0, 0.5, bins + 1)
    which = np.digitize(radius, edges) - 1
    rings = [power[which == b].mean() if (which == b).any() else np.nan for b in range(bins)]
    return (edges[:-1] + edges[1:]) / 2, np.array(rings) / power[0, 0]


@styled
def spectra(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, relative_to: str, bold: Sequence[str] = ()
) -> Figure:
    """Radial power spectra (name: (cycles per pixel, power)); `relative_to` says over what the power is. Lines of `bold`
    are thick."""
    figure, axis = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    for number, (name, line) in enumerate(lines.items()):
        style = line_style(number) | {"markersize": 4, "markevery": (number % 5, 5)}
        axis.semilogy(*line, label=name, linewidth=2.2 if name in bold else 1, **style)
    axis.set(xlabel="spatial frequency (cycles per pixel)", ylabel=f"mean power (relative to {relative_to})")
    axis.set_xlim(0, 0.5)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=4)  # beside it, off the curves
    axis.grid()
    figure.suptitle(title)
    return figure


@styled
def people(images: Mapping[str, np.ndarray], title: str, columns: int = 5) -> Figure:
    """A slice of each person (name: (H, W)); grey is magnitude, each on its own scale from 0 to its white."""
    height, width = next(iter(images.values())).shape
    rows = -(-len(images) // columns)
    figure, axes = grid([1.7 * height / width] * rows, min(columns, len(images)), 1.7)
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        image = magnitude(image)
        shown = _grey(axis, image / white_of(image), 1)
        axis.set_title(name)
    figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01, extend="max", label="magnitude (of each one's white)")
    figure.suptitle(title)
    return figure


def _in_letters(label: str) -> str:
    """A label with its losses, such as L_rec, as formulas."""
    return re.sub(r"\bL_(\w+)", r"$L_\\mathrm{\1}$", label)


@styled
def learning_curves(
    curves: Mapping[str, Sequence[pd.DataFrame]],
    title: str,
    alone: Sequence[tuple[float, Sequence[float]]] = (),
    alone_label: str = "Student alone, longer",
) -> Figure:
    """Validation PSNR against what a training has cost so far; beside it where each method ends.

    Parameters
    ----------
    curves : of each method, one of each seed, with columns `compute` (multiply-accumulates, all its stages') and
        `validation_psnr` (dB). A line is their mean, a band their range.
    alone : cost and final values, one of each seed, of the student trained alone for one stage and for longer: points.

    Methods stand in the order of their final values, the best first. One with a training that failed, whose curve ends in
    NaN, has no final value and stands last.
    """
    most = max((len(curves), *(len(seeds) for seeds in curves.values())))
    curves = {_in_letters(label): some for label, some in curves.items()}
    figure, (axis, ends) = plt.subplots(
        1, 2, figsize=(10, max(4.2, 0.3 * most + 1.6)), layout="constrained", width_ratios=(3, 1.5)
    )
    seeds = max(len(some) for some in curves.values())
    final = {label: [float(curve.validation_psnr.iloc[-1]) for curve in some] for label, some in curves.items()}
    styles = {label: line_style(number) for number, label in enumerate(curves)}
    for label, some in curves.items():
        # Seeds validate at the same steps, so at the same costs; one that failed ends early.
        joined = pd.concat([c.dropna(subset="validation_psnr") for c in some]).groupby("compute").validation_psnr
        mean, cost = joined.mean(), joined.mean().index / 1e12
        axis.plot(cost, mean, markersize=4, **styles[label])
        axis.fill_between(cost, joined.min(), joined.max(), color=styles[label]["color"], alpha=0.15, linewidth=0)
    if alone:
        means = [float(np.mean(values)) for _, values in alone]
        styles[alone_label] = {"color": NEUTRAL, "linestyle": (0, (1, 3)), "marker": "d", "markerfacecolor": "none"}
        axis.plot([compute / 1e12 for compute, _ in alone], means, markersize=7, **styles[alone_label])
        final[alone_label] = means[1:]
    order = sorted(final, key=lambda label: np.nan_to_num(np.mean(final[label]), nan=-np.inf))
    for place, label in enumerate(order):
        style, values = styles[label], final[label]
        ends.axhline(place, color=style["color"], linestyle=style["linestyle"], linewidth=1)
        ends.plot(values, [place] * len(values), **style | {"linestyle": "none"})
    words = [
        f"{label}: failed" if np.isnan(final[label]).any() else f"{label}: {np.mean(final[label]):.2f}"
        for label in order
    ]
    if alone:
        place = order.index(alone_label)
        reached = dict.fromkeys(f"{value(final[alone_label]):.2f}" for value in (min, max))
        words[place] = f"{alone_label}: {' to '.join(reached)}".replace("nan", "failed")
    ends.yaxis.tick_right()
    ends.set(yticks=range(len(order)), yticklabels=words, ylim=(-0.6, len(order) - 0.4))
    ends.set(xlabel="PSNR (dB)", title="final value" + (f": mean, and each of {seeds} seeds" if seeds > 1 else ""))
    ends.margins(x=0.1)
    ends.grid(axis="x")
    axis.set(xlabel="training compute with the teacher given (10¹² multiply-accumulates)")
    axis.set_xlim(left=0)
    axis.set_ylabel("validation PSNR (dB)")
    axis.set_title(f"line: mean of {seeds} seeds; band: their range" if seeds > 1 else "one seed")
    axis.grid()
    figure.suptitle(title)
    return figure


def detail(target: np.ndarray, share: float = 0.2) -> tuple[int, int, int]:
    """The square with most detail in the middle half of an image (H, W), by the energy of its gradient: (top, left, side).

    Chosen by the target alone, so that it favours no method. The side is `share` of the image's shorter one.
    """
    side = max(2, round(share * min(target.shape)))
    energy = ndimage.uniform_filter(sum(np.square(g) for g in np.gradient(target.astype(np.float64))), side)
    middle = tuple(slice(n // 4 + side // 2, max(n - n // 4 - side // 2, n // 4 + side // 2 + 1)) for n in target.shape)
    place = np.unravel_index(np.argmax(energy[middle]), energy[middle].shape)
    top, left = (int(p + m.start - side // 2) for p, m in zip(place, middle, strict=True))
    return top, left, side


def _zoomed(axis: Axes, image: np.ndarray, place: tuple[int, int, int], corner: tuple[bool, bool]) -> None:
    """Frame a square of the image that an axis shows, and show it larger in a corner (at the bottom, at the right); nothing
    of an image that isn't finite."""
    if not np.isfinite(image).all():
        return
    (top, left, side), (height, width), (bottom, right) = place, image.shape, corner
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=FRAME, linewidth=0.8))
    enlarged = ZOOM * min(height, width)
    across, down = enlarged / width, enlarged / height
    inset = axis.inset_axes([(1 - across) * right, (1 - down) * (not bottom), across, down])
    shown = axis.images[0]
    crop = image[top : top + side, left : left + side]
    inset.imshow(crop, cmap=shown.cmap, vmin=0, vmax=shown.norm.vmax, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    for spine in inset.spines.values():
        spine.set(edgecolor=FRAME, linewidth=1)


def free_corner(target: np.ndarray, place: tuple[int, int, int]) -> tuple[bool, bool]:
    """The corner where a zoom hides least of an image (H, W), and nothing of `place`: whether at the bottom, at the right.

    There is one for every place in the middle half.
    """
    top, left, side = place
    (height, width), enlarged = target.shape, round(ZOOM * min(target.shape))
    found = {}
    for bottom, right in itertools.product((True, False), repeat=2):
        first, across = (height - enlarged) * bottom, (width - enlarged) * right
        apart_down = top + side <= first or first + enlarged <= top
        if apart_down or left + side <= across or across + enlarged <= left:
            found[bottom, right] = target[first : first + enlarged, across : across + enlarged].mean()
    return min(found, key=found.get)


@styled
def comparison(cases: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], title: str = "") -> Figure:
    """Figure 2: of each case (label: target (H, W), reconstructions by method) a row of images and one of residues.

    Above each reconstruction stand PSNR (dB) and SSIM of the slice, on the target's maximum. The same place is shown larger
    in each (`detail`). All residues are on one scale, cut where few of the networks' are larger; the zero-filled image's,
    the first, are.
    """
    cases = {label: (magnitude(x), {n: magnitude(i) for n, i in shown.items()}) for label, (x, shown) in cases.items()}
    names = list(next(iter(cases.values()))[1])
    aspects = [target.shape[0] / target.shape[1] for target, _ in cases.values() for _ in range(2)]
    width = 1.95 if max(aspects) < 1.4 else 1.6  # tall images are drawn smaller, lest the figure be higher than a page
    heads = {name: textwrap.fill(name, TO_A_LINE) for name in ("Target", *names)}
    lines = 2 + max(head.count("\n") for head in heads.values())
    figure, axes = grid([width * a for a in aspects], len(names) + 1, width, 1.3, titles=0.225 * lines * len(cases))
    residues = {label: {n: np.abs(image - x) for n, image in images.items()} for label, (x, images) in cases.items()}
    cut = _upper([r[n] for r in residues.values() for n in names[1:]], 99.8)
    for number, (label, (target, images)) in enumerate(cases.items()):
        row, below = axes[2 * number : 2 * number + 2]
        white, place = white_of(target), detail(target)
        corner = free_corner(target, place)
        for axis, (name, image) in zip(row, {"Target": target, **images}.items(), strict=True):
            _grey(axis, image, white)
            _zoomed(axis, image, place, corner)
            axis.set_title(f"{heads[name]}\n{_quality(target, image) if image is not target else 'PSNR / SSIM'}")
        for axis, name in zip(below[1:], names, strict=True):
            shown = axis.imshow(residues[label][name], cmap="inferno", vmin=0, vmax=cut)
            _zoomed(axis, residues[label][name], place, corner)
        row[0].set_ylabel(label)
        below[0].set_ylabel("|residue|")
        scale = below[0].inset_axes([0.08, 0.6, 0.84, 0.06])
        figure.colorbar(row[0].images[0], cax=scale, orientation="horizontal", extend="max", label="magnitude")
    figure.colorbar(
        shown,
        ax=axes[1::2].ravel().tolist() if len(cases) == 1 else axes.ravel().tolist(),
        shrink=0.9 if len(cases) == 1 else 0.5,
        aspect=20 * len(cases),
        pad=0.01,
        extend="max",
        label=f"|residue|, one scale for all,\ncut at {cut:.2g}",
    )
    figure.suptitle(title)
    return figure


def _quality(target: np.ndarray, image: np.ndarray) -> str:
    if not np.isfinite(image).all():
        return "failed"
    data_range = float(target.max())
    return f"{psnr(target, image, data_range):.2f} dB / {ssim(target, image, data_range):.3f}"


def _upper(images: Sequence[np.ndarray], percentile: float) -> float:
    """A percentile of all images' values, as the upper end of their scale; images of NaN, of failed trainings, left out."""
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    return float(np.percentile(values, percentile)) if values.size else 1.0


@styled
def attention_maps(maps: Mapping[str, Sequence[np.ndarray]], reference: str, title: str = "") -> Figure:
    """Attention maps (H, W) per cascade, divided by their L2 norm: a row per network, then a row per network's difference
    to `reference`, with its L2 norm, the term of eq. 3."""
    columns = len(maps[reference])
    others = [label for label in maps if label != reference]
    height, width = maps[reference][0].shape
    across = 1.75 if height < 1.4 * width else 1.3
    figure, axes = grid([across * height / width] * (len(maps) + len(others)), columns, across, 1.7)
    differences = {label: [a - b for a, b in zip(maps[label], maps[reference], strict=True)] for label in others}
    limits = _upper(maps[reference], 99.7), _upper([np.abs(d) for some in differences.values() for d in some], 99.7)
    for row, (label, values) in zip(axes, maps.items(), strict=False):
        for number, axis in enumerate(row):
            attended = axis.imshow(values[number], cmap="viridis", vmin=0, vmax=limits[0])
            axis.set_title(f"cascade {number + 1}")
        row[0].set_ylabel(label)
    for row, (label, values) in zip(axes[len(maps) :], differences.items(), strict=True):
        for number, axis in enumerate(row):
            apart = axis.imshow(np.abs(values[number]), cmap="inferno", vmin=0, vmax=limits[1])
            axis.set_title(f"distance {np.linalg.norm(values[number]):.3f}")
        row[0].set_ylabel(f"|{label}\n− {reference[0].lower()}{reference[1:]}|")
    bar = {"shrink": 0.6, "pad": 0.01, "extend": "max"}
    figure.colorbar(attended, ax=axes[: len(maps)].ravel().tolist(), label="attention (of its L2 norm)", **bar)
    figure.colorbar(apart, ax=axes[len(maps) :].ravel().tolist(), label="|difference| (of the L2 norms)", **bar)
    figure.suptitle(title)
    return figure


@styled
def positions(found: pd.DataFrame, chosen: tuple[int, int], psnr_chosen: float, title: str) -> Figure:
    """Pairs of convolutions, each by its difference to the paper's choice, which is framed.

    Parameters
    ----------
    found : a row per pair: teacher and student (the convolutions' numbers), difference in test PSNR (dB), and low and high,
        its 95% interval, NaN where there is none.
    chosen : the paper's pair, and its test PSNR in dB.

    Colours span at least five times what counts as equivalent, so that noise looks like noise.
    """
    wide = found.pivot(index="teacher", columns="student", values="difference")
    wide.loc[chosen] = 0.0
    limit = max(5 * MARGIN, float(np.nanmax(np.abs(wide), initial=0)))
    rows, columns = wide.shape
    figure, axis = plt.subplots(figsize=(1.6 * columns + 2.6, 0.62 * rows + 1.6), layout="constrained")
    picture = axis.imshow(wide, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axis.set(xticks=range(columns), yticks=range(rows), xticklabels=wide.columns, yticklabels=wide.index)
    axis.set(xlabel="student's convolution", ylabel="teacher's convolution")
    named = {(row.teacher, row.student): row for row in found.itertuples()}
    for (down, across), value in np.ndenumerate(wide):
        pair = wide.index[down], wide.columns[across]
        if pair == chosen:
            text = "failed" if np.isnan(psnr_chosen) else f"the paper's\n{psnr_chosen:.2f} dB"
            box = (across - 0.47, down - 0.46)
            axis.add_patch(Rectangle(box, 0.94, 0.92, fill=False, edgecolor="black", linewidth=2))
        else:
            text = difference_in_words(value, named[pair].low, named[pair].high) if pair in named else ""
        dark = abs(value) > 0.6 * limit
        axis.text(across, down, text, ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(picture, label="difference to the paper's\nchoice (dB) [95% interval]")
    figure.suptitle(title, wrap=True)
    return figure


def difference_in_words(value: float, low: float, high: float) -> str:
    """A difference, and below it its interval where there is one."""
    if np.isnan(value):
        return "failed"
    signed = [f"{number:+.2f}".replace("-", "−") for number in (value, low, high)]
    return signed[0] if np.isnan(low) else f"{signed[0]}\n[{signed[1]}, {signed[2]}]"


@styled
def sizes(found: pd.DataFrame, teacher: float, title: str) -> Figure:
    """Students by their size, a row each: what each reaches, and how far distillation leads.

    Parameters
    ----------
    found : a row per size: size (in words), parameters, test PSNR (dB) alone, alone_at_cost and distilled; lead of
        distilled over alone_at_cost (dB), and low and high, its 95% interval, NaN where there is none.
    teacher : its test PSNR, a line.
    """
    ordered = found.sort_values("parameters", ignore_index=True)
    figure, (axis, leads) = plt.subplots(
        1, 2, figsize=(10, 0.5 * len(ordered) + 1.8), layout="constrained", width_ratios=(1.6, 1), sharey=True
    )
    ways = {"alone": "alone", "alone_at_cost": "alone, at the distilled one's cost", "distilled": "distilled"}
    for number, (column, label) in enumerate(ways.items(), 1):
        style = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": "none", "markeredgecolor": "black"}
        axis.plot(ordered[column], ordered.index, label=label, markersize=7, **style)
    axis.axvline(teacher, color="black", linestyle="--", label=f"teacher: {teacher:.2f} dB")
    labels = [f"{row.size}\n{row.parameters:,} parameters" for row in ordered.itertuples(index=False)]
    axis.set(yticks=ordered.index, yticklabels=labels, ylim=(-0.6, len(ordered) - 0.4), xlabel="test PSNR (dB)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    leads.axvspan(-MARGIN, MARGIN, color="0.9", label="equivalent")
    leads.axvline(0, color="black", linewidth=1)
    ends = np.abs([ordered.lead - ordered.low, ordered.high - ordered.lead])
    style = {"color": COLOURS[3], "marker": MARKERS[3], "linestyle": "none", "markeredgecolor": "black"}
    leads.errorbar(ordered.lead, ordered.index, xerr=np.nan_to_num(ends), capsize=3, markersize=7, **style)
    leads.set(xlabel="distilled − alone at its cost (dB)", title=f"95% interval; grey: equivalent, ±{MARGIN:g} dB")
    for each in (axis, leads):
        each.grid(axis="x")
        each.margins(x=0.08)
    figure.suptitle(title)
    return figure


@styled
def times(measured: pd.DataFrame, title: str) -> Figure:
    """Median time of each way to compute (implementation), of teacher and student on one scale from 0; bars to the
    quartiles.

    `measured` : columns network, implementation, ms, q25, q75; what couldn't be measured is NaN.
    """
    table = measured.dropna(subset="ms")
    slowest = table.groupby("implementation").ms.max().sort_values(ascending=False)
    figure, axis = plt.subplots(figsize=(8.5, 0.42 * len(slowest) + 1.7), layout="constrained")
    for number, (network, rows) in enumerate(table.groupby("network", sort=False), 1):
        rows = rows.set_index("implementation").reindex(slowest.index)
        places = np.arange(len(slowest)) + (0.2, -0.2)[number - 1]
        colour = ("0.75", COLOURS[2])[number - 1]
        axis.barh(places, rows.ms, 0.38, color=colour, edgecolor="black", label=network)
        quartiles = [rows.ms - rows.q25, rows.q75 - rows.ms]
        axis.errorbar(rows.ms, places, xerr=quartiles, color="black", linestyle="none", capsize=2, linewidth=1)
        for place, row in zip(places, rows.itertuples(), strict=True):
            if not np.isnan(row.ms):
                where = {"xy": (row.q75, place), "xytext": (5, 0), "textcoords": "offset points", "va": "center"}
                axis.annotate(f"{row.ms:.1f}", **where)
    axis.set(yticks=range(len(slowest)), yticklabels=slowest.index, xlabel="time per slice (ms): median and quartiles")
    axis.margins(x=0.12)
    axis.legend(loc="lower right" if len(slowest) < 3 else "best")
    axis.grid(axis="x")
    figure.suptitle(title, wrap=True)
    return figure


@styled
def lines(groups: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, title: str) -> Figure:
    """Points (x, y) of each group, joined in the order of x, which is drawn logarithmically."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for number, (label, points) in enumerate(groups.items()):
        x, y = zip(*sorted(points), strict=True)
        axis.plot(x, y, label=label, **line_style(number))
    axis.set(xscale="log", xlabel=across, ylabel=up, title=title)
    if len(places := sorted({x for points in groups.values() for x, _ in points})) <= FEW_TICKS:
        axis.set_xticks(places, [f"{x:g}" for x in places])
        axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.grid()
    return figure
