"""What an experiment is: a function from a recipe to rows, registered with the notebook that shows them.

A new one is a file beside this, with a function under ``@part(...)``. Notebook 05 shows, after those that it has a section
for, whatever else the profile asks for by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kdmri_lib.declarations import Run
from kdmri_lib.registry import Registry
from kdmri_study.experiments.recipe import Recipe

PARTS = Registry("part", "kdmri_study.experiments")


class Row(NamedTuple):
    """A row of an experiment's table: what people call it, the run behind it, what its figure needs to know of it, and the
    row of the same network trained alone at its cost."""

    label: str
    run: Run
    facts: Mapping = {}
    control: str = ""


Rows = dict[str, Row]
"""Rows by a name that stays the same when their labels change."""


@dataclass(frozen=True)
class Part:
    """An experiment.

    Attributes
    ----------
    name, title : by which a profile asks for it, and what people call it.
    notebook : which shows it.
    rows : makes its rows of a recipe; rows that two experiments share are one run, which is trained once.
    compared_with : the row that all others that learn from a teacher are set against; None where there is none.
    also : further pairs (a, b) of rows to compare.
    untrained : methods without training that stand in its table.
    tabled : whether its table is one of metrics; otherwise its notebook makes one of its own.
    needs_cascades : whether it makes sense only for networks made of cascades.
    figures : figures that the notebook draws of it, by name, with their titles; of a new one "curves" alone.
    curve : what the fact "how" is of its rows that are one network alone, trained longer and longer; the others are read
        against that curve (`kdmri_study.tables.crossings`). Empty where there is none.
    takes_losses : whether `rows` takes the names of feature losses beside the recipe.
    """

    name: str
    title: str
    notebook: str
    rows: Callable[..., Rows]
    compared_with: str | Callable[[Recipe], str] | None
    needs_cascades: bool = False
    figures: Mapping[str, str] = field(default_factory=dict)
    curve: str = ""
    takes_losses: bool = False
    also: tuple[tuple[str, str], ...] = ()
    untrained: tuple[str, ...] = ("zero_filled",)
    tabled: bool = True

    def reference(self, recipe: Recipe) -> str | None:
        """The row that all others are set against; None where there is none."""
        return self.compared_with(recipe) if callable(self.compared_with) else self.compared_with

    def questions(self, recipe: Recipe, rows: Rows) -> list[tuple[str, str]]:
        """What its table answers: each row against the same network alone at its cost, and against the reference."""
        taught, reference = [name for name, row in rows.items() if row.control], self.reference(recipe)
        asked = [(name, rows[name].control) for name in taught]
        asked += [(n, reference) for n in taught if reference in rows and reference not in (n, rows[n].control)]
        known = {*rows, *self.untrained}
        return list(dict.fromkeys(asked + [(a, b) for a, b in self.also if {a, b} <= known]))


def part(notebook: str, title: str, compared_with: str | Callable[[Recipe], str] | None, **more) -> Callable:
    """Decorator that registers a function from a recipe to rows as the `Part` of its name; the rest as there."""

    def add(rows: Callable[..., Rows]) -> Callable[..., Rows]:
        name = rows.__name__
        PARTS.register(name)(Part(name, title, notebook, rows, compared_with, **more))
        return rows

    return add


def parts_of(notebook: str) -> list[Part]:
    """All experiments that a notebook shows, by their names."""
    return [p for _, p in sorted(PARTS.all().items()) if p.notebook == notebook]
