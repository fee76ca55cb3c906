"""The page for people with networks of their own: every program on it runs as it stands, and does what it says."""

import re

import pytest
import torch

from kdmri_lib.storage import PROJECT

PAGE = (PROJECT / "docs" / "own_networks.md").read_text(encoding="utf-8")
PROGRAMS = {
    title: text
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    for text in re.findall(r"```python\n(.*?)```", body, flags=re.S)
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Executes a program in an empty folder; all names that it leaves."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)

    def executed(title: str) -> dict:
        found: dict = {}
        exec(compile(PROGRAMS[title], title, "exec"), found)
        return found

    return executed


def test_a_loss_on_two_tensors(run):
    """`tests/unit/losses` holds it to equation 3."""
    found = run("Which losses")
    assert found["value"].item() > 0 and found["mine"].grad.any()


def test_two_modules_are_distilled_and_a_second_start_goes_on(run, capsys):
    title = "Distil two modules"
    first = run(title)
    assert first["curve"]["training_loss"].is_monotonic_decreasing
    again = first["network"](8)
    again.load_state_dict(torch.load("small.pt", weights_only=True))
    given = first["physics"](first["validation"])
    assert torch.equal(again(given), first["small"](given)) and not torch.equal(again(given), first["alone"](given))
    assert "'3': (1, 8, 64, 64)" in capsys.readouterr().out
    second = run(title)
    assert torch.equal(second["small"](given), first["small"](given))
    assert second["curve"].equals(first["curve"])


def test_the_onnx_file_computes_the_same_for_any_number_of_images(run):
    found = run("Export to ONNX")
    given = torch.rand(5, 2, 64, 64), (torch.rand(5, 64, 64) < 0.3).float()
    named = zip(found["session"].get_inputs(), given, strict=True)
    (image,) = found["session"].run(None, {x.name: value.numpy() for x, value in named})
    torch.testing.assert_close(torch.from_numpy(image), found["small"](*given).detach(), rtol=1e-4, atol=1e-5)


def test_losses_of_ones_own(run, capsys):
    found = run("A loss of your own")
    one, other = found["one"].numpy(), found["other"].numpy()
    expected = abs((one[..., 1:] - one[..., :-1]) - (other[..., 1:] - other[..., :-1])).mean(), abs(one - other).mean()
    printed = re.findall(r"\d\.\d+", capsys.readouterr().out)
    assert [float(number) for number in printed] == pytest.approx(expected, abs=1e-4)
    assert len(PROGRAMS) == 4, "all of them run here"
