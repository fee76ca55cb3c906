"""From metrics to means and comparisons, by tables made by hand, written out in pandas and by SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdmri_study.results import comparisons, crossings, decided, over_settings, summary

METRICS = ["psnr", "ssim", "nmse", "hfe"]
METHODS = ["zero_filled", "a", "b"]


def at_random(seeds, people=9, sets=("test", "people"), settings=(("brain", 4.0), ("knee", 8.0)), seed=0):
    """Metrics of two methods that differ by seed and person, a person's two volumes too, and of one without training."""
    rng = np.random.default_rng(seed)
    index = [(*where, s, m, n, p, v) for where in settings for s in sets for m in METHODS
             for n in (range(seeds) if m != "zero_filled" else [-1]) for p in range(people) for v in range(2)]  # fmt: skip
    columns = ["dataset", "acceleration", "set", "method", "seed", "person", "subject"]
    table = pd.DataFrame(index, columns=columns).assign(kind="phantom")
    lead = 0.1 * (table.method == "a") + rng.normal(0, 0.1, len(table))
    return table.assign(psnr=30 + lead, ssim=0.9 + lead / 100, nmse=0.1, hfe=0.1)


def test_summaries_are_over_people_or_slices_of_means_over_seeds_written_out():
    volumes = at_random(2)
    slices = pd.concat([volumes.assign(slice=n, psnr=volumes.psnr + n) for n in (0, 1)])
    for aggregation, metrics, unit in (
        ("volume", volumes, ["person"]),
        ("slice", slices, ["person", "subject", "slice"]),
    ):
        table = summary(metrics, aggregation, METHODS)
        assert table.method.tolist() == METHODS * 4 and set(table.seeds) == {2}
        assert table.set.tolist() == [name for name in ("test", "people") for _ in METHODS] * 2, "the test set first"
        for row in table.itertuples():
            own = metrics[(metrics.dataset == row.dataset) & (metrics.set == row.set) & (metrics.method == row.method)]
            each = own.groupby(unit).psnr.mean()
            assert (row.psnr, row.psnr_sd, row.n) == (pytest.approx(each.mean()), pytest.approx(each.std()), len(each))


def test_a_failed_training_of_one_seed_leaves_a_hole_and_a_set_of_one_person_is_not_compared():
    volumes = at_random(6)
    tests = decided(comparisons(volumes[volumes.person == 1], [("a", "b")]))
    assert tests.empty and {"dataset", "p_people", "p_seeds_holm", "verdict"} <= set(tests.columns)
    volumes.loc[(volumes.method == "b") & (volumes.seed == 1), METRICS] = np.nan
    table = summary(volumes, "volume", METHODS)
    assert table[["psnr", "psnr_sd"]].isna().all(axis=1).tolist() == [False, False, True] * 4
    tests = decided(comparisons(volumes, [("a", "b"), ("a", "zero_filled")]))
    assert (tests.difference.isna() == (tests.b == "b")).all() and (tests[tests.b == "b"].verdict == "").all()


@pytest.mark.parametrize("seeds", [6, 3])
def test_comparisons_are_students_and_wilcoxons_written_out(seeds):
    """A person's volumes averaged first; the interval over seeds; Holm over the settings of one question and set."""
    volumes = at_random(seeds)
    tests = decided(comparisons(volumes, [("a", "b")]))
    assert len(tests) == 2 * 2 * 2  # settings, sets, metrics
    p_people = {}
    for row in tests[tests.metric == "psnr"].itertuples():
        own = volumes[(volumes.dataset == row.dataset) & (volumes.set == row.set) & (volumes.seed >= 0)]
        wide = own.groupby(["seed", "person", "method"]).psnr.mean().unstack("method")
        lead = (wide.a - wide.b).unstack("person")
        by_seed = lead.mean(axis=1)
        assert row.difference == pytest.approx(by_seed.mean()) and (row.seeds, row.people) == (seeds, 9)
        assert [float(text) for text in row.by_seed.split()] == pytest.approx(by_seed.tolist(), abs=6e-5)
        students = stats.ttest_1samp(by_seed, 0)
        expected = (*students.confidence_interval(), students.pvalue) if seeds == 6 else [np.nan] * 3
        assert (row.low, row.high, row.p_seeds) == pytest.approx(expected, nan_ok=True)
        p_people[row.dataset, row.set] = stats.wilcoxon(lead.mean()).pvalue
        assert row.p_people == pytest.approx(p_people[row.dataset, row.set])
        assert row.verdict == ("" if seeds == 3 else row.verdict) and row.verdict in ("", "undecided", "better")
    for name in ("test", "people"):
        family = sorted(p_people[dataset, name] for dataset in ("brain", "knee"))
        adjusted = [min(2 * family[0], 1), min(max(2 * family[0], family[1]), 1)]
        found = tests[(tests.metric == "psnr") & (tests.set == name)].p_people_holm
        assert sorted(found) == pytest.approx(adjusted)
    assert tests[tests.metric == "ssim"].verdict.eq("").all()


def test_what_is_not_trained_stands_against_every_seed():
    volumes = at_random(2, settings=[("brain", 4.0)], sets=["test"])
    row, means = comparisons(volumes, [("a", "zero_filled")]).iloc[0], volumes.groupby(["method", "seed"]).psnr.mean()
    expected = means["a"] - means["zero_filled"][-1]
    assert [float(text) for text in row.by_seed.split()] == pytest.approx(expected.tolist(), abs=6e-5)


def test_over_settings_there_is_the_mean_and_by_seed_and_interval_of_the_seeds_that_all_have():
    both = at_random(7)
    volumes = both[(both.set == "test") & ((both.dataset == "brain") | (both.seed != 2))]
    (row,) = over_settings(comparisons(volumes, [("a", "b")])).itertuples()
    means = volumes.groupby(["dataset", "seed", "method"]).psnr.mean().unstack("method")
    lead = (means.a - means.b).unstack("dataset")
    by_seed = lead.dropna().mean(axis=1)
    expected = stats.ttest_1samp(by_seed, 0).confidence_interval()
    assert (row.difference, row.low, row.high) == pytest.approx((lead.mean().mean(), *expected), abs=1e-4)
    assert (row.settings, row.seeds, row.ahead) == (2, 6, (lead.mean() > 0).sum())


def test_what_alone_would_take_is_read_off_its_curve():
    """One dB per doubling: as good as after one and a half doublings is as good as 2^1.5 of the first cost."""
    rows = [
        ("alone_1", 30.0, 1e12, ""), ("alone_2", 31.0, 2e12, ""), ("alone_4", 30.5, 4e12, ""), ("alone_8", 33.0, 8e12, ""),
        ("teacher", 35.0, 9e12, ""), ("worse", 29.0, 1e12, "x"), ("between", 32.0, 2e12, "x"), ("same", 31.0, 2e12, "x"),
        ("better", 34.0, 2e12, "x"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "psnr", "macs_given", "control"])
    table = table.assign(set="test", steps=1.0, macs_whole=2 * table.macs_given, label=table.method)
    table = pd.concat(
        [table, table.assign(set="people", psnr=0.0), table[:1].assign(method="zero_filled", steps=np.nan)]
    )
    found = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert found.index.tolist() == ["worse", "between", "same", "better"]
    assert found["the student alone takes"].tolist() == ["less than", "about", "about", "more than"]
    assert found["compute / 10¹²"].tolist() == pytest.approx([1, 4, 2, 8])
    assert found["times, without its teacher's training"].tolist() == pytest.approx([1, 2, 1, 4])
    assert found["times, with it"].tolist() == pytest.approx([0.5, 1, 0.5, 2])
    table.loc[table.method.isin(["alone_4", "same"]), "psnr"] = np.nan
    holes = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert holes.index.tolist() == ["worse", "between", "better"]
    assert holes["compute / 10¹²"].tolist() == pytest.approx([1, 4, 8]), "a failed length is no point of the curve"
    table.loc[table.method == "alone_8", "psnr"] = 30.9
    falls = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert falls.loc["better", ["the student alone takes", "compute / 10¹²"]].tolist() == [
        "more than",
        pytest.approx(8),
    ], "its longest"
