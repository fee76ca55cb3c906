"""Pictures as a figure editor would have them: what they show is read back from them, not from the code that draws."""

import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from kdmri_lib import figures
from kdmri_lib.masks import gaussian_mask_2d, published_mask, truncation_mask

RNG = np.random.default_rng(0)
PEOPLE = {f"person{n}": RNG.random((20, 16)).astype(np.float32) for n in range(3)}


def curve(values, first=1.0, last=2.0):
    """A learning curve whose validations are spread evenly between these computes (10¹²)."""
    return pd.DataFrame({"compute": np.linspace(first, last, len(values)) * 1e12, "validation_psnr": values})


def table(columns, *rows):
    return pd.DataFrame(rows, columns=columns.split())


CURVES = {
    "Teacher": [curve([20, 30, 33.0]), curve([10, 31, 34.0])],
    "Student": [curve([21, 29, 31.0]), curve([22, 30, 32.0])],
    "L_rec + L_AT": [curve([24, 31, 32.0], 2, 3), curve([25, np.nan], 2, 2.5)],
}
ALONE = [(2e12, [31.0, 32.0]), (3e12, [33.0, 33.5])]
TARGET = np.clip(RNG.random((48, 40)), 0, 1).astype(np.float32)
CASES = {
    "brain\n(phantom)": (TARGET, {"Zero-filled": TARGET / 2, "Teacher": TARGET * 0.9, "Student": TARGET * 0.8}),
    "knee\n(phantom)": (TARGET**2, {"Zero-filled": TARGET, "Teacher": TARGET**2 + 0.01, "Student": TARGET * np.nan}),
}
NAN = np.nan
PAIRS = table(
    "teacher student difference low high",
    *[(1, 1, 0.02, -0.01, 0.05), (1, 2, -0.03, NAN, NAN), (2, 1, NAN, NAN, NAN), (2, 2, 0.0, NAN, NAN)],
)
SIZES = table(
    "size parameters alone alone_at_cost distilled lead low high",
    ("5 cascades, 3 convolutions, 8 features", 3045, 23.0, 23.4, 23.2, -0.2, -0.3, -0.1),
    ("5 cascades, 2 convolutions, 32 features", 3085, 23.1, 23.5, 23.7, 0.2, 0.1, 0.3),
    ("large", 49285, 24.0, 24.2, NAN, NAN, NAN, NAN),
)
TIMES = table(
    "network implementation ms q25 q75",
    *(("teacher", "plain", 80, 78, 85), ("teacher", "fast", 20, 19, 22), ("teacher", "GPU", NAN, NAN, NAN)),
    *(("student", "plain", 40, 39, 41), ("student", "fast", 10, 9.5, 12), ("student", "GPU", NAN, NAN, NAN)),
)
GROUPS = {n: [[f"{c}.{i}" for i in range(n)] for c in range(3)] for n in (5, 3)}
MAPS = {name: [RNG.random((20, 16)) for _ in range(2)] for name in ("Teacher", "Student", "Distilled student")}

DRAWN = {
    "contact_sheet": lambda: figures.contact_sheet({"train": PEOPLE, "test": dict(list(PEOPLE.items())[:2])}, "title"),
    "before_and_after": lambda: figures.before_and_after(TARGET / 2, TARGET, "title"),
    "slices": lambda: figures.slices({"train\na": RNG.random((4, 20, 16)), "b": RNG.random((1, 20, 16))}, 2, "title"),
    "masks": lambda: figures.masks({"brain": {"Brain 4x": published_mask("brain", 4)}}, "title"),
    "undersampling": lambda: figures.undersampling(TARGET, truncation_mask((48, 40), 4), TARGET / 2, "title"),
    "spectra": lambda: figures.spectra({"a": (np.arange(9) / 18, 0.1 ** np.arange(9))}, "title", "zero's", ["a"]),
    "learning_curves": lambda: figures.learning_curves(CURVES, "title", ALONE),
    "comparison": lambda: figures.comparison(CASES, "title"),
    "attention_maps": lambda: figures.attention_maps(MAPS, "Teacher", "title"),
    "positions": lambda: figures.positions(PAIRS, (2, 2), 24.5, "title"),
    "sizes": lambda: figures.sizes(SIZES, 24.3, "title"),
    "times": lambda: figures.times(TIMES, "title"),
    "where_compared": lambda: figures.where_compared(GROUPS[5], GROUPS[3], [("0.2", "0.1"), ("2.0", "2.2")]),
    "lines": lambda: figures.lines({"a": [(1e12, 30), (4e12, 31)]}, "compute", "test PSNR / dB", "title"),
}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", DRAWN)
def test_all_letters_of_a_picture_are_as_large_as_its_title_and_stand_within_it(name):
    figure = DRAWN[name]()
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert {text.get_fontsize() for text in shown} == {9}
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 > -0.02 and drawn.y0 > -0.02 and drawn.x1 < width + 0.02 and drawn.y1 < height + 0.02
    assert plt.rcParams["font.size"] == 10, "nobody else's pictures change"


def test_a_saved_picture_says_whose_it_is(tmp_path):
    figure = DRAWN["times"]()
    figures.save(figure, tmp_path / "picture.png", "profile smoke")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.text["Description"] == "profile smoke"
    assert (tmp_path / "picture.pdf").read_bytes().startswith(b"%PDF")
    assert figure.texts[-1].get_text() == "profile smoke" and figure.texts[-1].get_fontsize() == 9


# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as it is seen.
SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "all": np.eye(3),
}


@pytest.mark.parametrize("eyes", SEEN)
def test_methods_differ_for_the_colour_blind_and_without_any_colour(eyes):
    srgb = np.array([to_rgb(colour) for colour in figures.COLOURS])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SEEN[eyes]), 0, 1) ** (1 / 2.2)
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(seen, 2)) > 0.08
    styles = [figures.line_style(number) for number in range(24)]
    assert all(len({(s["linestyle"], s[other]) for s in styles}) == 24 for other in ("marker", "color"))


def test_curves_are_whole_within_the_axes_and_end_where_the_legend_says():
    figure = figures.learning_curves(CURVES, "title", ALONE)
    figure.canvas.draw()
    axis, ends = figure.axes
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    for line in axis.lines:
        x, y = line.get_data()
        assert ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all()
    bands = np.concatenate([path.vertices for drawn in axis.collections for path in drawn.get_paths()])
    assert bands[:, 1].min() == 10 and bands[:, 1].min() >= low and bands[:, 1].max() <= high
    assert axis.lines[0].get_xdata().tolist() == [1, 1.5, 2] and axis.lines[0].get_ydata().tolist() == [15, 30.5, 33.5]
    words = [label.get_text() for label in ends.get_yticklabels()][::-1]
    assert words[0] == "Teacher: 33.50" and words[1] == "No teacher, longer: 33.25" and words[2] == "Student: 31.50"
    assert words[3] == r"$L_\mathrm{rec}$ + $L_\mathrm{AT}$: failed", "the mean of the other seeds would be of fewer"
    assert "mean of 2 seeds; band: their range" in axis.get_title()
    assert "compute" in axis.get_xlabel() and "dB" in axis.get_ylabel()


def test_a_single_seed_has_no_band_and_all_seeds_may_fail():
    one = {"Teacher": [curve([20, 30])], "Student": [curve([np.nan])]}
    axis, ends = figures.learning_curves(one, "title").axes
    assert axis.get_title() == "one seed" and "seeds" not in ends.get_title()
    assert [label.get_text() for label in ends.get_yticklabels()] == ["Student: failed", "Teacher: 30.00"]


def test_figure_2_says_how_good_each_slice_is_and_shows_all_residues_on_one_scale():
    figure = figures.comparison(CASES, "title")
    figure.canvas.draw()
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    for target, images in CASES.values():
        for name, image in images.items():
            if np.isfinite(image).all():
                psnr = peak_signal_noise_ratio(target, image, data_range=target.max())
                ssim = structural_similarity(target, image, data_range=target.max())
                assert f"{name}\n{psnr:.2f} dB / {ssim:.3f}" in titles
    assert "Student\nfailed" in titles
    residues = [im for axis in figure.axes for im in axis.images if im.get_cmap().name == "inferno"]
    assert len({im.get_clim() for im in residues}) == 1
    (bar,) = [axis for axis in figure.axes if "residue" in axis.get_ylabel() and "cut at" in axis.get_ylabel()]
    shown = float(re.search(r"cut at ([\d.]+)", bar.get_ylabel())[1])
    assert shown == pytest.approx(residues[0].get_clim()[1], rel=0.1)
    assert residues[0].colorbar is None and bar._colorbar.extend == "max"


def test_zooms_show_one_place_in_all_panels_of_a_case():
    (label, case) = next(iter(CASES.items()))
    found = []
    for axis in figures.comparison({label: case}, "title").axes:
        for inset in [inset for inset in axis.child_axes if inset.images and axis.patches]:
            box = axis.patches[0]
            place = left, top, side = round(box.get_x() + 0.5), round(box.get_y() + 0.5), round(box.get_width())
            whole, zoom = axis.images[0].get_array(), inset.images[0].get_array()
            assert np.array_equal(whole[top : top + side, left : left + side], zoom)
            assert inset.images[0].get_clim() == axis.images[0].get_clim()
            found.append(place)
    assert len(found) == 4 + 3 and len(set(found)) == 1


def test_the_zoom_is_where_detail_is():
    image = np.zeros((60, 80))
    image[30:36, 44:50] = np.indices((6, 6)).sum(axis=0) % 2
    top, left, side = figures.detail(image)
    assert top <= 30 and top + side >= 36 and left <= 44 and left + side >= 50
    image[0:12, 0:12] = 9 * (np.indices((12, 12)).sum(axis=0) % 2)
    assert figures.detail(image) == (top, left, side), "not at the border, which every head has"


@given(st.integers(12, 90), st.integers(12, 90), st.integers(0, 99))
def test_a_zoom_never_hides_its_own_place(height, width, seed):
    top, left, side = place = figures.detail(np.random.default_rng(seed).random((height, width)))
    assert 0 <= top <= height - side and 0 <= left <= width - side
    bottom, right = figures.free_corner((height, width), place)
    size = 0.4 * min(height, width) - 0.5  # to half a pixel
    apart_down = top + side <= height - size if bottom else top >= size
    assert apart_down or (left + side <= width - size if right else left >= size)


@pytest.mark.parametrize(("name", "factor", "varies"), [("brain", 4, 0), ("knee", 8, 1)])
def test_every_measured_line_is_white_and_none_is_lost(name, factor, varies, tmp_path):
    mask = published_mask(name, factor)
    figure = figures.masks({name: {f"{name} {factor}x": mask}, "other": {"small": published_mask("cardiac", 4)}})
    figure.savefig(tmp_path / "masks.png", dpi=130)
    axis = figure.axes[0]
    with Image.open(tmp_path / "masks.png") as picture:
        pixels = np.asarray(picture.convert("L")) > 127
    scale, box = pixels.shape[1] / figure.bbox.width, axis.get_window_extent()
    x0, x1, y0, y1 = (round(v * scale) for v in (box.x0, box.x1, figure.bbox.y1 - box.y1, figure.bbox.y1 - box.y0))
    panel = pixels[y0 + 3 : y1 - 2, x0 + 3 : x1 - 2]
    across = panel[:, panel.shape[1] // 3] if varies == 0 else panel[panel.shape[0] // 3]
    line = np.take(np.fft.fftshift(mask), 0, axis=1 - varies)[1:-1]  # the frame covers the outermost samples
    seen, expected = ((np.diff(one.astype(int), prepend=0) == 1).sum() for one in (across, line))
    assert seen == expected and panel.mean() == pytest.approx(mask.mean(), abs=0.03)
    assert box.height / box.width == pytest.approx(mask.shape[0] / mask.shape[1], rel=0.02), "its true shape"
    assert "phase encoding" in (axis.get_ylabel(), axis.get_xlabel())[varies]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (published_mask("cardiac", 4, (48, 40)), ("$k_x$ (readout)", "$k_y$ (phase encoding)")),
        (gaussian_mask_2d((48, 40), 4), ("$k_x$", "$k_y$")),
    ],
)
def test_k_space_that_is_not_measured_is_black_and_its_axes_are_named(mask, words):
    figure = figures.undersampling(TARGET, mask, TARGET / 2, "title")
    (kept,) = [axis for axis in figure.axes if axis.get_title() == "measured k-space: the rest is 0"]
    assert (kept.get_xlabel(), kept.get_ylabel()) == words
    (picture,) = kept.images
    brightest = picture.cmap(picture.norm(picture.get_array()))[..., :3].max(axis=-1)
    measured = np.fft.fftshift(mask)
    assert (brightest[~measured] == 0).all() and (brightest[measured] > 0.2).all()


def test_the_papers_position_is_framed_and_noise_looks_like_noise():
    axis, _ = figures.positions(PAIRS, (2, 2), 24.5, "title").axes
    assert axis.images[0].get_clim() == (-0.5, 0.5)
    words = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axis.texts}
    assert words[0, 0] == "+0.02\n[−0.01, +0.05]" and words[0, 1] == "−0.03" and words[1, 0] == "failed"
    assert words[1, 1] == "the paper's\n24.50 dB"
    (frame,) = axis.patches
    assert frame.get_x() < 1 < frame.get_x() + frame.get_width()
    assert frame.get_y() < 1 < frame.get_y() + frame.get_height()
    large = PAIRS.assign(difference=[2.0, 0, 0, 0])
    assert figures.positions(large, (2, 2), 24.5, "title").axes[0].images[0].get_clim() == (-2, 2)


def test_sizes_have_the_teachers_line_and_intervals():
    figure = figures.sizes(SIZES, 24.3, "title")
    axis, leads = figure.axes
    assert figure.legends[0].get_texts()[-1].get_text() == "teacher: 24.30 dB"
    assert any(np.array_equal(line.get_xdata(), [24.3, 24.3]) for line in axis.lines)
    (bars,) = leads.containers[0].lines[2]
    np.testing.assert_allclose([s[:, 0] for s in bars.get_segments()[:2]], [[-0.3, -0.1], [0.1, 0.3]])


@pytest.mark.parametrize("shown", [True, False])
def test_a_notebook_whose_backend_begins_with_the_first_figure_shows_the_next_ones_too(monkeypatch, shown):
    """A backend as IPython's: made by the first figure, it makes matplotlib interactive."""
    monkeypatch.setitem(mpl.rcParams, "interactive", False)
    size, subplots = mpl.rcParams["font.size"], plt.subplots

    def first(*args, **kwargs):
        mpl.interactive(shown)
        return subplots(*args, **kwargs)

    monkeypatch.setattr(plt, "subplots", first)
    DRAWN["times"]()
    assert mpl.is_interactive() is shown and mpl.rcParams["font.size"] == size
