"""Commands of the study: ``python -m kdmri_lib --help``."""

import argparse
import contextlib
import errno
import sys

from kdmri_lib.errors import StoppedError, StudyError


def check(arguments) -> None:
    """Say what a profile holds and what of its downloads is there, beside the paper's numbers, before anything runs."""
    from kdmri_lib.datasets.preparing import changed_sources
    from kdmri_lib.storage import PROJECT
    from kdmri_study.provenance import preparing_code
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    _check_names(study, arguments.names)
    print(f"profile {study.name}: {study.profile.description}")
    print(f"  costs {study.profile.cost}")
    print(f"  cells: {', '.join(cell.tag for cell in study.cells)}; trainings: {len(study.runs)}")
    for name, folder in study.missing.items():
        print(f"  left out: data set '{name}', whose folder {folder} isn't there (data/README.md says how to get it)")
    problems = []
    for dataset in (study.dataset(name) for name in study.used_datasets):
        path = study.prepared(dataset.name)
        if dataset.folder and path.exists() and not (PROJECT / dataset.folder).is_dir():
            print(f"  {dataset.name} ({dataset.source}, {dataset.folder}): the folder is gone; prepared before")
        elif dataset.folder:
            try:
                code = preparing_code(dataset) if path.exists() else ""
                problems += _check_download(dataset, path, code, arguments.jobs, arguments.headers)
                if path.exists() and (changed := changed_sources(dataset, path)):
                    print(f"    prepared before, and will be again: {changed}")
                    study.source_stamp(dataset.name).touch()
            except StudyError as error:
                print(f"  {dataset.name} ({dataset.source}): {error}")
                problems.append(dataset.name)
    if problems:
        raise StudyError(f"not all is as declared: {', '.join(problems)}")


def _check_names(study, names: list[str]) -> None:
    """`StudyError` when the study makes nothing of one of these names."""
    from kdmri_study.evidence import pieces
    from kdmri_study.jobs import jobs

    if not names:
        return
    made = {
        "pieces": [piece.name for piece in pieces(study)],
        "notebooks": [job.name for job in jobs(study)],
        "others": ["all", "report", *(f"prepare_{dataset}" for dataset in study.used_datasets)],
    }
    if unknown := [name for name in names if not any(name in known for known in made.values())]:
        known = "; ".join(f"{kind}: {', '.join(known)}" for kind, known in made.items())
        raise StudyError(f"profile '{study.name}' makes nothing called '{unknown[0]}'; {known}")


def _check_download(dataset, path, code: str, jobs: int, headers: bool) -> list[str]:
    """Print what a download holds; returns its volumes that can't be read, and would be left out."""
    import csv

    from kdmri_lib.datasets.preparing import survey, survey_prepared
    from kdmri_lib.storage import PROJECT

    found = survey_prepared(dataset, path, code) or survey(dataset, jobs, headers)
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
    """Prepare one data set of a profile; nothing is done for one that is there and up to date."""
    from kdmri_study.runs import prepare_dataset
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    made, left_out = prepare_dataset(study, arguments.dataset, arguments.jobs)
    for volume, reason in left_out.items():
        print(f"  left out {volume}: {reason}")
    again = (
        f"; {len(left_out)} left out, tried again when their files change, or when you delete it" if left_out else ""
    )
    print(f"{study.prepared(arguments.dataset)}: {'prepared' if made else 'up to date'}{again}")


def train(arguments) -> None:
    """Train one run of a profile, or go on with it; nothing is done for one that is finished and up to date."""
    from kdmri_lib.devices import use_threads
    from kdmri_study.runs import asked_to_stop, trained
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    if arguments.run not in study.runs:
        raise StudyError(f"profile '{study.name}' has no run '{arguments.run}'")
    use_threads(study.profile.threads)
    with asked_to_stop() as stop:
        trained(study, study.runs[arguments.run], study.labels[arguments.run], stop)


def failures(arguments) -> None:
    """Say which trainings failed, whose numbers are holes in the tables; exit status 1 if any did."""
    from kdmri_study.rendering import failures as failed
    from kdmri_study.study import Study

    found = failed(Study(arguments.profile, arguments.folder))
    for label, reason in found.items():
        print(f"{label}: {reason}", file=sys.stderr)
    if found:
        raise StudyError(f"{len(found)} trainings failed; their numbers are holes in the tables, all others are there")


def evidence(arguments) -> None:
    """Write the evidence of a piece of a profile (a cell or an experiment with a seed), whose runs are finished."""
    from kdmri_study.evidence import piece, write_evidence
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    print(write_evidence(study, piece(study, arguments.piece)))


def tables(arguments) -> None:
    """Write every table of metrics, and every figure of an experiment, anew from the evidence that is there."""
    import tempfile
    from pathlib import Path

    from kdmri_study.derived import all_measured, all_tables
    from kdmri_study.drawn import write_figures
    from kdmri_study.evidence import unpacked
    from kdmri_study.study import Study
    from kdmri_study.tables import write_table

    study = Study(arguments.profile, arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        there = unpacked(study, Path(folder))
        parts = list(all_measured(there))
        for derived in all_tables(there, parts):
            write_table(derived.table, study.table(derived.name), derived.runs, derived.text)
            print(study.table(derived.name))
        for path in write_figures(study, parts):
            print(path)


def verify(arguments) -> None:
    """Make every table of metrics anew from the committed evidence (all, with --runs, from the runs), and compare."""
    from kdmri_study.study import Study
    from kdmri_study.verification import verify_evidence, verify_runs

    study = Study(arguments.profile, arguments.folder)
    found = verify_runs(study) if arguments.runs else verify_evidence(study)
    for line in found.wrong:
        print(line)
    print("not compared:", *(found.not_compared or ["nothing"]), sep="\n  ")
    if found.changed:
        print("made by code that has changed since:", *found.changed, sep="\n  ")
    if found.wrong:
        raise StudyError(f"{len(found.wrong)} files differ from what was measured, are missing, or are left over")
    what = "its runs" if arguments.runs else f"the evidence: {found.compared} files compared"
    print(f"profile {study.name}: every other table and figure follows from {what}")


def models(arguments) -> None:
    """Write the weights of cells' teachers and students, with a model card each, to results/models."""
    from kdmri_study.cards import write_models
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    print(*write_models(study, [study.cell(name) for name in arguments.cells]), sep="\n")


def readme(arguments) -> None:
    """Write the numbers of README files anew from the committed tables, and the heads of the notebooks."""
    from kdmri_study.guide import write_heads
    from kdmri_study.readme import write_numbers

    print(*([*write_numbers(), *write_heads()] or ["nothing changed"]), sep="\n")


def minutes(arguments) -> None:
    """Write down how long each notebook of a profile took that was run; then `readme` says it."""
    from kdmri_study.guide import write_minutes
    from kdmri_study.study import Study

    print(write_minutes(Study(arguments.profile, arguments.folder)))


def look(arguments) -> None:
    """Write the viewer, on the nine people and the committed networks, as a page that needs nothing beside itself."""
    from pathlib import Path

    from kdmri_lib.looking.page import middle_slices, write_page
    from kdmri_study.committed import ABOUT, TITLE, look_at_people

    views = look_at_people()
    print(write_page(Path(arguments.output), views, middle_slices(views, arguments.slices), TITLE, ABOUT))


def export(arguments) -> None:
    """Write a network, trained here or committed, as ONNX, with safetensors beside it; with --int8 quantised too."""
    from pathlib import Path

    from kdmri_lib.deployment.export import quantise
    from kdmri_study.cards import best_student, network_of
    from kdmri_study.committed import network
    from kdmri_study.deploying import calibration_slices
    from kdmri_study.deploying import export as to_file
    from kdmri_study.study import Study

    profile, method = arguments.profile, arguments.method
    if not profile:
        chosen = network(arguments.dataset, arguments.acceleration, method)
        profile, method = chosen.profile, chosen.method
    study = Study(profile, arguments.folder)
    cell = study.cell(f"{arguments.dataset}_{arguments.acceleration:g}x")
    method = method or best_student(study, cell, arguments.seed)
    folder, output = network_of(study, cell, method, arguments.seed), Path(arguments.output)
    if output.suffix != ".onnx":
        raise StudyError(f"{output}: expected a name that ends in .onnx")
    # Before anything is written, since it says what is missing.
    slices = calibration_slices(folder) if arguments.int8 else None
    difference = to_file(folder, output)
    print(f"{output}: {cell.tag} {method}; largest difference to PyTorch {difference:.1e}")
    if arguments.int8:
        quantised = output.with_suffix(".int8.onnx")
        quantise(output, quantised, slices)
        print(f"{quantised}: convolutions inside all cascades but the last in int8")


def reconstruct(arguments) -> None:
    """Reconstruct a scan (fastMRI, ISMRMRD, MATLAB, .npy, BART; images, for a trial) with an exported network."""
    from pathlib import Path

    from kdmri_lib.deployment import Model
    from kdmri_lib.deployment.reconstruct import How, reconstruct_file

    model = Model(
        arguments.model, arguments.engine, arguments.precision, threads=arguments.threads, device=arguments.device
    )
    about = model.about
    weights = "" if about["precision"] == "float32" else f", weights in {about['precision']}"
    print(
        f"{about['dataset']} {about['acceleration']:g}x, run {about['run']}; {model.engine} in {model.precision}{weights}"
    )
    how = How(
        order=arguments.order,
        axes=arguments.axes,
        undersample=arguments.undersample,
        coils=arguments.coils,
        sensitivities=Path(arguments.sensitivities) if arguments.sensitivities else None,
        remove_phase=arguments.remove_phase,
        complex=arguments.complex,
        batch=arguments.batch,
    )
    figures = Path(arguments.figures) if arguments.figures else None
    done = reconstruct_file(model, Path(arguments.input), Path(arguments.output), how, arguments.force, figures)
    print("\n".join([*done, f"written: {arguments.output}"]))


def follow(arguments) -> None:
    """Show, in a terminal, where the workflow stands whose output comes in; ./run_all.sh uses it."""
    from kdmri_study.study import Study
    from kdmri_study.terminal import follow as shown

    study = Study(arguments.profile, arguments.folder)
    shown(sys.stdin, study, study.results / "logs" / "workflow.txt", arguments.jobs)


def report(arguments) -> None:
    """Build the report from what is there of a profile's results: the committed ones, where nothing was run."""
    from kdmri_study.report import report_page, write_report
    from kdmri_study.study import Study

    study = Study(arguments.profile, arguments.folder)
    print(*write_report(study), report_page(study), sep="\n")


def notebook(arguments) -> None:
    """Execute a notebook by papermill with parameters; the executed copy appears whole, or is kept aside when it fails."""
    from kdmri_study.jobs import execute

    execute(arguments.notebook, arguments.output, dict(pair.split("=", 1) for pair in arguments.parameter))


def benchmark(arguments) -> None:
    """Speed of training beside the same networks written plainly, of each loss, of data, of inference; or a profile."""
    from benchmarks import commands, data, domains, inference, training
    from kdmri_study.study import Study

    threads, seconds = arguments.threads, arguments.seconds
    reports = {
        "command": lambda: commands.measure(arguments.command),
        "training": lambda: training.training_throughput(threads, seconds),
        "losses": lambda: training.loss_costs(threads, seconds),
        "profile": lambda: training.where_time_goes(threads),
        "data": data.measured,
        "inference": lambda: inference.inference_report(threads, seconds),
        "domains": lambda: domains.measure_times(threads, seconds),
        "phases": lambda: domains.measure_phases(Study(arguments.profile, arguments.folder)),
    }
    print(reports[arguments.what]())


def main() -> int:
    """Run the command that the arguments ask for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kdmri_lib", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(function, *options):
        sub = commands.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        for name, settings in options:
            sub.add_argument(name, **settings)
        sub.set_defaults(function=function)

    profile = ("--profile", {"default": "quick", "help": "its name, or the path of a .yaml; quick by default"})
    folder = ("--folder", {"default": "", "help": "where data/prepared and results are; the project's by default"})
    jobs = ("--jobs", {"type": int, "default": 1, "help": "volumes made side by side"})
    only = ("--headers", {"action": "store_true", "help": "read headers alone: in seconds, but not what values are"})
    names = ("--names", {"nargs": "*", "default": [], "help": "of what is to be made, checked too"})
    command(check, profile, folder, jobs, only, names)
    command(prepare, profile, folder, jobs, ("dataset", {"help": "name of a data set of the profile"}))
    command(train, profile, folder, ("run", {"help": "name of the run's folder"}))
    command(
        notebook,
        ("notebook", {}),
        ("output", {}),
        ("--parameter", {"action": "append", "default": [], "metavar": "NAME=VALUE"}),
    )
    command(verify, profile, folder, ("--runs", {"action": "store_true", "help": "from the runs, figures too"}))
    command(evidence, profile, folder, ("piece", {"help": "such as brain_4x_seed0"}))
    command(tables, profile, folder)
    command(models, profile, folder, ("cells", {"nargs": "*", "help": "such as brain_4x; all by default"}))
    command(readme)
    command(report, profile, folder)
    command(follow, profile, folder, ("--jobs", {"type": int, "default": 1, "help": "how many run side by side"}))
    command(minutes, profile, folder)
    command(
        look,
        ("--output", {"default": "look_inside.html"}),
        ("--slices", {"type": int, "default": 1, "help": "slices of each person"}),
    )
    command(failures, profile, folder)
    command(
        export,
        ("--profile", {"default": "", "help": "whose network; by default the committed one's"}),
        folder,
        ("--dataset", {"required": True}),
        ("--acceleration", {"type": float, "required": True}),
        (
            "--method",
            {
                "default": "",
                "help": "row of Table 1: teacher, student, distilled, he_compute (well initialised, alone), best (the best "
                "recipe's student); by default the student that is best on the validation subjects",
            },
        ),
        ("--seed", {"type": int, "default": 0}),
        ("--output", {"required": True, "help": "name of the .onnx file"}),
        ("--int8", {"action": "store_true", "help": "also quantise, calibrated on training slices"}),
    )
    orders = [
        "auto",
        "unshifted",
        "shifted",
        "centred",
        "corners",
    ]  # orders.ORDERS, whose module takes seconds to import
    order = ("--order", {"default": "auto", "choices": orders, "help": "of k-space; auto finds it in the data"})
    command(
        reconstruct,
        ("--model", {"required": True, "help": "file from `export`"}),
        (
            "--input",
            {
                "required": True,
                "help": "k-space: HDF5 (fastMRI, ISMRMRD), .mat, .npy, .cfl; images: NIfTI, HDF5",
            },
        ),
        ("--output", {"required": True, "help": "an HDF5 file; a NIfTI file where the input is one"}),
        order,
        ("--axes", {"default": "", "help": "what an array's axes are: S slices, C coils, H rows, W columns; e.g. HWC"}),
        (
            "--coils",
            {"default": "rss", "choices": ["rss", "espirit"], "help": "root sum of squares, or ESPIRiT's maps"},
        ),
        (
            "--sensitivities",
            {"default": "", "help": "file of the coils' sensitivities, in HDF5 called so, to combine them with"},
        ),
        ("--complex", {"action": "store_true", "help": "write the complex image, with its phase"}),
        ("--remove-phase", {"action": "store_true", "help": "magnitude models: take the smooth phase off first"}),
        ("--undersample", {"action": "store_true", "help": "the input is fully sampled; keep the model's lines alone"}),
        ("--batch", {"type": int, "default": 4}),
        ("--engine", {"default": "auto", "choices": ["auto", "openvino", "onnxruntime"]}),
        ("--precision", {"default": "auto", "choices": ["auto", "float32", "bfloat16"]}),
        ("--device", {"default": "cpu", "choices": ["cpu", "cuda"]}),
        ("--threads", {"type": int, "default": 0, "help": "all cores when 0"}),
        ("--figures", {"default": "", "help": "folder for a PNG of each volume"}),
        ("--force", {"action": "store_true", "help": "replace the output"}),
    )
    what = (
        "what",
        {
            "nargs": "?",
            "default": "training",
            "choices": ["training", "losses", "profile", "data", "inference", "domains", "phases", "command"],
        },
    )
    measured = ("--command", {"default": "./run_all.sh", "help": "what `benchmark command` measures in a fresh clone"})
    threads = ("--threads", {"type": int, "default": 2})
    of = ("--profile", {"default": "domains", "help": "whose trained networks `benchmark phases` takes"})
    command(benchmark, what, measured, of, folder, threads, ("--seconds", {"type": float, "default": 8.0}))
    arguments = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # people's paths hold letters that a terminal's encoding may not have
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments.function(arguments)
    except StudyError as error:
        print(f"kdmri: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("kdmri_lib", "kdmri_study", "benchmarks"):
            raise
        needed = "pip install -e '.[deploy,dicom,scanner]'"
        print(f"kdmri: this needs the package {error.name}, which isn't installed: {needed}", file=sys.stderr)
        return 1
    except OSError as error:
        from kdmri_lib.storage import UNWRITABLE

        if error.errno not in (*UNWRITABLE, errno.ENAMETOOLONG):
            raise
        print(f"kdmri: {error.filename}: {error.strerror}; nothing was replaced", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kdmri: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except StoppedError as error:
        print(f"kdmri: {error}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
