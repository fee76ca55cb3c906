"""What ./run_all.sh shows in a terminal, from lines as Snakemake and tqdm write them."""

import io

import pytest
from rich.console import Console

from kdmri_study.study import Study
from kdmri_study.terminal import Course, drawn, follow, in_words

LINES = """Execute 2 jobs...

[Wed Nov 25 21:14:39 2026]
Job 6: training: cardiac 8x, teacher, seed 0
Reason: Missing output files: run.json
[Wed Nov 25 21:14:39 2026]
Job 1: notebook 01_data_preparation_cardiac
cardiac 8x, teacher, seed 0:   0%|                      | 0/60 [00:00<?, ?step/s]
cardiac 8x, teacher, seed 0:  25%|██         | 15/60 [00:40<02:00, 20.64step/s, validation PSNR 17.66 dB]
Finished jobid: 1 (Rule: 01_data_preparation_cardiac)
1 of 5 steps (20%) done
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def course(**work) -> tuple[Course, Clock]:
    clock = Clock()
    return Course({"cardiac 8x, teacher, seed 0": 4e12, "cardiac 8x, student, seed 0": 2e12}, clock=clock), clock


def test_the_time_left_is_that_of_the_trainings_by_their_work_and_of_other_jobs_by_their_mean():
    at, clock = course()
    for line in LINES.splitlines():
        if line.startswith("Finished"):
            clock.now = 100
        assert at.take(line) == ""
        if not at.total:
            assert at.left == "time left not known yet"
    (job,) = at.running.values()
    assert (job.label, job.done, job.total) == ("cardiac 8x, teacher, seed 0", 15, 60)
    assert job.said == "02:00 left, validation PSNR 17.66 dB"
    # A quarter of 4 in 100 s, 5 of 6 to go: 500 s; and of four jobs left two are no trainings, at 100 s each.
    assert at.left == f"about {in_words(500 + 200)} left" == "about 12 min left"
    clock.now = 400
    at.take("Finished jobid: 6 (Rule: train)")
    at.take("2 of 5 steps (40%) done")
    assert at.left == f"about {in_words(200 + 200)} left", "2 of 6 to go at 4 in 400 s"


def test_what_failed_and_what_the_study_says_is_read_at_once():
    at, _ = course()
    for line in LINES.splitlines():
        at.take(line)
    said = [at.take(line) for line in ("kdmri: no space left", "Error in rule train:", "    jobid: 6", "    jobid: 9")]
    assert said == ["kdmri: no space left", "", "failed: cardiac 8x, teacher, seed 0", ""]
    assert not at.running


@pytest.mark.parametrize(("seconds", "words"), [(20, "under a minute"), (61, "1 min"), (7500, "2 h 5 min")])
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


def test_the_screen_shows_a_line_over_all_and_a_bar_a_job_and_the_rest_is_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    at, _ = course()
    lines = LINES.splitlines(keepends=True)
    for line in lines[:-2]:
        at.take(line)
    screen = Console(file=io.StringIO(), width=120, force_terminal=True)
    screen.print(drawn(at, "smoke"))
    over, *bars = [line for line in screen.file.getvalue().splitlines() if line.strip()]
    assert "smoke: 0 of … jobs" in over and len(bars) == 2
    assert "cardiac 8x, teacher, seed 0" in bars[0] and "02:00 left, validation PSNR 17.66 dB" in bars[0]
    log = tmp_path / "logs" / "workflow.txt"
    follow([*lines, "kdmri: no space left\n"], Study("smoke", tmp_path), log, console=screen)
    assert "step/s" not in log.read_text() and "Finished jobid: 1" in log.read_text()
    assert "kdmri: no space left" in screen.file.getvalue() and str(log) in screen.file.getvalue().replace("\n", "")
