"""Executing a notebook headlessly: papermill, one clear message when it fails, a whole file when it doesn't."""

import os
from pathlib import Path

import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from kdmri_lib.errors import StudyError
from kdmri_lib.files import whole_file


def execute(source: str | Path, output: str | Path, parameters: dict[str, str]) -> None:
    """Run `source` with `parameters` and write the executed notebook at `output`.

    A parameter is a number, a truth value or a list in YAML, or text; none of it is executed.

    Raises
    ------
    StudyError
        When a parameter isn't declared by the notebook, or a cell fails; then the notebook as far as it came stands
        beside `output` with ".failed" in its name, and `output` isn't written.
    """
    source, output = Path(source), Path(output)
    if not source.exists():
        raise StudyError(f"{source}: no such notebook")
    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise StudyError(f"{source.name} has no parameter {', '.join(sorted(unknown))}")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    failed = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as temporary:
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                {name: _value(value) for name, value in parameters.items()},
                kernel_name="python3",
                progress_bar=False,
                cwd=str(source.parent),
            )
        except PapermillExecutionError as error:
            temporary.replace(failed)
            raise StudyError(
                f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue} (as far as it came: {failed})"
            ) from None
    failed.unlink(missing_ok=True)


def _value(text: str):
    """A parameter as data: a number, a truth value, a list, or the text as it is. Papermill writes it as a literal."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    listed = isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)
    return value if isinstance(value, int | float) or listed else text
