"""`environment.sh` as people source it, whose mistakes would stay for good or end their shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


@pytest.fixture
def folder(tmp_path):
    for name in ("environment.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def sourced(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """As a person's shell: no `set -e`, and it must live on."""
    command = '. ./environment.sh; echo "status $?"; echo "${VIRTUAL_ENV:-none}"'
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)


def pythons(folder: Path, version: str) -> str:
    """A Python of that version that makes environments in which pip does nothing; notes what it was asked to make."""
    return program(
        folder / f"python{version}",
        f"""if [ "$1" = -c ]; then echo {version}; exit; fi
for venv; do :; done
echo "$@" >> made.txt
mkdir -p "$venv/bin"
echo "version = {version}" > "$venv/pyvenv.cfg"
echo '#!/bin/sh' > "$venv/bin/python"
chmod +x "$venv/bin/python"
echo "VIRTUAL_ENV=$venv" > "$venv/bin/activate"
""",
    )


def test_where_pip_fails_the_shell_lives_and_the_next_start_tries_again(folder):
    told = sourced(folder, PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert told.stdout.splitlines() == ["status 1", "none"]
    assert "couldn't be made; the next start tries again" in told.stderr
    assert not (folder / ".venv/.made-from").exists()
    shutil.rmtree(folder / ".venv")
    assert sourced(folder, PYTHON=pythons(folder, PYTHON)).stdout.splitlines() == ["status 0", ".venv"]


def test_a_python_that_is_too_old_is_named(folder):
    told = sourced(folder, PYTHON=program(folder / "old", "exit 1"))
    assert told.stdout.splitlines() == ["status 1", "none"] and "isn't Python 3.11 or newer" in told.stderr


def test_another_python_has_an_environment_of_its_own(folder):
    one, other = pythons(folder, "3.11.7"), pythons(folder, "3.12.1")
    assert sourced(folder, PYTHON=one).stdout.splitlines()[1] == ".venv"
    (folder / ".venv/in-use").touch()
    assert sourced(folder, PYTHON=other).stdout.splitlines()[1] == ".venv-3.12.1"
    assert sourced(folder, PYTHON=one).stdout.splitlines()[1] == ".venv"
    assert (folder / ".venv/in-use").exists() and len((folder / "made.txt").read_text().splitlines()) == 2


def test_of_changed_pins_it_is_brought_up_to_date_and_elsewhere_begun_anew(folder, tmp_path_factory):
    python, moved = pythons(folder, "3.11.7"), tmp_path_factory.mktemp("moved") / "here"
    sourced(folder, PYTHON=python)
    with (folder / "constraints.txt").open("a") as pins:
        pins.write("\n")
    sourced(folder, PYTHON=python)
    shutil.copytree(folder, moved)
    sourced(moved, PYTHON=python)
    anew, kept = "-m venv --clear .venv", "-m venv .venv"
    assert (moved / "made.txt").read_text().splitlines() == [anew, kept, anew]


def test_a_process_keeps_its_cores_whatever_binding_is_asked_for():
    code = "import os, kdmri_lib.devices; print(sorted(os.sched_getaffinity(0)))"
    asked = {**os.environ, "OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0"}
    told = subprocess.check_output([sys.executable, "-c", code], env=asked, cwd=PROJECT, text=True)
    assert told.strip() == str(sorted(os.sched_getaffinity(0)))


def started(folder: Path, **variables: str) -> str:
    """What run_all.sh says up to its environment, which is one that says what it sees and ends."""
    shutil.copy(PROJECT / "run_all.sh", folder)
    (folder / "sub").mkdir()
    seen = 'echo "seen: ${PYTHONPATH:-none} ${PYTHONHOME:-none} ${CDPATH:-none}"; exit 3'
    (folder / "environment.sh").write_text(seen)
    command, how = ["bash", "sub/../run_all.sh"], {"capture_output": True, "text": True}
    told = subprocess.run(command, cwd=folder, env=os.environ | variables, **how)
    assert told.returncode == 3, told.stderr
    return told.stdout + told.stderr


def test_what_a_clusters_modules_set_stays_outside(folder):
    said = started(folder, PYTHONPATH="/opt/other/numpy", PYTHONHOME="/opt/other", CDPATH=str(folder))
    assert said == "seen: none none none\n"


def test_a_file_system_without_locks_isnt_another_start(folder):
    program(folder / "flock", "echo 'flock: 9: Function not implemented' >&2; exit 71")  # EX_OSERR
    said = started(folder, PATH=f"{folder}:{os.environ['PATH']}")
    assert "has no locks; start no second ./run_all.sh there" in said and "another ./run_all.sh" not in said
