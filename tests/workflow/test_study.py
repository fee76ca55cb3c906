"""The smoke study, made whole by one ./run_all.sh: its tables, figures, notebooks; what is made again and what isn't."""

import re
import subprocess

import pandas as pd
import pytest

from kdmri_lib.evaluation import METRICS
from kdmri_lib.storage import PROJECT, read_json
from kdmri_study.evidence import Evidence, jobs
from kdmri_study.paper import METHODS
from kdmri_study.runs import RunFolder
from kdmri_study.tables import experiments
from kdmri_study.workflow import pages
from tests.studies import ROWS, run_all, runs_of


def test_only_what_git_ignores_is_written_and_no_name_of_a_folder_is_run(whole_study):
    told = subprocess.run(["git", "status", "--porcelain"], cwd=whole_study.folder, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, "")
    assert not [*whole_study.folder.parent.glob("sprung"), *whole_study.folder.rglob("sprung"), *PROJECT.glob("sprung")]
    commits = {record["commit"] for record in map(read_json, whole_study.results.glob("runs/*/run.json"))}
    assert len(commits) == 1 and not commits.pop().endswith("+changes")


def test_a_second_start_makes_nothing_and_what_is_deleted_is_planned_again_with_what_is_made_of_it(whole_study):
    def start(*options: str) -> str:
        process = run_all(whole_study.folder, "--profile", "smoke", *options)
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
        return said

    before = {path: path.stat().st_mtime_ns for path in whole_study.results.rglob("*") if path.is_file()}
    assert "kdmri: all is up to date. Start with " in start()
    assert {path: path.stat().st_mtime_ns for path in whole_study.results.rglob("*") if path.is_file()} == before
    of = jobs(whole_study)
    gone = [of["pays_seed0"].folder(whole_study) / "runs.csv", next(pages(whole_study)).executed(whole_study)]
    for path in gone:
        path.rename(path.with_name(f"{path.name}.aside"))
    try:
        said = start("--dry-run")
    finally:
        for path in gone:
            path.with_name(f"{path.name}.aside").rename(path)
    shown = {f"notebook {page.name}" for page in pages(whole_study) if "pays_seed0" in page.needs(of)}
    planned = set(re.findall(r"^Job \d+: (.*)", said, re.M))
    assert planned == {"training pays seed0", "notebook 00_start_here", *shown, "tables", "report"} and len(shown) >= 2


def test_table_1_has_every_method_of_every_setting_and_the_means_of_the_runs_metrics(whole_study):
    table = pd.read_csv(whole_study.table("table1"))
    for setting in whole_study.settings:
        rows = table[(table.dataset == setting.dataset) & (table.set == "test") & (table.aggregation == "volume")]
        assert set(rows.method) == set(METHODS) & {"zero_filled", *runs_of(whole_study, setting)}
        assert {"zero_filled", "teacher", "student", "distilled", *ROWS} <= set(rows.method)
        assert rows[list(METRICS)].notna().all(axis=None)
        for method, run in runs_of(whole_study, setting).items():
            if method in METHODS:
                volumes = pd.read_csv(RunFolder(whole_study, run).path / "metrics_volume.csv")
                mean = volumes[volumes.set == "test"].psnr.mean()
                assert rows.set_index("method").psnr[method] == pytest.approx(mean)
    assert {"template", "individual", "people"} <= set(table[table.dataset == "brain"].set)
    assert set(table[table.dataset != "brain"].kind) == {"phantom"}, "a phantom is called a phantom"
    assert "a trial of the software, not a result" in whole_study.table("table1").with_suffix(".md").read_text()


def test_every_part_of_an_experiment_has_a_table_with_all_of_its_rows(whole_study):
    parts = {
        f"{name}_{part}" for name in whole_study.profile.experiments for part in whole_study.experiment_parts(name)
    }
    found = {each.name: each for each in experiments(Evidence(whole_study))}
    assert parts - {*found} == {"ablations_attention"}, "whose notebook makes one of its own"
    for name, each in found.items():
        table = pd.read_csv(whole_study.table(name))
        assert set(table.method) == {*each.rows[0], *each.part.untrained} and table.psnr.notna().all()


def test_every_notebook_is_executed_without_an_error(whole_study):
    executed = {page.executed(whole_study): page.notebook for page in pages(whole_study)}
    assert {*executed.values()} == {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}
    assert {*executed} == {*whole_study.results.glob("notebooks/*")}, "nor one that failed, beside"
    for path in executed:
        cells = [cell for cell in read_json(path)["cells"] if cell["cell_type"] == "code"]
        outputs = [output for cell in cells for output in cell["outputs"]]
        assert all(cell["execution_count"] for cell in cells if "".join(cell["source"]).strip()), path.name
        assert not [o for o in outputs if o["output_type"] == "error"], path.name
        assert any("image/png" in o.get("data", {}) for o in outputs), f"{path.name} shows no picture"
