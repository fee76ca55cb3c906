# Which notebook and which training makes what from what. ./run_all.sh runs it; all of it comes from kdmri_study.jobs.
import re
import shlex

from kdmri_study.evidence import pieces
from kdmri_study.jobs import jobs, mask_files
from kdmri_study.provenance import code_digest, preparing_code, training_code
from kdmri_study.report import FILES, report_page
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study

profile = config.get("profile", "quick")
study = Study(profile, config.get("folder", ""))
# How every command below finds the same study; a notebook takes it as parameters.
where = f"--profile {shlex.quote(profile)} --folder {shlex.quote(str(study.folder))}"


def records(runs):
    return [RunFolder(study, run).path / "run.json" for run in runs]


def parameters(job):
    given = {"profile": profile, "folder": str(study.folder), **job.parameters}
    return " ".join(f"--parameter {shlex.quote(f'{name}={value}')}" for name, value in given.items())


def asked(kind):
    """What a job of this kind asks a cluster for, by the names of Snakemake's resources; unused on one machine."""
    needs = getattr(study.profile.resources, kind)
    gpus = {"gpu": needs.gpus} if needs.gpus else {}
    return {"mem_mb": round(1000 * needs.memory_gb), "runtime": needs.minutes, **gpus}


def together(kind):
    """A group, whose jobs a cluster is given as one, where a training is declared to take minutes."""
    # Starting one there takes as long. Longer ones stay jobs of their own, since a group that fails, or meets its time limit,
    # is made again as a whole.
    return kind if study.profile.resources.train.minutes <= 10 else None


wildcard_constraints:
    run="|".join(re.escape(run) for run in study.runs),


rule all:
    input:
        # Every file by name: what is deleted is made again.
        [file for job in jobs(study) for file in job.written(study)],
        records(study.runs.values()),
        [piece.file(study) for piece in pieces(study)],
        [study.prepared(dataset) for dataset in study.used_datasets],
        report_page(study),


for dataset in study.used_datasets:

    rule:
        name:
            f"prepare_{dataset}"
        input:
            # Touched by `check` when files changed that the data set was prepared from.
            [stamp for stamp in [study.source_stamp(dataset)] if stamp.exists()],
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


rule train:
    input:
        data=lambda w: study.prepared(study.runs[w.run].dataset.name),
        mask=lambda w: list(mask_files([(study.runs[w.run].dataset, study.runs[w.run].degradation)])),
        needs=lambda w: records(study.runs[w.run].needs),
    output:
        study.results / "runs/{run}/run.json",
    params:
        where=where,
        code=lambda w: training_code(study.runs[w.run]),
        label=lambda w: study.labels[w.run],
    threads: study.profile.threads
    group:
        together("trainings")
    resources:
        **asked("train"),
    message:
        "training: {params.label}"
    shell:
        "python -m kdmri_lib train {params.where} {wildcards.run}"


for piece in pieces(study):

    # By its name, a piece can be made alone: ./run_all.sh --profile table1 brain_4x_seed0
    rule:
        name:
            piece.name
        input:
            records(piece.runs),
            study.prepared(piece.runs[0].dataset.name),
        output:
            piece.file(study),
        params:
            where=where,
            piece=piece.name,
            code=code_digest(["kdmri_study.evidence", "kdmri_lib.evaluation"]),
        group:
            together("evidence")
        resources:
            **asked("notebook"),
        message:
            f"evidence of {piece.name}"
        shell:
            "python -m kdmri_lib evidence {params.where} {params.piece}"


written = []
for job in jobs(study):

    rule:
        name:
            job.name
        input:
            # Runs by name: a checkout holds committed tables, and these alone must not count as made here.
            records(job.runs),
            [study.prepared(dataset) for dataset in job.datasets],
            job.files,
            written if job.notebook == "09_report" else [],
        output:
            job.written(study),
        params:
            parameters=parameters(job),
            source=job.source,
            executed=job.executed(study),
            code=job.code,
            settings=str((study.stamp, *job.settings)),
        threads: workflow.cores if job.alone else 1
        group:
            together("notebooks")
        resources:
            **asked("notebook"),
        message:
            f"notebook {job.name}"
        shell:
            "python -m kdmri_lib notebook {params.source:q} {params.executed:q} {params.parameters}"

    written = [*written, *job.written(study)]


localrules:
    report,


rule report:
    input:
        written,
        FILES,
    output:
        report_page(study),
    params:
        where=where,
        code=code_digest(["kdmri_study.report"]),
    message:
        "building the report"
    shell:
        "python -m kdmri_lib report {params.where}"
