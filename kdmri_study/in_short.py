"""The study's answer in a table of a few rows: README and report begin with it."""

from typing import NamedTuple

import pandas as pd

from kdmri_study.answer import (
    by_common_spread,
    decided,
    found_by,
    leads_of,
    mean_over,
    rates_in_words,
    shares_of_lead,
    subjects_of,
    tells_spread,
)
from kdmri_study.rendering import grid, interval, number, percent, share_of_lead, span, units
from kdmri_study.study import Study
from kdmri_study.tables import CELL, published_table1


class _Compared(NamedTuple):
    """A student beside another: what people call both; the comparison on the test sets and on real people, a row per cell;
    the shares of the teacher's lead that are won back, and what the student's training costs, the teacher given."""

    words: str
    test: pd.DataFrame
    people: pd.DataFrame
    shares: pd.Series
    macs: pd.Series


def _compared(study: Study, table: pd.DataFrame, tests: pd.DataFrame) -> list[_Compared]:
    asked = tests[(tests.metric == "psnr") & tests.difference.notna()]
    volumes = table[(table.aggregation == "volume") & (table.set == "test")]
    psnr = volumes.pivot(index=CELL, columns="method", values="psnr")
    psnr, none = psnr.reindex(columns=["student", "distilled", "teacher"]), pd.Series(dtype=float)
    best = shares_of_lead(asked[asked.set == "test"])
    found = []
    for a, b, words, shares in (
        (
            "distilled",
            "student",
            "the paper's method, against alone for one stage (the paper's comparison)",
            share_of_lead(psnr),
        ),
        ("distilled", "student_compute", "the paper's method, against alone for as much compute", none),
        (
            "he_distilled",
            "he_compute",
            "the paper's method, both well initialised, against alone for as much compute",
            none,
        ),
        (
            "best",
            "best_compute",
            "the best recipe found here, teacher of two stages, against alone for as much compute",
            best,
        ),
    ):
        both = asked[(asked.a == a) & (asked.b == b)]
        macs = volumes[volumes.method == a].macs_given
        found.append(_Compared(words, both[both.set == "test"], both[both.set == "people"], shares, macs))
    long, real = (found_by(study, "long_teacher", name) for name in ("test", "people"))
    for name, words in (
        ("best", "the same, teacher of four stages"),
        ("all", "the same, with attention transfer for a fifth of the time"),
    ):
        shares = pd.Series([each.share(name) for each in long])
        macs = pd.Series([each.table.macs_given.get(name) for each in long], dtype=float)
        found.append(_Compared(words, leads_of(long, name), leads_of(real, name), shares, macs))
    return [each for each in found if len(each.test)]


def _ahead(test: pd.DataFrame) -> str:
    """In how many cells the mean lead is above 0; where there are seeds enough, in how many its interval by the cells'
    common spread is, and in how many below."""
    above, below = decided(by_common_spread(test))
    surely = f"; interval above in {above}, below in {below}" if tells_spread(test) else ""
    return f"{(test.difference > 0).sum()} of {units(len(test), 'cell')}{surely}"


def in_short(study: Study, table: pd.DataFrame, tests: pd.DataFrame) -> str:
    """The study's answer in a table of a few rows, as far as it is known; empty where nothing is.

    `table`, `tests` : Table 1 and its comparisons (`derived.table1_tables`).
    """
    if not (compared := _compared(study, table, tests)):
        return ""
    real = list(
        dict.fromkeys(cell for each in compared for cell in each.people[CELL].itertuples(index=False, name=None))
    )
    heads = ["the student", "mean lead / dB [95%]", "lead above 0 in", "share of the teacher's lead"]
    if real:
        heads.append(f"real people, {', '.join(f'{dataset} {factor:g}x' for dataset, factor in real)}")
    heads += ["seeds", "compute / 10¹²"]
    rows = []
    for each in compared:
        lead = mean_over(each.test.difference) if len(each.test) > 1 else interval(each.test.iloc[0], 2)
        shown = [lead, _ahead(each.test), span(each.shares, percent)]
        if real:
            of_people = each.people.set_index(CELL).difference.reindex(pd.MultiIndex.from_tuples(real, names=CELL))
            shown.append(", ".join(number(value, 2, "+") for value in of_people))
        spent = [span(each.test.seeds, str), span(each.macs / 1e12, lambda value: number(value, 1))]
        rows.append([each.words, *shown, *spent])
    theirs = span(share_of_lead(published_table1().pivot(index=CELL, columns="method", values="psnr")), percent)
    said = [f"In the paper {theirs} of the teacher's lead are won back."]
    he = tests[(tests.metric == "psnr") & (tests.set == "test") & (tests.a == "he_student") & (tests.b == "student")]
    if len(he := he[he.difference.notna()]) > 1:
        ahead = f"more than 0 in {(he.difference > 0).sum()} of {len(he)} cells"
        said.append(f"A good initialisation alone brings the student {mean_over(he.difference)} dB, {ahead}.")
    if rates := rates_in_words(found_by(study, "rates")):
        said.append(rates)
    found = found_by(study, "site")
    sites = [
        leads_of([of], f"teacher_of_{n}", f"truth_{n}").assign(setting=of.setting, subjects=n)
        for of in found
        for n in subjects_of(of)[-1:]
    ]
    if known := [
        f"{row.setting} {interval(row, 2)} dB ({units(row.subjects, 'subject')}, {units(row.seeds, 'seed')})"
        for row in (by_common_spread(pd.concat(sites)).itertuples() if sites else ())
    ]:
        scans = "a teacher's images of undersampled scans, against the truth of as many subjects"
        said.append(f"At a site without fully sampled scans, {scans}: {', '.join(known)}.")
    return f"{grid(heads, rows, texts=(0, 2))}\n{' '.join(said)}\n"
