"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, read_json, write_text


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


def test_json_that_is_none(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StudyError, match=r"x.json: not a JSON file"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "é" * 120 + ".tar.xz", "a" * 255])
def test_names_as_long_as_a_file_system_takes_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "whole")
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "whole"
