"""From evidence to every table of a study. The command `tables`, notebooks and tests take this one way."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.declarations import Network
from kdmri_lib.declared import declared_operator, plain_network
from kdmri_lib.models.base import multiply_accumulates, parameter_count
from kdmri_lib.storage import PROJECT, atomic_write, write_text
from kdmri_lib.training import validate_network
from kdmri_study import results
from kdmri_study.evidence import UNTRAINED, Evidence
from kdmri_study.paper import METHODS, QUESTIONS, answered
from kdmri_study.profile import Setting, Study
from kdmri_study.recipes import Part, Rows, cost, part_of, stage, stages
from kdmri_study.runs import RunFolder

PUBLISHED = {name: PROJECT / "data" / f"published_{name}.csv" for name in ("table1", "super_resolution", "times")}
NONE = "–"
# How a column reads: its heading, and how its numbers are written. Others are shown as they are.
COLUMNS = {
    "psnr": ("PSNR / dB", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "nmse": ("NMSE", "{:.4f}"),
    "hfe": ("HFE", "{:.4f}"),
    "baseline": ("baseline at this compute / dB", "{:.2f}"),
    "difference": ("ΔPSNR / dB", "{:+z.2f}"),
    "by_seed": ("each seed / dB", "{}"),
    "p_seeds_holm": ("p, seeds", "{:.2g}"),
    "p_people_holm": ("p, people (Wilcoxon)", "{:.2g}"),
    "steps": ("steps", "{:,.0f}"),
    "macs_given": ("compute / 10¹²", "{:.3g}"),
    "macs_whole": ("with its teacher's / 10¹²", "{:.3g}"),
    "seconds": ("time / s", "{:,.0f}"),
    "validation": ("validation / dB", "{:.2f}"),
    "psnr_magnitude": ("magnitude, PSNR / dB", "{:.2f}"),
    "psnr_complex": ("complex, PSNR / dB", "{:.2f}"),
    "lead_magnitude": ("magnitude, ΔPSNR / dB", "{:+.2f}"),
    "lead_complex": ("complex, ΔPSNR / dB", "{:+.2f}"),
}
SCALED = {"macs_given": 1e12, "macs_whole": 1e12}
CAPTION = (
    "PSNR in dB and SSIM: mean ± standard deviation over people, a person's volumes averaged; compute in "
    "multiply-accumulates, without the teacher's training and with it."
)
COMPARED = (
    "ΔPSNR: mean of the seeds' differences, each over the fixed test subjects; its 95% interval is Student's over six "
    "seeds, not given for fewer. p: t-test over seeds; Wilcoxon's test over people as in the paper, which says nothing of "
    "other trainings; both by Holm over the settings of one question."
)


class Table(NamedTuple):
    """A table: its name, its content as the CSV has it, and as Markdown for reading."""

    name: str
    frame: pd.DataFrame
    text: str


def shown(frame: pd.DataFrame, *columns: str, labels: Mapping[str, str] = METHODS) -> pd.DataFrame:
    """Columns of a table for reading: headings with units, standard deviations and intervals beside their means, methods
    by their labels, a dash for what isn't there."""
    found = {}
    for name in columns or frame.columns:
        heading, form = COLUMNS.get(name, (name.replace("_", " "), "{}"))
        values = frame[name] / SCALED[name] if name in SCALED else frame[name]
        cells = ["" if v == "" else NONE if pd.isna(v) else form.format(v) for v in values]
        if (spread := f"{name}_sd") in frame:
            pairs = zip(cells, frame[spread], strict=True)
            cells = [c if pd.isna(sd) else f"{c} ± {form.format(sd)}" for c, sd in pairs]
        ends = [end.format("_" + name.partition("_")[2] if "_" in name else "") for end in ("low{}", "high{}")]
        if name.startswith(("difference", "lead")) and set(ends) <= set(frame):
            pairs = zip(cells, *(frame[end] for end in ends), strict=True)
            cells = [c if pd.isna(low) else f"{c} [{low:+z.2f}, {high:+z.2f}]" for c, low, high in pairs]
        if name == "by_seed":
            cells = [cell.replace("+nan", NONE) for cell in cells]  # of a training that failed
        if name in ("method", "a", "b", "control"):
            cells = [labels.get(cell, cell) for cell in cells]
        found[heading] = cells
    return pd.DataFrame(found)


def markdown(frame: pd.DataFrame, *columns: str, labels: Mapping[str, str] = METHODS) -> str:
    """`shown` as a Markdown table, numbers to the right."""
    table = shown(frame, *columns, labels=labels)
    right = [pd.api.types.is_numeric_dtype(frame[name]) for name in columns or frame.columns]
    align = ["right" if number else "left" for number in right]
    return table.to_markdown(index=False, colalign=align, disable_numparse=True) + "\n"


def costs(evidence: Evidence, rows: Mapping[int, Rows]) -> pd.DataFrame:
    """What each row costs, by method.

    Columns: steps; macs_given and macs_whole, multiply-accumulates without and with its teacher's training; seconds,
    measured, of the row's own stages, a mean over seeds; validation, PSNR (dB) of the checkpoint that was kept on the
    validation subjects, a mean over seeds; control, the row of the same network without a teacher at its cost.
    """
    found = {}
    for name, row in next(iter(rows.values())).items():
        of, runs = cost(row.run), [named[name].run for named in rows.values()]
        took = [sum(evidence.of(each).record["seconds"] for each in stages(run)[0]) for run in runs]
        kept = [evidence.of(run).validation(run) for run in runs]
        found[name] = {
            **{"steps": of.steps, "macs_given": of.given, "macs_whole": of.whole},
            **{"seconds": sum(took) / len(took), "validation": sum(kept) / len(kept), "control": row.control},
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("method")


def seeds_there(evidence: Evidence, rows: Mapping[int, Rows]) -> dict[int, Rows]:
    """The rows of those seeds whose runs are all there."""
    return {seed: named for seed, named in rows.items() if evidence.whole(named)}


def setting_rows(evidence: Evidence, setting: Setting) -> dict[int, Rows]:
    """The rows of Table 1 of a setting, by seed, of the seeds that are there."""
    study = evidence.study
    every = {seed: study.rows(setting, seed) for seed in study.profile.seeds}
    return seeds_there(evidence, {s: {n: row for n, row in r.items() if n in METHODS} for s, r in every.items()})


def setting_tables(evidence: Evidence, rows: Mapping[int, Rows]) -> tuple[pd.DataFrame, ...]:
    """A setting of Table 1 from its rows by seed (`setting_rows`): the rows per volume and per slice, with costs; their
    comparisons; each real person."""
    volumes, slices = evidence.metrics(rows)
    table = pd.concat([results.summary(volumes, "volume", METHODS), results.summary(slices, "slice", METHODS)])
    known = next(iter(rows.values()))
    asked = [(a, b) for a, b in QUESTIONS if a in known and b in known]
    tests = results.comparisons(volumes, asked)
    return table.join(costs(evidence, rows), on="method"), tests, results.each_person(volumes, METHODS)


def table1(evidence: Evidence) -> list[Table]:
    """Table 1 over all settings that are there; its comparisons, over settings too; each real person."""
    there = [rows for setting in evidence.study.settings if (rows := setting_rows(evidence, setting))]
    if not there:
        return []
    found = [setting_tables(evidence, rows) for rows in there]
    table, tests, people = (pd.concat(those, ignore_index=True) for those in zip(*found, strict=True))
    tests = results.decided(tests)
    answer = results.over_settings(tests)
    psnr = tests[tests.metric == "psnr"]
    heads = ("dataset", "acceleration", "set", "a", "b", "difference", "by_seed", "verdict")
    compared = f"*{COMPARED}*\n\n{markdown(psnr, *heads, 'p_seeds_holm', 'p_people_holm')}"
    tables = [
        Table("table1", table, table1_text(table, evidence.study.stamp)),
        Table("comparisons", tests, compared),
        Table("over_settings", answer, f"*{COMPARED}*\n\n{markdown(answer)}"),
        answer_table(answer),
    ]
    return tables + ([] if people.empty else [Table("people", people, people_text(people))])


def answer_table(over: pd.DataFrame) -> Table:
    """What a teacher is worth, a row per way to train the student, from `over_settings`: ΔPSNR over the settings on test
    subjects and on real people."""
    of = {name: rows.set_index(["a", "b"]) for name, rows in over.groupby("set")}
    rows = []
    for pair, (student, beside) in answered(set(of["test"].index)).items():
        ahead = "{} of {}".format(*of["test"].loc[pair, ["ahead", "settings"]])
        on = [shown(of[s].loc[[pair]], "difference").iat[0, 0] if s in of else NONE for s in ("test", "people")]
        rows.append([student, beside, on[0], ahead, on[1]])
    heads = ["student", "compared with", "ΔPSNR / dB", "settings ahead", "real heads, ΔPSNR / dB"]
    frame = pd.DataFrame(rows, columns=heads)
    return Table("answer", frame, frame.to_markdown(index=False, disable_numparse=True) + "\n")


def people_text(people: pd.DataFrame) -> str:
    """PSNR (dB) of each real person, below zero-filling in bold."""
    table = people.copy()
    for method in (m for m in METHODS if m in people):
        worse = people[method] < people.zero_filled
        cells = people[method].map("{:.2f}".format)
        table[METHODS[method]] = cells.where(~worse, "**" + cells + "**")
        table = table.drop(columns=method)
    return f"*PSNR / dB, a mean over seeds; bold: worse than zero-filled.*\n\n{markdown(table)}"


def table1_text(table: pd.DataFrame, stamp: str) -> str:
    """Table 1 for reading: a block per data set and test set, PSNR and SSIM at each acceleration, the paper's beside ours
    on the test set; then costs. The paper's knee numbers are means over slices, each on its own maximum."""
    theirs = pd.read_csv(PUBLISHED["table1"])
    lines = [f"*{stamp[0].upper()}{stamp[1:]}. {CAPTION} The paper's numbers are of other images.*\n"]
    for (dataset, name, kind, aggregation), block in table.groupby(
        ["dataset", "set", "kind", "aggregation"], sort=False
    ):
        if aggregation == "slice" and dataset != "knee":
            continue
        columns = {}
        for factor, rows in block.groupby("acceleration"):
            cells = shown(rows, "psnr", "ssim").set_axis(rows.method)
            columns |= {f"{factor:g}x {c}": cells[c] for c in cells}
            own = theirs[(theirs.dataset == dataset) & (theirs.acceleration == factor)]
            if name == "test" and len(own) and aggregation == ("slice" if dataset == "knee" else "volume"):
                cells = shown(own, "psnr", "ssim").set_axis(own.method)
                columns[f"{factor:g}x, the paper's"] = cells.agg(" / ".join, axis=1)
        wide = pd.DataFrame(columns).reindex([m for m in METHODS if m in set(block.method)]).fillna(NONE)
        wide.insert(0, "", [METHODS[m] for m in wide.index])
        seeds = " to ".join(dict.fromkeys(f"{f(block.seeds)}" for f in (min, max)))
        lines += [
            f"**{dataset}, set “{name}”: {kind}, per {aggregation}; n = {block.n.max()}; seeds: {seeds}**\n",
            wide.to_markdown(index=False, disable_numparse=True) + "\n",
        ]
    spent = table[(table.aggregation == "volume") & table.steps.notna() & (table.set == "test")]
    of = spent.groupby(["dataset", "method"], sort=False)[["steps", "macs_given", "macs_whole", "seconds"]].mean()
    return "\n".join([*lines, markdown(of.reset_index())])


def domains(evidence: Evidence) -> list[Table]:
    """Magnitude images beside the same people's complex ones, of the seeds that both have: each row of Table 1 in both, and
    what it leads its control by."""
    found = []
    for pair in evidence.study.both_domains:
        rows = [setting_rows(evidence, setting) for setting in pair]
        if both := rows[0].keys() & rows[1].keys():
            arms = [setting_tables(evidence, {s: of[s] for s in of if s in both}) for of in rows]
            found.append(results.beside_each_other(*(arm[:2] for arm in arms)))
    if not found:
        return []
    table = pd.concat(found, ignore_index=True)
    heads = ("dataset", "acceleration", "set", "method", "psnr_magnitude", "psnr_complex")
    return [Table("domains", table, markdown(table, *heads, "lead_magnitude", "lead_complex"))]


def trainings(evidence: Evidence) -> Table:
    """What was trained and what it took, a row per setting and experiment: seeds, trainings, multiply-accumulates, measured
    hours, processors. A run that several share counts in the first."""
    rows, counted = {}, set()
    for job in evidence.jobs.values():
        of = job.name.rsplit("_seed", 1)[0]
        counts = {"seeds": 0, "asked": 0, "trainings": 0, "macs_given": 0.0, "hours": 0.0}
        row = rows.setdefault(of, {"of": of, **counts, "on": {}})
        row["asked"] += 1
        found = {run.id: (run, evidence.of(run)) for run in job.runs.values()}
        if not all(outcome for _, outcome in found.values()):
            continue
        row["seeds"] += 1
        for run, outcome in (pair for name, pair in found.items() if name not in counted):
            counted.add(run.id)
            row["trainings"] += 1
            row["macs_given"] += stage(run)[1]
            row["hours"] += outcome.record["seconds"] / 3600
            row["on"][f"{outcome.record['processor']}, {outcome.record['precision']}"] = None
    table = pd.DataFrame(rows.values()).assign(on=lambda t: t.on.map("; ".join))
    return Table("trainings", table, markdown(table.assign(hours=table.hours.round(2))))


class Measured(NamedTuple):
    """A part of an experiment, as far as it is there."""

    name: str  # the experiment's and the part's, by which its tables and figures are called
    part: Part
    rows: dict[int, Rows]  # by seed
    reference: str | None  # the row that others are set against
    tables: list[Table]  # its rows with their costs; its comparisons where it asks any; where its curve is crossed

    @property
    def first(self) -> Rows:
        """Its rows of the first seed that is there."""
        return next(iter(self.rows.values()))

    @property
    def table(self) -> pd.DataFrame:
        """A row per method and test set."""
        return self.tables[0].frame

    def on(self, name: str = "test") -> pd.DataFrame:
        """A row per method, by its name, on one test set."""
        return self.table[self.table.set == name].set_index("method", drop=False)

    @property
    def tests(self) -> pd.DataFrame:
        """Its comparisons; empty where nothing is compared."""
        names = {table.name: table.frame for table in self.tables}
        return names.get(f"{self.name}_comparisons", pd.DataFrame(columns=[*results.SET, "metric", "a", "b"]))

    def difference(self, a: str, b: str, name: str = "test") -> dict[str, float | str]:
        """How far a row is above another on a test set, PSNR (dB); its interval, else NaN; each seed's, as text."""
        tests, psnr = self.tests, self.on(name).psnr
        asked = tests[(tests.set == name) & (tests.metric == "psnr") & (tests.a == a) & (tests.b == b)]
        if len(asked):
            return asked.iloc[0][["difference", "low", "high", "by_seed"]].to_dict()
        return {"difference": psnr[a] - psnr[b], "low": math.nan, "high": math.nan, "by_seed": ""}


def measured(evidence: Evidence, experiment: str, part: str) -> Measured | None:
    """A part of an experiment, of the seeds that are there; None where none is."""
    study = evidence.study
    every = {s: study.experiment_rows(experiment, part, s) for s in study.experiment_seeds(experiment)}
    rows = seeds_there(evidence, every)
    return measured_rows(evidence, experiment, part_of(part), rows) if rows else None


def measured_rows(evidence: Evidence, experiment: str, declared: Part, rows: dict[int, Rows]) -> Measured:
    """A part of an experiment from its rows by seed, all of which are there."""
    recipe = evidence.study.experiment_recipe(experiment, next(iter(rows)))
    name = f"{experiment}_{declared.name}"
    tables = of_rows(evidence, name, rows, declared.questions(recipe, next(iter(rows.values()))), declared.untrained)
    if declared.curve:
        alone = [n for n, row in next(iter(rows.values())).items() if row.facts.get("how") == declared.curve]
        crossed = results.crossings(tables[0].frame, alone)
        tables.append(Table(f"{name}_crossings", crossed, markdown(crossed.round(2))))
    return Measured(name, declared, rows, declared.reference(recipe), tables)


def of_rows(
    evidence: Evidence,
    name: str,
    rows: Mapping[int, Rows],
    questions: Sequence[tuple[str, str]] = (),
    untrained: Sequence[str] = ("zero_filled",),
) -> list[Table]:
    """Rows by seed that are there, a row per method and test set with costs; and their comparisons where `questions`, pairs
    (a, b) of rows, ask any."""
    first = next(iter(rows.values()))
    volumes, _ = evidence.metrics(rows, untrained)
    labels = {method: UNTRAINED[method] for method in untrained} | {n: row.label for n, row in first.items()}
    table = results.summary(volumes, "volume", labels).join(costs(evidence, rows), on="method")
    table["control"] = table.control.fillna("")
    table.insert(0, "label", table.method.map(labels))
    heads = ("set", "label", "psnr", "ssim", "steps", "macs_given", "macs_whole", "control")
    found = [Table(name, table, f"*{CAPTION}*\n\n{markdown(table, *heads, labels=labels)}")]
    if questions:
        tests = results.decided(results.comparisons(volumes, questions))
        text = markdown(tests[tests.metric == "psnr"], "set", "a", "b", "difference", "by_seed", labels=labels)
        found.append(Table(f"{name}_comparisons", tests, f"*{COMPARED}*\n\n{text}"))
    return found


def beside_baselines(found: Measured, *against: str, name: str = "test") -> pd.DataFrame:
    """A part of an experiment for reading, a row per method: PSNR on a test set, training compute; of each that learns from
    a teacher, the same network's PSNR that was trained without one for this compute, and the difference; and the difference
    to each row of `against`."""
    rows, table = found.first, found.on(name)
    controls, psnr = {row.control for row in rows.values()}, table.psnr
    # A baseline that serves nothing else stands in a column, not in a row.
    table = table[[m not in controls or not rows[m].facts.get("longer") for m in table.index]]
    columns = ["label", "psnr", "macs_given"]
    if taught := [m for m in table.index if table.control[m]]:
        leads = pd.DataFrame([found.difference(m, table.control[m], name) for m in taught], index=taught)
        leads["by_seed"] = [" ".join(f"{float(d):+z.2f}" for d in text.split()) for text in leads.by_seed]
        table = table.assign(baseline=table.control.map(psnr)).join(leads)
        columns += ["baseline", "difference", *(["by_seed"] if len(found.rows) > 1 else [])]
    read = shown(table, *columns)
    for other in (each for each in against if each in rows):
        leads = pd.DataFrame([found.difference(m, other, name) for m in table.index])
        leads.loc[table.index == other, "difference"] = math.nan
        read[f"ΔPSNR to “{rows[other].label}” / dB"] = shown(leads, "difference").squeeze(axis=1)
    return read.rename(columns={"label": ""}).set_index("")


def experiments(evidence: Evidence) -> Iterator[Measured]:
    """Every part of an experiment of which a seed is there, and whose table is one of metrics."""
    study = evidence.study
    for name in study.profile.experiments:
        for part in map(part_of, study.experiment_parts(name)):
            if part.tabled and (found := measured(evidence, name, part.name)):
                yield found


def all_tables(evidence: Evidence, parts: Sequence[Measured]) -> Iterator[Table]:
    """Every table that follows from evidence; `parts` are its `experiments`."""
    yield trainings(evidence)
    yield from table1(evidence)
    yield from domains(evidence)
    for found in parts:
        yield from found.tables


def write_table(study: Study, table: Table) -> None:
    """Write a table as CSV, and beside it as Markdown for reading."""
    path = study.table(table.name)
    with atomic_write(path) as temporary:
        table.frame.to_csv(temporary, index=False)
    write_text(path.with_suffix(".md"), table.text)


# What single notebooks show beside.


def networks_table(networks: Mapping[str, Network], channels: int = 1) -> pd.DataFrame:
    """What declared networks for images of `channels` cost and what can be asked of them, a row per network."""
    made = {name: plain_network(declaration, channels) for name, declaration in networks.items()}
    rows = {
        name: {
            "parameters": parameter_count(network),
            "multiply-accumulates per pixel": multiply_accumulates(network),
            "features": f"{network.feature_names[0]} … {network.feature_names[-1]}",
            "attention taken at": ", ".join(network.centre_features),
        }
        for name, network in made.items()
    }
    return pd.DataFrame(rows).T.rename_axis("network")


def precision_table(study: Study, rows: Rows) -> pd.DataFrame:
    """What bfloat16 costs on the validation set, PSNR in dB: the same weights in both precisions, for each row; and, where
    the profile trains it in float32 too, the student trained in each."""
    found = []
    for row in rows.values():
        folder = RunFolder(study, row.run)
        network, operator = folder.network(), declared_operator(row.run.dataset, row.run.undersampling)
        validation = list(read_prepared(study.prepared(row.run.dataset), "validation"))
        values = {f"{p} / dB": validate_network(network, operator, validation, p) for p in ("float32", "bfloat16")}
        found.append({"what": f"{row.label}: same weights", **values})
    if "student_float32" in rows:
        both = [RunFolder(study, rows[name].run) for name in ("student_float32", "student")]
        values = {f"{f.record['precision']} / dB": f.outcome.validation(f.run) for f in both}
        found.append({"what": "Student: trained in each", **values})
    table = pd.DataFrame(found, columns=["what", "float32 / dB", "bfloat16 / dB"])
    return table.assign(**{"difference / dB": table["bfloat16 / dB"] - table["float32 / dB"]})
