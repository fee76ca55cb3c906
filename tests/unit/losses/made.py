"""Predictions made by code, and each loss with options to try it with."""

import torch

from kdmri_lib.losses.base import Loss, Prediction, build_loss

PAIRS = [("t1", "s1"), ("t2", "s2")]
OPTIONS = {
    "attention_transfer": {"pairs": PAIRS},
    "attentive_hint": {"pairs": PAIRS},
    "correlation_congruence": {"pairs": PAIRS},
    "fitnets": {"pairs": PAIRS},
    "fsp": {"flows": [("t1", "t2", "s1", "s2")]},
    "held_out_lines": {},
    "imitation": {"alpha": 0.3},
    "reconstruction": {},
    "similarity_preserving": {"pairs": PAIRS},
    "student_friendly": {"branches": ["s1", "s2"]},
}
FEATURE_LOSSES = sorted(n for n in OPTIONS if "pairs" in OPTIONS[n] or "flows" in OPTIONS[n])
ERRORS = torch.tensor([0.0, 0.5])  # the teacher's over the training set: eta is 0.5


def predictions(
    seed: int = 0, batch: int = 3, teacher_channels: int = 5, student_channels: int = 2
) -> tuple[torch.Tensor, Prediction, Prediction]:
    """A target, what a student gave with features s1 and s2, and what a teacher gave with t1 and t2."""
    rng = torch.Generator().manual_seed(seed)

    def make(names, channels):
        features = {n: torch.randn(batch, channels, 4, 6, generator=rng).relu().requires_grad_() for n in names}
        return Prediction(torch.rand(batch, 1, 4, 6, generator=rng).requires_grad_(), features)

    return (
        torch.rand(batch, 1, 4, 6, generator=rng),
        make(["s1", "s2"], student_channels),
        make(["t1", "t2"], teacher_channels),
    )


def made(loss: str, **more) -> Loss:
    """A loss with its options, and more of them, which has seen the teacher's errors."""
    built = build_loss(loss, **OPTIONS[loss], **more)
    built.prepare(ERRORS)
    return built
