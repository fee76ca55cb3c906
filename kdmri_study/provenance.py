"""Where a result came from: which code, libraries, machine; and whether that is still what is here now.

One rule decides which code a result depends on: the modules of this project that its roots import, and what these import,
wherever in a file the import stands. A digest is over their syntax, so that comments, docstrings and layout don't count.
"""

import ast
import hashlib
import inspect
import os
import platform
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from kdmri_lib.datasets.preparing import source
from kdmri_lib.declarations import Dataset, Run
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.models.base import MODELS
from kdmri_lib.storage import PROJECT, read_json

PACKAGES = ("kdmri_lib", "kdmri_study", "benchmarks")
LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "h5py", "lightning-fabric")


def canonical(node) -> str:
    """A syntax tree as text that doesn't depend on Python's version: what is empty, in which versions differ, is left out,
    and strings that stand alone, which are prose."""
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr([part for part in node.values if not (isinstance(part, ast.Constant) and not part.value)])
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in ("kind", "type_comment"))
        parts = [f"{name}={canonical(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(canonical(item) for item in node if not _is_prose(item))}]"
    return repr(node)


def _is_prose(node) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _file(module: str, root: Path) -> Path | None:
    """The file of a module of this project below `root`, None for what is no module of it."""
    if module.split(".")[0] not in PACKAGES:
        return None
    place = root.joinpath(*module.split("."))
    return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.exists()), None)


def _named(tree: ast.AST) -> Iterator[str]:
    """Names that a syntax tree's import statements ask for, wherever they stand; what each is of, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _read_once(file: Path, changed: int, size: int) -> tuple[str, frozenset[str]]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return hashlib.sha256(canonical(tree).encode()).hexdigest(), frozenset(_named(tree))


def _read(file: Path) -> tuple[str, frozenset[str]]:
    """Digest of a file's code without prose, and the names that its imports ask for; read again when it changed."""
    found = file.stat()
    return _read_once(file, found.st_mtime_ns, found.st_size)


def closure(roots: Iterable[str], root: Path = PROJECT) -> dict[str, Path]:
    """Every module that the modules `roots` import, themselves and the packages that they are in included, by name."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        file = None if module in found else _file(module, root)
        if file is not None:
            found[module] = file
            waiting += [*_read(file)[1], module.rpartition(".")[0]]
    return found


def code_digest(roots: Iterable[str], more: Iterable[str] = (), root: Path = PROJECT) -> str:
    """12 hex digits over the code that the modules `roots` import (`closure`), and over the texts `more`."""
    parts = [f"{module} {_read(file)[0]}" for module, file in sorted(closure(roots, root).items())]
    return hashlib.sha256("\n".join([*parts, *more]).encode()).hexdigest()[:12]


def training_code(run: Run, root: Path = PROJECT) -> str:
    """Digest of the code that a run's numbers depend on: the loop, what builds it, its losses, its model and those of the
    runs that it needs."""
    models = [MODELS.find(r.network.kind) for r in (run, *run.needs)]
    classes = [*models, *(LOSSES.find(term.loss) for term in run.objective)]
    roots, texts = {"kdmri_lib.training", "kdmri_study.build"}, {}
    for item in classes:
        if _file(item.__module__, root):
            roots.add(item.__module__)
        else:
            own, used = code_elsewhere(item)
            texts |= own
            roots |= used
    return code_digest(roots, [f"{k}: {v}" for k, v in sorted(texts.items())], root)


def preparing_code(dataset: Dataset, root: Path = PROJECT) -> str:
    """Digest of the code that a prepared file depends on: what prepares it, and its source."""
    return code_digest(("kdmri_lib.datasets.preparing", source(dataset.source).__name__), root=root)


def notebook_code(notebook: Path, roots: Iterable[str] = (), root: Path = PROJECT) -> str:
    """Digest of a notebook's code cells and of all that they import; `roots`: modules that it finds by name beside."""
    cells = [cell for cell in read_json(notebook)["cells"] if cell["cell_type"] == "code"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells]
    wanted = {*roots, *(name for tree in trees for name in _named(tree))}
    return code_digest(wanted, [canonical(tree) for tree in trees], root)


def code_elsewhere(item: type) -> tuple[dict[str, str], set[str]]:
    """The code of a class that stands outside this project's modules, such as in a notebook's cell.

    Returns
    -------
    What it consists of, by name: its functions' code and its values, and those of every function, class and plain value of
    the same place that it uses; and the modules of this project that it uses.
    """
    texts: dict[str, str] = {}
    roots: set[str] = set()
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [(item.__qualname__, item)]
    while waiting:
        name, found = waiting.pop()
        found = getattr(found, "__func__", getattr(found, "fget", found))  # of class methods and of properties
        found = inspect.unwrap(found) if callable(found) else found
        module = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", None)
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(module, str) and _file(module, PROJECT):
            roots.add(module)
        elif isinstance(found, type) and module == item.__module__:
            waiting += [(f"{name}.{base.__name__}", base) for base in found.__bases__]
            waiting += [(f"{name}.{k}", v) for k, v in vars(found).items() if not k.startswith("__") or callable(v)]
        elif isinstance(found, FunctionType) and module == item.__module__:
            texts[name] = canonical(ast.parse(textwrap.dedent(inspect.getsource(found))))
            waiting += [(n, found.__globals__[n]) for n in _names(found.__code__) if n in found.__globals__]
            waiting += [(f"{name}, enclosed", cell.cell_contents) for cell in found.__closure__ or ()]
        elif isinstance(found, partial):
            waiting += [(f"{name}, called", found.func), (f"{name}, given", [found.args, found.keywords])]
        elif isinstance(found, tuple | list | dict):
            items = found.items() if isinstance(found, dict) else enumerate(found)
            texts[name] = f"{type(found).__name__} of {len(found)}"
            waiting += [(f"{name}[{key!r}]", value) for key, value in items]
        elif isinstance(found, set | frozenset):
            texts[name] = repr(sorted(map(repr, found)))  # whose own order differs from process to process
        elif isinstance(found, str | int | float | None):
            texts[name] = repr(found)
    return texts, roots


def _names(code: CodeType) -> Iterator[str]:
    """Names that a function's code asks for, of the functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def git_commit() -> str:
    """The checkout's commit, with "+changes" when files differ from it; "unknown" outside a checkout."""
    try:
        commands = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        commit, changes = (
            subprocess.run(["git", "-C", PROJECT, *c], capture_output=True, text=True, check=True).stdout.strip()
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Marketing name of the CPU where the system tells it, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {cores()} cores"


def environment() -> dict:
    """What a run folder records about the checkout, the libraries and the machine."""
    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "processor": processor_name(),
    }
