"""The README's numbers are those of the committed tables; its words are written by hand."""

import re

import pandas as pd
import pytest

from kdmri_lib.storage import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
TABLES = PROJECT / "results" / "earlier" / "tables"
SETTINGS = [(name, factor) for name in ("brain", "cardiac", "knee") for factor in (4, 5, 8)]
# Of each row of the first table: what is compared, in Table 1 or in the experiments by a long teacher.
ASKED = {
    "the paper's method, half its training": ("distilled", "student"),
    "the paper's method, equal compute": ("distilled", "student_compute"),
    "a teacher's weights, then imitation; teacher trained 4x longer, equal compute": ("best", ""),
    "none: He's initialisation, PyTorch's initialisation": ("he_compute", "student_compute"),
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the Markdown table whose first heading is that, without its heads."""
    block = README[README.index(f"| {heading} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell.replace("−", "-"))]


def differences(a: str, b: str) -> pd.DataFrame:
    """Differences in PSNR (dB) by dataset, acceleration and set."""
    if b:
        found = pd.read_csv(TABLES / "comparisons.csv")
    else:
        files = [TABLES / f"{n}_{f}x_long_teacher_long_teacher_comparisons.csv" for n, f in SETTINGS]
        found = pd.concat(map(pd.read_csv, files))
        found = found[found.b.str.startswith("alone_")]
    found = found[(found.metric == "psnr") & (found.a == a) & ((found.b == b) | (b == ""))]
    return found.set_index(["set", "dataset", "acceleration"]).difference


def test_every_row_of_the_answer_is_held_to_the_tables():
    assert [f"{row[0]}, {row[1]}" for row in rows("student")] == list(ASKED)


@pytest.mark.parametrize("row", rows("student"), ids=lambda row: row[0])
def test_the_answer(row):
    student, against, mean, ahead, heads = row
    found = differences(*ASKED[f"{student}, {against}"])
    test, people = found["test"], found["people"]
    assert len(test) == 9
    assert numbers(mean) == [pytest.approx(test.mean(), abs=0.0051)]
    assert ahead == f"{(test > 0).sum()} of 9"
    assert len(people) == 3 and numbers(heads) == [pytest.approx(people.mean(), abs=0.0051)]


@pytest.mark.parametrize("row", rows("setting"), ids=lambda row: row[0])
def test_table_1(row):
    name, factor = row[0].removesuffix("x").split()
    table = pd.read_csv(TABLES / "table1.csv")
    table = table[(table.dataset == name) & (table.acceleration == float(factor)) & (table.set == "test")]
    psnr = table[table.aggregation == "volume"].set_index("method").psnr
    methods = ["zero_filled", "student", "student_compute", "distilled", "teacher"]
    assert [numbers(cell)[0] for cell in row[1:]] == [pytest.approx(psnr[m], abs=0.0051) for m in methods]


def test_it_is_short():
    assert len(README.split()) <= 1200 and len(README.splitlines()) <= 130
