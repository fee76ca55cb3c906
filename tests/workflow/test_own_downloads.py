"""Downloads in miniature, one of each source: notebook 1 shows them, Table 1 counts their people, a change is seen."""

import numpy as np
import pytest

from kdmri_lib.datasets.prepared import attribute, read_prepared
from kdmri_lib.storage import PROJECT, read_json
from kdmri_study.evidence import Evidence, job, train_job
from kdmri_study.profile import Study
from kdmri_study.runs import RunFolder
from kdmri_study.tables import setting_rows, setting_tables
from kdmri_study.workflow import execute
from tests import downloads
from tests.studies import ROWS, clone_of_project, run_all, runs_of, small_profile


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study whose data sets are downloads in miniature, one of each source."""
    folder, datasets = tmp_path_factory.mktemp("downloads"), {}
    for name, (source, fill, more) in downloads.SOURCES.items():
        (folder / name).mkdir()
        fill(folder / name)
        declared = {"source": source, "folder": str(folder / name), "shape": list(downloads.SHAPE), **more}
        datasets[name] = declared | {"train": 2, "validation": 1, "test": 1}
    datasets["published"]["options"] = {"masks": str(folder / "published" / "mask_{factor}x.npy")}
    settings = {"cardiac": [4], "nifti": [2], "published": [4]}
    profile = small_profile(folder / "own.yaml", datasets=datasets, settings=settings, precision_check=False)
    return Study(str(profile), folder)


# One by default: their readers have tests of their own.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in downloads.SOURCES if name != "nifti"]


@pytest.mark.parametrize("name", ["nifti", *SLOW])
def test_notebook_1_prepares_and_shows_every_download(study, tmp_path, name):
    given = {"profile": study.source, "folder": str(study.folder), "dataset": name}
    execute(PROJECT / "notebooks" / "01_data_preparation.ipynb", tmp_path / "out.ipynb", given)
    text = str([cell.get("outputs") for cell in read_json(tmp_path / "out.ipynb")["cells"]])
    assert "real MR" in text and "image/png" in text
    assert {v.split for v in read_prepared(study.prepared(study.dataset(name)))} >= {"train", "validation", "test"}


def test_table_1_of_ones_own_download(study):
    """Its two volumes are one person's, and count once."""
    train_job(study, job(study, "cardiac_4x_seed0"))
    setting = study.settings[0]
    volumes = RunFolder(study, runs_of(study, setting)["distilled"]).outcome.volumes
    assert volumes.subject.tolist() == ["patient101_frame01", "patient101_frame12"]
    evidence = Evidence(study)
    table, tests, _ = setting_tables(evidence, setting_rows(evidence, setting))
    rows = table[table.aggregation == "volume"].set_index("method")
    assert set(rows.index) == set(ROWS) and rows.n.eq(1).all() and tests.empty
    assert rows.psnr["distilled"] == pytest.approx(volumes.psnr.mean())


@pytest.mark.slow
def test_files_that_change_between_two_starts_are_prepared_again(study, tmp_path):
    """In a folder elsewhere; a start without any change makes nothing."""
    clone, elsewhere = clone_of_project(tmp_path / "clone"), Study(study.source, tmp_path / "elsewhere")
    path, said = elsewhere.prepared(study.dataset("nifti")), []

    def start() -> tuple[str, int]:
        process = run_all(clone, "--profile", study.source, "--folder", elsewhere.folder, "--jobs", "1", path)
        said.append(process.communicate(timeout=200)[0])
        assert process.returncode == 0, said
        return attribute(path, "content"), path.stat().st_mtime_ns

    first = start()
    assert start() == first and "will be again" not in said[0] + said[1]
    downloads.save_nifti(study.folder / "nifti/person2/scan.nii.gz", downloads.image(77))
    changed = start()
    assert "prepared before, and will be again: " in said[2] and changed[0] != first[0]
    (volume,) = (v for v in read_prepared(path, "train") if v.subject == "person2_scan")
    np.testing.assert_allclose(volume.image, downloads.normalised(downloads.image(77)), atol=2e-6)
    assert start() == changed, "once"
