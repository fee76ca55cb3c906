"""Batches: every slice once an epoch, strips of their slices, the same for the same seed and step."""

import numpy as np
import pytest
import torch

from kdmri_lib.batches import Batches
from kdmri_lib.channels import as_channels, as_image


@pytest.mark.parametrize("batch", [3, 5, 17])
def test_batches_visit_every_slice_once_an_epoch_each_in_another_order(batch):
    """Also across the end of an epoch, and where a batch is larger than one."""
    batches = Batches(torch.arange(12.0).reshape(12, 1, 1, 1), batch=batch, seed=5)
    stream = [int(v) for step in range(12) for v in batches(step).flatten()]
    epochs = [stream[e : e + 12] for e in range(0, 12 * batch, 12)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * batch and epochs[0] != epochs[1]


@pytest.mark.parametrize(("axis", "extent"), [(2, 6), (3, 10)])
def test_every_strip_that_fits_is_drawn_and_of_the_chosen_slices_and_what_else_is_known_is_cut_alike(axis, extent):
    images = torch.arange(2 * 6 * 10.0).reshape(2, 1, 6, 10)
    batches, starts = Batches(images, batch=2, seed=0, strip=4, axis=axis), set()
    for step in range(60):
        for strip, number in zip(batches(step), batches.chosen(step), strict=True):
            start = int(strip.flatten()[0] - images[number].flatten()[0]) // (10 if axis == 2 else 1)
            assert torch.equal(strip, images[number].narrow(axis - 1, start, 4))
            starts.add(start)
        both = batches.cut(torch.cat([images, -images], dim=1), step)
        assert torch.equal(both, torch.cat([batches(step), -batches(step)], dim=1))
    assert starts == set(range(extent - 4 + 1))


@pytest.mark.parametrize("strip", [None, 10, 11])
def test_a_strip_as_wide_as_the_image_is_the_image(strip):
    images = torch.rand(3, 1, 6, 10)
    batches = Batches(images, batch=2, seed=0, strip=strip)
    assert torch.equal(batches(4), images[batches.chosen(4)])


COMPLEX = np.random.default_rng(0).standard_normal((2, 5, 6, 10)).astype(np.float32)
COMPLEX = (COMPLEX[0] + 1j * COMPLEX[1]).astype(np.complex64)


def angles_of(batches, step):
    """The phase that each sample was turned by, from the samples themselves, and how far it is from being one angle."""
    images = as_image(as_channels(COMPLEX)[batches.chosen(step)])
    ratio = as_image(batches(step)) / images
    np.testing.assert_allclose(np.abs(ratio), 1, rtol=1e-4)
    np.testing.assert_allclose(ratio, ratio[:, :1, :1] * np.ones_like(ratio), rtol=1e-3)
    return np.angle(ratio[:, 0, 0])


def test_complex_samples_are_each_turned_by_a_phase_of_their_own_that_covers_the_circle():
    batches = Batches(as_channels(COMPLEX), batch=4, seed=0)
    angles = np.concatenate([angles_of(batches, step) for step in range(100)])
    counts, _ = np.histogram(angles, bins=8, range=(-np.pi, np.pi))
    assert len(np.unique(angles.round(4))) > 390 and (abs(counts - 50) < 30).all()


@pytest.mark.parametrize("images", [torch.rand(7, 1, 6, 10), as_channels(COMPLEX)])
def test_a_batch_with_its_phases_is_a_function_of_seed_and_step_alone(images):
    forwards, backwards, other = (Batches(images, batch=3, seed=s, strip=4) for s in (1, 1, 2))
    first = [forwards(step) for step in range(20)]
    again = [backwards(step) for step in reversed(range(20))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(value, other(step)) for step, value in enumerate(first))


def test_what_begins_with_the_image_is_turned_with_it_and_the_rest_stays():
    batches = Batches(as_channels(COMPLEX), batch=3, seed=0, strip=4)
    answers = torch.cat([2 * as_channels(COMPLEX), as_channels(np.abs(COMPLEX))], dim=1)
    cut = batches.cut(answers, 5)
    shown = batches.phased(cut, 5)
    torch.testing.assert_close(shown[:, :2], 2 * batches(5))
    assert torch.equal(shown[:, 2:], cut[:, 2:])
    torch.testing.assert_close(shown[:, 2:], batches(5).norm(dim=1, keepdim=True))
