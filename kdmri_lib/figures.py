"""Every plot of the study. Functions return figures; `save` writes PNG and PDF and says what they were made from.

Of complex images the magnitude is shown; so are residues, between magnitudes, as metrics see them.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from kdmri_lib.channels import magnitude
from kdmri_lib.fourier import centred, to_kspace
from kdmri_lib.storage import atomic_write

DISPLAY_PERCENTILE = 99.7  # of a slice's values, shown as white: single bright vessels would darken the rest


def save(figure: Figure, path: Path, stamp: str, runs: Sequence[str] = ()) -> None:
    """Write `path` (PNG) and the same as PDF, stamped at the foot; the names of the run folders go into the metadata."""
    foot = 0.22 / figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    figure.text(0.995, 0.2 * foot, stamp, ha="right", va="bottom", fontsize=7, color="0.45")
    made_from = "made from runs: " + (", ".join(sorted(set(runs))) or "none")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Description": f"{stamp}; {made_from}"})
    with atomic_write(path.with_suffix(".pdf")) as temporary:
        figure.savefig(temporary, metadata={"Subject": stamp, "Keywords": made_from, "CreationDate": None})


def grid(rows: int, columns: int, size: float = 2.1, aspect: float = 1.0, **more):
    """Figure and (rows, columns) axes without ticks, for images `aspect` times as high as wide."""
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size * columns + 0.6, size * aspect * rows + 0.5),
        layout="constrained",
        squeeze=False,
        **more,
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    return figure, axes


def contact_sheet(images: Mapping[str, np.ndarray], title: str, columns: int = 10) -> Figure:
    """Many small images (label: (H, W)), in rows; grey is magnitude, each on its own scale from 0."""
    rows = -(-len(images) // columns)
    height, width = next(iter(images.values())).shape
    figure, axes = grid(rows, min(columns, len(images)), size=1.3, aspect=height / width)
    for axis, (label, image) in zip(axes.flat, images.items(), strict=False):
        shown = magnitude(image)
        axis.imshow(shown, cmap="gray", vmin=0, vmax=np.percentile(shown, DISPLAY_PERCENTILE) or 1)
        axis.set_title(label, fontsize=5)
    figure.suptitle(title, fontsize=9)
    return figure


def before_and_after(zero_filled: np.ndarray, image: np.ndarray, title: str) -> Figure:
    """Zero-filled and reconstructed slice (H, W) side by side, on one grey scale, in the units of the measurement."""
    figure, axes = grid(1, 2, size=3.2, aspect=image.shape[0] / image.shape[1])
    zero_filled, image = magnitude(zero_filled), magnitude(image)
    white = float(np.percentile(image, DISPLAY_PERCENTILE)) or 1.0
    for axis, (label, picture) in zip(
        axes.flat, {"zero-filled": zero_filled, "reconstructed": image}.items(), strict=True
    ):
        shown = axis.imshow(picture, cmap="gray", vmin=0, vmax=white)
        axis.set_title(label, fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.8, label="magnitude")
    figure.suptitle(title, fontsize=10)
    return figure


def slices(volumes: Mapping[str, np.ndarray], columns: int = 5, title: str = "") -> Figure:
    """A row per volume (label: (slices, H, W)), `columns` evenly spaced slices of each; grey is magnitude, 0 to 1."""
    first = next(iter(volumes.values()))
    figure, axes = grid(len(volumes), columns, aspect=first.shape[1] / first.shape[2])
    for row, (label, volume) in zip(axes, volumes.items(), strict=True):
        volume, chosen = magnitude(volume), np.linspace(0, len(volume) - 1, columns).round().astype(int)
        # A volume of fewer slices than columns leaves the rest of its row empty.
        for axis, number in zip(row, dict.fromkeys(chosen.tolist()), strict=False):
            white = np.percentile(volume, DISPLAY_PERCENTILE)
            picture = axis.imshow(volume[number], cmap="gray", vmin=0, vmax=white)
            axis.set_title(f"slice {number}", fontsize=8)
        row[0].set_ylabel(label, fontsize=9)
        figure.colorbar(picture, ax=row.tolist(), shrink=0.8, label="magnitude", pad=0.01)
    figure.suptitle(title)
    return figure


def masks(named: Mapping[str, np.ndarray], title: str = "Undersampling masks") -> Figure:
    """Masks (H, W), unshifted, drawn centred: white is measured (appendix C)."""
    columns = min(3, len(named))
    figure, axes = grid(-(-len(named) // columns), columns, size=2.4)
    for axis, (label, mask) in zip(axes.flat, named.items(), strict=False):
        axis.imshow(np.fft.fftshift(mask), cmap="gray", interpolation="nearest", aspect="auto")
        axis.set_title(f"{label}: {mask.mean():.1%} measured", fontsize=9)
        axis.set_frame_on(True)
    figure.suptitle(f"{title} (centred; white is measured)")
    return figure


def undersampling(image: np.ndarray, mask: np.ndarray, zero_filled: np.ndarray, title: str = "") -> Figure:
    """From image to zero-filled image by way of k-space: image, its k-space, what is measured of it, zero-filled."""
    kspace = centred(to_kspace(torch.from_numpy(image))).abs().numpy()
    logarithm = np.log10(kspace / kspace.max() + 1e-6)
    image, zero_filled = magnitude(image), magnitude(zero_filled)
    figure, axes = grid(1, 5, size=2.6, aspect=image.shape[0] / image.shape[1])
    white = np.percentile(image, DISPLAY_PERCENTILE)
    measured = np.where(np.fft.fftshift(mask), logarithm, np.nan)
    for axis, picture, name in ((axes[0, 1], logarithm, "k-space"), (axes[0, 2], measured, "measured k-space")):
        shown = axis.imshow(picture, cmap="magma", vmin=-5, vmax=0)
        axis.set_title(name)
    figure.colorbar(shown, ax=axes[0, 1:3].tolist(), shrink=0.7, label="log₁₀ of magnitude")
    for axis, picture, name in ((axes[0, 0], image, "image"), (axes[0, 3], zero_filled, "zero-filled")):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=white)
        axis.set_title(name)
    error = axes[0, 4].imshow(np.abs(zero_filled - image), cmap="inferno", vmin=0)
    axes[0, 4].set_title("|error|")
    figure.colorbar(error, ax=axes[0, 4], shrink=0.7, label="magnitude")
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


def power_spectra(volumes: Mapping[str, np.ndarray]) -> Figure:
    """Radial power spectra of volumes (label: (slices, H, W)), each over its power at zero frequency."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, volume in volumes.items():
        frequency, power = radial_power(volume)
        axis.semilogy(frequency, power, label=label)
    axis.set(xlabel="spatial frequency (cycles per pixel)", ylabel="mean power (of zero frequency's)")
    axis.set_title("Radial power spectrum")
    axis.legend()
    axis.grid(alpha=0.3)
    return figure


def people(images: Mapping[str, np.ndarray], title: str, columns: int = 5) -> Figure:
    """A slice of each person (name: (H, W)); grey is magnitude, each on its own scale from 0 to its white."""
    height, width = next(iter(images.values())).shape
    figure, axes = grid(-(-len(images) // columns), min(columns, len(images)), aspect=height / width)
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        image = magnitude(image)
        white = np.percentile(image, DISPLAY_PERCENTILE) or 1
        shown = axis.imshow(image / white, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01, label="magnitude (of each one's white)")
    figure.suptitle(title, fontsize=10)
    return figure


def spectra(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], solid: Sequence[str], title: str) -> Figure:
    """Radial spectra (name: (cycles per pixel, power relative to structure)): lines those of `solid`, dashed the others."""
    figure, axis = plt.subplots(figsize=(8.5, 4.5), layout="constrained")
    others = [name for name in lines if name not in solid]
    for name in (name for name in lines if name in solid):
        axis.semilogy(*lines[name], label=name, linewidth=2)
    for name, colour in zip(others, plt.get_cmap("viridis")(np.linspace(0, 1, len(others))), strict=True):
        axis.semilogy(*lines[name], label=name, color=colour, linestyle="--", linewidth=1)
    axis.set(xlabel="spatial frequency (cycles per pixel)", title=title)
    axis.set_ylabel("mean power (of that from 0.02 to 0.1 cycles per pixel)")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))  # beside it, off the curves
    axis.grid(alpha=0.3)
    return figure


def learning_curves(curves: Mapping[str, Sequence[pd.DataFrame]], title: str, value: str = "validation_psnr") -> Figure:
    """Validation value against steps: a line per method (the mean over its seeds) and a band (their range).

    The legend stands in the order of the final values, the best first. A method with a training that failed, whose curve
    ends in NaN, has no final value and stands last.
    """
    figure, axis = plt.subplots(figsize=(10, 4.5), layout="constrained")
    joined = {label: pd.concat(list(seeds)).groupby("step")[value] for label, seeds in curves.items()}
    final = {label: np.mean([seed[value].iloc[-1] for seed in seeds]) for label, seeds in curves.items()}
    order = sorted(joined, key=lambda label: np.nan_to_num(final[label], nan=-np.inf), reverse=True)
    colours = dict(zip(curves, itertools.cycle(plt.get_cmap("tab10").colors), strict=False))
    for label in order:
        mean, low, high = joined[label].mean(), joined[label].min(), joined[label].max()
        axis.plot(
            mean.index,
            mean,
            marker=".",
            color=colours[label],
            label=f"{label}: {final[label]:.2f}".replace("nan", "failed"),
        )
        axis.fill_between(mean.index, low, high, color=colours[label], alpha=0.2, linewidth=0)
    lowest = np.nanmin([joined[label].mean().iloc[min(1, len(joined[label].mean()) - 1)] for label in order] + [np.inf])
    highest = np.nanmax([joined[label].max().max() for label in order] + [-np.inf])
    margin = 0.05 * max(highest - lowest, 0.1)
    if np.isfinite(margin):
        # The first validation is far below the rest and would flatten all differences.
        axis.set_ylim(lowest - margin, highest + margin)
    axis.set(xlabel="step of this training", ylabel="validation PSNR (dB)", title=title)
    axis.legend(title="final value", loc="center left", bbox_to_anchor=(1.01, 0.5))  # beside it, off the curves
    axis.grid(alpha=0.3)
    return figure


def comparison(cases: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], title: str = "") -> Figure:
    """Figure 2: a row per case (label: target (H, W), reconstructions by method), residues on one scale per row.

    The first reconstruction is the zero-filled one and gets no residue, as in the paper.
    """
    names = list(next(iter(cases.values()))[1])
    residues = names[1:]
    height = max(target.shape[0] / target.shape[1] for target, _ in cases.values())
    figure, axes = grid(len(cases), len(names) + 1 + len(residues), size=1.9, aspect=height)
    for row, (label, (target, images)) in zip(axes, cases.items(), strict=True):
        target, images = magnitude(target), {name: magnitude(image) for name, image in images.items()}
        white = np.percentile(target, DISPLAY_PERCENTILE)
        errors = {name: np.abs(images[name] - target) for name in residues}
        scale = _upper(list(errors.values()), 99.8)
        shown = [(names[0], images[names[0]]), ("Target", target), *((n, images[n]) for n in names[1:])]
        for axis, (name, image) in zip(row, shown, strict=False):
            picture = axis.imshow(image, cmap="gray", vmin=0, vmax=white)
            axis.set_title(name if np.isfinite(image).all() else f"{name}: failed", fontsize=8)
        for axis, name in zip(row[len(shown) :], residues, strict=True):
            error = axis.imshow(errors[name], cmap="inferno", vmin=0, vmax=scale)
            axis.set_title(f"|residue|, {name.lower()}", fontsize=8)
        row[0].set_ylabel(label, fontsize=9)
        figure.colorbar(picture, ax=row[: len(shown)].tolist(), shrink=0.75, pad=0.005, label="magnitude")
        figure.colorbar(error, ax=row[len(shown) :].tolist(), shrink=0.75, pad=0.01, label="|residue|")
    figure.suptitle(title)
    return figure


def _upper(images: Sequence[np.ndarray], percentile: float) -> float:
    """A percentile of the images' values, as the upper end of their scale; images of NaN, of failed trainings, left out."""
    values = np.stack(images)
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percentile)) if values.size else 1.0


def attention_maps(maps: Mapping[str, Sequence[np.ndarray]], reference: str, title: str = "") -> Figure:
    """Attention maps (H, W) per cascade, divided by their L2 norm: a row per network, its residue to `reference` below."""
    columns = len(maps[reference])
    rows = [(label, values, None) for label, values in maps.items()]
    rows += [(f"|{label} − {reference}|", v, maps[reference]) for label, v in maps.items() if label != reference]
    figure, axes = grid(len(rows), columns, size=1.8)
    residues = [np.abs(a - b) for _, v, r in rows if r is not None for a, b in zip(v, r, strict=True)]
    limits = {False: _upper(maps[reference], 99.7), True: _upper(residues, 99.7)}
    for number in range(columns):
        axes[0, number].set_title(f"cascade {number + 1}", fontsize=9)
    for row, (label, values, other) in zip(axes, rows, strict=True):
        for number, axis in enumerate(row):
            picture = values[number] if other is None else np.abs(values[number] - other[number])
            residue = other is not None
            shown = axis.imshow(picture, cmap="inferno" if residue else "viridis", vmin=0, vmax=limits[residue])
        row[0].set_ylabel(label, fontsize=8)
        figure.colorbar(shown, ax=row.tolist(), shrink=0.8, pad=0.01)
    figure.suptitle(title)
    return figure


def heat_map(values: pd.DataFrame, down: str, across: str, unit: str, title: str = "") -> Figure:
    """A table of numbers as colours, each number in its place; `down` and `across` say what rows and columns are."""
    rows, columns = values.shape
    figure, axis = plt.subplots(figsize=(1.3 * columns + 2.5, 0.8 * rows + 1.5), layout="constrained")
    picture = axis.imshow(values, cmap="viridis", aspect="auto")
    axis.set(xticks=range(columns), yticks=range(rows), xticklabels=values.columns, yticklabels=values.index)
    axis.set(xlabel=across, ylabel=down)
    for (row, column), value in np.ndenumerate(values):
        text = "failed" if np.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", color="white", bbox={"color": "black", "alpha": 0.4})
    figure.colorbar(picture, label=unit)
    figure.suptitle(title, fontsize=10)
    return figure


def pareto(points: Mapping[str, Sequence[tuple[int, float, str]]], title: str) -> Figure:
    """Parameters against PSNR, a marker per way of training (label: (parameters, PSNR, name) each), a bar between."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for (label, found), marker in zip(points.items(), "os^", strict=False):
        axis.plot([p for p, *_ in found], [v for _, v, _ in found], marker=marker, linestyle="none", label=label)
    sizes: dict[tuple[int, str], list[float]] = {}
    for parameters, value, name in (point for found in points.values() for point in found):
        if not np.isnan(value):  # of a training that failed
            sizes.setdefault((parameters, name), []).append(value)
    for (parameters, name), values in sizes.items():
        axis.plot([parameters] * len(values), values, color="0.7", zorder=0)
        place = {"xy": (parameters, min(values)), "xytext": (0, -6), "textcoords": "offset points"}
        axis.annotate(name.replace(", ", "\n"), **place, fontsize=6, ha="center", va="top")
    axis.margins(x=0.12, y=0.2)
    axis.set(xscale="log", xlabel="parameters", ylabel="test PSNR (dB)", title=title)
    axis.legend()
    axis.grid(alpha=0.3)
    return figure


def bars(groups: Mapping[str, Sequence[tuple[float, str]]], title: str, unit: str) -> Figure:
    """A panel per group of horizontal bars (value, label), the smallest on top, each with its value."""
    figure, axes = plt.subplots(1, len(groups), figsize=(5.2 * len(groups), 3.6), layout="constrained", squeeze=False)
    for axis, (name, points) in zip(axes.flat, groups.items(), strict=True):
        ordered = sorted(points, reverse=True)
        drawn = axis.barh([label for _, label in ordered], [value for value, _ in ordered], color="0.55")
        axis.bar_label(drawn, fmt="%.3g", padding=2, fontsize=7)
        axis.tick_params(labelsize=7)
        axis.margins(x=0.12)
        axis.set_xlabel(unit)
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def lines(groups: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, title: str) -> Figure:
    """Points (x, y) of each group, joined in the order of x, which is drawn logarithmically."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for number, (label, points) in enumerate(groups.items()):
        x, y = zip(*sorted(points), strict=True)
        axis.plot(x, y, label=label, marker="osD^vPX*"[number % 8], linestyle=("-", "--", ":", "-.")[number // 2 % 4])
    axis.set(xscale="log", xlabel=across, ylabel=up, title=title)
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)
    return figure
