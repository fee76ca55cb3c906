"""The README's numbers are those of the committed tables; its words are written by hand."""

import re

import pandas as pd
import pytest

from kdmri_lib.storage import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
TABLES = PROJECT / "results" / "earlier" / "tables"
# Of each row of the first table: what is compared in Table 1.
ASKED = (
    ("distilled", "student"),
    ("distilled", "student_compute"),
    ("weights_imitation", "weights_compute"),
    ("he_compute", "student_compute"),
)


def rows(heading: str) -> list[list[str]]:
    """The cells of the Markdown table whose first heading is that, without its heads."""
    block = README[README.index(f"| {heading} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", cell.replace("−", "-"))]


def differences(a: str, b: str) -> pd.DataFrame:
    """Differences in PSNR (dB) by dataset, acceleration and set."""
    found = pd.read_csv(TABLES / "comparisons.csv")
    found = found[(found.metric == "psnr") & (found.a == a) & (found.b == b)]
    return found.set_index(["set", "dataset", "acceleration"]).difference


def test_the_answer_says_what_the_committed_one_does():
    shown = pd.read_csv(TABLES / "answer.csv")
    assert [row[:2] for row in rows("student")] == shown[["student", "compared with"]].to_numpy().tolist()


@pytest.mark.parametrize(("row", "pair"), list(zip(rows("student"), ASKED, strict=True)))
def test_the_answer(row, pair):
    _, _, mean, ahead, heads = row
    found = differences(*pair)
    test, people = found["test"], found["people"]
    assert len(test) == 9
    assert numbers(mean) == [pytest.approx(test.mean(), abs=0.0051)]
    assert ahead == f"{(test > 0).sum()} of 9"
    assert len(people) == 3 and numbers(heads) == [pytest.approx(people.mean(), abs=0.0051)]


def test_what_longer_training_gains():
    both = differences("distilled", "student") - differences("distilled", "student_compute")
    said = re.search(r"longer training gains (\S+) dB \(real\s+heads: (\S+)\)", README).groups()
    assert numbers(" ".join(said)) == [pytest.approx(both[name].mean(), abs=0.0051) for name in ("test", "people")]
    assert (differences("student_compute", "teacher")["test"] > 0).sum() == 6 and "six of nine settings" in README


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
