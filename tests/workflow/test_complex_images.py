"""Complex images by the profile alone, and the table of the two arms beside each other."""

import pytest

from kdmri_lib.evaluation import METRICS
from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import Evidence, job, train_job
from kdmri_study.profile import Study
from kdmri_study.tables import all_tables
from kdmri_study.workflow import execute
from tests.studies import ROWS, small_profile


@pytest.mark.slow
def test_complex_images_stand_beside_their_magnitudes_and_notebooks_show_them(tmp_path):
    cardiac = {"source": "cardiac_phantom", "shape": [72, 72], "train": 2, "validation": 1, "test": 2, "seed": 1}
    cardiac["slices_per_volume"] = 4
    datasets = {
        "cardiac": cardiac,
        "cardiac_complex": cardiac | {"domain": "complex", "sampled_like": "cardiac"},
    }
    settings = {"cardiac_complex": [8], "cardiac": [8]}
    profile = str(small_profile(tmp_path / "complex.yaml", datasets=datasets, settings=settings))
    study = Study(profile, tmp_path)
    for dataset in datasets:
        train_job(study, job(study, f"{dataset}_8x_seed0"))
    tables = {table.name: table.frame for table in all_tables(Evidence(study), [])}
    found = tables["domains"]
    assert found.dataset.unique().tolist() == ["cardiac"] and set(found.method) == set(ROWS)
    table1 = tables["table1"].set_index(["dataset", "aggregation", "set", "method"])
    assert table1[list(METRICS)].notna().all(axis=None)
    for row in found.itertuples():
        for arm, dataset in (("magnitude", "cardiac"), ("complex", "cardiac_complex")):
            assert getattr(row, f"psnr_{arm}") == table1.psnr[dataset, "volume", row.set, row.method]
    shown = [("01_data_preparation", {"dataset": "cardiac_complex"})]
    names = ("02_teacher_training", "03_distillation", "07_deployment")
    shown += [(name, {"setting": "cardiac_complex_8x"}) for name in names]
    for name, parameters in shown:
        given = {"profile": profile, "folder": str(tmp_path), **parameters}
        execute(PROJECT / "notebooks" / f"{name}.ipynb", tmp_path / f"{name}.ipynb", given)
