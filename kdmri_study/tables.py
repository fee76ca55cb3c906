"""From metrics to tables: means and standard deviations, comparisons, and what single notebooks show beside."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kdmri_lib.channels import magnitude
from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.declarations import Network
from kdmri_lib.evaluation import METRICS, measure, reconstruct
from kdmri_lib.masks import mirrored, unmirrored_share
from kdmri_lib.models.base import multiply_accumulates, parameter_count
from kdmri_lib.operators import Undersampling
from kdmri_lib.statistics import Comparison, compare, holm, verdict
from kdmri_lib.storage import PROJECT, atomic_write, sha256_file, write_text
from kdmri_lib.training import validate_network
from kdmri_study.build import declared_operator, plain_network
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import RunFolder

PUBLISHED = {name: PROJECT / "data" / f"published_{name}.csv" for name in ("table1", "super_resolution", "times")}
SETS = ("test", "people", "individual", "template", "flair", "ir")  # in this order in tables
CELL = ["dataset", "acceleration"]  # what a cell is told by
SET = [*CELL, "set", "kind"]  # what one test set of one setting is told by


def _in_order(table: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Rows by data set, acceleration and set, then as they are or by the columns `more`, which are dropped."""
    place = {name: number for number, name in enumerate(SETS)}
    by = [*SET, *more]
    key = lambda column: column.map(lambda name: place.get(name, len(place))) if column.name == "set" else column  # noqa: E731
    return table.sort_values(by, key=key, kind="stable", ignore_index=True).drop(columns=list(more))


def _of_unit(metrics: pd.DataFrame, unit: list[str]) -> pd.DataFrame:
    """Mean over seeds of each method and person (and slice).

    NaN where a seed's training failed: the mean of the others would be of fewer seeds than the table says.
    """
    return metrics.groupby([*SET, "method", *unit], as_index=False)[list(METRICS)].mean(skipna=False)


def summary(metrics: pd.DataFrame, aggregation: str, methods: Iterable[str] = METHODS) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of each of `methods`, in their order: over people, a person's volumes averaged
    ("volume"), or over slices ("slice").

    The standard deviation is NaN for a set of one.
    """
    unit = ["person"] if aggregation == "volume" else ["person", "subject", "slice"]
    groups = _of_unit(metrics, unit).groupby([*SET, "method"])[list(METRICS)]
    deviation = groups.std(skipna=False).add_suffix("_sd")
    table = groups.mean(skipna=False).join(deviation).join(groups.size().rename("n")).reset_index()
    seeds = metrics[metrics.seed >= 0].seed.nunique()
    table = table.assign(aggregation=aggregation, seeds=seeds)
    order = {method: place for place, method in enumerate(methods)}
    return _in_order(table[table.method.isin(order)].assign(place=lambda t: t.method.map(order)), "place")


def each_person(volumes: pd.DataFrame, name: str = "people") -> pd.DataFrame:
    """PSNR (dB) of each person of a test set, whom a mean over people hides, by each method of Table 1: a row per person, a
    mean over seeds and the person's volumes."""
    found = volumes[(volumes.set == name) & volumes.method.isin(METHODS)]
    means = _of_unit(found, ["person"]).pivot(index=[*CELL, "person"], columns="method", values="psnr")
    return means[[method for method in METHODS if method in means]].reset_index().rename_axis(columns=None)


def _by_seed(values: pd.DataFrame, method: str, seeds: Sequence[int]) -> np.ndarray:
    """(seeds, people) of a method; what isn't trained is the same for every seed."""
    of_method = values.loc[method]
    return of_method.reindex(seeds if of_method.index.max() >= 0 else [-1] * len(seeds)).to_numpy()


def significance(volumes: pd.DataFrame, questions: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Every question (a against b) on each set of several people, in PSNR and in SSIM: `kdmri_lib.statistics.compare`.

    A family of tests is the questions of one cell and set in PSNR, the primary metric: there p-values are corrected by
    Holm, and verdicts given. SSIM stands beside, with its intervals.
    """
    rows = []
    people = volumes.groupby([*SET, "method", "seed", "person"])[["psnr", "ssim"]].mean(skipna=False)
    for key, group in people.groupby(SET):
        wide = group.droplevel(SET).unstack("person")
        if wide["psnr"].shape[1] < 2:
            continue
        seeds = sorted(seed for seed in wide.index.unique("seed") if seed >= 0)
        for metric in ("psnr", "ssim"):
            for a, b in questions:
                found = compare(*(_by_seed(wide[metric], method, seeds) for method in (a, b)))._asdict()
                found["by_seed"] = " ".join(f"{value:+.4f}" for value in found["by_seed"])
                rows.append({**dict(zip(SET, key, strict=True)), "metric": metric, "a": a, "b": b, **found})
    table = _in_order(pd.DataFrame(rows, columns=[*SET, "metric", "a", "b", *Comparison._fields]))
    primary = table[table.metric == "psnr"]
    for p in ("p_seeds", "p_people"):
        corrected = primary.groupby(SET)[p].transform(lambda values: holm(values.tolist()))
        table[f"{p}_holm"] = corrected.reindex(table.index)
    words = [
        verdict(row.difference, row.low, row.high, row.seeds, row.p_seeds_holm) if row.metric == "psnr" else ""
        for row in table.itertuples()
    ]
    return table.assign(verdict=words)


def beside_each_other(
    magnitude: tuple[pd.DataFrame, pd.DataFrame], complex_: tuple[pd.DataFrame, pd.DataFrame]
) -> pd.DataFrame:
    """Two arms of one cell, each by its rows of Table 1 and their `significance`: a row per set and method.

    Columns, each ending in _magnitude and in _complex: psnr, psnr_sd, ssim, ssim_sd; lead, low and high, the difference in
    PSNR (dB) to the row's control, the same network alone at its cost, and its interval. Of the people: those of both.
    """
    metrics, lead = ["psnr", "psnr_sd", "ssim", "ssim_sd"], ["lead", "low", "high"]
    arms = []
    for table, tests in (magnitude, complex_):
        asked = tests[tests.metric == "psnr"].rename(columns={"difference": "lead", "a": "method", "b": "control"})
        per_volume = table[table.aggregation == "volume"].assign(control=lambda t: t.control.fillna(""))
        arms.append(
            per_volume.merge(asked[["set", "method", "control", *lead]], how="left", on=["set", "method", "control"])
        )
    one, other = arms
    kept = other[["set", "method", "n", "seeds", *metrics, *lead]]
    table = one.merge(kept, on=["set", "method", "n", "seeds"], suffixes=("_magnitude", "_complex"))
    both = [f"{name}_{arm}" for name in (*metrics, *lead) for arm in ("magnitude", "complex")]
    return table[[*SET, "method", "control", "n", "seeds", *both]]


def crossings(table: pd.DataFrame, alone: Sequence[str]) -> pd.DataFrame:
    """What training alone would cost to do as well, of the test set: a row per row of an experiment's table that a teacher
    helped.

    Between the lengths of the rows `alone` their PSNR, a mean over seeds, is taken to be linear in the logarithm of the
    cost; where the curve falls, what was reached stays reached, in favour of training alone.

    Columns: row; PSNR / dB; alone takes, "about" where the curve passes that PSNR, else "less than" its first cost or "more
    than" its last; compute / 10¹²; how many times the row's own cost that is, its teacher given, and with its teacher's
    training: above 1 distillation is the cheaper way. Of a row whose training failed there is nothing, and one of `alone`
    is no point of the curve.
    """
    test = table[(table.set == "test") & table.steps.notna()].set_index("method")
    curve = test.loc[list(alone)].dropna(subset=["psnr"]).sort_values("macs_given")
    costs, reached = curve.macs_given.to_numpy(), np.maximum.accumulate(curve.psnr.to_numpy())
    first = np.concatenate(([True], np.diff(reached) > 0))  # of equal values: the cost at which it was reached
    found = []
    for row in test[~test.index.isin(alone) & (test.control != "")].itertuples():
        if np.isnan(row.psnr) or curve.empty:
            continue
        takes = "less than" if row.psnr < reached[0] else "more than" if row.psnr > reached[-1] else "about"
        # Longer trainings than that which reached most reached no more either: "more than" is of the longest.
        cost = costs[-1] if takes == "more than" else np.exp(np.interp(row.psnr, reached[first], np.log(costs[first])))
        about = {"row": row.label, "PSNR / dB": row.psnr, "alone takes": takes, "compute / 10¹²": cost / 1e12}
        found.append({**about, "teacher given": cost / row.macs_given, "with its training": cost / row.macs_whole})
    return pd.DataFrame(found)


def published_table1() -> pd.DataFrame:
    """The paper's Table 1: dataset, acceleration, method, psnr, psnr_sd, ssim, ssim_sd as printed."""
    return pd.read_csv(PUBLISHED["table1"])


def symmetry(image: np.ndarray, masks: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What the symmetry of a real volume's k-space is worth, for each mask (label: (H, W)): a row per mask. Of a complex
    volume it is that of its magnitude, which the complex images themselves haven't.

    Columns: share of lines without their mirror line, acceleration with the symmetry used, and the PSNR (dB) of
    zero-filling a volume (slices, H, W) without and with it.
    """
    rows, image = [], magnitude(image)
    for label, mask in masks.items():
        completed = mask | mirrored(mask)
        plain, full = (measure(image, reconstruct(None, Undersampling(m), image)) for m in (mask, completed))
        rows.append(
            {
                "mask": label,
                "lines without their mirror": unmirrored_share(mask),
                "acceleration with symmetry": 1 / completed.mean(),
                "zero-filled PSNR / dB": plain["psnr"],
                "with symmetry": full["psnr"],
            }
        )
    return pd.DataFrame(rows)


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


def runs_table(folders: Mapping[int, Mapping[str, RunFolder]]) -> pd.DataFrame:
    """Where and how long finished runs (by seed and method) trained, a row per run."""
    recorded = ("device", "precision", "seconds")
    rows = [
        {"method": method, "seed": seed, "run": f.run.id, **{key: f.record[key] for key in recorded}}
        for seed, methods in folders.items()
        for method, f in methods.items()
    ]
    return pd.DataFrame(rows)


def precision_table(
    prepared: Path, folders: Mapping[int, Mapping[str, RunFolder]], single: Mapping[int, Mapping[str, RunFolder]]
) -> tuple[pd.DataFrame, list[str]]:
    """What bfloat16 costs on the validation set, PSNR in dB; and the names of the runs that say so.

    The same weights in both precisions, for each method of the first seed; and, where there are runs in `single` precision
    by seed, the student trained in each.
    """
    validation = list(read_prepared(prepared, "validation"))
    rows, used = [], [f.run.id for methods in [*folders.values(), *single.values()] for f in methods.values()]
    for method, folder in next(iter(folders.values())).items():
        network, operator = folder.network(), declared_operator(folder.run)
        values = {f"{p} / dB": validate_network(network, operator, validation, p) for p in ("float32", "bfloat16")}
        rows.append({"what": f"{METHODS[method]}: same weights", **values})
    for seed, methods in single.items():
        both = [*methods.values(), folders[seed]["student"]]
        values = {f"{f.record['precision']} / dB": f.curve.validation_psnr.max(skipna=False) for f in both}
        rows.append({"what": f"Student: trained in each, seed {seed}", **values})
    table = pd.DataFrame(rows, columns=["what", "float32 / dB", "bfloat16 / dB"])
    return table.assign(**{"difference / dB": table["bfloat16 / dB"] - table["float32 / dB"]}), used


def write_table(table: pd.DataFrame, path: Path, runs: list[str], markdown: str = "") -> None:
    """Write a CSV, beside it its checksum and the run folders it was made from, and a Markdown rendering if given.

    What a table is made of is always the same files: a notebook declares whether it has a rendering.
    """
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
    lines = [f"# sha256 {sha256_file(path)}", *sorted({r for r in runs if r})]
    write_text(path.with_suffix(".runs.txt"), "\n".join(lines) + "\n")
    if markdown:
        write_text(path.with_suffix(".md"), markdown)
