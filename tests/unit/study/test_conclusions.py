"""What numbers come to, in words, by tables made by hand."""

import pandas as pd
import pytest

from kdmri_study.conclusions import (
    alone_in_words,
    deployment_in_words,
    part_in_words,
    undersampling_in_words,
)
from kdmri_study.study import Study
from tests.studies import CELL


def rows(*some):
    return pd.DataFrame(some, columns=["method", "label", "set", "psnr", "control"], index=[0] * len(some))


TABLE = rows(
    ("student", "Student", "test", 30.0, ""),
    ("alone", "Student, longer", "test", 31.0, ""),
    ("fitnets", "FitNets", "test", 30.5, "alone"),
    ("attention", "Attention transfer", "test", 31.2, "alone"),
    ("attention", "Attention transfer", "people", 99.0, "alone"),
)
TESTS = pd.DataFrame(
    [
        ("test", "psnr", "fitnets", "alone", -0.5, -0.7, -0.3, 6),
        ("test", "psnr", "attention", "alone", 0.2, -0.1, 0.5, 6),
        ("test", "psnr", "attention", "student", 1.2, 1.0, 1.4, 6),
        ("test", "ssim", "attention", "alone", 0.01, 0.005, 0.02, 6),
        ("people", "psnr", "attention", "alone", 9.0, 8.0, 10.0, 6),
    ],
    columns=["set", "metric", "a", "b", "difference", "low", "high", "seeds"],
)


def test_a_part_is_said_by_its_best_row_and_by_how_rows_stand_against_their_controls():
    assert part_in_words("Which loss", TABLE, TESTS) == (
        "**Which loss.** Highest on the test set of what a teacher helped: Attention transfer, 31.20 dB. It stands "
        "+0.20 dB from the same network alone at its cost. Of 2 such comparisons the 95% interval (over seeds and people) "
        "lies above 0 in 0, below 0 in 1, and holds 0 in 1."
    )
    assert "(over people)" in part_in_words("x", TABLE, TESTS.assign(seeds=1))
    assert part_in_words("x", TABLE, None).endswith("31.20 dB.")
    failed = TESTS.assign(difference=float("nan"))
    assert part_in_words("x", TABLE, failed).endswith("31.20 dB.")


def test_a_part_in_which_no_teacher_helped_says_nothing():
    assert part_in_words("x", TABLE[TABLE.control == ""], TESTS) == ""
    assert part_in_words("x", TABLE.assign(psnr=float("nan")), TESTS) == ""


class Folder:
    """A run folder of two test volumes and one of another set."""

    def __init__(self, run, psnr):
        self.run = run
        self.volumes = pd.DataFrame({"set": ["test", "test", "people"], "psnr": [psnr - 1, psnr + 1, 90]})


@pytest.mark.parametrize(("student", "ends"), [(29.5, "−0.50 dB. Whether a teacher's help"), (30.2, "+0.20 dB.")])
def test_teacher_and_student_alone(student, ends):
    runs = Study("quick").methods(CELL._replace(dataset="brain", acceleration=4), 0)
    folders = {0: {"teacher": Folder(runs["teacher"], 30.0), "student": Folder(runs["student"], student)}}
    said = alone_in_words(folders)
    # 49,285 of 141,765 parameters: 5 cascades of 32 features, 3 of 5 convolutions of 3 x 3.
    assert "teacher reaches 30.00 dB" in said and "with 35% of its parameters" in said and ends in said

    folders[0]["teacher"] = Folder(runs["teacher"], float("nan"))
    assert alone_in_words(folders) == "Nothing can be said, since a training failed: teacher."


def test_what_masks_lose():
    worth = pd.DataFrame(
        {"mask": ["brain 4x"], "lines": [0.5], "acceleration": [2.5], "zero-filled PSNR / dB": [23.427], "with": [26.0]}
    )
    assert "brain 4x 23.43 dB" in undersampling_in_words(worth)


def test_what_the_small_network_costs_and_loses():
    sizes = pd.DataFrame({"network": ["teacher", "student"], "parameters": [200, 50]})
    times = pd.DataFrame(
        [
            ("teacher", "a", 40.0),
            ("student", "a", 20.0),
            ("teacher", "b", 15.0),
            ("student", "b", 5.0),
            ("student", "c", None),
        ],
        columns=["network", "implementation", "ms"],
    )
    quality = pd.DataFrame({"computed by": ["float32", "int8"], "psnr lost": [0.0, 0.0981]})
    said = deployment_in_words(sizes, times, quality, "distilled")
    assert "25% of the teacher's parameters and is 2.0 to 3.0 times as fast" in said
    assert "Fastest here: b, 5.0 ms" in said and "distilled student, the worst loses 0.098 dB (int8)" in said

    none = deployment_in_words(sizes, times, quality.assign(**{"psnr lost": float("nan")}), "distilled")
    assert none.endswith("Of the distilled student there is no network, since a training failed.") and "nan" not in none
