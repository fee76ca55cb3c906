"""One HTML page with the tables first, and the executed notebooks behind it."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import mistune
import nbformat
from nbconvert import HTMLExporter

from kdmri_lib.files import write_text

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:.9rem;margin:1rem 0;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}td:first-child,th:first-child{text-align:left}
img{max-width:100%}nav a{display:block}.stamp{color:#666}"""


def write_report(
    folder: Path,
    title: str,
    stamp: str,
    sections: Mapping[str, str],
    figures: Sequence[Path],
    notebooks: Sequence[Path],
) -> Path:
    """Write `folder`/index.html: Markdown sections, figures by relative path, links to each notebook as HTML."""
    exporter = HTMLExporter(template_name="lab")
    links = []
    for path in notebooks:
        body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
        write_text(folder / f"{path.stem}.html", body)
        links.append(f'<a href="{path.stem}.html">{html.escape(path.stem)}</a>')
    render = mistune.create_markdown(plugins=["table"])
    parts = [f"<h2>{html.escape(head)}</h2>\n{render(text)}" for head, text in sections.items()]
    relative = [Path("..") / path.relative_to(folder.parent) for path in figures]
    pictures = [f'<img src="{path.as_posix()}" alt="{html.escape(path.stem)}">' for path in relative]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<style>{STYLE}</style><h1>{html.escape(title)}</h1><p class="stamp">{html.escape(stamp)}</p>'
        + "\n".join(parts)
        + "<h2>Figures</h2>\n"
        + "\n".join(pictures)
        + "<h2>The executed notebooks</h2>\n<nav>"
        + "\n".join(links)
        + "</nav></html>\n"
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"
