"""The committed tables, README and model cards follow from the committed evidence, of which there may be a part."""

import json
import re
import tarfile

import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.costs import stage
from kdmri_study.derived import evidence_table
from kdmri_study.evidence import piece, pieces, unpacked
from kdmri_study.rendering import evidence_in_words
from kdmri_study.study import Study
from kdmri_study.verification import verify_evidence
from tests.studies import PROFILES, with_downloads

COMMITTED = [name for name in PROFILES if (Study("smoke").folder / "results" / name / "evidence").is_dir()]


def test_evidence_is_committed():
    assert "quick" in COMMITTED


@pytest.mark.parametrize("name", [name for name in COMMITTED if name != "smoke"])
def test_what_is_committed_follows_from_the_committed_evidence(name):
    study = Study(name)
    assert all(each.file(study).stat().st_size < 2e6 for each in pieces(study) if each.file(study).exists())
    found = verify_evidence(study)
    assert found.wrong == [] and found.compared > 5


@pytest.mark.parametrize("name", PROFILES)
def test_every_run_of_a_study_is_in_a_piece_after_those_that_it_needs(name, tmp_path):
    study = Study(with_downloads(name, tmp_path), tmp_path)
    found = pieces(study)
    assert {run.id for each in found for run in each.runs} == set(study.runs)
    for each in found:
        seen = set()
        for run in each.runs:
            assert {needed.id for needed in run.needs} <= seen
            seen.add(run.id)
    assert len({each.name for each in found}) == len(found)
    assert piece(study, found[0].name) == found[0]


def test_the_evidence_is_counted_training_by_training(tmp_path):
    """Against the archives themselves: `domains` is made in pieces, and of some of its seeds nothing is there."""
    study = Study("domains")
    records, there = {}, 0
    for each in pieces(study):
        if each.file(study).exists():
            there += 1
            with tarfile.open(each.file(study)) as archive:
                named = [name for name in archive.getnames() if name.endswith("/run.json")]
                records |= {name.split("/")[1]: json.load(archive.extractfile(name)) for name in named}
    table = evidence_table(unpacked(study, tmp_path)).table
    assert table.seeds.sum() == there < table.asked.sum() == len(pieces(study))
    assert table.trainings.sum() == len(records)
    assert table.seconds.sum() == pytest.approx(sum(record["seconds"] for record in records.values()))
    assert table.macs.sum() == pytest.approx(sum(stage(study.runs[run])[1] for run in records))
    assert table.macs.sum() + table.macs_left.sum() == pytest.approx(sum(stage(r)[1] for r in study.runs.values()))
    first = next(each for each in pieces(study) if not each.file(study).exists())
    words = evidence_in_words(table)
    assert (
        f"{there} of {len(pieces(study))} pieces" in words and f"`./run_all.sh --profile domains {first.name}`" in words
    )
    whole = table[table.macs_left == 0]
    assert len(whole) and (whole.seeds == whole.asked).all() and "To come" not in evidence_in_words(whole)
    nothing = evidence_table(Study("domains", tmp_path / "elsewhere"))
    assert nothing.table.macs_left.sum() == pytest.approx(table.macs.sum() + table.macs_left.sum()) and not nothing.runs
    assert re.fullmatch(
        r"0 of \d+ pieces, each a cell or an experiment with one seed\. To come: [\d,]+·10¹² multiply-accumulates; "
        rf"`./run_all.sh --profile domains {pieces(study)[0].name}` makes the first piece of them\.",
        evidence_in_words(nothing.table),
    )


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE], ids=["file", "link"])
def test_an_archive_that_names_what_lies_elsewhere_is_refused(tmp_path, kind):
    study = Study("domains", tmp_path)
    path = pieces(study)[0].file(study)
    path.parent.mkdir(parents=True)
    name = "../../../escaped" if kind == tarfile.REGTYPE else "runs"
    with tarfile.open(path, "w:xz") as archive:
        about = tarfile.TarInfo(name)
        about.type, about.linkname = kind, str(tmp_path)
        archive.addfile(about)
    with pytest.raises(StudyError, match=rf"brain_4x_seed0.tar.xz: holds {name}, which is no file of this study's"):
        unpacked(study, tmp_path / "there")
    assert not list(tmp_path.rglob("escaped"))


def test_a_piece_that_lacks_runs_is_named_where_it_is_asked_for_and_no_reason_not_to_read_another(tmp_path):
    study = Study("domains", tmp_path)
    first, second, *_ = pieces(study)
    first.file(study).parent.mkdir(parents=True)
    with tarfile.open(first.file(study), "w:xz"):
        pass
    message = rf"{first.name}.tar.xz: (\d+) of the \1 runs .*; ./run_all.sh --profile domains {first.name} trains them"
    for number, whole in enumerate((None, [first.name])):
        with pytest.raises(StudyError, match=message):
            unpacked(study, tmp_path / str(number), whole)
    assert unpacked(study, tmp_path / "there", [second.name]).results == tmp_path / "there" / "results" / "domains"


def test_a_piece_that_there_is_none_of_is_named(tmp_path):
    with pytest.raises(StudyError, match="profile 'quick' has no piece 'brain_6x_seed0'; it has brain_4x_seed0, "):
        piece(Study("quick"), "brain_6x_seed0")
    with pytest.raises(StudyError, match=r"evidence: no evidence; ./run_all.sh --profile table1 makes it"):
        unpacked(Study("table1", tmp_path), tmp_path / "there")
