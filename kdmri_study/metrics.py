"""What was measured, joined: of runs, by seed and row, and of methods that need no training."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from torch import nn

from kdmri_lib.datasets.prepared import Volume, content_checksum, test_volumes
from kdmri_lib.declarations import Dataset, Degradation
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.models.bicubic import Bicubic
from kdmri_lib.storage import atomic_write, digest_json, read_json, write_json
from kdmri_study.build import declared_operator
from kdmri_study.costs import Cost, cost, stages
from kdmri_study.experiments.part import Rows
from kdmri_study.provenance import code_digest
from kdmri_study.runs import SLICES, VOLUMES, RunFolder, checksum_of_mask
from kdmri_study.study import Study

UNTRAINED = {"zero_filled": "Zero-filled", "bicubic": "Bicubic"}
Folders = Mapping[int, Mapping[str, RunFolder]]
"""Finished run folders by seed and row."""


def _model(method: str, degradation: Degradation) -> nn.Module | None:
    return Bicubic(degradation.acceleration) if method == "bicubic" else None


def untrained_folder(study: Study, dataset: Dataset, degradation: Degradation, method: str) -> Path:
    """Where the metrics of a method without training lie."""
    digest = digest_json([dataset.digest, degradation.digest])[:12]
    return study.results / "untrained" / f"{dataset.name}-{degradation.tag}-{method}-{digest}"


def untrained(study: Study, setting, method: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The metrics of a method without training on all test sets, per volume and per slice.

    Measured where they aren't there or not of the images, mask and code that are here. In a folder without prepared images,
    as evidence is, they are taken as they are.

    `setting` : has a `dataset` and a `degradation`, such as a recipe.
    """
    folder = untrained_folder(study, setting.dataset, setting.degradation, method)
    prepared, about = study.prepared(setting.dataset.name), folder / "inputs.json"
    if prepared.exists():
        inputs = {
            "data": content_checksum(prepared),
            "mask": checksum_of_mask(setting),
            "code": code_digest(["kdmri_lib.evaluation", "kdmri_lib.models.bicubic", "kdmri_study.build"]),
        }
        if not about.exists() or read_json(about) != inputs:
            found = evaluate(_model(method, setting.degradation), declared_operator(setting), test_volumes(prepared))
            for name, table in zip((VOLUMES, SLICES), found, strict=True):
                with atomic_write(folder / name) as temporary:
                    table.to_csv(temporary, index=False)
            write_json(about, inputs)
    elif not about.exists():
        raise StudyError(f"{folder}: no metrics of {method}, and no prepared images to measure it on")
    return pd.read_csv(folder / VOLUMES), pd.read_csv(folder / SLICES)


def joined_metrics(study: Study, setting, folders: Folders, methods: Iterable[str] = ()) -> dict[str, pd.DataFrame]:
    """The metrics of runs and of `methods` without training: "volumes" and "slices", a row per method, seed and volume or
    slice; the seed is -1 where nothing is trained."""
    parts: dict[str, list[pd.DataFrame]] = {"volumes": [], "slices": []}
    for method in methods:
        for kind, table in zip(parts, untrained(study, setting, method), strict=True):
            parts[kind].append(table.assign(method=method, seed=-1, run=""))
    for seed, named in folders.items():
        for method, folder in named.items():
            for kind, table in (("volumes", folder.volumes), ("slices", folder.slices)):
                parts[kind].append(table.assign(method=method, seed=seed, run=folder.run.id))
    where = {"dataset": setting.dataset.name, "acceleration": setting.degradation.acceleration}
    return {kind: pd.concat(tables, ignore_index=True).assign(**where) for kind, tables in parts.items()}


def measured_now(models: Mapping[str, nn.Module | None], volumes: Iterable[Volume], operator) -> pd.DataFrame:
    """Metrics per volume of networks by method, None for zero-filling, on volumes that are no part of the study."""
    volumes = list(volumes)
    return pd.concat(
        [evaluate(model, operator, volumes)[0].assign(method=method) for method, model in models.items()],
        ignore_index=True,
    )


def costs_table(study: Study, rows: Mapping[int, Rows]) -> pd.DataFrame:
    """What each row costs, by method.

    Columns: steps; macs_given and macs_whole, multiply-accumulates with the teacher given and with its training; seconds,
    measured, of the row's own stages, a mean over seeds; validation, PSNR (dB) of the checkpoint that was kept on the
    validation subjects, a mean over seeds; control, the row of the same network alone at its cost.
    """
    first = next(iter(rows.values()))
    found = {}
    for name, row in first.items():
        of: Cost = cost(row.run)
        took = [
            sum(RunFolder(study, r).record["seconds"] for r in stages(named[name].run)[0]) for named in rows.values()
        ]
        kept = [RunFolder(study, named[name].run).validation for named in rows.values()]
        found[name] = {
            **{"steps": of.steps, "macs_given": of.given, "macs_whole": of.whole},
            **{"seconds": sum(took) / len(took), "validation": sum(kept) / len(kept), "control": row.control},
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("method")


def readable_costs(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """`costs_table` for reading: rows and controls by their labels, multiply-accumulates in 10¹²."""
    macs = {"macs_given": "compute / 10¹² MAC", "macs_whole": "with its teacher's / 10¹² MAC"}
    shown = table.assign(**{key: (table[key] / 1e12).map("{:.3g}".format) for key in macs})
    shown["steps"], shown["seconds"] = table.steps.map("{:,}".format), table.seconds.map("{:,.0f}".format)
    shown["validation"] = table.validation.map("{:.2f}".format).replace("nan", "–")
    shown["control"] = table.control.map(labels).fillna("–")
    return shown.rename(index=labels).rename(
        columns={**macs, "seconds": "time / s", "validation": "validation / dB", "control": "set beside"}
    )
