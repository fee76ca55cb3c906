"""The tables that follow from metrics and costs alone. Notebooks write them; verification makes them from evidence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from kdmri_study.costs import stage
from kdmri_study.evidence import pieces
from kdmri_study.experiments.part import PARTS, Part, Rows
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import METHODS, QUESTIONS
from kdmri_study.metrics import UNTRAINED, Folders, costs_table, joined_metrics
from kdmri_study.profile import Cell
from kdmri_study.rendering import (
    domains_markdown,
    evidence_markdown,
    experiment_markdown,
    order_in_words,
    people_markdown,
    plain_markdown,
    significance_markdown,
    table1_markdown,
)
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.tables import beside_each_other, crossings, each_person, significance, summary

# Of a cell or an experiment: how many seeds are there, and how many the profile asks for; trainings, their
# multiply-accumulates and measured seconds, and on what; multiply-accumulates of those to come, and the command that makes
# the first.
EVIDENCE = ["of", "seeds", "asked", "trainings", "macs", "seconds", "machines", "macs_left", "next"]


class Derived(NamedTuple):
    """A table: its name, the CSV's content, its rendering, and the names of the runs that it follows from."""

    name: str
    table: pd.DataFrame
    text: str
    runs: list[str]


def _runs(folders: Mapping[int, Mapping[str, RunFolder]]) -> list[str]:
    return [folder.run.id for named in folders.values() for folder in named.values()]


def folders_of(study: Study, rows: Mapping[int, Rows]) -> dict[int, dict[str, RunFolder]]:
    """The run folders of rows by seed; whether they are finished isn't asked."""
    return {seed: {n: RunFolder(study, row.run) for n, row in named.items()} for seed, named in rows.items()}


def done(study: Study, rows: Mapping[int, Rows]) -> dict[int, Rows]:
    """The rows of those seeds whose runs are all there, of a profile that is made piece by piece; of any other, all."""

    def whole(named: Rows) -> bool:
        return all(RunFolder(study, row.run).ended for row in named.values())

    return {seed: named for seed, named in rows.items() if not study.profile.in_pieces or whole(named)}


def _cell_rows(study: Study, cell: Cell) -> dict[int, Rows]:
    rows = {
        seed: {name: row for name, row in study.rows(cell, seed).items() if name in METHODS}
        for seed in study.profile.seeds
    }
    return done(study, rows)


class CellTables(NamedTuple):
    """A cell of Table 1: its rows per volume and per slice, with costs; its comparisons; each real person; its runs."""

    table: pd.DataFrame
    tests: pd.DataFrame
    people: pd.DataFrame
    runs: list[str]


def cell_tables(study: Study, cell: Cell) -> CellTables | None:
    """A cell's tables; None where no seed of it is there."""
    rows = _cell_rows(study, cell)
    return _tables_of(study, cell, rows) if rows else None


def _tables_of(study: Study, cell: Cell, rows: Mapping[int, Rows]) -> CellTables:
    folders = folders_of(study, rows)
    metrics = joined_metrics(study, study.recipe(cell, 0), folders, ["zero_filled"])
    table = pd.concat([summary(metrics["volumes"], "volume"), summary(metrics["slices"], "slice")])
    known = next(iter(rows.values()))
    questions = [(a, b) for a, b in QUESTIONS if a in known and b in known]
    costs = costs_table(study, rows)
    volumes = metrics["volumes"]
    tests = significance(volumes, questions)
    return CellTables(table.join(costs, on="method"), tests, each_person(volumes), _runs(folders))


def table1_tables(study: Study) -> list[Derived]:
    """Table 1 over all cells, and what it says."""
    found = [tables for cell in study.cells if (tables := cell_tables(study, cell))]
    if not found:
        return []
    *tables, runs = zip(*found, strict=True)
    table, test, people = (pd.concat(those, ignore_index=True) for those in tables)
    names = [name for some in runs for name in some]
    words = f"{order_in_words(table, test)}\n{significance_markdown(test)}"
    return [
        Derived("table1", table, table1_markdown(table, study.stamp), names),
        Derived("significance", test, words, names),
        *([] if people.empty else [Derived("people", people, people_markdown(people, study.stamp), names)]),
    ]


def domain_tables(study: Study) -> list[Derived]:
    """Magnitude images beside the same people's complex ones, of the seeds that both have: each row of Table 1 in both, and
    what it leads its control by."""
    found = []
    for cells in study.arms:
        rows = [_cell_rows(study, cell) for cell in cells]
        if both := rows[0].keys() & rows[1].keys():
            of_both = ({seed: named for seed, named in arm.items() if seed in both} for arm in rows)
            arms = [_tables_of(study, cell, arm) for cell, arm in zip(cells, of_both, strict=True)]
            table = beside_each_other(*((arm.table, arm.tests) for arm in arms))
            found.append((table, [run for arm in arms for run in arm.runs]))
    if not found:
        return []
    table, runs = pd.concat([t for t, _ in found], ignore_index=True), [run for _, names in found for run in names]
    return [Derived("domains", table, domains_markdown(table, study.stamp), runs)]


def evidence_table(study: Study) -> Derived:
    """What was trained and what it took, a row for each cell and experiment: as `EVIDENCE`. A run that several pieces hold
    counts where it comes first; what isn't in a piece that is whole counts as left."""
    rows: dict[str, dict] = {}
    found = pieces(study)
    folders = {run.id: RunFolder(study, run) for each in found for run in each.runs}
    ended = {run for run, folder in folders.items() if folder.ended}
    whole = {each.name for each in found if all(run.id in ended for run in each.runs)}
    done, counted = {run.id for each in found if each.name in whole for run in each.runs}, set()
    for each in found:
        of = each.name.rsplit("_seed", 1)[0]
        row = rows.setdefault(of, dict.fromkeys(EVIDENCE, 0) | {"of": of, "machines": set(), "next": ""})
        row["asked"] += 1
        row["seeds"] += each.name in whole
        if each.name not in whole and not row["next"]:
            row["next"] = f"./run_all.sh --profile {study.source} {each.name}"
        for run in (run for run in each.runs if run.id not in counted):
            counted.add(run.id)
            macs = stage(run)[1]
            if run.id not in done:
                row["macs_left"] += macs
                continue
            record = folders[run.id].record
            row["trainings"] += 1
            row["macs"] += macs
            row["seconds"] += record["seconds"]
            row["machines"].add(f"{record['processor']}: {record['device']}")
    table = pd.DataFrame(rows.values(), columns=EVIDENCE)
    table["machines"] = table.machines.map(sorted).map("; ".join)
    return Derived("evidence", table, evidence_markdown(table, study.stamp), [run for run in folders if run in done])


class Measured(NamedTuple):
    """A part of an experiment, as far as it is there.

    Attributes
    ----------
    name : the experiment's and the part's, by which its tables and figures are called.
    part : the part.
    rows : of the first seed.
    reference : the row that others are set against; None where there is none.
    folders : run folders by seed and row.
    tables : its rows with their costs; its comparisons where it asks any; where its curve is crossed.
    """

    name: str
    part: Part
    rows: Rows
    reference: str | None
    folders: Folders
    tables: list[Derived]

    @property
    def table(self) -> pd.DataFrame:
        """A row per method and test set."""
        return self.tables[0].table

    @property
    def tests(self) -> pd.DataFrame | None:
        """Its comparisons; None where nothing is compared."""
        return next((derived.table for derived in self.tables if derived.name == f"{self.name}_significance"), None)

    @property
    def names(self) -> list[str]:
        """The names of all its runs."""
        return self.tables[0].runs


def experiment_rows(study: Study, experiment: str, part: str, losses: Sequence[str] = ()) -> dict[int, Rows]:
    """The rows of a part of an experiment, by seed."""
    return {s: study.experiment_rows(experiment, part, s, losses) for s in study.experiment_seeds(experiment)}


def measured(study: Study, experiment: str, part: str, losses: Sequence[str] = ()) -> Measured | None:
    """A part of an experiment, whose runs are there; None where no seed of it is."""
    declared, seeds = PARTS.find(part), study.experiment_seeds(experiment)
    rows = done(study, experiment_rows(study, experiment, part, losses))
    if not rows:
        return None
    first, folders = next(iter(rows.values())), folders_of(study, rows)
    recipe: Recipe = study.experiment_recipe(experiment, seeds[0])
    setting = next(iter(first.values())).run
    metrics = joined_metrics(study, setting, folders, declared.untrained)["volumes"]
    labels = {name: UNTRAINED[name] for name in declared.untrained} | {n: row.label for n, row in first.items()}
    table = summary(metrics, "volume", labels).join(costs_table(study, rows), on="method")
    table["control"] = table.control.fillna("")
    table.insert(0, "label", table.method.map(labels))
    text, names = experiment_markdown(table, study.stamp, labels), _runs(folders)
    found = []
    if questions := declared.questions(recipe, first):
        tests = significance(metrics, questions)
        found.append(Derived(f"{experiment}_{part}_significance", tests, "", names))
        text += f"\n{significance_markdown(tests, labels)}"
    if declared.curve:
        crossed = crossings(table, [name for name, row in first.items() if row.facts.get("how") == declared.curve])
        found.append(Derived(f"{experiment}_{part}_crossings", crossed, plain_markdown(crossed), names))
    name, reference = f"{experiment}_{part}", declared.reference(recipe)
    return Measured(name, declared, first, reference, folders, [Derived(name, table, text, names), *found])


def all_measured(study: Study) -> Iterator[Measured]:
    """Every part of an experiment of which a seed is there, and whose table is one of metrics."""
    for name in study.profile.experiments:
        for part in map(PARTS.find, study.experiment_parts(name)):
            if part.tabled and (found := measured(study, name, part.name)):
                yield found


def all_tables(study: Study, parts: Iterable[Measured]) -> Iterator[Derived]:
    """Every table that follows from metrics and costs alone; `parts` are `all_measured` of it."""
    yield evidence_table(study)
    yield from table1_tables(study)
    yield from domain_tables(study)
    for found in parts:
        yield from found.tables
