"""What a result depends on makes it out of date when it changes, and nothing else does; nothing in data is executed."""

import ast
import hashlib
import importlib.util
import inspect
import shutil
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES
from kdmri_study import provenance
from kdmri_study.build import declared_mask
from kdmri_study.jobs import execute
from kdmri_study.provenance import canonical, code_elsewhere, training_code
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


OWN_LOSS = """
from functools import cache, partial

from kdmri_lib.losses.attention_transfer import attention_map
from kdmri_lib.losses.base import LOSSES, Loss

SCALE = 2.0
NAMES = {"a", "b", "c", "d"}


def helper(a, b):
    return deeper(attention_map(a) - attention_map(b)) * SCALE * len(NAMES) + sum(TABLE["first"](x) for x in (a, b))


@cache
def cached(x):
    return 1 * x


def halved(x, by):
    return (x / by).mean()


TABLE = {"first": partial(halved, by=2)}


def deeper(x):
    return x.abs().mean() * cached(1)


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
        (("return 1 * x", "return 2 * x"), True),
        (("by=2", "by=3"), True),
        (("(x / by)", "(x * by)"), True),
        (('"c", "d"}', '"c", "e"}'), True),
        (('{"a", "b", "c", "d"}', '{"d", "c", "b", "a"}'), False),
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


def test_what_a_loss_of_ones_own_calls_in_the_project_counts(study, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN_LOSS)
    spec = importlib.util.spec_from_file_location("own_for_this_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        texts, modules = code_elsewhere(module.Own)
        assert modules == {"kdmri_lib.losses.attention_transfer", "kdmri_lib.losses.base"}
        assert {"helper", "deeper", "SCALE"} <= set(texts) and "unused" not in texts
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
