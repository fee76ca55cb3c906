"""How Sphinx builds the report: `kdmri_study.report` writes its pages and names this file.

Nothing on a page comes from a network or needs a server: formulas are MathML, the search index is a script.
"""

import base64
import io
import re
import sys
from importlib import resources
from pathlib import Path

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from fontTools import subset
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.modules.setdefault("rfc3987_syntax", None)  # as in kdmri_study.workflow: seconds of each start, for nothing

project = "KD-MRI"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

html_theme = "furo"
html_static_path = [str(Path(__file__).with_name("report.css"))]
html_css_files = ["report.css", "math.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_show_search_summary = False  # which would fetch pages; a page opened from a file may not
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_update_mathjax = False
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # a page without a kernel shows no widgets
nb_output_stderr = "remove"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
napoleon_use_ivar = True
suppress_warnings = ["mystnb.unknown_mime_type"]


# Of the font for formulas: ASCII, Greek, mathematical italics and signs.
CHARACTERS = (range(0x20, 0x7F), range(0xA0, 0x100), range(0x2C0, 0x2E0), range(0x391, 0x3D7), range(0x2010, 0x2040))
CHARACTERS += (range(0x2100, 0x2140), range(0x2190, 0x21D5), range(0x2200, 0x2300), range(0x1D434, 0x1D468))
CHARACTERS += (range(0x1D6FC, 0x1D71C),)


def _math_font(app) -> None:
    """Write a style sheet that holds STIX Two Math: few systems have a font that browsers can set formulas in, and a page
    opened from a file may not load one from a file."""
    options = subset.Options(flavor="woff", layout_features=["ssty"])
    with resources.as_file(resources.files("ziamath.fonts") / "STIXTwoMath-Regular.ttf") as file:
        font = subset.load_font(file, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[code for codes in CHARACTERS for code in codes])
    subsetter.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    source = f"url(data:font/woff;base64,{base64.b64encode(buffer.getvalue()).decode()})"
    style = Path(app.outdir) / "_static" / "math.css"
    style.parent.mkdir(parents=True, exist_ok=True)
    style.write_text(
        f'@font-face {{ font-family: "STIX Two Math"; src: {source} }}\nmath {{ font-family: "STIX Two Math", math }}\n'
    )


def _as_mathml(translator, node: nodes.Element, block: bool) -> None:
    try:
        # Of the names of three dots docutils knows one; and bars grow in MathML where TeX wants \left for it.
        tex = re.sub(r"\\dots\b", r"\\ldots", node.astext())
        made = tex2mathml(tex, as_block=block).replace(
            '<mo class="mathopen">', '<mo class="mathopen" stretchy="false">'
        )
        translator.body.append(made if r"\left" in tex else made.replace("<mo>‖</mo>", '<mo stretchy="false">‖</mo>'))
    except MathError as error:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), error, location=node)
        translator.body.append(f"<code>{translator.encode(node.astext())}</code>")
    raise nodes.SkipNode


def _of_a_named_tuple(_app, _what, _name, found, _options, _lines) -> bool | None:
    """Fields of a named tuple, which document themselves as "Alias for field number 0", are left out."""
    return True if (getattr(found, "__doc__", "") or "").startswith("Alias for field number") else None


def _as_written(_app, _what, _name, _object, _options, lines: list[str]) -> None:
    """Docstrings use |x| and x* as mathematics does, and `name`s; to reStructuredText these are marks."""
    for place, line in enumerate(lines):
        if not line.startswith("    "):
            plain = line.replace("|", r"\|").replace("*", r"\*")
            lines[place] = re.sub(r"(`[^`]+`)(\w?)", lambda m: m[1] + (rf"\ {m[2]}" if m[2] else ""), plain)


def setup(app) -> None:
    """What Sphinx calls."""
    app.add_html_math_renderer(
        "mathml", (lambda t, n: _as_mathml(t, n, False), None), (lambda t, n: _as_mathml(t, n, True), None)
    )
    app.connect("builder-inited", _math_font)
    app.connect("autodoc-skip-member", _of_a_named_tuple)
    app.connect("autodoc-process-docstring", _as_written, priority=400)
