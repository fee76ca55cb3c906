"""What a result depends on makes it out of date when it changes, and nothing else does; nothing in data is executed."""

import ast
import hashlib
import importlib.util
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.storage import PROJECT
from kdmri_study import provenance
from kdmri_study.build import declared_mask
from kdmri_study.jobs import execute, jobs
from kdmri_study.provenance import canonical, notebook_code, preparing_code, training_code
from kdmri_study.runs import RunFolder, prepare_dataset, trained
from kdmri_study.study import Study
from tests.studies import CELL

# Every construct whose syntax tree has changed between versions of Python, and some that haven't.
CONSTRUCTS = '''
"""A docstring."""
import a.b as c
from . import d
type_hint: dict[str, int | None] = {}
async def f(x, /, y=1, *args, z: int = 2, **more) -> "g":
    """Another."""
    global h
    async with x as (p, q), y: yield await p
    return f"{x!r:>{y}} and {y=} {{}} {'nested'}" "joined" f"{z:%Y-%m}"
@decorated(1, *a, k=2, **b)
class C(Base, metaclass=M):
    field: int = 3
    """Prose of the field."""
    def g(self): return [i async for i in self if i] + [*x, 1_000, 1e-3, 2j, b"b", u"u", ..., None, True]
try:
    assert (n := 3) > 2, "message"
except* (OSError, ValueError) as error: raise E from error
else: del x[1:2, ::3], y.z
finally: pass
match x:
    case {"k": [1, *_], **rest} | C(a=2) if rest: lambda *, q=1: (yield)
    case _: ...
for i, in x: continue
else: x @= ~y if not y else y ** -z // 2
while 1: break
with (open(a) as b, c): nonlocal_ = b"" if a is not b else {**b, 1: 2}
'''
GOLDEN = "16a46d50abb9f5ee"


def digest(source: str) -> str:
    return hashlib.sha256(canonical(ast.parse(source)).encode()).hexdigest()[:16]


def test_the_digest_of_every_construct_is_the_one_that_it_always_was():
    assert digest(CONSTRUCTS) == GOLDEN


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_digest_is_the_same_on_every_python(version):
    found = [Path(p) for p in sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    python = found[0] if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no Python {version} here")
    code = "\n".join(
        [
            "import ast, hashlib, sys",
            *(inspect.getsource(f) for f in (canonical, provenance._is_prose)),
            "print(hashlib.sha256(canonical(ast.parse(sys.stdin.read())).encode()).hexdigest()[:16])",
        ]
    )
    result = subprocess.run([python, "-c", code], input=CONSTRUCTS, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == GOLDEN


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (("# why\n", "# because\n"), True),
        (("x = 1\n", "x  =  (1)\n"), True),
        (('"""What."""\n', '"""What it is."""\n'), True),
        (('    """Field."""\n', ""), True),
        (("f(1, 2)\n", "f(\n    1,\n    2,\n)\n"), True),
        (("x = 1\n", "x = 2\n"), False),
        (("f(1, 2)\n", "f(2, 1)\n"), False),
        (('y = "text"\n', 'y = "test"\n'), False),
        (("x = 1\n", "x = 1.0\n"), False),
    ],
)
def test_comments_docstrings_and_layout_do_not_count_and_all_else_does(changed, same):
    source = '"""What."""\n# why\nx = 1\ny = "text"\nf(1, 2)\nclass C:\n    a = 1\n    """Field."""\n'
    assert changed[0] in source
    assert (digest(source) == digest(source.replace(*changed))) == same


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
SHOW = "\nprint(*sorted(m for m in sys.modules if m.split('.')[0] in ('kdmri_lib', 'benchmarks')))"


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


@pytest.mark.parametrize("method", ["student", "distilled", "vdsr", "fsp", "friendly"])
def test_a_trainings_code_is_what_a_fresh_interpreter_imports_when_it_trains(study, copy, method):
    recipe = study.recipe(CELL, 0)
    run = {
        "student": recipe.student,
        "distilled": recipe.distilled(recipe.pretrained()),
        "vdsr": study.experiment_recipe("super_resolution", 0).student,
        "fsp": recipe.pretrained("fsp"),
        "friendly": recipe.changed(student_friendly=True).teacher,
    }[method]
    data = study.prepared("cardiac")
    run = run.model_copy(update={"dataset": recipe.dataset, "start": None})
    imported = really_imported(copy, TRAIN, run.model_dump_json(), str(data))
    stale = made_stale_by(copy, lambda: training_code(run, copy))
    # The teacher's own code counts through its run, whose weights this one names.
    others = {f"kdmri_lib.models.{run.teacher.network.kind}"} - stale if run.teacher else set()
    assert stale == imported - others
    assert {f"kdmri_lib.losses.{term.loss}" for term in run.objective} <= stale


def test_a_preparations_code_is_what_a_fresh_interpreter_imports_when_it_prepares(study, copy):
    dataset = study.dataset("cardiac")
    imported = really_imported(copy, PREPARE, dataset.model_dump_json())
    assert made_stale_by(copy, lambda: preparing_code(dataset, copy)) == imported


@pytest.mark.parametrize("name", ["01_data_preparation", "06_super_resolution", "07_deployment", "08_report"])
def test_a_notebooks_code_is_what_a_fresh_interpreter_imports_for_its_cells(copy, name):
    path = PROJECT / "notebooks" / f"{name}.ipynb"
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    statements = [n for c in cells for n in ast.walk(ast.parse("".join(c["source"])))]
    imports = [ast.unparse(n) for n in statements if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = really_imported(copy, "\n".join(imports))
    assert made_stale_by(copy, lambda: notebook_code(path, root=copy)) == imported
    expected = {"06_super_resolution": "kdmri_lib.models.bicubic", "01_data_preparation": "kdmri_lib.datasets.overview"}
    assert expected.get(name, "kdmri_study.tables") in imported


def test_experiments_that_a_notebook_finds_by_name_count_for_it(copy):
    job = next(job for job in jobs(Study("smoke")) if job.notebook == "05_ablations")
    roots = [f"kdmri_study.experiments.{part}" for part in job.parts]
    stale = made_stale_by(copy, lambda: notebook_code(job.source, roots, copy))
    assert set(roots) <= stale and len(roots) == 8
    assert "kdmri_study.experiments.restoration" not in stale


OWN_LOSS = """
from kdmri_lib.losses.attention_transfer import attention_map
from kdmri_lib.losses.base import LOSSES, Loss

SCALE = 2.0


def helper(a, b):
    return deeper(attention_map(a) - attention_map(b)) * SCALE


def deeper(x):
    return x.abs().mean()


def unused(x):
    return x


class Kin(Loss):
    def both(self, prediction, teacher):
        return self.feature_pairs(prediction, teacher)


@LOSSES.register("own_for_this_test")
class Own(Kin):
    weight = 1.0

    def __init__(self, pairs):
        super().__init__()
        self.pairs = pairs

    def forward(self, target, prediction, teacher):
        return self.weight * sum(helper(s, t) for s, t in self.both(prediction, teacher))
"""


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (("SCALE = 2.0", "SCALE = 3.0"), True),
        (("* SCALE", "+ SCALE"), True),
        (("x.abs()", "x.square()"), True),
        (("self.feature_pairs", "1 * self.feature_pairs"), True),
        (("weight = 1.0", "weight = 0.5"), True),
        (("return x\n", "return x + 1\n"), False),
        (("def unused", "# nobody calls it\ndef unused"), False),
    ],
)
def test_a_loss_of_ones_own_counts_with_all_that_it_calls(study, tmp_path, change, counts):
    run = study.recipe(CELL, 0).pretrained()
    own = run.model_copy(update={"objective": (LossTerm(loss="own_for_this_test", options={"pairs": []}),)})
    digests = []
    try:
        for number, source in enumerate((OWN_LOSS, OWN_LOSS.replace(*change))):
            path = tmp_path / f"own_{number}.py"
            path.write_text(source)
            spec = importlib.util.spec_from_file_location("own_for_this_test", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            digests.append(training_code(own))
    finally:
        LOSSES.remove("own_for_this_test")
    assert (digests[0] != digests[1]) == counts


def test_what_a_loss_of_ones_own_calls_in_the_project_counts(study, copy, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN_LOSS)
    spec = importlib.util.spec_from_file_location("own_for_this_test", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        run = study.recipe(CELL, 0).pretrained()
        own = run.model_copy(update={"objective": (LossTerm(loss="own_for_this_test", options={"pairs": []}),)})
        assert "kdmri_lib.losses.attention_transfer" in made_stale_by(copy, lambda: training_code(own, copy))
    finally:
        LOSSES.remove("own_for_this_test")


def test_changed_code_makes_a_run_out_of_date(study, monkeypatch):
    run = study.methods(CELL, 0)["student"]
    assert trained(study, run).state() == "finished"
    monkeypatch.setattr("kdmri_study.runs.training_code", lambda _: "another")
    assert RunFolder(study, run).state() == "out of date"


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
    other.profile = other.profile.model_copy(update={"datasets": {**other.profile.datasets, "cardiac": changed}})
    prepare_dataset(other, "cardiac")
    prepared.write_bytes(other.prepared("cardiac").read_bytes())
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
