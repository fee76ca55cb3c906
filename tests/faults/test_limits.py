"""A training under a limit on file size."""

import errno
import os
import subprocess
import sys

from tests.studies import CELL


def test_a_limit_on_file_size_stops_training_with_one_message(study):
    run = study.methods(CELL, 0)["student"]
    code = (
        "import resource, signal, sys\n"
        "from kdmri_lib.errors import StudyError\n"
        "from kdmri_study.runs import trained\n"
        "from kdmri_study.study import Study\n"
        "study = Study('smoke', sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    trained(study, study.methods(study.cell('cardiac_8x'), 0)['student'])\n"
        "except StudyError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(study.folder)], capture_output=True, text=True, timeout=120
    )
    assert f"checkpoint.pt: can't be written ({os.strerror(errno.EFBIG)}); nothing was replaced" in result.stdout
    assert not (study.results / "runs" / run.id / "run.json").exists()
