# Which notebook and which training makes what from what. ./run_all.sh runs it; every path comes from kdmri_lib.study.
import re
import shlex

from kdmri_lib.data_parallel import processes_for
from kdmri_lib.provenance import PRESENTING_CODE, code_fingerprint, preparing_code, training_code
from kdmri_lib.runs import RunFolder
from kdmri_lib.study import Study

profile = config.get("profile", "quick")
study = Study(profile, config.get("folder", ""))
# How every command below finds the same study; a notebook takes it as parameters.
where = f"--profile {shlex.quote(profile)} --folder {shlex.quote(str(study.folder))}"
parameters = f"--parameter profile={shlex.quote(profile)} --parameter folder={shlex.quote(str(study.folder))}"
cells = {cell.tag: cell for cell in study.cells}
notebooks = study.results / "notebooks"


def executed(name, part=""):
    return notebooks / f"{name}{'_' if part else ''}{part}.ipynb"


def records(runs):
    return [RunFolder(study, run).path / "run.json" for run in runs]


def cell_records(wildcards):
    cell = cells[wildcards.cell]
    return records(run for seed in study.profile.seeds for run in study.methods(cell, seed).values())


def fingerprint(code, notebook=""):
    """Code that a rule's outputs depend on: when it changes, the rule runs again; prose in code doesn't count."""
    return code_fingerprint(code) + (f"-{study.notebook_digest(notebook)}" if notebook else "")


def asked(kind):
    """What a job of this kind asks a cluster for, by the names of Snakemake's resources; unused on one machine."""
    needs = getattr(study.profile.resources, kind)
    gpus = {"gpu": needs.gpus} if needs.gpus else {}
    return {"mem_mb": round(1000 * needs.memory_gb), "runtime": needs.minutes, **gpus}


wildcard_constraints:
    cell="|".join(cells),
    run="|".join(re.escape(run) for run in study.runs),


rule all:
    input:
        study.results / "report/index.html",


for dataset in study.used_datasets:

    rule:
        name:
            f"prepare_{dataset}"
        output:
            study.prepared(dataset),
        params:
            dataset=dataset,
            where=where,
            code=preparing_code(study.dataset(dataset)),
        threads:
            # Files are read side by side; generated images are made beside other data sets.
            workflow.cores if study.dataset(dataset).folder else 1
        resources:
            **asked("prepare"),
        message:
            f"preparing {dataset}"
        shell:
            "python -m kdmri_lib prepare {params.where} --jobs {threads} {params.dataset}"

    rule:
        name:
            f"notebook_01_{dataset}"
        input:
            study.prepared(dataset),
        output:
            notebook=executed("01_data_preparation", dataset),
            index=study.table(f"index_{dataset}"),
        params:
            dataset=dataset,
            parameters=parameters,
            code=fingerprint(PRESENTING_CODE, "01_data_preparation"),
        resources:
            **asked("notebook"),
        message:
            f"notebook 01: {dataset}"
        shell:
            "python -m kdmri_lib notebook notebooks/01_data_preparation.ipynb {output.notebook:q}"
            " {params.parameters} --parameter dataset={params.dataset}"


rule train:
    input:
        data=lambda w: study.prepared(study.runs[w.run].dataset.name),
        needs=lambda w: records(study.runs[w.run].needs),
    output:
        study.results / "runs/{run}/run.json",
    params:
        where=where,
        code=lambda w: fingerprint(training_code(study.runs[w.run])),
        label=lambda w: study.labels[w.run],
    threads: lambda w: study.profile.threads * processes_for(study.runs[w.run], study.profile.processes)
    resources:
        **asked("train"),
    message:
        "training: {params.label}"
    shell:
        "python -m kdmri_lib train {params.where} {wildcards.run}"


for number, name, outputs in [
    ("02", "02_teacher_training", {"figure": study.figure("teacher_{cell}"), "table": study.table("precision_{cell}")}),
    (
        "03",
        "03_distillation",
        {
            "volumes": study.table("volumes_{cell}"),
            "slices": study.table("slices_{cell}"),
            "figure": study.figure("figure2_{cell}"),
            "attention": study.figure("attention_{cell}"),
        },
    ),
]:

    rule:
        name:
            f"notebook_{number}"
        input:
            cell_records,
        output:
            **outputs,
            notebook=executed(name, "{cell}"),
        params:
            parameters=parameters,
            source=name,
            dataset=lambda w: cells[w.cell].dataset,
            acceleration=lambda w: cells[w.cell].acceleration,
            code=fingerprint(PRESENTING_CODE, name),
        resources:
            **asked("notebook"),
        message:
            f"notebook {number}: {{wildcards.cell}}"
        shell:
            "python -m kdmri_lib notebook notebooks/{params.source}.ipynb {output.notebook:q}"
            " {params.parameters} --parameter dataset={params.dataset}"
            " --parameter acceleration={params.acceleration}"


rule notebook_07:
    input:
        cell_records,
    output:
        aims=study.table("deployment_{cell}"),
        quality=study.table("deployed_{cell}"),
        notebook=executed("07_deployment", "{cell}"),
    params:
        parameters=parameters,
        dataset=lambda w: cells[w.cell].dataset,
        acceleration=lambda w: cells[w.cell].acceleration,
        code=fingerprint((*PRESENTING_CODE, "deployment"), "07_deployment"),
    threads: workflow.cores  # it measures time: nothing else may run beside
    resources:
        **asked("notebook"),
    message:
        "notebook 07: {wildcards.cell}"
    shell:
        "python -m kdmri_lib notebook notebooks/07_deployment.ipynb {output.notebook:q}"
        " {params.parameters} --parameter dataset={params.dataset}"
        " --parameter acceleration={params.acceleration}"


for name, experiment in study.profile.experiments.items():

    rule:
        name:
            name
        input:
            records(r for s in study.experiment_seeds(name) for r in study.experiment_runs(name, s).values()),
        output:
            table=study.table(name),
            notebook=executed(experiment.notebook, name),
        params:
            parameters=parameters,
            experiment=name,
            source=experiment.notebook,
            code=fingerprint(PRESENTING_CODE, experiment.notebook),
        resources:
            **asked("notebook"),
        message:
            f"notebook {experiment.notebook[:2]}: {name}"
        shell:
            "python -m kdmri_lib notebook notebooks/{params.source}.ipynb {output.notebook:q}"
            " {params.parameters} --parameter experiment={params.experiment}"


rule report:
    input:
        # All runs by name: a checkout holds committed tables, and these alone must not count as made here.
        records(study.runs.values()),
        [executed("03_distillation", cell) for cell in cells],
        [executed(experiment.notebook, name) for name, experiment in study.profile.experiments.items()],
        [study.table(name) for name in study.profile.experiments],
        [study.table(f"{kind}_{cell}") for cell in cells for kind in ("volumes", "slices")],
        [executed("02_teacher_training", cell) for cell in cells],
        [executed("07_deployment", cell) for cell in cells],
        [executed("01_data_preparation", dataset) for dataset in study.used_datasets],
    output:
        page=study.results / "report/index.html",
        table=study.table("table1"),
        reading=study.table("table1").with_suffix(".md"),
        tests=study.table("significance"),
        figure=study.figure("figure2"),
        masks=study.figure("masks"),
        notebook=executed("08_report"),
    params:
        parameters=parameters,
        code=fingerprint(PRESENTING_CODE, "08_report"),
    resources:
        **asked("notebook"),
    message:
        "notebook 08: the report"
    shell:
        "python -m kdmri_lib notebook notebooks/08_report.ipynb {output.notebook:q} {params.parameters}"
