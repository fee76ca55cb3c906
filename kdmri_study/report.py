"""The report: a small site that opens from a file: the answer, tables, pictures, notebooks and the library's pages.

Sphinx builds it as `docs/conf.py` says. What isn't there of a study's results isn't in it.
"""

import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, write_text
from kdmri_lib.viewer.views import Views, write_page
from kdmri_study.models import look_at_people
from kdmri_study.profile import Study
from kdmri_study.workflow import pages, report_page

LOOK = "look_inside.html"  # the page of the viewer, beside these
ABOUT = "Real people on whom no network was trained: change the method in place, wipe between two, zoom by a click."
FIRST = ("answer", "over_settings", "table1", "people")  # tables that the page of tables begins with
LINK = re.compile(r"\[([^\[\]]*)\]\((\d\d_\w+)\.ipynb\)")
PICTURES = ("answer", "figure2", "reconstructions", "attention", "curves")  # how names of the first page's begin or end
PEOPLE = 1  # on the viewer's page, of which each adds 0.8 MB; `python -m kdmri_study look` writes all nine
API = (
    *("losses.base", "losses.attention_transfer", "losses.imitation", "models.base", "models.dccnn", "operators"),
    *("masks", "training", "distillation", "declarations", "evaluation", "statistics", "attention", "figures"),
)


def write_report(study: Study, folder: Path | None = None) -> Path:
    """Build a study's report from what is there of its results, in place of the one before: among its results, or in
    `folder` with smaller pictures, to be passed on. Its first page. `StudyError` when Sphinx fails; then the report before
    stays.
    """
    folder, small = folder or report_page(study).parent, folder is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".report-") as aside:
        source, made, trees = (Path(aside) / name for name in ("pages", "made", "trees"))
        _write_pages(study, source)
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", PROJECT / "docs", "-d", trees]
        title = f"html_title=KD-MRI, profile {study.name}"
        told = subprocess.run([*command, "-D", title, source, made], capture_output=True, text=True, cwd=PROJECT)
        if told.returncode:
            raise StudyError(f"{folder}: can't be built: {told.stderr.strip()[-2000:]}")
        for path in made.rglob("*.map"):  # for those who debug the theme
            path.unlink()
        for path in (made / "_images").glob("*.png") if small else ():
            # In 256 colours, spread over all that there are: a third of the size.
            Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
        try:
            views = look_at_people()
            views = Views(dict([*views.people.items()][:PEOPLE]), views.settings)
            write_page(made / LOOK, views, "Look inside", ABOUT)
        except StudyError as error:  # without weights there is nothing to look at
            write_text(
                made / LOOK, f'<meta charset="utf-8"><title>Look inside</title><p>{html.escape(str(error))}</p>\n'
            )
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder / "index.html"


def _write_pages(study: Study, folder: Path) -> None:
    """The pages as Markdown, with copies of all they show, in a folder that isn't there yet."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "figures").mkdir()
    shown = sorted(page.executed(study) for page in pages(study) if page.executed(study).exists())
    for path in shown:
        text = LINK.sub(lambda m: _linked(m, shown), path.read_text(encoding="utf-8"))
        write_text(folder / "notebooks" / path.name, text)
    pictures = sorted((study.results / "figures").glob("*.png"))
    for path in pictures:
        shutil.copy(path, folder / "figures")
    tables = {path.stem: path.read_text(encoding="utf-8") for path in sorted((study.results / "tables").glob("*.md"))}
    write_text(folder / "tables.md", _sections("Tables", {n: tables[n] for n in (*FIRST, *tables) if n in tables}))
    found = {path.stem: f"![{path.stem}](figures/{path.name})\n" for path in pictures}
    write_text(folder / "figures.md", _sections("Figures", found))
    shutil.copy(PROJECT / "docs" / "own_networks.md", folder)
    for name in API:
        text = f"# kdmri_lib.{name}\n\n```{{automodule}} kdmri_lib.{name}\n```\n"
        write_text(folder / f"api_{name.replace('.', '_')}.md", text)
    chosen = [path for path in pictures if path.stem.startswith(PICTURES) or path.stem.endswith(PICTURES)]
    chosen = sorted(chosen, key=lambda path: path.stem != "answer")[:6]
    trees = {
        "Results": ["tables", "figures"],
        "Notebooks": [f"notebooks/{path.stem}" for path in shown],
        "Library": ["own_networks", *(f"api_{name.replace('.', '_')}" for name in API)],
    }
    listed = [f"```{{toctree}}\n:hidden:\n:caption: {k}\n" + "\n".join(v) + "\n```\n" for k, v in trees.items()]
    failed = study.failed.read_text(encoding="utf-8").splitlines() if study.failed.exists() else []
    holes = ["## Trainings that failed\n", *(f"- {line}\n" for line in failed)] if failed else []
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    own = tables.get("answer", f"Not made yet: `./run_all.sh --profile {study.source}` makes the tables.\n")
    parts = [
        "# KD-MRI: knowledge distillation for MR reconstruction\n",
        answer(readme),
        f"## This report: {study.stamp}\n\n{study.profile.description[0].upper()}{study.profile.description[1:]}.\n",
        *([] if f"results/{study.name}/figures/answer.png" in readme else [own]),  # the table above is its own
        *holes,
        f'<a href="{LOOK}">Look inside</a>: real people, slice by slice, by the committed networks.\n',
        *(f"![{path.stem.replace('_', ' ')}](figures/{path.name})\n" for path in chosen),
        *listed,
    ]
    write_text(folder / "index.md", "\n".join(parts))


def answer(readme: str) -> str:
    """What README.md says came out, without its pictures and links, which lead elsewhere."""
    said = readme.partition("## What comes out\n")[2].partition("\n## ")[0]
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"!\[.*?\)\n", "", said))


def _linked(found: re.Match, shown: list[Path]) -> str:
    """A link to a notebook as one to its executed copy; where there is none, its words."""
    words, name = found.groups()
    to = next((path.name for path in shown if path.stem.startswith(name)), "")
    return f"[{words}]({to})" if to else words


def _sections(title: str, found: dict[str, str]) -> str:
    """A page with a section for each text, by its name."""
    parts = [f"## {name.replace('_', ' ')}\n\n{text}" for name, text in found.items()]
    return "\n".join([f"# {title}\n", *(parts or ["None is there yet.\n"])])
