"""One HTML page with the tables first, and the executed notebooks behind it."""

import html
from pathlib import Path

import mistune
import nbformat
from nbconvert import HTMLExporter

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import write_text
from kdmri_study.jobs import jobs
from kdmri_study.study import Study

TITLE = "KD-MRI: knowledge distillation for MR reconstruction"
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:.9rem;margin:1rem 0;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}td:first-child,th:first-child{text-align:left}
img{max-width:100%}nav a{display:block}.stamp{color:#666}"""


def write_report(study: Study, failures: str) -> Path:
    """Write the report of a study from the outputs that its notebooks declare, and from nothing else.

    `failures` : which trainings failed, as Markdown; empty where none did.

    Returns
    -------
    The page.

    Raises
    ------
    StudyError
        When a declared table, figure or notebook isn't there.
    """
    folder, render = study.results / "report", mistune.create_markdown(plugins=["table"])
    *others, last = jobs(study)
    outputs = [output for job in [last, *others] for output in job.outputs if output.reported]
    sections = [(o.title, study.table(o.name).with_suffix(".md")) for o in outputs if ".md" in o.endings]
    pictures = [(o.title, study.figure(o.name)) for o in outputs if o.kind == "figure"]
    notebooks = [job.executed(study) for job in others]
    for path in (*(path for _, path in [*sections, *pictures]), *notebooks):
        if not path.exists():
            raise StudyError(f"{path}: not there; ./run_all.sh makes it")
    exporter = HTMLExporter(template_name="lab")
    for path in notebooks:
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        write_text(folder / f"{path.stem}.html", body)
    texts = [(title, path.read_text(encoding="utf-8")) for title, path in sections]
    texts += [("Trainings that failed", failures)] if failures else []
    parts = [f"<h2>{html.escape(title)}</h2>\n{render(text)}" for title, text in texts]
    parts.append("<h2>Figures</h2>")
    for title, path in pictures:
        place, words = (Path("..") / path.relative_to(study.results)).as_posix(), html.escape(title)
        parts.append(f'<figure><img src="{place}" alt="{words}"><figcaption>{words}</figcaption></figure>')
    links = [f'<a href="{path.stem}.html">{html.escape(path.stem)}</a>' for path in notebooks]
    parts += ["<h2>The executed notebooks</h2>", f"<nav>{' '.join(links)}</nav>"]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{TITLE}</title><style>{STYLE}</style><h1>{TITLE}</h1>'
        f'<p class="stamp">{html.escape(study.stamp)}</p>' + "\n".join(parts) + "</html>\n"
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"
