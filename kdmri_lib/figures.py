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
from kdmri_lib.losses.base import Pairs
from kdmri_lib.masks import line_axis
from kdmri_lib.statistics import MARGIN
from kdmri_lib.storage import atomic_write

LETTERS = 9  # points, of every letter
DISPLAY_PERCENTILE = 99.7  # of a slice's values, shown as white: single bright vessels would darken the rest
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
}
COLOURS = ("black", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#882255")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = "osD^vPX*<>"
Groups = Mapping[str, Mapping[str, np.ndarray]]
Points = Mapping[str, Sequence[tuple[float, float]]]


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
    cycles = {"color": COLOURS, "linestyle": DASHES, "marker": MARKERS}
    return {what: cycle[number % len(cycle)] for what, cycle in cycles.items()}


@styled
def save(figure: Figure, path: Path, stamp: str) -> None:
    """Write `path` (PNG) and the same as PDF, stamped at the foot and in the metadata."""
    foot = 0.25 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    figure.text(0.995, 0.2 * foot, stamp, ha="right", va="bottom", color=NEUTRAL)
    about = {".png": {"Description": stamp}, ".pdf": {"Subject": stamp, "CreationDate": None}}
    for ending, metadata in about.items():
        with atomic_write(path.with_suffix(ending)) as temporary:
            figure.savefig(temporary, dpi=130, metadata=metadata)
        figure.set_layout_engine("none")  # found once for both, since it takes as long as the drawing


def _axes(
    title: str, heights: list, widths: list, size: tuple, layout="constrained", **how
) -> tuple[Figure, np.ndarray]:
    """Figure of this size (inches) and (rows, columns) axes, as high and as wide as these say beside each other."""
    how |= {"squeeze": False, "height_ratios": heights, "width_ratios": widths, "figsize": size, "layout": layout}
    figure, axes = plt.subplots(len(heights), len(widths), **how)
    figure.suptitle(title, wrap=True)
    return figure, axes


def _pictures(title: str, heights: list, columns: int, width: float, wide=1.1, titles=0.0) -> tuple[Figure, np.ndarray]:
    """Figure and axes without ticks or frames, for rows of images this high and wide (inches).

    `wide` : inches beside them, for scales. `titles` : inches of all titles above rows together, a line each by default.
    """
    size = (max(width * columns + wide, 5), sum(heights) + (titles or 0.25 * len(heights)) + 0.5)
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    return _axes(title, heights, [1] * columns, size, "compressed", subplot_kw=bare)


def white_of(image: np.ndarray) -> float:
    """The value that is shown as white."""
    return float(np.percentile(image, DISPLAY_PERCENTILE)) or 1.0


def _grey(axis: Axes, image: np.ndarray, white: float, title: str = ""):
    axis.set_title(title)
    return axis.imshow(image, cmap="gray", vmin=0, vmax=white)


@styled
def contact_sheet(groups: Groups, title: str, columns: int = 9, width: float = 1.15, white: float = 0.0) -> Figure:
    """Many small images, group after group (name: {label: (H, W)}), `width` inches each, a group's name beside its first;
    grey is magnitude from 0, to each one's own white, or to `white`, in the units of the images."""
    named = [(group, label, magnitude(image)) for group, images in groups.items() for label, image in images.items()]
    height = width * named[0][2].shape[0] / named[0][2].shape[1]
    figure, axes = _pictures(title, [height] * -(-len(named) // columns), min(columns, len(named)), width)
    group, letters = "", round(13 * width)
    for axis, (name, label, image) in zip(axes.flat, named, strict=False):
        label = label if len(label) <= letters else f"{label[: letters - 1]}…"
        shown = _grey(axis, image if white else image / white_of(image), white or 1, label)
        if name != group:
            axis.set_ylabel(name, fontweight="bold")
        group = name
    label = "magnitude" if white else "magnitude\n(of each one's white)"
    figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01, extend="max", label=label)
    return figure


def before_and_after(zero_filled: np.ndarray, image: np.ndarray, title: str) -> Figure:
    """Zero-filled and reconstructed slice (H, W) side by side, on one grey scale, in the units of the measurement."""
    pictures = {"": {"zero-filled": zero_filled, "reconstructed": image}}
    return contact_sheet(pictures, title, columns=2, width=3.2, white=white_of(magnitude(image)))


@styled
def slices(volumes: Mapping[str, np.ndarray], columns: int = 5, title: str = "") -> Figure:
    """A row per volume (label: (slices, H, W)), `columns` evenly spaced slices of each; grey is magnitude, 0 to 1."""
    first = next(iter(volumes.values()))
    figure, axes = _pictures(title, [1.7 * first.shape[1] / first.shape[2]] * len(volumes), columns, 1.7)
    for row, (label, volume) in zip(axes, volumes.items(), strict=True):
        volume, chosen = magnitude(volume), np.linspace(0, len(volume) - 1, columns).round().astype(int)
        # A volume of fewer slices than columns leaves the rest of its row empty.
        for axis, number in zip(row, dict.fromkeys(chosen.tolist()), strict=False):
            picture = _grey(axis, volume[number], white_of(volume), f"slice {number + 1} of {len(volume)}")
        row[0].set_ylabel(label)
        figure.colorbar(picture, ax=row.tolist(), shrink=0.8, label="magnitude", pad=0.01, extend="max")
    return figure


def _draw_kspace(axis: Axes, mask: np.ndarray, picture: np.ndarray | None = None, **how):
    """Show a picture (H, W) of centred k-space, by default the mask in white; its axes are named by the direction that the
    mask varies on, frequencies in cycles per pixel."""
    if picture is None:
        picture, how = np.fft.fftshift(mask), {"cmap": "gray", "vmin": 0, "vmax": 1, **how}
    shown = axis.imshow(picture, **how)
    names = {None: ("", ""), 0: (" (readout)", " (phase encoding)"), 1: (" (phase encoding)", " (readout)")}
    along_x, along_y = names[line_axis(mask)]
    axis.set(xlabel=f"$k_x${along_x}", ylabel=f"$k_y${along_y}", frame_on=True)
    for ticks, size in zip((axis.set_yticks, axis.set_xticks), mask.shape, strict=True):
        ticks([0, size // 2, size - 1], ["−½", "0", "½"])
    return shown


@styled
def masks(rows: Groups, title: str = "Undersampling masks") -> Figure:
    """Masks (H, W), unshifted, drawn centred and in their true shape, a row per data set (name: {label: mask}): white is
    measured (appendix C)."""
    shapes = [next(iter(named.values())).shape for named in rows.values()]
    width = max(1.9, *(columns / SAMPLES for _, columns in shapes))
    heights = [width * rows / columns + 0.9 for rows, columns in shapes]
    title += "\nwhite: measured; frequencies in cycles per pixel"
    figure, axes = _pictures(title, heights, max(map(len, rows.values())), width + 0.75, wide=0.1, titles=0.2)
    for axes_row, named in zip(axes, rows.values(), strict=True):
        for axis, (label, mask) in zip(axes_row, named.items(), strict=False):
            _draw_kspace(axis, mask, interpolation="nearest")
            axis.set_title(f"{label}\n{mask.mean():.1%} measured")
    return figure


@styled
def undersampling(image: np.ndarray, mask: np.ndarray, zero_filled: np.ndarray, title: str = "") -> Figure:
    """From image to zero-filled image by way of k-space: image, its k-space, the mask; what is measured, zero-filled, its
    error. What isn't measured is black in the mask and in k-space."""
    kspace = centred(to_kspace(torch.from_numpy(image))).abs().numpy()
    logarithm = np.log10(kspace / kspace.max() + 1e-6)
    image, zero_filled = magnitude(image), magnitude(zero_filled)
    # Tall images are drawn narrower, lest the figure be higher than a page.
    height = min(2.3 * image.shape[0] / image.shape[1], 3.6)
    sampled = "nearest" if image.shape[0] / height < SAMPLES else "antialiased"  # lines finer than a pixel aren't lost
    figure, axes = _pictures(title, [height, height], 3, 3.1, wide=0.3)
    (of_image, of_kspace, of_mask), (of_measured, of_zero_filled, of_error) = axes
    how = {"cmap": plt.get_cmap("magma").with_extremes(bad="black"), "vmin": -5, "vmax": 0, "interpolation": sampled}
    measured, white = np.where(np.fft.fftshift(mask), logarithm, np.nan), white_of(image)
    _draw_kspace(of_mask, mask, interpolation=sampled)
    of_mask.set_title("mask: white is measured")
    of_log, of_magnitude = "log₁₀ (magnitude / largest)", "magnitude"
    for name, picture, label, extend in (
        ("image", _grey(of_image, image, white), of_magnitude, "max"),
        ("its k-space", _draw_kspace(of_kspace, mask, logarithm, **how), of_log, "min"),
        ("measured k-space: the rest is 0", _draw_kspace(of_measured, mask, measured, **how), of_log, "min"),
        ("zero-filled image", _grey(of_zero_filled, zero_filled, white), of_magnitude, "max"),
        ("its |error|", of_error.imshow(np.abs(zero_filled - image), cmap="inferno", vmin=0), of_magnitude, "neither"),
    ):
        picture.axes.set_title(name)
        figure.colorbar(picture, shrink=0.8, label=label, extend=extend)
    return figure


@styled
def lines(groups: Points, across: str, up: str, title: str, bold: Sequence[str] = (), **how) -> Figure:
    """Points (x, y) of each group, joined in the order of x, which is drawn logarithmically unless `how`, of an axis, says
    otherwise. Lines of `bold` are thick."""
    figure, ((axis,),) = _axes(title, [1], [1], (10, 4.2))
    many = max(map(len, groups.values())) > 8
    for number, (label, points) in enumerate(groups.items()):
        thin = {"markersize": 4, "markevery": (number % 5, 5), "linewidth": 2.2 if label in bold else 1}
        style = line_style(number) | (thin if many else {})
        axis.plot(*zip(*sorted(points), strict=True), label=label, **style)
    axis.set(**{"xscale": "log", "xlabel": across, "ylabel": up} | how)
    places = sorted({x for points in groups.values() for x, _ in points})
    if axis.get_xscale() == "log" and len(places) <= 8:  # each can be written out
        axis.set_xticks(places, [f"{x:g}" for x in places])
        axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=4)  # off the curves
    axis.grid()
    return figure


def spectra(powers: Mapping[str, tuple], title: str, relative_to: str, bold: Sequence[str] = ()) -> Figure:
    """Radial power spectra (name: (cycles per pixel, power)); `relative_to` says over what the power is. Lines of `bold`
    are thick."""
    points = {name: list(zip(*line, strict=True)) for name, line in powers.items()}
    up, how = f"mean power (relative to {relative_to})", {"xscale": "linear", "yscale": "log", "xlim": (0, 0.5)}
    return lines(points, "spatial frequency (cycles per pixel)", up, title, bold, **how)


@styled
def learning_curves(curves: Mapping[str, Sequence[pd.DataFrame]], title: str, alone: Sequence[tuple] = ()) -> Figure:
    """Validation PSNR against what a training has cost so far; beside it where each method ends.

    Parameters
    ----------
    curves : of each method, one of each seed, with columns `compute` (multiply-accumulates, all its stages') and
        `validation_psnr` (dB). A line is their mean, a band their range.
    alone : cost and final values, one of each seed, of the student trained alone for one stage and for longer: points.

    Methods stand in the order of their final values, the best first. One with a training that failed, whose curve ends in
    NaN, has no final value and stands last.
    """
    seeds = max(map(len, curves.values()))
    figure, ((axis, ends),) = _axes(title, [1], [3, 1.5], (10, max(4.2, 0.3 * max(len(curves), seeds) + 1.6)))
    final = []  # label with the final value, style, final values
    for number, (label, some) in enumerate(curves.items()):
        # Seeds validate at the same steps, so at the same costs; one that failed ends early.
        joined = pd.concat([c.dropna(subset="validation_psnr") for c in some]).groupby("compute").validation_psnr
        style, mean, cost = line_style(number), joined.mean(), joined.mean().index / 1e12
        axis.plot(cost, mean, markersize=4, **style)
        axis.fill_between(cost, joined.min(), joined.max(), color=style["color"], alpha=0.15, linewidth=0)
        values = [float(curve.validation_psnr.iloc[-1]) for curve in some]
        label = re.sub(r"\bL_(\w+)", r"$L_\\mathrm{\1}$", label)
        final.append((f"{label}: " + f"{np.mean(values):.2f}".replace("nan", "failed"), style, values))
    if alone:
        costs, means = np.array([compute / 1e12 for compute, _ in alone]), [float(np.mean(v)) for _, v in alone]
        style = {"color": NEUTRAL, "linestyle": (0, (1, 3)), "marker": "d", "markerfacecolor": "none"}
        axis.plot(costs, means, markersize=7, **style)
        reached = " to ".join(dict.fromkeys(f"{value(means[1:]):.2f}" for value in (min, max)))
        final.append((f"No teacher, longer: {reached}".replace("nan", "failed"), style, means[1:]))
    final.sort(key=lambda each: np.nan_to_num(np.mean(each[2]), nan=-np.inf))
    for place, (_, style, values) in enumerate(final):
        ends.axhline(place, color=style["color"], linestyle=style["linestyle"], linewidth=1)
        ends.plot(values, [place] * len(values), **style | {"linestyle": "none"})
    ends.yaxis.tick_right()
    ends.set_yticks(range(len(final)), [label for label, _, _ in final])
    ends.set_title("final value" + (f": mean, and each of {seeds} seeds" if seeds > 1 else ""))
    ends.set(xlabel="PSNR (dB)", ylim=(-0.6, len(final) - 0.4), xmargin=0.1)
    ends.grid(axis="x")
    spent = "training compute, the teacher's excluded (10¹² multiply-accumulates)"
    axis.set(xlabel=spent, ylabel="validation PSNR (dB)", xlim=(0, None))
    axis.set_title(f"line: mean of {seeds} seeds; band: their range" if seeds > 1 else "one seed")
    axis.locator_params(axis="x", nbins=6)  # small costs have long numbers
    axis.grid()
    return figure


def detail(target: np.ndarray) -> tuple[int, int, int]:
    """The square with most detail in the middle half of an image (H, W), by the energy of its gradient: (top, left, side).

    Chosen by the target alone, so that it favours no method. The side is a fifth of the image's shorter one.
    """
    side = max(2, round(0.2 * min(target.shape)))
    energy = ndimage.uniform_filter(sum(np.square(g) for g in np.gradient(target.astype(np.float64))), side)
    middle = tuple(slice(n // 4 + side // 2, max(n - n // 4 - side // 2, n // 4 + side // 2 + 1)) for n in target.shape)
    place = np.unravel_index(np.argmax(energy[middle]), energy[middle].shape)
    top, left = (int(p + m.start - side // 2) for p, m in zip(place, middle, strict=True))
    return top, left, side


def free_corner(shape: tuple[int, int], place: tuple[int, int, int]) -> tuple[bool, bool]:
    """The corner of an image (H, W) where a zoom hides nothing of `place`: whether at the bottom, at the right."""
    top, left, side = place
    return top + side / 2 < shape[0] / 2, left + side / 2 < shape[1] / 2


def _zoom(axis: Axes, image: np.ndarray, place: tuple[int, int, int]) -> None:
    """Frame a square of the image that an axis shows, and show it larger in a corner; nothing of a failed training's."""
    if not np.isfinite(image).all():
        return
    (top, left, side), (bottom, right) = place, free_corner(image.shape, place)
    across, down = (ZOOM * min(image.shape) / n for n in image.shape[::-1])
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=FRAME, linewidth=0.8))
    inset = axis.inset_axes([(1 - across) * right, (1 - down) * (not bottom), across, down], xticks=[], yticks=[])
    shown, crop = axis.images[0], image[top : top + side, left : left + side]
    inset.imshow(crop, cmap=shown.cmap, vmin=0, vmax=shown.norm.vmax, interpolation="nearest")
    inset.spines[:].set(edgecolor=FRAME, linewidth=1)


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
    heads = {name: textwrap.fill(name, 28) for name in ("Target", *names)}
    lines = 2 + max(head.count("\n") for head in heads.values())
    titles = 0.225 * lines * len(cases)
    figure, axes = _pictures(title, [width * a for a in aspects], len(names) + 1, width, 1.3, titles)
    cut = _upper([np.abs(images[n] - x) for x, images in cases.values() for n in names[1:]], 99.8)
    for (label, (target, images)), row, below in zip(cases.items(), axes[::2], axes[1::2], strict=True):
        place, white = detail(target), white_of(target)
        for axis, (name, image) in zip(row, {"Target": target, **images}.items(), strict=True):
            quality = "failed" if image is not target else "PSNR / SSIM"
            if image is not target and np.isfinite(image).all():
                quality = f"{psnr(target, image, target.max()):.2f} dB / {ssim(target, image, target.max()):.3f}"
            grey = _grey(axis, image, white, f"{heads[name]}\n{quality}")
            _zoom(axis, image, place)
        for axis, image in zip(below[1:], images.values(), strict=True):
            shown = axis.imshow(np.abs(image - target), cmap="inferno", vmin=0, vmax=cut)
            _zoom(axis, np.abs(image - target), place)
        row[0].set_ylabel(label)
        below[0].set_ylabel("|residue|")
        scale = below[0].inset_axes([0.08, 0.6, 0.84, 0.06])
        figure.colorbar(grey, cax=scale, orientation="horizontal", extend="max", label="magnitude")
    bar = {"shrink": 0.9 / len(cases), "aspect": 20 * len(cases), "pad": 0.01, "extend": "max"}
    figure.colorbar(shown, ax=axes[1:], label=f"|residue|, one scale for all,\ncut at {cut:.2g}", **bar)
    return figure


def _upper(images: Sequence[np.ndarray], percentile: float) -> float:
    """A percentile of all images' values, as the upper end of their scale; images of NaN, of failed trainings, left out."""
    values = np.concatenate([image[np.isfinite(image)] for image in images])
    return float(np.percentile(values, percentile)) if values.size else 1.0


@styled
def attention_maps(maps: Mapping[str, Sequence[np.ndarray]], reference: str, title: str = "") -> Figure:
    """Attention maps (H, W) per cascade, divided by their L2 norm: a row per network, then a row per network's difference
    to `reference`, with its L2 norm, the term of eq. 3."""
    height, width = maps[reference][0].shape
    beside = f"{reference[0].lower()}{reference[1:]}"
    apart = {
        f"|{label}\n− {beside}|": [np.abs(a - b) for a, b in zip(some, maps[reference], strict=True)]
        for label, some in maps.items()
        if label != reference
    }
    across = 1.75 if height < 1.4 * width else 1.3
    heights = [across * height / width] * (len(maps) + len(apart))
    figure, axes = _pictures(title, heights, len(maps[reference]), across, 1.7)
    differences = [*itertools.chain(*apart.values())]
    for rows, shown, colours, largest, label in (
        (axes[: len(maps)], maps, "viridis", maps[reference], "attention (of its L2 norm)"),
        (axes[len(maps) :], apart, "inferno", differences, "|difference| (of the L2 norms)"),
    ):
        upper = _upper(largest, 99.7)
        for row, (name, images) in zip(rows, shown.items(), strict=True):
            row[0].set_ylabel(textwrap.fill(name, 20))
            for number, (axis, image) in enumerate(zip(row, images, strict=True), 1):
                picture = axis.imshow(image, cmap=colours, vmin=0, vmax=upper)
                axis.set_title(f"cascade {number}" if shown is maps else f"distance {np.linalg.norm(image):.3f}")
        figure.colorbar(picture, ax=rows, shrink=0.6, pad=0.01, extend="max", label=label)
    return figure


@styled
def where_compared(teacher: Sequence[Sequence[str]], student: Sequence[Sequence[str]], pairs: Pairs) -> Figure:
    """Where a student is held against its teacher (the paper's Figure 1): a bar for each convolution, grey for data
    consistency, cascade by cascade. `pairs` : (teacher's, student's) features whose attention is compared."""
    figure, ((axis,),) = _axes("arrows: attention (eq. 3) orange, images (eq. 4) blue", [1], [1], (10, 2.8))
    bar, end = {"height": 0.32, "width": 0.07, "align": "edge", "edgecolor": "black"}, len(student) + 0.47
    places = {}
    for up, label, groups in ((1, "teacher", teacher), (0, "student", student)):
        axis.plot([-0.2, end - 0.12], [up, up], color="black", linewidth=1, zorder=0)
        axis.text(-0.25, up, f"{label}\n$x_u$", ha="right", va="center")
        axis.text(end, up, f"$x_{label[0].upper()}$", ha="center", va="center")
        for cascade, group in enumerate(groups):
            axis.bar(cascade + 0.8, bottom=up - 0.16, color="0.75", **bar)
            for number, feature in enumerate(group):
                places[label, feature] = place = cascade + 0.75 * (number + 0.5) / len(group)
                axis.bar(place, bottom=up - 0.16, color=COLOURS[6], **bar)
    lines = [(places["teacher", t] + 0.035, 0.82, places["student", s] + 0.035, 0.18, COLOURS[3]) for t, s in pairs]
    lines += [(end, top, end, bottom, COLOURS[2]) for top, bottom in ((0.88, 0.12), (-0.1, -0.38))]
    for x, top, below, bottom, colour in lines:
        arrow = {"arrowstyle": "<->", "linewidth": 1.5, "color": colour}
        axis.annotate("", (x, top), (below, bottom), arrowprops=arrow)
    for up, text in ((0.5, "$1-α$"), (-0.24, "$α$"), (-0.52, "truth $x$")):
        axis.text(end + 0.08, up, text, va="center")
    axis.set(xlim=(-0.8, end + 0.5), ylim=(-0.65, 1.3))
    axis.set_axis_off()
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
    found = found.set_index(["teacher", "student"])
    wide = found["difference"].unstack()
    wide.loc[chosen] = 0.0
    limit = max(5 * MARGIN, float(np.nanmax(np.abs(wide), initial=0)))
    rows, columns = wide.shape
    figure, ((axis,),) = _axes(title, [1], [1], (1.6 * columns + 2.6, 0.62 * rows + 1.6))
    picture = axis.imshow(wide, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axis.set(xticks=range(columns), yticks=range(rows), xticklabels=wide.columns, yticklabels=wide.index)
    axis.set(xlabel="student's convolution", ylabel="teacher's convolution")
    for (down, across), value in np.ndenumerate(wide):
        pair, text = (wide.index[down], wide.columns[across]), ""
        if pair == chosen:
            text = "failed" if np.isnan(psnr_chosen) else f"the paper's\n{psnr_chosen:.2f} dB"
            box = (across - 0.47, down - 0.46)
            axis.add_patch(Rectangle(box, 0.94, 0.92, fill=False, edgecolor="black", linewidth=2))
        elif pair in found.index:
            low, high = found.loc[pair, ["low", "high"]]
            text = f"{value:+.2f}" + ("" if np.isnan(low) else f"\n[{low:+.2f}, {high:+.2f}]")
            text = "failed" if np.isnan(value) else text.replace("-", "−")
        colour = "white" if abs(value) > 0.6 * limit else "black"  # on dark, on light
        axis.text(across, down, text, ha="center", va="center", color=colour)
    figure.colorbar(picture, label="difference to the paper's\nchoice (dB) [95% interval]")
    return figure


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
    figure, ((axis, leads),) = _axes(title, [1], [1.6, 1], (10, 0.5 * len(ordered) + 1.8), sharey=True)
    point = {"markersize": 7, "linestyle": "none", "markeredgecolor": "black"}
    ways = {"alone": "no teacher", "alone_at_cost": "no teacher, as much compute", "distilled": "distilled"}
    for number, (column, label) in enumerate(ways.items(), 1):
        point |= {"color": COLOURS[number], "marker": MARKERS[number]}
        axis.plot(ordered[column], ordered.index, label=label, **point)
    axis.axvline(teacher, color="black", linestyle="--", label=f"teacher: {teacher:.2f} dB")
    axis.set_yticks(ordered.index, ordered["size"] + ordered.parameters.map("\n{:,} parameters".format))
    axis.set(ylim=(-0.6, len(ordered) - 0.4), xlabel="test PSNR (dB)")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", ncols=4)
    leads.axvspan(-MARGIN, MARGIN, color="0.9")
    leads.axvline(0, color="black", linewidth=1)
    ends = np.nan_to_num([ordered.lead - ordered.low, ordered.high - ordered.lead])
    leads.errorbar(ordered.lead, ordered.index, xerr=ends, capsize=3, **point)
    leads.set_title(f"95% interval; grey: equivalent, ±{MARGIN:g} dB")
    leads.set_xlabel("distilled − baseline at its compute (dB)")
    for each in (axis, leads):
        each.grid(axis="x")
        each.margins(x=0.08)
    return figure


@styled
def times(measured: pd.DataFrame, title: str) -> Figure:
    """Median time of each way to compute (implementation), of teacher and student on one scale from 0; bars to the
    quartiles.

    `measured` : columns network, implementation, ms, q25, q75; what couldn't be measured is NaN.
    """
    slowest = measured.groupby("implementation").ms.max().dropna().sort_values(ascending=False).index
    figure, ((axis,),) = _axes(title, [1], [1], (8.5, 0.42 * len(slowest) + 1.7))
    networks = measured.groupby("network", sort=False)
    for (network, rows), colour, beside in zip(networks, ("0.75", COLOURS[2]), (0.2, -0.2), strict=False):
        rows = rows.set_index("implementation").reindex(slowest)
        how = {"color": colour, "edgecolor": "black", "label": network, "error_kw": {"capsize": 2, "linewidth": 1}}
        ends = [rows.ms - rows.q25, rows.q75 - rows.ms]
        bars = axis.barh(np.arange(len(slowest)) + beside, rows.ms, 0.38, xerr=ends, **how)
        axis.bar_label(bars, fmt=lambda ms: "" if np.isnan(ms) else f"{ms:.1f}", padding=5)
    axis.set_yticks(range(len(slowest)), slowest)
    axis.set(xlabel="time per slice (ms): median and quartiles", xmargin=0.12)
    figure.legend(loc="outside lower center", ncols=2)
    axis.grid(axis="x")
    return figure


@styled
def differences(groups: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """ΔPSNR (dB) of each group at each setting: a mark for the mean, a dot for each seed; above 0 the first does better."""
    settings = list(dict.fromkeys(setting for group in groups.values() for setting in group))
    figure, ((axis,),) = _axes(title, [1], [1], (10, 4.2))
    axis.axhline(0, color=NEUTRAL, linewidth=1)
    for number, (label, group) in enumerate(groups.items()):
        at = {s: settings.index(s) + 0.8 * ((number + 0.5) / len(groups) - 0.5) for s in group}
        style, means = {**line_style(number), "linestyle": "none"}, [np.mean(each) for each in group.values()]
        axis.plot(list(at.values()), means, label=label, markersize=9, markerfacecolor="none", **style)
        dots = [(at[s], value) for s, each in group.items() for value in each]
        axis.plot(*zip(*dots, strict=True), **{**style, "marker": "."}, markersize=5)
    axis.set_xticks(range(len(settings)), settings)
    axis.set(ylabel="ΔPSNR / dB (dots: seeds; marks: their means)")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), handlelength=1)
    axis.grid(axis="y")
    return figure
