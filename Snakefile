# Which job makes what from what. ./run_all.sh runs it; all of it comes from kdmri_study.evidence and kdmri_study.workflow.
import os
import shlex

from kdmri_lib.datasets.preparing import images_number
from kdmri_lib.declared import mask_file
from kdmri_study.evidence import FILES, datasets, jobs
from kdmri_study.profile import Study
from kdmri_study.runs import loss_sources
from kdmri_study.workflow import pages, report_page

profile = os.environ.get("KDMRI_PROFILE", "quick")
study = Study(profile, os.environ.get("KDMRI_FOLDER", ""))
every_job = jobs(study)
every_page = list(pages(study))
# How every command below finds the same study; a notebook that needs it takes it as parameters.
where = f"--profile {shlex.quote(profile)} --folder {shlex.quote(str(study.folder))}"


def evidence(name):
    return every_job[name].folder(study) / FILES[0]


def asked(kind):
    """What a job of this kind asks a cluster for, by the names of Snakemake's resources; unused on one machine."""
    needs = getattr(study.profile.resources, kind)
    gpus = {"gpu": needs.gpus} if needs.gpus else {}
    return {"mem_mb": round(1000 * needs.memory_gb), "runtime": needs.minutes, **gpus}


def parameters(page):
    return " ".join(f"--parameter {shlex.quote(f'{name}={value}')}" for name, value in page.parameters.items())


def logged(name):
    return study.results / "logs" / f"{name}.txt"


rule all:
    input:
        [evidence(name) for name in every_job],
        [page.executed(study) for page in every_page],
        report_page(study),


for dataset in datasets(every_job.values()):

    rule:
        name:
            f"prepare_{dataset.file_name.removesuffix('.h5').replace('-', '_')}"
        input:
            # Touched by `check` when files changed that the data set was prepared from.
            [stamp for stamp in [study.source_stamp(dataset)] if stamp.exists()],
        output:
            study.prepared(dataset),
        log:
            logged(f"prepare_{dataset.file_name.removesuffix('.h5')}"),
        params:
            dataset=dataset.file_name.removesuffix(".h5"),
            where=where,
            images=images_number(dataset),
        threads:
            # Files are read side by side; generated images are made beside other data sets.
            workflow.cores if dataset.folder else 1
        resources:
            **asked("prepare"),
        message:
            f"preparing {dataset.name}"
        shell:
            "python -m kdmri_study prepare {params.where} --jobs {threads} {params.dataset} > {log:q} 2>&1"


for name, job in every_job.items():

    # By its name a job can be made alone: ./run_all.sh --profile table1 brain_4x_seed0
    rule:
        name:
            name
        input:
            [study.prepared(dataset) for dataset in datasets([job])],
            sorted({file for setting in job.settings if (file := mask_file(*setting))}),
        output:
            evidence(name),
        log:
            logged(name),
        params:
            where=where,
            job=name,
            # Named by their declarations and by NUMERICS; with how their losses are written.
            runs=[f"{run.id} {loss_sources(run)}" for run in job.runs.values()],
        threads: study.profile.threads
        resources:
            **asked("train"),
        message:
            f"training {name.replace('_', ' ')}"
        shell:
            "python -m kdmri_study train {params.where} {params.job} > {log:q} 2>&1"


for page in every_page:

    rule:
        name:
            page.name
        input:
            [evidence(name) for name in page.needs(every_job)],
            [study.prepared(study.dataset(name)) for name in page.datasets],
            page.source,
        output:
            page.executed(study),
        log:
            logged(page.name),
        params:
            parameters=parameters(page),
            source=page.source,
        threads: workflow.cores if page.alone else 1
        resources:
            **asked("notebook"),
        message:
            f"notebook {page.name}"
        shell:
            "python -m kdmri_study notebook {params.source:q} {output:q} {params.parameters} > {log:q} 2>&1"


rule tables:
    input:
        [evidence(name) for name in every_job],
    output:
        study.table("trainings"),
    log:
        logged("tables"),
    params:
        where=where,
    message:
        "tables"
    shell:
        "python -m kdmri_study tables {params.where} > {log:q} 2>&1"


rule report:
    input:
        study.table("trainings"),
        [page.executed(study) for page in every_page],
    output:
        report_page(study),
    log:
        logged("report"),
    params:
        where=where,
    message:
        "report"
    shell:
        "python -m kdmri_study report {params.where} > {log:q} 2>&1"
