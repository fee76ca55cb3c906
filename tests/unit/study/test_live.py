"""How trainings come along: times in words, what is left of work of unlike cost, what a notebook's output holds."""

import pytest

from kdmri_study import live
from kdmri_study.live import Bar, Pace, Trainings, in_words
from kdmri_study.study import Study
from tests.studies import CELL


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (245, "4 min 5 s"), (3600, "1 h"), (7800, "2 h 10 min"), (-3, "0 s")],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


@pytest.fixture
def shown(monkeypatch):
    """What stands in the output, as it changes: its lines, newest last."""
    found = []

    class Handle:
        def update(self, output):
            found.append(dict(output.lines))

    def display(output, display_id):
        found.append(dict(output.lines))
        return Handle()

    monkeypatch.setattr(live, "display", display)
    return found


def test_time_left_counts_what_an_earlier_process_did_as_done_but_not_as_fast(clock):
    pace = Pace(100, done=60, before=50, started=clock.now - 20)
    assert pace.share == 0.6 and pace.left == "1 min 20 s left"  # 10 in 20 s, 40 to go
    assert Pace(100, done=50, before=50).left == "time left not known yet"


def test_trainings_are_weighed_by_what_they_cost(clock, shown):
    runs = Study("smoke").methods(CELL, 0)
    named = {"Teacher": runs["teacher"], "Student": runs["student"]}
    # Convolutions of 3 x 3, two cascades: the teacher's weights in a pass, and the student's, of the same steps.
    teacher, student = (2 * 9 * (8 + inner * 64 + 8) for inner in (3, 1))
    trainings = Trainings(named)
    assert list(shown[-1]) == ["Training 1 of 2 · time left not known yet"]
    with trainings.one("Teacher") as report:
        clock.now += 30
        report(1, 6, {})
        clock.now += 150
        report(6, 6, {"validation_psnr": 30.126})
    overall, current = shown[-1].items()
    whole = 180 * (teacher + student) / teacher
    assert overall[0] == f"Training 1 of 2 · {in_words(whole - 180)} left"
    assert overall[1] == pytest.approx(teacher / (teacher + student))
    assert current == ("Teacher: step 6 of 6 · validation PSNR 30.13 dB · 0 s left", 1.0)
    with trainings.one("Student") as report:
        report(4, 6, {})  # it goes on from a checkpoint after step 3
    assert "Training 2 of 2" in next(iter(shown[-1]))
    assert shown[-1]["Student: step 4 of 6 · 0 s left"] == pytest.approx(4 / 6)
    clock.now += 10
    trainings.end()
    assert shown[-1] == {"Trained 2 networks in 3 min 10 s.": None}


def test_the_output_is_a_line_and_a_bar_each_without_a_name_that_html_takes_for_its_own(shown):
    trainings = Trainings({"a <b>": Study("smoke").methods(CELL, 0)["student"]})
    with trainings.one("a <b>") as report:
        report(3, 6, {})
    page = trainings._output._repr_html_()
    assert page.count("<progress") == 2 and "a &lt;b&gt;: step 3" in page and 'value="0.5000"' in page
    trainings.end()
    assert "<progress" not in trainings._output._repr_html_()
    assert repr(trainings._output).startswith("Trained 1 network in")


def test_tqdms_bar_is_a_line_that_ends_as_a_sentence(shown, capsys):
    with Bar(total=3, unit="volume", mininterval=0) as bar:
        bar.set_description("preparing brain")
        for _ in range(3):
            bar.update()
    assert any(line.startswith("preparing brain: 1 of 3 volumes · ") for lines in shown for line in lines)
    (last,) = shown[-1]
    assert last.startswith("preparing brain: done, in ") and shown[-1][last] is None
    assert capsys.readouterr() == ("", "")
