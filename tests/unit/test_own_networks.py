"""The page for people with networks of their own: every program on it runs as it stands, and does what it says."""

import re

import onnxruntime
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


def test_a_loss_on_two_tensors_is_equation_3(run):
    found = run("A loss on two of your tensors")
    maps = [found[name].detach().square().sum(dim=1).flatten(1) for name in ("mine", "theirs")]
    mine, theirs = (m / m.norm(dim=1, keepdim=True) for m in maps)
    assert found["value"].item() == pytest.approx((mine - theirs).norm(dim=1).mean().item(), rel=1e-5)
    assert found["mine"].grad.any()


def test_two_modules_are_distilled_and_the_file_goes_on(run, capsys):
    title = "Distil two modules"
    first = run(title)
    assert first["curve"]["training_loss"].is_monotonic_decreasing
    again = first["network"](8)
    again.load_state_dict(torch.load("small.pt", weights_only=True))
    given = first["physics"](first["validation"])
    assert torch.equal(again(given), first["small"](given))
    assert "'3': (1, 8, 64, 64)" in capsys.readouterr().out


def test_the_onnx_file_computes_the_same_for_any_number_of_images(run):
    found = run("Export to ONNX")
    given = torch.rand(5, 1, 64, 64)
    (image,) = onnxruntime.InferenceSession("small.onnx").run(None, {"input": given.numpy()})
    torch.testing.assert_close(torch.from_numpy(image), found["small"](given).detach(), rtol=1e-4, atol=1e-5)


def test_a_loss_of_ones_own(run, capsys):
    found = run("A loss of your own")
    one, other = found["one"].numpy(), found["other"].numpy()
    expected = abs((one[..., 1:] - one[..., :-1]) - (other[..., 1:] - other[..., :-1])).mean()
    assert float(re.search(r"[\d.]+", capsys.readouterr().out)[0]) == pytest.approx(expected, abs=1e-4)
    assert set(PROGRAMS) == {
        "A loss on two of your tensors",
        "Distil two modules",
        "Export to ONNX",
        "A loss of your own",
    }
