# ./run_all.sh runs it: a rule for each task of kdmri_study.workflow.
import os
import shlex

from kdmri_study.profile import Study
from kdmri_study.workflow import tasks

study = Study(os.environ.get("KDMRI_PROFILE", "quick"), os.environ.get("KDMRI_FOLDER", ""))
every_task = list(tasks(study, workflow.cores))


def asked(kind):
    """What a task of this kind asks a cluster for, by the names of Snakemake's resources; unused on one machine."""
    needs = getattr(study.profile.resources, kind)
    gpus = {"gpu": needs.gpus} if needs.gpus else {}
    return {"mem_mb": round(1000 * needs.memory_gb), "runtime": needs.minutes, **gpus}


rule all:
    input:
        # Prepared images only where something is made of them.
        [task.output for task in every_task if task.kind != "prepare"],


for task in every_task:

    # By its name a task can be asked for alone: ./run_all.sh --profile table1 brain_4x_seed0
    rule:
        name:
            task.name
        input:
            task.inputs,
        output:
            task.output,
        log:
            study.results / "logs" / f"{task.name}.txt",
        params:
            command=shlex.join(task.command),
            depends=task.depends,
        threads: task.threads
        resources:
            **(asked(task.kind) if task.kind else {}),
        message:
            task.message
        shell:
            "python -m kdmri_study {params.command}"
            + " --jobs {threads}" * (task.kind == "prepare")
            + " > {log:q} 2>&1"
