"""The notebooks on downloads in miniature, one of each source; and tables compared with the runs that they name."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.derived import cell_tables
from kdmri_study.jobs import execute
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.verification import verify_runs
from tests import downloads
from tests.studies import BESIDE, ROWS

NOTEBOOKS = PROJECT / "notebooks"


@pytest.fixture(scope="module")
def own_downloads(tmp_path_factory):
    """A profile whose data sets are downloads in miniature, one of each source."""
    folder = tmp_path_factory.mktemp("downloads")
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    profile |= {
        "datasets": {},
        "cells": {"cardiac": [4]},
        "experiments": {},
        "precision_check": False,
        "beside": BESIDE,
    }
    for name, (source, fill, more) in SOURCES.items():
        place = folder / name
        place.mkdir()
        fill(place)
        declared = {"source": source, "folder": str(place), "shape": list(downloads.SHAPE), **more}
        profile["datasets"][name] = declared | {"train": 2, "validation": 1, "test": 1}
    options = {"masks": str(folder / "published" / "mask_{factor}x.npy")}
    profile["datasets"]["published"]["options"] = options
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(profile))
    return Study(str(path), folder)


SOURCES = {
    "cardiac": ("acdc", downloads.acdc, {}),
    "mrbrains": ("mrbrains", downloads.mrbrains_2013, {}),
    "knee_raw": ("knee_matlab", downloads.knee, {"contrast": "coronal_pd"}),
    "fastmri": ("fastmri", downloads.fastmri, {}),
    "calgary": ("calgary_campinas", downloads.calgary_nifti, {}),
    "published": ("kdmri_h5", downloads.published, {}),
    "nifti": ("nifti_folder", downloads.nifti, {}),
    "dicom": ("dicom_folder", downloads.dicom, {}),
}


def run(study, name, output, **parameters):
    profile = str(study.folder / "own.yaml")
    execute(NOTEBOOKS / f"{name}.ipynb", output, {"profile": profile, "folder": str(study.folder), **parameters})


OFTEN = ("nifti", "fastmri", "published")  # the others by --long: their readers have tests of their own


@pytest.mark.parametrize(
    "name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.slow) for n in sorted(SOURCES)]
)
def test_notebook_1_prepares_and_shows_every_download(own_downloads, tmp_path, name):
    factors = {"factors": "[4]"} if name == "published" else {}
    run(own_downloads, "01_data_preparation", tmp_path / "out.ipynb", dataset=name, **factors)
    index = pd.read_csv(own_downloads.table(f"index_{name}"))
    assert set(index.split) == {"train", "validation", "test"} and set(index.kind) == {"real MR"}
    assert own_downloads.figure(f"contact_{name}").exists()


@pytest.fixture(scope="module")
def cell_of_a_download(own_downloads, tmp_path_factory):
    """The study once notebooks 1 to 3 ran on a cell of it."""
    folder, notebooks = tmp_path_factory.mktemp("executed"), own_downloads.results / "notebooks"
    run(own_downloads, "01_data_preparation", folder / "1.ipynb", dataset="cardiac")
    run(own_downloads, "02_teacher_training", notebooks / "02_teacher_training_cardiac_4x.ipynb", cell="cardiac_4x")
    run(own_downloads, "03_distillation", folder / "3.ipynb", cell="cardiac_4x")
    return own_downloads


def test_table_1_of_ones_own_download(cell_of_a_download):
    """Its two volumes are one person's, and count once."""
    study = cell_of_a_download
    volumes = RunFolder(study, study.methods(study.cells[0], 0)["distilled"]).volumes
    assert volumes.subject.tolist() == ["patient101_frame01", "patient101_frame12"]
    table, tests, *_ = cell_tables(study, study.cells[0])
    rows = table[table.aggregation == "volume"].set_index("method")
    assert set(rows.index) == set(ROWS) and rows.n.eq(1).all() and tests.empty
    assert rows.psnr["distilled"] == pytest.approx(volumes.psnr.mean())


def test_tables_that_do_not_follow_from_their_runs_are_found(cell_of_a_download):
    study, only = cell_of_a_download, ("02_teacher_training",)
    assert verify_runs(study, only).wrong == []
    table, picture = study.table("precision_cardiac_4x"), study.figure("learning_curves_alone_cardiac_4x")
    kept = pd.read_csv(table)
    lost = kept["float32 / dB"]
    kept.assign(**{"float32 / dB": lost.where(kept.index != 1, lost + 0.1)}).to_csv(table, index=False)
    image = Image.open(picture)
    text, pixels = PngInfo(), np.asarray(image).copy()
    text.add_text("Description", image.text["Description"])
    pixels[50:60, 50:60] = 0
    Image.fromarray(pixels).save(picture, pnginfo=text)
    found = verify_runs(study, only).wrong
    assert len(found) == 2
    said = dict(line.split(": ", 1) for line in found)
    assert "row 1, float32 / dB: " in said[str(table)]
    assert "pixels differ from the picture made from its runs" in said[str(picture)]
    damaged = next(iter(study.runs))
    (study.results / "runs" / damaged / "curve.csv").write_text("step\n")
    with pytest.raises(StudyError, match=r"1 of 7 runs can't vouch for a table; the first: .*curve.csv is damaged"):
        verify_runs(study, only)
