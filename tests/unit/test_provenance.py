"""What a result depends on makes it out of date when it changes, and nothing else does; nothing in data is executed."""

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from kdmri_lib.sampling import declared_mask
from kdmri_lib.study.notebooks import execute

from kdmri_lib import provenance
from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.study.provenance import PACKAGE, code_fingerprint, training_code
from kdmri_lib.study.runs import RunFolder, trained, use_threads
from kdmri_lib.study.study import PROJECT, Cell, Study, load_profile

CELL = Cell("cardiac", 8)
# What training imports that changes no number: messages, files written whole, files opened (images have checksums).
NO_NUMBERS = {"errors.py", "files.py", "datasets/source_files.py"}


def imported_by(file: str) -> set[str]:
    """Files of the package that one imports, itself and whatever these import included."""
    found, waiting = set(), [file]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kdmri_lib":
                parts = node.module.split(".")[1:]
                for place in ["/".join(parts), *("/".join([*parts, alias.name]) for alias in node.names)]:
                    waiting += [f for f in (f"{place}.py", f"{place}/__init__.py") if (PACKAGE / f).exists()]
    return found - {"__init__.py"}


@pytest.mark.parametrize("method", ["student", "attention_transfer", "distilled"])
def test_all_code_that_training_imports_counts_but_losses_and_networks_that_it_does_not_use(study, method):
    run = study.methods(CELL, 0)[method]
    counted = set(training_code(run))
    others = imported_by("training.py") - counted - NO_NUMBERS
    assert {Path(file).parent.name for file in others} <= {"losses", "models"}
    assert f"losses/{run.objective[0].loss}.py" in counted and "models/dccnn.py" in counted


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's files, to change."""
    for file in PACKAGE.rglob("*.py"):
        copy = tmp_path / "package" / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "package")
    code_fingerprint.cache_clear()
    yield tmp_path / "package"
    code_fingerprint.cache_clear()


def test_code_that_counts_makes_a_run_out_of_date_and_other_code_does_not(study, package):
    run = study.methods(CELL, 0)["student"]
    trained(study, run)
    for file in sorted(package.rglob("*.py")):
        name, before = str(file.relative_to(package)), file.read_text()
        file.write_text(before + "\nchanged = 1\n")
        code_fingerprint.cache_clear()
        expected = "out of date" if name in training_code(run) else "finished"
        assert RunFolder(study, run).state() == expected, name
        file.write_text(before + "\n# a comment\n")
        code_fingerprint.cache_clear()
        assert RunFolder(study, run).state() == "finished", name
        file.write_text(before)


def test_every_parameter_of_a_run_names_another_folder(study):
    run = study.methods(CELL, 0)["distilled"]
    schedule = run.schedule
    changes = [
        {"seed": 1},
        {"precision": "float32"},
        {"objective": (LossTerm(loss="imitation", options={"alpha": 0.4}),)},
        {"objective": (LossTerm(loss="imitation", weight=2.0),)},
        {"degradation": run.degradation.model_copy(update={"acceleration": 5.0})},
        {"degradation": run.degradation.model_copy(update={"seed": 3})},
        {"dataset": run.dataset.model_copy(update={"train": 3})},
        {"network": run.network.model_copy(update={"options": {**run.network.options, "features": 9}})},
        {"teacher": run.teacher.model_copy(update={"seed": 5})},
        {"start": None},
        *({"schedule": schedule.model_copy(update={k: v})} for k, v in (("steps", 7), ("batch", 1), ("strip", 8))),
        *({"schedule": schedule.model_copy(update={k: v})} for k, v in (("learning_rate", 1.0), ("decay", "step"))),
    ]
    ids = [run.id, *(run.model_copy(update=change).id for change in changes)]
    assert len(set(ids)) == len(ids)


def test_a_changed_mask_or_changed_data_make_a_run_out_of_date(study, tmp_path):
    run = study.methods(CELL, 0)["student"]
    mask = declared_mask(run.dataset, run.degradation)
    np.save(tmp_path / "mask.npy", mask)
    degradation = run.degradation.model_copy(update={"mask": str(tmp_path / "mask.npy")})
    own = run.model_copy(update={"degradation": degradation})
    assert trained(study, own).state() == "finished"
    np.save(tmp_path / "mask.npy", np.roll(mask, 1, axis=0))
    assert RunFolder(study, own).state() == "out of date"
    trained(study, run)
    prepared = study.prepared("cardiac")
    content = prepared.read_bytes()
    prepared.unlink()
    other = Study("smoke", tmp_path / "other")
    changed = other.dataset("cardiac").model_copy(update={"seed": 99})
    from kdmri_lib.datasets.preparing import prepare

    prepare(changed, prepared)
    assert RunFolder(study, run).state() == "out of date"
    prepared.write_bytes(content)
    assert RunFolder(study, run).state() == "finished", "the same data again"


INJECTIONS = [
    '"; import pathlib; pathlib.Path("sprung").touch(); "',
    "'''\nimport pathlib\npathlib.Path('sprung').touch()\n'''",
    '\\"\n__import__("pathlib").Path("sprung").touch()\n#',
    "!!python/object/apply:os.system ['touch sprung']",
    "{a: !!python/name:os.system }",
    "$(touch sprung)",
    "`touch sprung`",
    "/a: b",
]


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A notebook that shows its parameter."""
    path = tmp_path_factory.mktemp("echo") / "echo.ipynb"
    cells = [nbformat.v4.new_code_cell('value = ""', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell("print(ascii(value))"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.parametrize("value", INJECTIONS)
def test_a_notebooks_parameters_are_data(echo, value, tmp_path):
    execute(echo, tmp_path / "out.ipynb", {"value": value})
    shown = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text.strip()
    assert ast.literal_eval(shown) == value
    assert not list(echo.parent.glob("sprung")) and not list(tmp_path.glob("sprung"))


def test_a_parameters_name_cannot_be_code(echo, tmp_path):
    with pytest.raises(StudyError, match="has no parameter import os; x"):
        execute(echo, tmp_path / "out.ipynb", {"import os; x": "1"})


@pytest.mark.parametrize("name", ["it's; touch sprung .yaml", "..yaml", "a b.yaml", "$(x).yaml"])
def test_a_profiles_name_is_a_plain_one(tmp_path, name):
    (tmp_path / name).write_text((PROJECT / "profiles" / "smoke.yaml").read_text())
    with pytest.raises(StudyError, match="isn't a plain name"):
        load_profile(str(tmp_path / name))


def test_a_folders_name_is_not_run_by_the_workflow(tmp_path, prepared_study):
    """Prepared data in a folder whose name would be a command, were it not quoted."""
    folder = tmp_path / "it's; touch sprung; echo $(touch sprung)"
    study = Study("smoke", folder)
    workflow = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--nolock"]
    result = subprocess.run(
        [*workflow, str(study.prepared("cardiac")), "--cores", "1", "--config", "profile=smoke", f"folder={folder}"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert study.prepared("cardiac").read_bytes() == prepared_study.prepared("cardiac").read_bytes()
    assert not [*tmp_path.rglob("sprung"), *PROJECT.glob("sprung")]


@pytest.mark.parametrize("paths", ["../../x", "/etc/x", "a/b"])
def test_names_that_become_files_cannot_leave_their_folder(paths, tmp_path):
    text = (PROJECT / "profiles" / "smoke.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("cardiac:", f'"{paths}":').replace("cardiac", paths, 0))
    with pytest.raises(StudyError, match=r"mine.yaml: .*isn't a plain name"):
        load_profile(str(tmp_path / "mine.yaml"))


@pytest.fixture
def sixty_steps(study):
    schedule = study.profile.schedule.model_copy(update={"steps": 60, "validations": 2})
    return study.methods(CELL, 0)["student"].model_copy(update={"schedule": schedule, "precision": "float32"})


def final(curve: pd.DataFrame) -> float:
    return float(curve.validation_psnr.iloc[-1])


def test_another_number_of_threads_ends_within_a_hundredth_of_a_decibel(study, sixty_steps, tmp_path):
    from kdmri_lib.study.runs import train_run

    values, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            use_threads(threads)
            (tmp_path / str(threads)).mkdir()
            result = train_run(study, sixty_steps, tmp_path / str(threads), lambda *_: None, lambda: False)
            values.append(final(result.curve))
    finally:
        use_threads(before)
    print(values)
    assert max(values) - min(values) < 0.01


def test_bfloat16_ends_within_a_tenth_of_a_decibel_of_float32(study, sixty_steps, tmp_path):
    from kdmri_lib.study.runs import train_run

    values = []
    for precision in ("float32", "bfloat16"):
        (tmp_path / precision).mkdir()
        run = sixty_steps.model_copy(update={"precision": precision})
        values.append(final(train_run(study, run, tmp_path / precision, lambda *_: None, lambda: False).curve))
    print(values)
    assert values[0] == pytest.approx(values[1], abs=0.1)
