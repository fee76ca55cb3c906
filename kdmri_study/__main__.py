"""Commands of the study: ``python -m kdmri_study --help``."""

import argparse
import contextlib
import csv
import sys
from itertools import chain
from pathlib import Path

from kdmri_lib.__main__ import run
from kdmri_lib.errors import StudyError

# What a command imports, it imports itself: `--help` and refusals come at once.


def _study(arguments):
    from kdmri_study.profile import Study

    return Study(arguments.profile, arguments.folder)


def check(arguments) -> None:
    """Say what a profile holds and what of its downloads is there, beside the paper's numbers, before anything runs."""
    from kdmri_lib.datasets.preparing import changed_sources
    from kdmri_lib.storage import PROJECT
    from kdmri_study.workflow import tasks

    study = _study(arguments)
    made = [*(task.name for task in tasks(study, 1) if task.kind != "prepare"), "all"]
    if unknown := [name for name in arguments.names if name not in made]:
        raise StudyError(f"profile '{study.name}' makes nothing called '{unknown[0]}'; it makes {', '.join(made)}")
    print(f"profile {study.name}: {study.profile.description}\n  costs {study.profile.cost}")
    for name, folder in study.missing.items():
        print(f"  left out: data set '{name}', whose folder {folder} isn't there (data/README.md says how to get it)")
    problems = []
    for dataset in (study.dataset(name) for name in study.used_datasets):
        path = study.prepared(dataset)
        if dataset.folder and path.exists() and not (PROJECT / dataset.folder).is_dir():
            print(f"  {dataset.name} ({dataset.source}, {dataset.folder}): the folder is gone; prepared before")
        elif dataset.folder:
            try:
                problems += _check_download(dataset, path, arguments.jobs, arguments.headers)
                if path.exists() and (changed := changed_sources(dataset, path)):
                    print(f"    prepared before, and will be again: {changed}")
                    study.source_stamp(dataset).touch()
            except StudyError as error:
                print(f"  {dataset.name} ({dataset.source}): {error}")
                problems.append(dataset.name)
    if problems:
        raise StudyError(f"not all is as declared: {', '.join(problems)}")


def _check_download(dataset, path, jobs: int, headers: bool) -> list[str]:
    """Print what a download holds; returns its volumes that can't be read, and would be left out."""
    from kdmri_lib.datasets.preparing import survey
    from kdmri_lib.storage import PROJECT

    found = survey(dataset, jobs, headers, path)
    numbers = ", ".join(
        f"{split} {found.subjects[split]} subjects, {found.volumes[split]} volumes, {found.slices[split]} slices"
        for split in found.subjects
    )
    print(f"  {dataset.name} ({dataset.source}, {dataset.folder}): {numbers}")
    with (PROJECT / "data" / "published_cohorts.csv").open(newline="", encoding="utf-8") as file:
        published = [row for row in csv.DictReader(file) if row["source"] == dataset.source]
    for row in published:
        subjects, slices = (
            sum(table[s] for s in row["part"].split(" and ")) for table in (found.subjects, found.slices)
        )
        same = (subjects, slices) == (int(row["subjects"]), int(row["slices"]))
        beside = "as in the paper" if same else f"the paper has {row['subjects']} and {row['slices']}"
        print(f"    {row['part']}: {subjects} subjects, {slices} slices; {beside}")
    if found.label_maps:
        print(f"    passed over, label maps or copies by their names: {_first(found.label_maps)}")
    if found.below_zero:
        most = max(found.below_zero.values())
        print(f"    values below 0 ({most:.2g} of the signal at most) become 0: {_first(list(found.below_zero))}")
    for volume, reason in found.problems.items():
        print(f"    can't be read, and would be left out: {volume}: {reason}")
    if found.stopped:
        print(f"    can't be prepared: {found.stopped}")
    return [*found.problems, *([dataset.name] if found.stopped else [])]


def _first(names: list[str]) -> str:
    """How many names there are, and the first of them."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def prepare(arguments) -> None:
    """Prepare a data set of a profile; nothing is done for one that is there and up to date."""
    from kdmri_study.evidence import datasets, jobs
    from kdmri_study.runs import prepare_dataset

    study = _study(arguments)
    known = {dataset.file_name.removesuffix(".h5"): dataset for dataset in datasets(jobs(study).values())}
    dataset = known.get(arguments.dataset) or study.dataset(arguments.dataset)
    made, left_out = prepare_dataset(study, dataset, arguments.jobs)
    for volume, reason in left_out.items():
        print(f"  left out {volume}: {reason}")
    again = f"; {len(left_out)} left out, tried again when their files change, or when you delete it" * bool(left_out)
    print(f"{study.prepared(dataset)}: {'prepared' if made else 'up to date'}{again}")


def train(arguments) -> None:
    """Train a job (a setting or an experiment with one seed), or go on with it, and write its evidence."""
    from kdmri_lib.devices import use_threads
    from kdmri_study.evidence import job, train_job
    from kdmri_study.runs import asked_to_stop

    study = _study(arguments)
    of = job(study, arguments.job)
    use_threads(study.profile.threads)
    with asked_to_stop() as stop:
        print(train_job(study, of, stop))


def tables(arguments) -> None:
    """Write every table, figure of an experiment and card of a network from the evidence that is there."""
    import matplotlib.pyplot as plt

    from kdmri_lib import figures
    from kdmri_lib.storage import write_text
    from kdmri_study.evidence import Evidence
    from kdmri_study.models import write_cards
    from kdmri_study.plots import answer, drawn
    from kdmri_study.tables import all_tables, experiments, write_table

    study = _study(arguments)
    evidence = Evidence(study)
    parts = list(experiments(evidence))
    made = {table.name: table for table in all_tables(evidence, parts)}
    for table in made.values():
        write_table(study, table)
    first = answer(made["comparisons"].frame) if "comparisons" in made else None
    pictures = (pair for found in parts for pair in drawn(evidence, found))
    for name, figure in chain([("answer", first)] if first else [], pictures):
        figures.save(figure, study.figure(name), study.stamp)
        plt.close(figure)
    write_cards(evidence)
    print(study.results / "tables")
    # What failed is a hole, and no reason to make nothing of the rest; ./run_all.sh and the report name it too.
    failed = "".join(f"{line}\n" for line in evidence.failures())
    write_text(study.failed, failed)
    if failed:
        print(f"kdmri: trainings failed, whose numbers are holes in the tables:\n{failed}", end="", file=sys.stderr)


def models(arguments) -> None:
    """Write the weights of settings' teachers and students, with a card each, to results/models."""
    from kdmri_study.models import write_models

    study = _study(arguments)
    for path in write_models(study, [study.setting(name) for name in arguments.settings]):
        print(path)


def notebook(arguments) -> None:
    """Execute a notebook by papermill; the executed copy appears whole, or is kept aside when it fails."""
    from kdmri_study.workflow import execute

    if wrong := [pair for pair in arguments.parameter if "=" not in pair]:
        raise StudyError(f"--parameter {wrong[0]}: expected NAME=VALUE")
    execute(arguments.notebook, arguments.output, dict(pair.split("=", 1) for pair in arguments.parameter))


def report(arguments) -> None:
    """Build the report from what is there of a profile's results."""
    from kdmri_study.report import write_report

    print(write_report(_study(arguments), Path(arguments.output).resolve() if arguments.output else None))


def look(arguments) -> None:
    """Write the viewer, on the nine people and the committed networks, as a page that needs nothing beside itself."""
    from kdmri_lib.viewer.views import write_page
    from kdmri_study.models import look_at_people
    from kdmri_study.report import ABOUT

    views = look_at_people()
    print(write_page(Path(arguments.output), views, "Look inside", ABOUT, arguments.slices))


def export(arguments) -> None:
    """Write a network, committed or (--profile) trained here, as ONNX, with safetensors beside it."""
    from kdmri_lib.deployment.export import quantise
    from kdmri_study.models import KEPT, calibration_slices, kept_run, network
    from kdmri_study.models import export as to_file
    from kdmri_study.profile import Study
    from kdmri_study.runs import RunFolder

    output, method = Path(arguments.output), arguments.method
    if output.suffix != ".onnx":
        raise StudyError(f"{output}: expected a name that ends in .onnx")
    if arguments.profile:
        study = _study(arguments)
        rows = study.rows(study.setting(f"{arguments.dataset}_{arguments.acceleration:g}x"), arguments.seed)
        if method and method not in rows:
            raise StudyError(f"no row '{method}'; there is {', '.join(rows)}")
        students = [name for name in KEPT if name in rows and name != "teacher"]
        found = [kept_run(RunFolder(study, rows[name].run), name) for name in ([method] if method else students)]
        kept = max(found, key=lambda each: each.validation)
    else:
        kept = network(arguments.dataset, arguments.acceleration, method)
        study = Study(kept.profile, arguments.folder)
    # Before anything is written, since it says what is missing.
    slices = list(calibration_slices(study, kept.run)) if arguments.int8 else None
    difference = to_file(study, kept, output)
    without = "" if kept.run.teacher or kept.run.start else " (trained without a teacher)"
    why = (
        "as asked"
        if arguments.method
        else f"{kept.validation:.2f} dB on the validation subjects, the best student there"
    )
    print(f"{output}: {arguments.dataset} {arguments.acceleration:g}x, row '{kept.method}'{without}: {why}")
    print(f"largest difference to PyTorch {difference:.1e}")
    if arguments.int8:
        quantised = output.with_suffix(".int8.onnx")
        quantise(output, quantised, slices)
        print(f"{quantised}: convolutions inside all cascades but the last in int8")


def main() -> int:
    """Run the command that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m kdmri_study", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    profile = ("--profile", {"default": "quick", "help": "name, or path of a .yaml (default: quick)"})
    folder = ("--folder", {"default": "", "help": "where data/prepared and results are (default: the project)"})

    def command(function, *options) -> None:
        sub = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        for name, about in options:
            sub.add_argument(name, **about)
        sub.set_defaults(function=function)

    jobs = ("--jobs", {"type": int, "default": 1, "help": "processes, side by side"})
    names = ("--names", {"nargs": "*", "default": [], "help": "what ./run_all.sh is to make"})
    headers = ("--headers", {"action": "store_true", "help": "headers alone, not values"})
    command(check, profile, folder, jobs, headers, names)
    command(prepare, profile, folder, jobs, ("dataset", {}))
    command(train, profile, folder, ("job", {"help": "such as brain_4x_seed0"}))
    command(tables, profile, folder)
    command(models, profile, folder, ("settings", {"nargs": "*", "help": "such as brain_4x; all by default"}))
    given = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    command(notebook, ("notebook", {}), ("output", {}), ("--parameter", given))
    command(report, profile, folder, ("--output", {"default": "", "help": "folder; by default results/PROFILE/report"}))
    slices = {"type": int, "default": 1, "help": "of each person"}
    command(look, ("--output", {"default": "look_inside.html"}), ("--slices", slices))
    method = {"default": "", "help": "row of Table 1; by default the best student on the validation subjects"}
    command(
        export,
        ("--profile", {"default": "", "help": "whose network; by default the committed one"}),
        *(folder, ("--dataset", {"required": True}), ("--acceleration", {"type": float, "required": True})),
        *(("--method", method), ("--seed", {"type": int, "default": 0})),
        ("--output", {"required": True, "help": "name of the .onnx file"}),
        ("--int8", {"action": "store_true", "help": "also quantise, calibrated on training slices"}),
    )
    return run(parser)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
