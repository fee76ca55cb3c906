"""The viewer as a widget of a notebook: its kernel reconstructs what one asks for, when one asks for it."""

import anywidget
import traitlets

from kdmri_lib.looking.page import STYLE, VIEWER
from kdmri_lib.looking.views import Views

RENDER = """
export default {
  render({ model, el }) {
    let receive = null;
    const deliver = async () => {
      const picture = model.get("picture");
      if (!receive || !picture.png) return;
      const png = URL.createObjectURL(new Blob([picture.png], { type: "image/png" }));
      await receive({ ...picture, png }).finally(() => URL.revokeObjectURL(png));
    };
    const root = document.createElement("div");
    el.append(root);
    receive = lookInside(root, model.get("index"), (choice) => {
      model.set("choice", choice);
      model.save_changes();
      deliver();  // where the widget is shown a second time
    });
    model.on("change:picture", deliver);
    deliver();
    return () => model.off("change:picture", deliver);
  },
};
"""
# What stands in an executed copy that no kernel is behind.
ELSEWHERE = "<p><em>Look inside: live in JupyterLab; the report has a page of its own for it.</em></p>"


class LookInside(anywidget.AnyWidget):
    """Look at `views`; `choice` is what is looked at (person, slice, setting), `picture` that slice (`Views.picture`)."""

    _esm = VIEWER + RENDER
    _css = STYLE
    index = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)

    def __init__(self, views: Views):
        self._views = views
        super().__init__(index=views.index())

    @traitlets.observe("choice")
    def _look(self, change) -> None:
        wanted = change["new"]
        self.picture = self._views.picture(wanted["person"], wanted["slice"], wanted["setting"])

    def _repr_mimebundle_(self, **more):
        data, *rest = found if isinstance(found := super()._repr_mimebundle_(**more), tuple) else (found,)
        return ({**data, "text/html": ELSEWHERE}, *rest) if rest else {**data, "text/html": ELSEWHERE}
