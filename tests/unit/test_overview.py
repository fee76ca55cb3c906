"""What stands beside a prepared file: its index and its contact sheet."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from kdmri_lib.datasets.prepared import Volume, source_checksums
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.overview import contact_sheet, index, write_overview
from tests import downloads


@pytest.fixture
def prepared(tmp_path):
    downloads.nifti(tmp_path / "download")
    dataset = downloads.declared("nifti_folder", tmp_path / "download")
    prepare(dataset, tmp_path / "out.h5", "code")
    return tmp_path / "out.h5"


def test_index_sources_and_contact_sheet(prepared):
    write_overview(prepared)
    table = pd.read_csv(prepared.with_suffix(".csv")).set_index("subject")
    assert dict(table.split) == {
        "person1_scan": "train",
        "person2_scan": "train",
        "person3_scan": "validation",
        "person10_scan": "test",
    }
    assert set(table.slices) == {3} and set(table["size"]) == {"20×16"} and set(table.spacing) == {"8 × 1.4 × 1.4"}
    assert prepared.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with h5py.File(prepared) as file:
        sources = json.loads(file["sources/person2_scan"][()])
    assert list(sources) == ["person2/scan.nii.gz"], "by its path below the download, which may be moved"
    assert len(sources["person2/scan.nii.gz"]) == 64 and source_checksums(prepared)["person2_scan"] == sources


def test_a_row_per_volume_with_all_that_its_source_said(prepared):
    table = index(prepared)
    assert list(table.columns[:5]) == ["subject", "person", "split", "slices", "size"]
    assert len(table) == 4 and "sha256" not in table and set(table.kind) == {"real MR"}
    assert dict(zip(table.subject, table.person, strict=True))["person10_scan"] == "person10"


def test_the_contact_sheet_of_many_volumes_shows_some_of_them(tmp_path):
    rng = np.random.default_rng(0)
    volumes = [Volume(f"v{n:03d}", "train", rng.random((1, 4, 4)).astype(np.float32), {}) for n in range(70)]
    write_prepared(tmp_path / "many.h5", "{}", "code", volumes)
    figure = contact_sheet(tmp_path / "many.h5")
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 60 and "v069" in shown[-1].get_title()
    assert "60 of 70 volumes" in figure.get_suptitle()
