"""The viewer as HTML that needs nothing beside itself: its pictures embedded, and no request to any network."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdmri_lib.looking.views import Views
from kdmri_lib.storage import write_text

HERE = Path(__file__).parent
VIEWER = (HERE / "viewer.js").read_text(encoding="utf-8")
STYLE = (HERE / "viewer.css").read_text(encoding="utf-8")
START = """
for (const root of document.querySelectorAll("[data-look]")) {
  const { index, pictures } = JSON.parse(root.querySelector("script").textContent);
  const found = new Map(pictures.map((picture) => [JSON.stringify(picture.key), picture]));
  let receive = null, first = null;
  const answer = (choice) => {
    const picture = found.get(JSON.stringify([choice.person, choice.slice, choice.setting]));
    if (receive) receive(picture); else first = picture;
  };
  receive = lookInside(root, index, answer);
  receive(first);
}
"""


def middle_slices(views: Views, count: int = 1) -> dict[str, list[int]]:
    """Of each person `count` slices about the middle, or as many as there are."""
    chosen = {}
    for name, person in views.people.items():
        held = len(person.image)
        some = min(count, held)
        chosen[name] = [(held * (2 * n + 1)) // (2 * some) for n in range(some)]
    return chosen


def fragment(views: Views, slices: Mapping[str, Sequence[int]]) -> str:
    """The viewer on these slices of each person, under all settings: HTML to put into a page's body, once.

    About 150 kB per slice of 240×240 and setting.
    """
    index, pictures = views.index(), []
    index["people"] = [{**p, "slices": list(slices[p["name"]])} for p in index["people"] if slices.get(p["name"])]
    for person in index["people"]:
        for number in person["slices"]:
            for setting in index["settings"]:
                picture = views.picture(person["name"], number, setting["name"])
                png = base64.b64encode(picture["png"]).decode()
                pictures.append({**picture, "png": f"data:image/png;base64,{png}"})
    # "</" would end the script element that holds it.
    data = json.dumps({"index": index, "pictures": pictures}).replace("</", "<\\/")
    return (
        f'<style>{STYLE}</style>\n<div data-look><script type="application/json">{data}</script>'
        f"<noscript>This viewer needs JavaScript.</noscript></div>\n<script>{VIEWER}{START}</script>\n"
    )


def write_page(path: Path, views: Views, slices: Mapping[str, Sequence[int]], title: str, words: str = "") -> Path:
    """Write the viewer as a page of its own, with a title and a paragraph (text) above it; returns `path`."""
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{html.escape(title)}</title>'
        f"<style>body{{margin:1rem auto;padding:0 1rem;max-width:62rem;font:16px/1.5 system-ui,sans-serif}}</style></head>"
    )
    body = (
        f"<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(words)}</p>\n{fragment(views, slices)}</body></html>\n"
    )
    write_text(path, head + body)
    return path
