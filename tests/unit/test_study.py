"""Profiles and what follows from them; files written whole; the house in order."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from kdmri_lib import provenance
from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import multiply_accumulates, network_of
from kdmri_lib.storage import atomic_write, read_json, write_text
from kdmri_lib.study.study import METHODS, PROJECT, Cell, Study, load_profile
from kdmri_lib.study.tables import significance, summary, table1_markdown, verdict

PROFILES = sorted(p.stem for p in (PROJECT / "profiles").glob("*.yaml"))
SMOKE = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())


@pytest.fixture
def here(tmp_path):
    """A profile's name or, where it reads downloads, a copy of it whose folders are there."""

    def find(name: str) -> str:
        text = (PROJECT / "profiles" / f"{name}.yaml").read_text()
        if "data/downloads" not in text:
            return name
        for dataset in yaml.safe_load(text)["datasets"].values():
            (tmp_path / Path(dataset["folder"]).name).mkdir()
        copy = tmp_path / f"{name}.yaml"
        copy.write_text(text.replace("data/downloads", str(tmp_path)))
        return str(copy)

    return find


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads_and_counts_its_runs(name, here):
    study = Study(here(name))
    each = len(study.methods(study.cells[0], 0))
    table1 = {r.id for c in study.cells for s in study.profile.seeds for r in study.methods(c, s).values()}
    assert len(table1) == each * len(study.cells) * len(study.profile.seeds)
    assert table1 <= set(study.runs) == set(study.labels)
    order = list(study.runs)
    for place, run in enumerate(study.runs.values()):
        assert all(order.index(needed.id) < place for needed in run.needs)


def test_downloads_that_are_not_there_are_left_out_and_none_at_all_is_an_error(here, tmp_path):
    path = here("paper")
    whole = Study(path)
    assert whole.missing == {} and whole.used_datasets == ["cardiac", "brain", "knee", "head"]
    for name in ("mrbrains", "knee", "calgary_campinas"):
        (tmp_path / name).rmdir()
    study = Study(path)
    assert set(study.missing) == {"brain", "knee", "head"}
    assert {cell.dataset for cell in study.cells} == {"cardiac"}
    assert "super_resolution" not in study.profile.experiments and study.used_datasets == ["cardiac"]
    (tmp_path / "acdc").rmdir()
    with pytest.raises(StudyError, match=r"none of its folders is there .*see data/README.md"):
        Study(path)


def test_the_full_profile_covers_the_nine_cells():
    assert {cell.tag for cell in Study("full").cells} == {
        f"{d}_{f}x" for d in ("brain", "cardiac", "knee") for f in (4, 5, 8)
    }


def test_algorithm_1_and_the_two_controls():
    study = Study("quick")
    runs = study.methods(Cell("brain", 4), 0)
    assert runs["attention_transfer"].teacher == runs["distilled"].teacher == runs["teacher"]
    assert runs["distilled"].start == runs["attention_transfer"]
    assert [t.loss for t in runs["attention_transfer"].objective] == ["attention_transfer"]
    assert [t.loss for t in runs["distilled"].objective] == ["imitation"]
    pairs = runs["attention_transfer"].objective[0].options["pairs"]
    assert pairs == [[f"cascade{c}.convolution3", f"cascade{c}.convolution2"] for c in range(1, 6)]
    stage = runs["student"].schedule.steps
    assert runs["student_steps"].schedule.steps == 2 * stage
    teacher, student = (multiply_accumulates(network_of(n)) for n in (study.profile.teacher, study.profile.student))
    # Two stages of: teacher forward, student forward and backward, the latter at three forward passes.
    expected = stage * 2 * (teacher + 3 * student) / (3 * student)
    assert runs["student_compute"].schedule.steps == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shcedule": {}}, "shcedule: Extra inputs are not permitted"),
        ({"schedule": {"steps": 5, "batchh": 2}}, r"schedule.batchh: Extra inputs"),
        ({"schedule": {"steps": 5, "epochs": 2}}, "either steps or epochs"),
        ({"cells": {"brain": [0.5]}}, "greater than or equal to 1"),
        ({"cells": {"heart": [4]}}, "data set 'heart' isn't declared"),
        ({"datasets": {"brain": {"source": "../x"}}}, "isn't a plain name"),
        ({"distillation": {"attention_transfer": "papre"}}, "distillation.attention_transfer"),
    ],
)
def test_a_bad_profile_is_an_error_that_names_the_key(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMOKE, **change}))
    with pytest.raises(StudyError, match=rf"mine.yaml: .*{message}"):
        load_profile(str(path))


def test_unknown_and_unreadable_profiles(tmp_path):
    with pytest.raises(StudyError, match=r"unknown profile 'qiuck' .*known: evening, full, paper, quick, smoke"):
        load_profile("qiuck")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(StudyError, match=r"x.yaml: not a YAML file"):
        load_profile(str(tmp_path / "x.yaml"))


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "kdmri_lib", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
        **more,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--profile", "nope"), "kdmri: unknown profile 'nope'"),
        (("train", "--profile", "smoke", "nope"), "kdmri: profile 'smoke' has no run 'nope'"),
        (("notebook", "nope.ipynb", "out.ipynb"), "kdmri: nope.ipynb: no such notebook"),
        (
            ("notebook", "notebooks/08_report.ipynb", "out.ipynb", "--parameter", "porfile=smoke"),
            "kdmri: 08_report.ipynb has no parameter porfile",
        ),
    ],
)
def test_commands_end_with_one_clear_line(arguments, message):
    result = command(*arguments)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("[IPKernelApp]")]
    assert len(lines) == 1 and lines[0].startswith(message)


def test_check_says_what_a_profile_holds():
    result = command("check", "--profile", "quick")
    assert result.returncode == 0 and "brain_4x" in result.stdout


def test_a_notebook_that_fails_names_its_cell_and_leaves_no_output(tmp_path):
    result = command(
        *("notebook", "notebooks/03_distillation.ipynb", str(tmp_path / "out.ipynb")),
        *("--parameter", "profile=smoke", "--parameter", f"folder={tmp_path}"),
    )
    assert result.returncode == 1
    assert (
        "kdmri: 03_distillation.ipynb, cell" in result.stderr
        and "no such file; notebook 01 prepares it" in result.stderr
    )
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "out.failed.ipynb").exists()


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "before")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_message_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "before")
    message = r"x.txt: can't be written \(No space left on device\)"
    with pytest.raises(StudyError, match=message), atomic_write(path), Path("/dev/full").open("w") as full:
        full.write("x")  # to a real device that is always full
        full.flush()
    assert path.read_text() == "before"


def test_a_limit_on_file_size_stops_training_with_one_message(study):
    run = study.methods(Cell("cardiac", 8), 0)["student"]
    code = (
        "import resource, signal, sys\n"
        "from kdmri_lib.errors import StudyError\n"
        "from kdmri_lib.study.runs import trained\n"
        "from kdmri_lib.study.study import Cell, Study\n"
        "study = Study('smoke', sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    trained(study, study.methods(Cell('cardiac', 8), 0)['student'])\n"
        "except StudyError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(study.folder)], capture_output=True, text=True, timeout=120
    )
    assert f"checkpoint.pt: can't be written ({os.strerror(errno.EFBIG)}); nothing was replaced" in result.stdout
    assert not (study.results / "runs" / run.id / "run.json").exists()


def test_json_that_is_none(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StudyError, match=r"x.json: not a JSON file"):
        read_json(tmp_path / "x.json")


def test_prose_does_not_change_the_fingerprint_and_code_does(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    prints = []
    for source in ('"""a"""\nx = 1\n', '"""b"""\n# why\nx  =  1\n', "x = 2\n"):
        (tmp_path / "m.py").write_text(source)
        provenance.code_fingerprint.cache_clear()
        prints.append(provenance.code_fingerprint(("m.py",)))
    provenance.code_fingerprint.cache_clear()
    assert prints[0] == prints[1] != prints[2]


def metrics(values, sets=("test",)):
    rows = [
        {"dataset": "brain", "acceleration": 4.0, "set": s, "kind": "phantom", "method": m, "seed": seed, "run": "r",
         "subject": f"v{n}", "psnr": value + n + 0.2 * seed - 0.1, "ssim": 0.9, "nmse": 0.1, "hfn": 0.1}
        for s in sets for m, value in values.items() for seed in (0, 1) for n in range(6)
    ]  # fmt: skip
    return pd.DataFrame(rows)


VALUES = {
    "zero_filled": 20,
    "student": 30,
    "distilled": 30.5,
    "student_steps": 30.7,
    "student_compute": 31,
    "teacher": 32,
}


def test_summary_averages_seeds_before_it_takes_the_deviation_over_volumes():
    table = summary(metrics(VALUES), "volume").set_index("method")
    assert table.index.tolist() == list(METHODS)
    assert table.psnr["student"] == pytest.approx(32.5) and table.n["student"] == 6
    assert table.psnr_sd["student"] == pytest.approx(np.std(np.arange(6), ddof=1))


def test_the_verdict_says_when_the_order_does_not_hold_and_by_how_much():
    assert "does not hold" not in verdict(metrics(VALUES))
    assert "+0.50 dB, 25% of the teacher's lead of 2.00 dB" in verdict(metrics(VALUES))
    assert "as many steps it stands -0.20 dB, for as much compute -0.50 dB" in verdict(metrics(VALUES))
    assert "does not hold" in verdict(metrics({**VALUES, "distilled": 29.9}))


def test_significance_is_corrected_over_all_rows_and_left_out_for_few_volumes():
    table = significance(metrics(VALUES))
    psnr = table[table.metric == "psnr"]
    assert len(table) == 10 and (psnr.p_holm >= psnr.p).all() and (psnr.p_holm > psnr.p).any()
    assert table[table.metric == "ssim"].p.eq(1).all()
    few = metrics(VALUES)
    assert len(significance(few[few.subject < "v3"])) == 0


def test_table_1_shows_the_papers_numbers_beside_ours():
    text = table1_markdown(summary(metrics(VALUES), "volume"), "profile x")
    assert "| Distilled student | 33.00 ± 1.87 | 0.9000 ± 0.0000 | 39.80 | 0.9770 |" in text
    assert "other images than ours" in text and "phantom" in text


def test_environment_yml_equals_pyproject():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    listed = next(
        d["pip"]
        for d in yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
        if isinstance(d, dict)
    )
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert sorted(listed) == sorted(["-c constraints.txt", "-e .", *wanted])


def test_constraints_pin_every_dependency():
    pins = {
        line.split("==")[0].lower() for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {name.split("==")[0] for name in wanted} <= pins


def test_the_bill_of_materials_lists_what_is_pinned():
    pins = {line for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line}
    components = read_json(PROJECT / "sbom.cdx.json")["components"]
    listed = {f"{c['name']}=={c['version'].partition('+')[0]}" for c in components}
    tools = {name for name in listed if name.startswith(("pip==", "setuptools=="))}

    def plain(names):
        return {name.lower().replace("_", "-") for name in names}

    assert plain(listed - tools) == plain(pins)


@pytest.mark.parametrize("path", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs_and_declare_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert cells[0]["cell_type"] == "markdown", "a notebook begins by saying what it is"


@pytest.mark.parametrize("name", PROFILES)
def test_the_workflow_makes_everything_from_nothing(name, here, tmp_path):
    """A dry run from an empty start plans every training, every notebook and every data set."""
    name = here(name)
    study = Study(name)
    options = ["--dry-run", "--forceall", "--quiet", "rules", "--nolock", "--directory", str(tmp_path)]
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(PROJECT / "Snakefile"),
            *options,
            "--config",
            f"profile={name}",
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    planned = dict(line.split()[:2] for line in (result.stdout + result.stderr).splitlines() if len(line.split()) == 2)
    assert int(planned["train"]) == len(study.runs)
    assert {int(planned[f"notebook_{number}"]) for number in ("02", "03", "07")} == {len(study.cells)}
    wanted = {"report", *study.profile.experiments}
    wanted |= {f"{rule}_{dataset}" for rule in ("prepare", "notebook_01") for dataset in study.used_datasets}
    assert wanted <= set(planned)
