"""What the number blocks of README files say: each a function from a profile's committed tables to text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.answer import (
    PAYS,
    Found,
    by_common_spread,
    decided,
    found_by,
    lead_at_own_rates,
    leads_of,
    own_rates,
    rates_in_words,
    shares_of_lead,
    subjects_of,
    whole_answer,
)
from kdmri_study.experiments.lengths import STUDENTS, TEACHERS
from kdmri_study.experiments.long import LENGTHS
from kdmri_study.experiments.part import PARTS
from kdmri_study.experiments.rates import FACTORS
from kdmri_study.guide import map_of_notebooks
from kdmri_study.in_short import in_short
from kdmri_study.profile import Cell
from kdmri_study.rendering import (
    NONE,
    capital,
    each_seed,
    evidence_in_words,
    grid,
    interval,
    number,
    percent,
    share_of_lead,
    span,
    units,
    value,
)
from kdmri_study.study import Study
from kdmri_study.tables import CELL, PUBLISHED, SET, published_table1


class Block(NamedTuple):
    """A block: the profile whose tables it is written from, and how."""

    profile: str
    write: Callable[[Study], str]


BLOCKS: dict[str, Block] = {}


def block(name: str, profile: str) -> Callable:
    """Decorator for the function that writes the block of that name from a profile's study."""

    def add(write: Callable[[Study], str]) -> Callable[[Study], str]:
        BLOCKS[name] = Block(profile, write)
        return write

    return add


def _read(study: Study, name: str) -> pd.DataFrame:
    path = study.table(name)
    if not path.exists():
        raise StudyError(f"{path}: no such file, and numbers of README files are from it")
    return pd.read_csv(path, keep_default_na=True)


def _each(row) -> str:
    """A difference and its interval, and each seed's where there are several; a dash where there is none."""
    shown = interval(row, 2)
    return f"{shown} ({each_seed(row)})" if row.seeds > 1 and shown != NONE else shown


def _by_key(found: pd.DataFrame, key, shown: Callable[..., str] = _each) -> str:
    """The difference of that key, as `shown`; a dash where it isn't there."""
    return shown(found.loc[key]) if key in found.index else NONE


def _cells(study: Study, name: str = "test") -> pd.DataFrame:
    """The cells of Table 1 on a test set, a row each, as far as they are there: PSNR (dB) per volume of each method, the
    share of the teacher's lead over the student that distillation won back, the paper's, and how the distilled student
    stands against the student alone at its cost (`difference`, `low`, `high`, `by_seed`, `verdict`, `seeds`, `people`)."""
    table = _read(study, "table1").query("aggregation == 'volume' and set == @name")
    wide = table.pivot(index=CELL, columns="method", values="psnr")
    theirs = published_table1().pivot(index=CELL, columns="method", values="psnr")
    tests = _read(study, "significance").query("set == @name and metric == 'psnr' and a == 'distilled'")
    tests = by_common_spread(tests[tests.b == "student_compute"]).set_index(CELL)
    seeds = table.groupby(CELL).seeds.max()
    said = tests[["difference", "low", "high", "by_seed", "verdict", "people"]]
    found = wide.assign(share=share_of_lead(wide), paper=share_of_lead(theirs), seeds=seeds).join(said)
    order = [(cell.dataset, cell.acceleration) for cell in study.cells]
    return found.reindex([key for key in order if key in found.index])


@block("short", "table1")
def short(study: Study) -> str:
    """The study's answer in a few lines."""
    return in_short(study, *(_read(study, name) for name in ("table1", "significance")))


@block("answer", "table1")
def answer(study: Study) -> str:
    """The study's answer, in tables."""
    return whole_answer(study, *(_read(study, name) for name in ("table1", "significance", "people")))


@block("table1", "table1")
def table1(study: Study) -> str:
    """The cells of Table 1 on generated images, a row each: as published, the paper's share beside ours."""
    cells, rows = _cells(study), []
    heads = ["", "seeds", "zero-filled", "student", "alone at the distilled one's cost", "distilled", "teacher"]
    heads += ["share of the teacher's lead", "the paper's", "distilled against alone at its cost [95%] (each seed)"]
    for (dataset, factor), row in cells.iterrows():
        methods = ("zero_filled", "student", "student_compute", "distilled", "teacher")
        shown = [str(row.seeds), *(number(row[m], 2) for m in methods), percent(row.share), percent(row.paper)]
        rows.append([f"{dataset} {factor:g}x", *shown, _each(row)])
    return grid(heads, rows)


def _of_cells(study: Study, names: Sequence[str], pairs: Sequence[tuple[str, str]], costs: Sequence[tuple[str, str]]):
    """For each cell of Table 1 that is there: its name, PSNR of some methods, some differences of two with their intervals,
    and some costs (method, column) in 10¹² multiply-accumulates, as they are shown; and its key."""
    table = _read(study, "table1").query("aggregation == 'volume' and set == 'test'").set_index(["method", *CELL])
    tests = _read(study, "significance").query("set == 'test' and metric == 'psnr'")
    compared = [by_common_spread(tests[(tests.a == a) & (tests.b == b)].dropna(subset="difference")) for a, b in pairs]
    compared = [found.set_index(CELL) for found in compared]
    for cell in study.cells:
        key = (cell.dataset, cell.acceleration)
        if (names[0], *key) in table.index:
            psnr = [number(table.psnr.get((name, *key), np.nan), 2) for name in names]
            against = [_by_key(found, key) for found in compared]
            spent = [number(table[column].get((name, *key), np.nan) / 1e12, 1) for name, column in costs]
            yield cell.label, psnr, against, spent, key


@block("initialised", "table1")
def initialised(study: Study) -> str:
    """The same cells, well initialised."""
    heads = ["", "alone, one stage", "alone at the distilled one's cost", "distilled", "teacher"]
    heads += ["distilled against alone at its cost [95%] (each seed)", "compute of either / 10¹²"]
    names = ("he_student", "he_compute", "he_distilled", "he_teacher")
    found = _of_cells(study, names, [("he_distilled", "he_compute")], [("he_distilled", "macs_given")])
    return grid(heads, [[label, *psnr, *against, *spent] for label, psnr, against, spent, _ in found])


@block("best", "table1")
def best(study: Study) -> str:
    """The same cells by the best recipe."""
    tests = _read(study, "significance").query("set == 'test' and metric == 'psnr'")
    heads = ["", "alone at its cost", "best recipe's student", "its teacher", "student against alone [95%] (each seed)"]
    heads += ["share of the teacher's lead over alone", "student against the teacher as published [95%] (each seed)"]
    heads += ["compute of either / 10¹²", "with the teacher's"]
    shares, rows = shares_of_lead(tests), []
    names, pairs = ("best_compute", "best", "best_teacher"), [("best", "best_compute"), ("best", "teacher")]
    costs = [("best", "macs_given"), ("best", "macs_whole")]
    for label, psnr, against, spent, key in _of_cells(study, names, pairs, costs):
        share = percent(shares.get(key, np.nan))
        rows.append([label, *psnr, against[0], share, against[1], *spent])
    return grid(heads, rows)


@block("others", "table1")
def others(study: Study) -> str:
    """Each way to distil against the same network alone at its cost, on people and contrasts that nobody trained on."""
    tests = _read(study, "significance").query("set != 'test' and metric == 'psnr'")
    rows = []
    for (dataset, factor, name, kind), block in tests.groupby(SET, sort=False):
        found = block.set_index(["a", "b"])
        leads = [_by_key(found, pair) for pair in PAYS]
        rows.append([f"{dataset} {factor:g}x, {name}: {units(block.people.max(), kind)}", *leads])
    return grid(["", *(f"distilled {words}" for words in PAYS.values())], rows)


@block("evidence", "table1")
def evidence(study: Study) -> str:
    """How much of the evidence is there, what it took, and how it goes on."""
    return f"{evidence_in_words(_read(study, 'evidence'))}\n"


@block("site", "table1")
def site(study: Study) -> str:
    """What a site without fully sampled scans gets: PSNR on the test set, a row per data set and number of subjects."""
    ways = {"held_out": "held-out lines (after SSDU)", "teacher_of": "teacher's images", "truth": "truth"}
    against = ("truth of as many", "that for as much compute", "truth of a quarter", "the one that was sent")
    heads = ["", "subjects at the site", *ways.values(), *(f"teacher's images against {w} [95%]" for w in against)]
    rows, said = [], []
    for of in (found := _found(study, "site")):
        psnr = of.table.psnr
        for n in subjects_of(of):
            others = (f"truth_{n}", None, f"truth_{n // 4}", "sent")  # None: alone at its cost
            leads = [_of_all(found, f"teacher_of_{n}", other).get(of.setting, NONE) for other in others]
            rows.append([of.setting, str(n), *(number(psnr[f"{way}_{n}"], 2) for way in ways), *leads])
        said.append(
            f"- {_of_whom(of)}: zero-filled {number(psnr.zero_filled, 2)}, the teacher {number(psnr.teacher, 2)}, the "
            f"student that was sent {number(psnr.sent, 2)}; {of.table.steps.sent:,.0f} steps of each student"
        )
    return "\n".join([grid(heads, rows), *said]) + "\n"


@block("elsewhere", "table1")
def elsewhere(study: Study) -> str:
    """The same where teacher and site differ in more than people: another mask, another contrast, another organ."""
    heads = ["", "the images are of a teacher", "PSNR", "against the site's own kind of teacher [95%]"]
    heads += ["against truth of as many [95%]", "against truth of a quarter [95%]"]
    rows = []
    for of in (found := _found(study, "site")):
        *_, most = subjects_of(of)
        for row in (row for row in of.table.itertuples() if row.Index.startswith("by_")):
            others = (f"teacher_of_{most}", f"truth_{most}", f"truth_{most // 4}")
            leads = [_of_all(found, row.Index, other).get(of.setting, NONE) for other in others]
            rows.append([of.setting, row.label.partition("a teacher ")[2], number(row.psnr, 2), *leads])
    return grid(heads, rows, texts=(0, 1))


@block("lengths", "table1")
def lengths(study: Study) -> str:
    """How long a teacher and its student train, and what the teacher is worth then: a row per data set and length of the
    student, its lead over the student alone at the same cost, and the share of the teacher's lead that this is."""
    ways, found = {"paper": "the paper's method", "best": "the best recipe"}, _found(study, "lengths")
    (stage,) = {of.table.steps.alone_1 for of in found}
    heads = ["", "the student's steps", "alone"]
    heads += [f"{words}, teacher of {t * stage:,.0f} steps" for words in ways.values() for t in TEACHERS]
    rows, said = [], []
    for of in found:
        psnr = of.table.psnr
        for n in STUDENTS:
            leads = []
            for name, teacher in ((f"{way}_{n}_{t}", f"teacher_{t}") for way in ways for t in TEACHERS):
                won = _won(of, name, teacher)
                leads.append(_lead(of, name, of.table.control.get(name)) + (f", {won}" if won != NONE else ""))
            rows.append([of.setting, f"{n * stage:,.0f}", number(psnr[f"alone_{n}"], 2), *leads])
        teachers = ", ".join(number(psnr[f"teacher_{t}"], 2) for t in TEACHERS)
        said.append(
            f"- {_of_whom(of)}: the teachers {teachers}; alone for {32 * stage:,.0f} steps {number(psnr.alone_32, 2)}"
        )
    return "\n".join([grid(heads, rows), *said]) + "\n"


@block("long", "table1")
def long(study: Study) -> str:
    """A cell taken on: PSNR by length and what each doubling brought; the student's lead over alone at its cost."""
    ways = {"alone": "alone", "best": "the best recipe's student", "teacher": "its teacher"}
    heads = [
        "",
        "steps of each",
        *ways.values(),
        "student against alone at its cost [95%]",
        "share of the teacher's lead",
    ]
    rows, said = [], []
    for of in _found(study, "long"):
        psnr, before = of.table.psnr, {}
        for n in LENGTHS:
            now = {way: psnr.get(f"{way}_{n}", np.nan) for way in ways}
            gains = (f" ({number(now[way] - before[way], 2, '+')})" if before else "" for way in ways)
            shown = (number(now[way], 2) + gain for way, gain in zip(ways, gains, strict=True))
            name = f"best_{n}"
            lead, won = _lead(of, name, of.table.control.get(name)), _won(of, name, f"teacher_{n}")
            rows.append([of.setting, f"{of.table.steps[f'alone_{n}']:,.0f}", *shown, lead, won])
            before = now
        said.append(_of_whom(of))
    return f"{grid(heads, rows)}\n{capital('; '.join(said))}. In brackets what the doubling brought.\n"


@block("long_teacher", "table1")
def long_teacher(study: Study) -> str:
    """The cells of Table 1 by a teacher that trained long: PSNR, each student's lead over the student alone at its cost,
    and the share of the teacher's lead that this is; the leads on real people below."""
    ways = {
        "usual": "teacher of two stages",
        "best": "teacher of four stages",
        "all": "that, with attention transfer",
    }
    leads = [f"{words}: lead [95%] (each seed)" for words in ways.values()]
    heads = ["", leads[0], "teacher of four stages", "its student", leads[1], "share"]
    heads += ["against the first [95%] (each seed)", leads[2], "share"]
    found, rows = _found(study, "long_teacher"), []
    compared = {pair: _of_all(found, *pair) for pair in (*((name, None) for name in ways), ("best", "usual"))}
    for of in found:
        by = {pair: leads.get(of.setting, NONE) for pair, leads in compared.items()}
        psnr = [number(of.table.psnr.get(name, np.nan), 2) for name in ("teacher", "best")]
        shown = [by["best", None], _won(of, "best"), by["best", "usual"], by["all", None], _won(of, "all")]
        rows.append([of.setting, by["usual", None], *psnr, *shown])
    some = [of.tests.iloc[0] for of in found]
    whom = ", ".join(dict.fromkeys(f"{row.dataset} {units(row.people, row.kind)}" for row in some))
    real = [
        [on.setting, *(_lead_by_seed(on, name, on.table.control.get(name)) for name in ways)]
        for on in found_by(study, "long_teacher", "people")
    ]
    return (
        f"{grid(heads, rows)}\nSeeds: {span(row.seeds for row in some)}; {whom}. The same on real people:\n\n"
        f"{grid(['', *leads], real)}"
    )


@block("rates", "table1")
def rates(study: Study) -> str:
    """The cells of Table 1 by a teacher that trained long, at three rates: PSNR of each, the one that the validation
    subjects prefer in bold; the lead where both have the profile's rate, and where each has its own."""
    heads = ["", *(f"{who}, rate × {f:g}" for who in ("distilled", "alone") for f in FACTORS)]
    heads += ["lead at rate × 1 [95%] (each seed)", "lead, each at its own"]
    rows = []
    for of in (found := _found(study, "rates")):
        trained = own_rates(of)
        shown = (number(row.psnr, 2) for row in trained.itertuples())
        psnr = [f"**{text}**" if chosen else text for text, chosen in zip(shown, trained.chosen, strict=True)]
        own = number(lead_at_own_rates(of), 2, "+")
        rows.append([of.setting, *psnr, _lead_by_seed(of, "best_1", of.table.control.best_1), own])
    return f"{grid(heads, rows)}\n{rates_in_words(found)}\n"


@block("recipes", "table1")
def recipes(study: Study) -> str:
    """Each way to train the student for two stages: against the same network alone at its cost, and against the student
    alone for as many steps."""
    return _against(study, "recipes", "alone", "against alone for as many steps")


@block("domains", "domains")
def domains(study: Study) -> str:
    """Magnitude images beside complex ones: PSNR of each method, and what a teacher is worth, of the test sets."""
    table = _read(study, "domains").query("set == 'test'")
    heads = ["", "seeds", "zero-filled", "student", "distilled", "teacher", "share of the teacher's lead"]
    heads += ["distilled against alone at its cost [95%]", "best recipe against alone at its cost [95%]"]
    rows = []
    for (dataset, factor), cell in table.groupby(CELL, sort=False):
        cell = cell.set_index("method")
        for arm in ("magnitude", "complex"):
            psnr = cell[f"psnr_{arm}"]
            of = cell.rename(columns={f"lead_{arm}": "difference", f"low_{arm}": "low", f"high_{arm}": "high"})
            means = [value(psnr[m], np.nan, 2) for m in ("zero_filled", "student", "distilled", "teacher")]
            leads = [_by_key(of, m, lambda row: interval(row, 2)) for m in ("distilled", "best")]
            shown = [str(cell.seeds.max()), *means, percent(share_of_lead(psnr)), *leads]
            rows.append([f"{dataset} {factor:g}x, {arm}", *shown])
    return grid(heads, rows)


@block("phases", "domains")
def phases(study: Study) -> str:
    """What a phase costs the distilled student, and what complex images cost in time, as `benchmark` measured it."""
    table = pd.read_csv(PROJECT / "results" / "phase_costs.csv").query("method == 'distilled'")
    mean = table.groupby(["dataset", "acceleration", "network", "phase"], sort=False).psnr.mean()
    given = list(dict.fromkeys(table[table.network == "complex"].phase))
    rows = []
    for dataset, factor in dict.fromkeys(zip(table.dataset, table.acceleration, strict=True)):
        of = mean[dataset, factor]
        costs = [number(of["complex", name] - of["complex", "0"], 2, "+") for name in given[1:]]
        rows.append([f"{dataset} {factor:g}x", f"{of['magnitude', '0']:.2f}", f"{of['complex', '0']:.2f}", *costs])
    times = pd.read_csv(PROJECT / "results" / "domain_times.csv")
    some, most = times.iloc[0], times.groupby("what").ratio.max()
    said = (
        f"A complex student's training step takes at most {most['training step']:.2f} times the magnitude student's, a "
        f"slice at most {most['inference']:.2f} times ({some.processor}, threads: {some.threads}, float32)."
    )
    return grid(["", "magnitude network", "complex, phase 0", *given[1:]], rows) + f"\n{said}\n"


def _found(study: Study, part: str) -> list[Found]:
    """What is there of a part of an experiment; `StudyError` where nothing is."""
    if not (found := found_by(study, part)):
        raise StudyError(
            f"{study.results / 'tables'}: no table of part '{part}', and numbers of README files are from it"
        )
    return found


def _said(of: Found, a: str, b: str) -> tuple[str, str, str]:
    """What the comparison of a with b says: difference, each seed's, verdict; dashes where there is none."""
    row = of.lead(a, b)
    return (NONE, NONE, NONE) if row is None else (interval(row, 2), each_seed(row), row.verdict)


def _lead(of: Found, a: str, b: str) -> str:
    """The difference of a and b and its interval; a dash where nothing was compared."""
    return _said(of, a, b)[0]


def _lead_by_seed(of: Found, a: str, b: str) -> str:
    """The same, with each seed's where there are several."""
    row = of.lead(a, b)
    return NONE if row is None else _each(row)


def _of_all(found: list[Found], name: str, other: str | None = None) -> dict[str, str]:
    """The difference of a row and another, or the network alone at its cost, in each setting in which it is known, its
    interval by the spread over seeds that these have in common, and each seed's."""
    leads = by_common_spread(leads_of(found, name, other))
    return {Cell(row.dataset, row.acceleration).label: _each(row) for row in leads.itertuples()}


def _won(of: Found, name: str, teacher: str = "teacher") -> str:
    """The share of its teacher's lead that a row wins back; a dash where it wins nothing."""
    won = of.share(name, teacher)
    return percent(won) if won > 0 else NONE


def _of_whom(of: Found) -> str:
    """The setting, and of how many seeds and people what was found of it is."""
    some = of.tests.iloc[0]
    return f"{of.setting}, {units(some.seeds, 'seed')}, {units(some.people, some.kind)}"


@block("losses", "evening")
@block("losses_long", "table1")
def losses(study: Study) -> str:
    """Each feature loss, of table1 trained longer: PSNR, against the student alone at its cost, and against attention
    transfer."""
    return _against(study, "comparison", "attention_transfer", "against attention transfer")


@block("asking", "evening")
def asking(study: Study) -> str:
    """The teacher asked once, or at each step."""
    return _against(study, "asking", "once", "against asking once")


@block("super_resolution", "table1")
def super_resolution(study: Study) -> str:
    """Appendix A: each student against the same network alone at its cost, and against the student of one stage."""
    return _against(study, "restoration", "student", "against the student")


@block("ablations", "table1")
def ablations(study: Study) -> str:
    """What the students of notebook 5 that learn from a teacher reach: a row per experiment."""
    heads = ["what differs", "students", "PSNR, from", "to", "lead over alone at its cost, from", "to", "ahead, behind"]
    rows, said = [], {}
    asked = dict.fromkeys(
        part
        for name, declared in study.profile.experiments.items()
        if declared.notebook == "05_ablations"
        for part in study.experiment_parts(name)
    )
    for part in (part for part in map(PARTS.find, asked) if part.tabled):
        for of in found_by(study, part.name):
            taught = of.table[of.table.control.notna()].dropna(subset="psnr").sort_values("psnr")
            leads = pd.concat([of.tests[:0], *(leads_of([of], name) for name in taught.index)]).sort_values(
                "difference"
            )
            if leads.empty:  # its trainings failed
                continue
            psnr = [f"{number(row.psnr, 2)}, {row.label}" for row in (taught.iloc[0], taught.iloc[-1])]
            ends = [f"{interval(row, 2)}, {taught.label[row.a]}" for row in (leads.iloc[0], leads.iloc[-1])]
            stand = f"{', '.join(map(str, decided(leads)))} of {len(leads)}"
            rows.append([part.title, str(len(taught)), *psnr, *ends, stand])
            said[_of_whom(of)] = None
    return f"{grid(heads, rows, texts=(0, 2, 3, 4, 5))}\n{capital('; '.join(said))}.\n"


def _against(study: Study, part: str, reference: str, words: str) -> str:
    """The rows of a part, each against the same network alone at its cost, and against a reference."""
    (of,) = _found(study, part)
    several = of.tests.seeds.max() > 1
    heads = ["the student, trained", "PSNR", "compute", "alone at this cost", "lead [95%]"]
    heads += ["each seed", "verdict", f"{words} [95%]", "verdict"] if several else [f"{words} [95%]"]
    rows = []
    shown = ~of.table.index.isin(of.table.control.dropna()) | (of.table.index == reference)
    for method, row in of.table[shown].iterrows():
        cost = NONE if np.isnan(row.steps) else f"{row.macs_given / 1e12:.2f}"
        alone = value(of.table.psnr.get(row.control, np.nan), np.nan, 2)
        lead, each, verdict = _said(of, method, row.control)
        difference, _, other = _said(of, method, reference)
        said = [lead, each, verdict, difference, other] if several else [lead, difference]
        rows.append([row.label, value(row.psnr, np.nan, 2), cost, alone, *said])
    steps = of.table.steps["student"] if "student" in of.table.index else of.table.steps.min() / 2
    about = f"{capital(_of_whom(of))}, {steps:,.0f} steps a stage; compute in 10¹² multiply-accumulates"
    return f"{about}.\n\n{grid(heads, rows)}"


@block("speed", "quick")
def speed(study: Study) -> str:
    """Time of a slice of the paper's size."""
    cell = study.cells[0].tag
    table = _read(study, f"deployment_times_paper_size_{cell}").set_index(["implementation", "network"])
    heads = [
        "",
        "teacher",
        "student",
        "times faster than the teacher",
        "than the plain teacher",
        "than the plain student",
    ]
    rows = []
    for name in dict.fromkeys(table.index.get_level_values(0)):
        student = table.loc[(name, "student")]
        times = [table.loc[(name, who)].ms for who in ("teacher", "student")]
        faster = [times[0] / times[1], student["of plain teacher"], student["of plain student"]]
        rows.append([name, *(f"{ms:.0f} ms" for ms in times), *(f"{ratio:.1f}" for ratio in faster)])
    theirs = pd.read_csv(PUBLISHED["times"]).query("device == 'CPU'").set_index("network").ms
    some, paper = table.iloc[0], " and ".join(f"{theirs[who]:g} ms" for who in ("teacher", "student"))
    said = f"The paper's, on its CPU: {paper}, {theirs.teacher / theirs.student:.1f} times faster."
    return f"{some.processor}; {some.threads} threads. {said}\n\n" + grid(heads, rows)


@block("precision", "quick")
def precision(study: Study) -> str:
    """What faster ways to compute lose."""
    cell = study.cells[0].tag
    lost = _read(study, f"deployment_quality_{cell}").set_index("computed by")["psnr lost"]
    rows = [[name, number(loss, 3)] for name, loss in lost.items()]
    return grid(["computed by", "PSNR lost / dB"], rows)


@block("commands", "quick")
def commands(study: Study) -> str:
    """What the commands cost in a fresh clone, of those that were measured (`benchmark commands`)."""
    table = pd.read_csv(PROJECT / "results" / "command_costs.csv")
    said = [] if "./run_all.sh" in set(table.command) else [f"Profile {study.name}: {study.profile.cost}.\n"]
    if table.empty:
        return said[0]
    rows = [
        [f"`{row.command}`", f"{row.minutes:.0f} min", f"{row.memory:.1f} GB", f"{row.disk:.1f} GB", row.processor]
        for row in table.rename(columns={"memory / GB": "memory", "disk / GB": "disk"}).itertuples()
    ]
    heads = ["in a fresh clone, environment included", "time", "memory at most", "disk", "on"]
    return "\n".join([grid(heads, rows, texts=(0, len(heads) - 1)), *said])


@block("notebooks", "quick")
def notebooks(study: Study) -> str:
    """The map of the notebooks."""
    return map_of_notebooks("notebooks/")
