"""What counts as a result's code, against the imports that a fresh interpreter really makes: an oracle that knows nothing
of how fingerprints follow imports."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study import provenance
from kdmri_study.jobs import jobs
from kdmri_study.provenance import notebook_code, preparing_code, training_code
from kdmri_study.study import Study
from tests.studies import CELL


@pytest.fixture
def copy(tmp_path):
    """A copy of the project's code, to change."""
    for folder in provenance.PACKAGES:
        shutil.copytree(PROJECT / folder, tmp_path / "copy" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


TRAIN = """
import json, sys, tempfile, numpy
from pathlib import Path
from kdmri_study.build import training_step, declared_network
from kdmri_lib.training import train
from kdmri_lib.declarations import Run
run = Run.model_validate_json(sys.argv[1])
nets = [declared_network(r) if r else None for r in (run.teacher, run.start)]
from kdmri_lib.datasets.prepared import Slices, read_prepared
data = Path(sys.argv[2])
with tempfile.TemporaryDirectory() as folder:
    train("x", training_step(run, *nets), run.schedule, run.seed, Slices(data, "train"),
          list(read_prepared(data, "validation")), Path(folder) / "x.pt")
"""
PREPARE = """
import sys, tempfile
from pathlib import Path
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.declarations import Dataset
with tempfile.TemporaryDirectory() as folder:
    prepare(Dataset.model_validate_json(sys.argv[1]), Path(folder) / "x.h5", "code")
"""
SHOW = "\nprint(*sorted(m for m in sys.modules if m.split('.')[0] in ('kdmri_lib', 'kdmri_study', 'benchmarks')))"


def really_imported(copy: Path, code: str, *arguments: str) -> set[str]:
    """The project's modules that a fresh interpreter holds after it has run the code on the copy."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(copy)!r})\n{code}{SHOW}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=copy,
        timeout=120,
    )
    return set(result.stdout.splitlines()[-1].split())


def made_stale_by(copy: Path, digest) -> set[str]:
    """The modules of the copy whose change changes the digest, each changed in turn."""
    before, found = digest(), set()
    for file in sorted(copy.rglob("*.py")):
        text = file.read_text()
        file.write_text(text + "\nchanged = 1\n")
        if digest() != before:
            found.add(".".join(file.relative_to(copy).with_suffix("").parts).removesuffix(".__init__"))
        file.write_text(text)
    assert digest() == before
    return found


@pytest.mark.parametrize("method", ["distilled", "vdsr", "friendly", "after_friendly"])
def test_a_trainings_code_is_what_a_fresh_interpreter_imports_when_it_trains(study, copy, method):
    recipe = study.recipe(CELL, 0)
    run = {
        "distilled": recipe.distilled(recipe.pretrained()),
        "vdsr": study.experiment_recipe("super_resolution", 0).student,
        "friendly": recipe.changed(student_friendly=True).teacher,
        "after_friendly": recipe.changed(student_friendly=True).pretrained(),
    }[method]
    data = study.prepared("cardiac")
    others = {"dataset": recipe.dataset} if method == "vdsr" else {}
    run = run.model_copy(update=others | ({} if method == "after_friendly" else {"start": None}))
    imported = really_imported(copy, TRAIN, run.model_dump_json(), str(data))
    stale = made_stale_by(copy, lambda: training_code(run, copy))
    assert stale == imported
    assert {f"kdmri_lib.losses.{term.loss}" for term in run.objective} <= stale


def test_a_preparations_code_is_what_a_fresh_interpreter_imports_when_it_prepares(study, copy):
    dataset = study.dataset("cardiac")
    imported = really_imported(copy, PREPARE, dataset.model_dump_json())
    assert made_stale_by(copy, lambda: preparing_code(dataset, copy)) == imported


@pytest.mark.parametrize("name", ["01_data_preparation", "06_super_resolution", "07_deployment"])
def test_a_notebooks_code_is_what_a_fresh_interpreter_imports_for_its_cells(copy, name):
    path = PROJECT / "notebooks" / f"{name}.ipynb"
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    statements = [n for c in cells for n in ast.walk(ast.parse("".join(c["source"])))]
    imports = [ast.unparse(n) for n in statements if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = really_imported(copy, "\n".join(imports))
    assert made_stale_by(copy, lambda: notebook_code(path, root=copy)) == imported
    expected = {"06_super_resolution": "kdmri_lib.models.bicubic", "01_data_preparation": "kdmri_lib.overview"}
    assert expected.get(name, "kdmri_study.tables") in imported


def test_experiments_that_a_notebook_finds_by_name_count_for_it(copy):
    job = next(job for job in jobs(Study("smoke")) if job.notebook == "05_ablations")
    roots = [f"kdmri_study.experiments.{part}" for part in job.parts]
    stale = made_stale_by(copy, lambda: notebook_code(job.source, roots, copy))
    assert set(roots) <= stale and len(roots) >= 8
    assert "kdmri_study.experiments.restoration" not in stale
