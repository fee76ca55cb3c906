"""Every notebook executed by papermill at profile smoke, in the order of their numbers, for each data set."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from kdmri_lib.study.notebooks import execute
from PIL import Image

from kdmri_lib.deployment import Model
from kdmri_lib.evaluation import METRICS
from kdmri_lib.storage import read_json, sha256_file
from kdmri_lib.study.experiments import FEATURE_LOSSES
from kdmri_lib.study.study import METHODS, PROJECT, Cell, Study

NOTEBOOKS = PROJECT / "notebooks"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The smoke study, executed from an empty folder by its notebooks alone; and a scan of one's own."""
    folder = tmp_path_factory.mktemp("executed")
    study = Study("smoke", folder)
    scan = folder / "own_scan.nii.gz"
    image = np.random.default_rng(0).random((90, 100, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])), scan)

    def run(name, part="", **parameters):
        output = study.results / "notebooks" / f"{name}{'_' if part else ''}{part}.ipynb"
        execute(NOTEBOOKS / f"{name}.ipynb", output, {"profile": "smoke", "folder": str(folder), **parameters})

    for dataset in study.profile.datasets:
        run("01_data_preparation", dataset, dataset=dataset)
    for cell in study.cells:
        where = {"dataset": cell.dataset, "acceleration": f"{cell.acceleration:g}"}
        run("02_teacher_training", cell.tag, **where)
        run("03_distillation", cell.tag, **where, **({"scan": str(scan)} if cell.dataset == "brain" else {}))
        if cell.dataset == "cardiac":
            run("07_deployment", cell.tag, **where)
    for name, experiment in study.profile.experiments.items():
        run(experiment.notebook, name, experiment=name)
    # Another task, by parameter alone; and a loss of one's own, by its name.
    run("04_feature_distillation", "elsewhere", experiment="super_resolution", losses="[fitnets, cosine_attention]")
    run("05_ablations", "elsewhere", experiment="super_resolution")
    run("08_report")
    return study


def test_table_1_has_every_method_of_every_cell(executed):
    table = pd.read_csv(executed.table("table1"))
    for cell in executed.cells:
        rows = table[(table.dataset == cell.dataset) & (table.set == "test") & (table.aggregation == "volume")]
        assert set(rows.method) == set(METHODS)
        assert rows[list(METRICS)].notna().all().all()
    assert {"template", "individual"} <= set(table[table.dataset == "brain"].set)
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
    table = pd.read_csv(executed.table("super_resolution_feature_losses"))
    assert {"cosine_attention", "FitNets", "Student"} <= set(table.method) and table.psnr.notna().all()
    own = executed.recipe("super_resolution", 0).comparison(["cosine_attention"])["cosine_attention"]
    picture = executed.figure("super_resolution_feature_losses_curves")
    assert own.id in Image.open(picture).text["Description"], "its curve is in the figure"
    runs = [p.name for p in (executed.results / "runs").iterdir() if "cosine_attention" in p.name]
    assert len(runs) == 1
    record = read_json(executed.results / "runs" / runs[0] / "run.json")
    assert set(record["inputs"]["own_losses"]) == {"cosine_attention"}, "its source decides whether it is up to date"


def test_the_experiments_have_their_rows(executed):
    table = pd.read_csv(executed.table("feature_losses"))
    assert {"FitNets", "FSP", "Similarity preserving", "Attentive hint", "Attention transfer", "Student"} <= set(
        table.method
    )
    ablations = pd.read_csv(executed.table("ablations"))
    assert set(ablations.part) == {"ablation", "positions", "cascades", "alphas", "variants", "sizes"}
    assert len(ablations[ablations.part == "positions"]) == 4 * 2
    restored = pd.read_csv(executed.table("super_resolution"))
    assert {"Bicubic", "Distilled student, data consistency", "Zero-filled"} <= set(restored.method)
    assert restored.psnr.notna().all()


def test_the_ablations_run_on_super_resolution_by_parameter_alone(executed):
    table = pd.read_csv(executed.table("super_resolution_ablations"))
    assert set(table.part) == {"ablation", "positions", "alphas", "sizes"}, "what one stack of convolutions allows"
    assert len(table[(table.part == "positions") & (table.set == "test")]) == 4 * 2
    assert table.psnr.notna().all()


def test_student_friendly_training_precedes_every_method(executed):
    table = pd.read_csv(executed.table("feature_losses_friendly"))
    assert {"Teacher, student-friendly", "Student from the branches", "Teacher", "Student"} <= set(table.method)
    assert {f"{label}, student-friendly" for label in FEATURE_LOSSES.values()} <= set(table.method)
    assert {"comparison", "friendly"} == set(executed.experiment_parts("feature_losses"))


def test_the_deployed_network_is_measured_and_says_what_it_is(executed):
    quality = pd.read_csv(executed.table("deployed_cardiac_8x"), index_col=0)
    assert abs(quality.loc["ONNX Runtime, float32", "psnr lost"]) < 1e-3
    assert (
        quality.psnr.notna().all()
        and quality.loc["PyTorch, bfloat16", "ms a slice"] > 0
        and "int8, kept in float32: nothing" in quality.index
    )
    aims = pd.read_csv(executed.table("deployment_cardiac_8x"))
    assert aims.found.notna().all() and len(aims) == 4 + len(quality) - 1
    times = pd.read_csv(executed.table("times_cardiac_8x"))
    assert set(times.network) == {"teacher", "student"} and {1, 4} == set(times.batch)
    model = Model(executed.results / "models" / "distilled_cardiac_8x.onnx")
    assert model.about["run"] == executed.methods(Cell("cardiac", 8), 0)["distilled"].id


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


def test_a_scan_of_ones_own_is_reconstructed(executed):
    table = pd.read_csv(executed.table("scan_brain_4x"))
    assert set(table.method) == set(METHODS.values()) and table.psnr.between(5, 80).all()


def test_the_report_begins_with_table_1_and_links_every_notebook(executed):
    page = (executed.results / "report" / "index.html").read_text()
    assert page.index("Table 1") < page.index("<img") and "<table>" in page and "not a result" in page
    for notebook in (executed.results / "notebooks").glob("0[123]*.ipynb"):
        assert f'href="{notebook.stem}.html"' in page
        assert (executed.results / "report" / f"{notebook.stem}.html").exists()
