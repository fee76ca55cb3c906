"""What a notebook of the study works with: its study, its settings, its trained networks, and the outputs it may write."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from kdmri_lib import figures
from kdmri_lib.datasets.fields import at_declared_phase
from kdmri_lib.datasets.nifti import framed_slices
from kdmri_lib.datasets.phantoms import embedded_brain
from kdmri_lib.datasets.prepared import Volume, read_prepared, test_volumes
from kdmri_lib.datasets.writing import checked_volume
from kdmri_lib.declarations import Degradation, Run
from kdmri_lib.devices import use_threads
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.looking.views import Person, Setting, Views
from kdmri_lib.looking.widget import LookInside
from kdmri_lib.masks import FACTORS
from kdmri_lib.operators import Undersampling
from kdmri_study.build import declared_mask, declared_operator
from kdmri_study.committed import on_mask, unseen
from kdmri_study.conclusions import part_in_words
from kdmri_study.derived import Derived, Measured, done, experiment_rows, measured
from kdmri_study.drawn import curves, drawn
from kdmri_study.evidence import pieces, unpacked
from kdmri_study.experiments.part import Row, Rows, parts_of
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.jobs import NOTEBOOKS
from kdmri_study.live import Bar, Trainings, in_kernel
from kdmri_study.metrics import Folders
from kdmri_study.rendering import plain_markdown
from kdmri_study.runs import DONE, RunFolder, asked_to_stop, label_of_needed, prepare_dataset, trained
from kdmri_study.study import Study
from kdmri_study.tables import write_table

# What IPython shows of an error: one that says what is wrong needs no page of internals.
for known in (StudyError, StoppedError):
    known._render_traceback_ = lambda error: [f"kdmri: {error}"]


def _label(row: Row, seed: int) -> str:
    """What people call a row's training."""
    return f"{row.label}, seed {seed}"


class Notebook:
    """A notebook of the study, with its parameters.

    Parameters
    ----------
    name : stem of the notebook's file.
    profile, folder : of the `Study`.
    parameters : the notebook's own, as `kdmri_study.jobs` declares them.

    Attributes
    ----------
    study, job : the study, and what the notebook needs and writes.
    declared : the outputs that it may write, by kind and name.
    seeds : the profile's, or those of the notebook's experiment. Of a profile that is made in pieces: those whose runs are
        here, and the first where none is, since all would take many hours.
    """

    def __init__(self, name: str, profile: str = "quick", folder: str = "", **parameters):
        self.study = Study(profile, folder)
        self.job = NOTEBOOKS[name](self.study, **parameters)
        self.experiment = parameters.get("experiment", "")
        self.seeds = self.study.experiment_seeds(self.experiment) if self.experiment else self.study.profile.seeds
        if self.study.profile.in_pieces:
            self.seeds = self._seeds_here or self.seeds[:1]
        self._said: list[str] = []
        self.declared = {(output.kind, output.name): output for output in self.job.outputs}
        use_threads(self.study.profile.threads)
        if not (
            self.experiment and self.study.profile.in_pieces
        ):  # of which evidence may be shown, that needs no images
            self._prepare()
        print(self.study.stamp)

    def _prepare(self) -> None:
        """Make the data sets that the notebook works with and that aren't there."""
        for dataset in self.job.datasets:
            if not self.study.prepared(dataset).exists():
                try:
                    prepare_dataset(self.study, dataset, **({"bar": Bar} if in_kernel() else {}))
                except KeyboardInterrupt:
                    raise StoppedError(
                        f"stopped; what was made of {dataset} is kept, and this cell, run again, goes on from there"
                    ) from None

    @property
    def _seeds_here(self) -> tuple[int, ...]:
        """The seeds whose runs are all here."""
        runs = {seed: [run for run in self.job.runs if run.seed == seed] for seed in self.seeds}
        return tuple(s for s, of in runs.items() if of and all(RunFolder(self.study, run).ended for run in of))

    @cached_property
    def _evidence(self) -> Study | None:
        """The same study with its evidence in place of its runs, the experiment's whole; None where there is none."""
        if not any(piece.file(self.study).exists() for piece in pieces(self.study)):
            return None
        self._unpacked = TemporaryDirectory()  # goes when the notebook's kernel does
        whole = [f"{self.experiment}_seed{seed}" for seed in self.study.experiment_seeds(self.experiment)]
        return unpacked(self.study, Path(self._unpacked.name), whole)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of the notebook's experiment, or of its cell, with the first seed."""
        if self.experiment:
            return self.study.experiment_recipe(self.experiment, self.seeds[0])
        return self.study.recipe(self.study.cell(self.job.parameters["cell"]), self.seeds[0])

    @property
    def parts_in_words(self) -> str:
        """The setting of the notebook's experiment, the parts that it asks for, and those whose sections stay empty."""
        asked = self.job.parts
        absent = [part.name for part in parts_of(self.job.notebook) if part.name not in asked]
        empty = f"\nnot asked for by this experiment, so empty below: {', '.join(absent)}" if absent else ""
        return f"{self.recipe.dataset.name} {self.recipe.degradation.tag} · {', '.join(asked)}{empty}"

    @cached_property
    def operator(self) -> Undersampling:
        """The undersampling operator of the recipe."""
        return declared_operator(self.recipe)

    @cached_property
    def volumes(self) -> list[Volume]:
        """All volumes of the recipe's test sets."""
        self._prepare()
        return list(test_volumes(self.study.prepared(self.recipe.dataset.name)))

    @cached_property
    def example(self) -> Volume:
        """The first volume of the set "test", which figures show."""
        return next(volume for volume in self.volumes if volume.split == "test")

    def masks(self, dataset: str, factors: Iterable[float] = ()) -> dict[str, np.ndarray]:
        """The masks (H, W) that the study uses on a data set, by what titles call them; or the Cartesian ones of some
        accelerations."""
        shown = (Degradation(acceleration=factor) for factor in factors)
        chosen = {self.study.setting(dataset, d): d for d in shown} or self.study.degradations(dataset)
        declared = self.study.dataset(dataset)
        return {label: declared_mask(declared, degradation) for label, degradation in chosen.items()}

    def scan(self, path: str) -> Volume:
        """A NIfTI volume of one's own as the recipe's networks take it: 16 axial slices, at the pixel that they know; for
        complex ones at a simulated phase, since the file has none."""
        dataset = self.recipe.dataset
        shape = dataset.shape
        pixel = embedded_brain.GRID[0] / shape[0] if self.recipe.dataset.source == "embedded_brain" else None
        slices, _, found = framed_slices(Path(path), shape, 16, pixel)
        if "below_zero" in found:
            print(f"{path}: values below 0, {found['below_zero']:.2g} of the signal, became 0")
        slices, kind = at_declared_phase(dataset, Path(path).name, slices, "own scan")
        return checked_volume(Path(path).name, "scan", slices, {"kind": kind}, shape, dataset.domain)

    def figure2(self) -> tuple[dict, list[str]]:
        """What Figure 2 shows: of each data set, at 5x where the profile has it as in the paper, a test slice and its
        reconstructions by method; and the names of the runs."""
        cases, used = {}, []
        for dataset, factors in self.study.profile.cells.items():
            cell = self.study.cell(f"{dataset}_{5 if 5 in factors else factors[0]:g}x")
            operator = declared_operator(self.study.recipe(cell, self.seeds[0]))
            volume = next(read_prepared(self.study.prepared(dataset), "test"))
            image = volume.image[len(volume.image) // 2]
            rows = self.study.rows(cell, self.seeds[0])
            shown = {METHODS["zero_filled"]: None}
            for row in (rows[method] for method in ("teacher", "student", "distilled")):
                shown[row.label] = trained(self.study, row.run).network()
                used.append(row.run.id)
            images = {label: reconstruct(network, operator, image[None])[0] for label, network in shown.items()}
            cases[f"{self.study.setting(dataset, cell.degradation)}\n({volume.attributes['kind']})"] = (image, images)
        return cases, used

    def _declared(self, kind: str, name: str):
        if (kind, name) not in self.declared:
            known = ", ".join(n for k, n in self.declared if k == kind)
            raise StudyError(f"{kind} '{name}' isn't declared for notebook {self.job.notebook}; declared: {known}")
        return self.declared[kind, name]

    def table(self, name: str, table: pd.DataFrame, runs: Iterable[str] = (), text: str = "") -> None:
        """Write a declared table; `text` renders it for reading, as a plain Markdown table where it isn't given."""
        output = self._declared("table", name)
        text = (text or plain_markdown(table)) if ".md" in output.endings else ""
        write_table(table, self.study.table(name), list(runs), text)

    def figure(self, name: str, figure: Figure, runs: Iterable[str] = ()) -> None:
        """Write a declared figure."""
        self._declared("figure", name)
        figures.save(figure, self.study.figure(name), self.study.stamp, list(runs))

    def title(self, kind: str, name: str) -> str:
        """The title that an output is declared with."""
        return self._declared(kind, name).title

    def rows(self, part: str, losses: Sequence[str] = (), seed: int | None = None) -> Rows:
        """The rows of a part of the notebook's experiment, of its first seed unless another is given."""
        return self.study.experiment_rows(self.experiment, part, self.seeds[0] if seed is None else seed, losses)

    def look(self, folders: Mapping[str, RunFolder]) -> LookInside:
        """Look inside: the test sets' volumes by the networks of these folders, by label, at 4x, 5x and 8x.

        At other accelerations than their own they are used on masks that they never saw, and it says so.
        """
        people = {
            v.subject: Person(v.image, f"{v.subject}: {v.attributes['kind']}, set “{v.split}”") for v in self.volumes
        }
        given, settings = self.recipe.degradation, {}
        for factor in dict.fromkeys((given.acceleration, *FACTORS)):
            same = factor == given.acceleration
            mask = declared_mask(self.recipe.dataset, given if same else Degradation(acceleration=factor))
            networks = {
                label: on_mask(folder.run.network, folder.network().state_dict(), mask, folder.run.dataset.channels)
                for label, folder in folders.items()
                if not folder.failed
            }
            note = "" if same else unseen(factor, given.acceleration)
            settings[f"{factor:g}x"] = Setting(mask, networks, note)
        return LookInside(Views(people, settings))

    def _waiting(self, rows: Mapping[int, Rows]) -> dict[str, Run]:
        """The runs that these rows need and that aren't there yet, by what people call them, in their order."""
        found: dict[str, tuple[str, Run]] = {}

        def add(run: Run, label: str) -> None:
            for needed in run.needs:
                add(needed, label_of_needed(self.study, needed, label))
            if run.id not in found and RunFolder(self.study, run).state() not in DONE:
                found[run.id] = (label, run)

        for seed, named in rows.items():
            for row in named.values():
                add(row.run, _label(row, seed))
        return dict(found.values())

    def trained(self, rows: Mapping[int, Rows]) -> Folders:
        """The finished folders of rows by seed: loaded, or trained now.

        Interrupted, it saves what is trained and raises `StoppedError`; called again, it goes on from there.
        """
        self._prepare()
        waiting = self._waiting(rows)
        shown = Trainings(waiting) if waiting and in_kernel() else None
        how = {"progress": shown.one} if shown else {}
        folders: Folders = {seed: {} for seed in rows}
        with asked_to_stop() as stop:
            try:
                for seed, named in rows.items():
                    for name, row in named.items():
                        folders[seed][name] = trained(self.study, row.run, _label(row, seed), stop, **how)
                        if stop():
                            raise StoppedError("stopped between trainings")
            except StoppedError:
                raise StoppedError(
                    "stopped; all that was trained is kept, and this cell, run again, goes on from there"
                ) from None
            finally:
                if shown:
                    shown.end()
        return folders

    def curves(self, name: str, rows: Rows, folders: Folders) -> None:
        """Write a declared figure of the validation curves of rows, against what they cost; of those controls whose length
        isn't a stage's, their final values."""
        found, alone = curves(rows, folders)
        names = [folders[seed][key].run.id for seed in folders for key in rows]
        self.figure(name, figures.learning_curves(found, self.title("figure", name), alone), names)

    def show(self, part: str, losses: Sequence[str] = ()) -> Measured:
        """Train or load an experiment's rows, measure and compare them, write its tables, and show them.

        Of a profile that is made in pieces the committed evidence is shown, unless more seeds are here.

        `losses` : feature losses, for parts that take some.
        """
        rows = experiment_rows(self.study, self.experiment, part, losses)
        here = done(self.study, rows)
        # Unpacked where seeds are missing: of a profile that isn't in pieces none is.
        evidence = self._evidence if len(here) < len(rows) else None
        there = done(evidence, rows) if evidence else {}
        if len(there) > len(here):
            seeds = ", ".join(map(str, there))
            print(f"from the committed evidence: seed {seeds} of {len(rows)}; nothing is trained")
            found = measured(evidence, self.experiment, part, losses)
        else:
            self.trained({seed: rows[seed] for seed in self.seeds})
            found = measured(self.study, self.experiment, part, losses)
        for derived in found.tables:
            self.derived(derived)
        display(Markdown("\n\n".join(derived.text for derived in found.tables if derived.text)))
        words = part_in_words(found.part.title, found.table, found.tests)
        self._said += [words] if words else []
        return found

    def draw(self, found: Measured) -> None:
        """Write the figures of a part."""
        for name, figure in drawn(found, lambda name: self.title("figure", name)):
            self.figure(name, figure, found.names)

    def conclude(self) -> None:
        """Say what the parts shown above come to, a paragraph each."""
        display(Markdown("\n\n".join(self._said) or "Nothing that a teacher helped was shown."))

    def derived(self, derived: Derived) -> None:
        """Write a declared table that follows from metrics."""
        self.table(derived.name, derived.table, derived.runs, derived.text)
