"""Every notebook executed by papermill at profile smoke, as the one list of jobs has them; and what they leave."""

import re

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kdmri_lib.evaluation import METRICS
from kdmri_lib.storage import read_json, sha256_file
from kdmri_study.experiments.comparison import FEATURE_LOSSES
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.jobs import NOTEBOOKS, execute, jobs
from kdmri_study.pages import write_pages
from kdmri_study.study import Study
from tests.studies import ROWS

OWN = (*FEATURE_LOSSES[:1], "cosine_attention")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The smoke study, executed from an empty folder by its notebooks alone; and a scan of one's own."""
    folder = tmp_path_factory.mktemp("executed")
    study = Study("smoke", folder)
    scan = folder / "own_scan.nii.gz"
    image = np.random.default_rng(0).random((90, 100, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])), scan)

    def run(job, **parameters):
        given = {"profile": "smoke", "folder": str(folder), **job.parameters, **parameters}
        execute(job.source, job.executed(study), given)

    *others, report = jobs(study)
    for job in others:
        run(job, **({"scan": str(scan)} if job.name == "03_distillation_brain_4x" else {}))
    # Another task, by parameter alone; and a loss of one's own, by its name.
    run(
        NOTEBOOKS["04_feature_distillation"](study, "super_resolution", FEATURE_LOSSES[:1]),
        losses=f"[{', '.join(OWN)}]",
    )
    run(NOTEBOOKS["05_ablations"](study, "super_resolution"))
    run(report)
    return study


def test_every_declared_output_is_written_and_nothing_else(executed):
    asked = {path for job in jobs(executed) for path in job.written(executed)}
    assert all(path.exists() for path in asked)
    elsewhere = (NOTEBOOKS[n](executed, "super_resolution") for n in ("04_feature_distillation", "05_ablations"))
    asked |= {path for job in elsewhere for path in job.written(executed)}
    asked |= {executed.table("scan_brain_4x").with_suffix(e) for e in (".csv", ".runs.txt")}
    asked |= {executed.figure("scan_brain_4x").with_suffix(e) for e in (".png", ".pdf")}
    there = {path for kind in ("tables", "figures") for path in (executed.results / kind).iterdir()}
    assert there <= asked


def test_table_1_has_every_method_of_every_cell(executed):
    table = pd.read_csv(executed.table("table1"))
    for cell in executed.cells:
        rows = table[(table.dataset == cell.dataset) & (table.set == "test") & (table.aggregation == "volume")]
        assert set(rows.method) == set(METHODS)
        assert rows[list(METRICS)].notna().all().all()
    assert {"template", "individual", "people"} <= set(table[table.dataset == "brain"].set)
    assert set(table[table.dataset != "brain"].kind) == {"phantom"}, "a phantom is called a phantom"


def test_table_1_comes_from_the_run_folders_that_it_names(executed):
    checksum, *named = executed.table("table1").with_suffix(".runs.txt").read_text().splitlines()
    assert checksum == f"# sha256 {sha256_file(executed.table('table1'))}"
    assert set(named) == {r.id for cell in executed.cells for m, r in executed.methods(cell, 0).items() if m in METHODS}
    table = pd.read_csv(executed.table("table1")).set_index(["dataset", "set", "aggregation", "method"])
    for cell in executed.cells:
        run = executed.methods(cell, 0)["distilled"]
        volumes = pd.read_csv(executed.results / "runs" / run.id / "metrics_volume.csv")
        mean = volumes[volumes.set == "test"].psnr.mean()
        assert table.psnr[cell.dataset, "test", "volume", "distilled"] == pytest.approx(mean)


def test_a_loss_of_ones_own_stands_in_the_table_and_in_the_figure(executed):
    table = pd.read_csv(executed.table("super_resolution_comparison"))
    assert {"cosine_attention", "fitnets", "student"} <= set(table.method) and table.psnr.notna().all()
    runs = [p.name for p in (executed.results / "runs").iterdir() if "cosine_attention" in p.name]
    assert len(runs) == 1
    second_stage = {
        folder.parent.name
        for folder in (executed.results / "runs").glob("*/declaration.json")
        if "cosine_attention" in folder.read_text() and "cosine_attention" not in folder.parent.name
    }
    picture = Image.open(executed.figure("super_resolution_comparison_curves")).text["Description"]
    assert len(second_stage) == 1 and second_stage.pop() in picture, "its curve is in the figure"
    usual = next(p for p in (executed.results / "runs").iterdir() if "-fitnets-" in p.name)
    codes = {
        read_json(executed.results / "runs" / name / "run.json")["inputs"]["code"] for name in (runs[0], usual.name)
    }
    assert len(codes) == 2, "its own code decides whether it is up to date"


def test_the_experiments_have_their_rows(executed):
    table = pd.read_csv(executed.table("feature_losses_comparison"))
    controls = {name for name in table.method if name.startswith("alone_")}
    assert {*FEATURE_LOSSES, "student", "teacher", "zero_filled"} == set(table.method) - controls
    assert controls == set(table.control.dropna())
    assert {"FitNets", "FSP", "Attention transfer", "Student"} <= set(table.label)
    parts = executed.experiment_parts("ablations")
    rows = {part: pd.read_csv(executed.table(f"ablations_{part}")) for part in parts}
    assert {"ablation", "alphas", "attention", "cascades", "gaussian_mask", "positions", "sizes"} <= set(parts)
    assert len(rows["positions"]) == 1 + 4 * 2 + 1 and len(rows["attention"]) == 3, "zero-filled, pairs, their control"
    assert set(rows["gaussian_mask"].method) == set(ROWS)
    restored = pd.read_csv(executed.table("super_resolution_restoration"))
    assert {"bicubic", "data_consistency", "zero_filled"} <= set(restored.method)
    assert restored.psnr.notna().all()


def test_the_ablations_run_on_super_resolution_by_parameter_alone(executed):
    parts = executed.experiment_parts("super_resolution", "05_ablations")
    assert "cascades" not in parts and "variants" not in parts, "what one stack of convolutions allows"
    rows = {part: pd.read_csv(executed.table(f"super_resolution_{part}")) for part in parts}
    assert len(rows["positions"][rows["positions"].set == "test"]) == 1 + 4 * 2 + 1
    assert all(table.psnr.notna().all() for part, table in rows.items() if part != "attention")


def test_student_friendly_training_precedes_every_method(executed):
    table = pd.read_csv(executed.table("feature_losses_friendly"))
    assert {"teacher_friendly", "branches", "teacher", "student"} <= set(table.method)
    assert {f"{name}_friendly" for name in FEATURE_LOSSES} <= set(table.method)
    assert {"comparison", "friendly"} == set(executed.experiment_parts("feature_losses"))


def test_the_deployed_network_is_measured(executed):
    quality = pd.read_csv(executed.table("deployment_quality_brain_4x"), index_col=0)
    assert abs(quality.loc["ONNX Runtime, float32", "psnr lost"]) < 1e-3
    assert quality.psnr.notna().all() and "int8, kept in float32: nothing" in quality.index
    times = pd.read_csv(executed.table("deployment_times_brain_4x"))
    assert set(times.network) == {"teacher", "student"} and {1, 4} == set(times.batch)


def test_every_figure_is_a_png_and_a_pdf_with_its_stamp(executed):
    pictures = sorted((executed.results / "figures").glob("*.png"))
    names = {p.stem for p in pictures}
    assert {
        "figure2",
        "masks",
        "volumes_knee",
        "attention_brain_4x",
        "learning_curves_cardiac_8x",
        "scan_brain_4x",
    } <= names
    for picture in pictures:
        assert "not a result" in Image.open(picture).text["Description"]
        assert picture.with_suffix(".pdf").stat().st_size > 1000


def test_every_notebook_shows_the_figures_that_it_writes(executed):
    for job in jobs(executed):
        cells = read_json(job.executed(executed))["cells"]
        shown = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
        assert shown >= sum(output.kind == "figure" for output in job.outputs), job.name
    start = "".join(str(cell.get("outputs")) for cell in read_json(next(jobs(executed)).executed(executed))["cells"])
    assert start.count("'image/png'") == 2


def test_a_scan_of_ones_own_is_reconstructed(executed):
    table = pd.read_csv(executed.table("scan_brain_4x"))
    assert set(table.method) == set(METHODS.values()) and table.psnr.between(5, 80).all()


def test_the_report_shows_every_declared_output_and_every_executed_notebook_and_no_other(executed, tmp_path):
    write_pages(executed, tmp_path / "pages")
    pages = {path.name: path.read_text() for path in (tmp_path / "pages").rglob("*.md")}
    whole, front = "\n".join(pages.values()), pages["index.md"]
    assert front.index("## The answer") < front.index("## Table 1") and "not a result" in front
    for job in jobs(executed):
        assert (tmp_path / "pages" / "notebooks" / f"{job.name}.ipynb").exists()
        assert not job.outputs or f"(results-{job.name})=" in whole
        for output in (o for o in job.outputs if o.kind in ("table", "figure")):
            assert f"{output.kind}s/{output.name}.{'csv' if output.kind == 'table' else 'png'}" in whole, output
    start = read_json(tmp_path / "pages" / "notebooks" / "00_start_here.ipynb")["cells"]
    said = "".join(
        "".join(o.get("data", {}).get("text/markdown", "")) for cell in start for o in cell.get("outputs", [])
    )
    links = re.findall(r"\]\((\w+\.ipynb)\)", said)
    assert len(links) == 10 and all((tmp_path / "pages" / "notebooks" / link).exists() for link in links)
    assert "super_resolution_positions" not in whole and "scan_brain" not in whole, "the profile asks for neither"
