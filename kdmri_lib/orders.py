"""The orders that files have k-space in, in both domains: what they are, how to leave them, how to tell them from data."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdmri_lib.fourier import IMAGE_AXES, centred, to_image, uncentred


class Order(NamedTuple):
    """How k-space is laid out: is zero frequency in the middle (N // 2), or at index 0; was the image's middle moved to
    index 0 before the transform, as `ifftshift` does, or not."""

    kspace_centred: bool
    image_shifted: bool


ORDERS = {
    "unshifted": Order(False, False),  # fft2(image), as NumPy's users have it
    "shifted": Order(True, False),  # fftshift(fft2(image))
    "centred": Order(True, True),  # fftshift(fft2(ifftshift(image))): fastMRI, ISMRMRD, BART
    "corners": Order(False, True),  # fft2(ifftshift(image))
}
DECIDED = 4.0  # times that energy about the middle or about the corners is the larger, of one order
WINDOW = 16  # its share of each axis to both sides
ONE_SIDED = 0.2  # of -2 to 2; images of heads, hearts and knees that lie in the middle have 0.4 to 1.3
EVENLY = 3.0  # times that the energy of what is called k-space is spread wider than its transform's


def from_order(kspace: Tensor, order: Order) -> Tensor:
    """k-space (..., H, W) in an order that files have, as the study has it; zeros stay zeros."""
    kspace = uncentred(kspace) if order.kspace_centred else kspace
    if order.image_shifted:
        for axis in IMAGE_AXES:
            kspace = kspace * _half_turns(kspace.shape[axis], axis).to(kspace)
    return kspace


def to_order(kspace: Tensor, order: Order) -> Tensor:
    """Inverse of `from_order`."""
    if order.image_shifted:
        for axis in IMAGE_AXES:
            kspace = kspace * _half_turns(kspace.shape[axis], axis).conj().to(kspace)
    return centred(kspace) if order.kspace_centred else kspace


def _half_turns(size: int, axis: int) -> Tensor:
    """What moving an image by N // 2 along an axis is for its k-space: factors of modulus 1, signs where N is even."""
    turns = (torch.arange(size) * (size // 2) % size).double()
    factors = torch.exp(turns * (-2j * math.pi / size))
    factors = factors if size % 2 else factors.real.round() + 0j
    return factors.reshape(-1, *[1] * (-1 - axis))


def is_kspace_centred(kspace: Tensor) -> bool | None:
    """Whether zero frequency of k-space (..., H, W) is in the middle, by where its energy is; None for neither."""
    energy = _energy(kspace)
    middle, corner = (_about_middle(e) for e in (energy, centred(energy)))
    return None if max(middle, corner) <= DECIDED * min(middle, corner) else middle > corner


def _about_middle(energy: Tensor) -> float:
    for axis, size in enumerate(energy.shape):
        half = max(1, size // WINDOW)
        energy = energy.narrow(axis, size // 2 - half, 2 * half + 1)
    return float(energy.sum())


def is_image_shifted(kspace: Tensor) -> bool | None:
    """Whether the image of k-space (..., H, W), zero frequency wherever, lies about its corners and not its middle; None
    where its energy is on neither side.

    The sum over both axes of the first Fourier coefficient of the energy's distribution along the axis: its angle is where
    the energy's centre lies on the circle that a periodic axis is.
    """
    energy = _energy(to_image(kspace))
    sided = 0.0
    for axis, size in enumerate(energy.shape):
        profile = energy.sum(dim=1 - axis)
        sided += float((profile * torch.cos(2 * math.pi * torch.arange(size) / size)).sum() / profile.sum())
    return None if not abs(sided) > ONE_SIDED else sided > 0


def looks_like_images(kspace: Tensor) -> bool:
    """Whether what should be k-space (..., H, W) is images: an image's energy is spread, its transform's is not.

    Spread is the participation ratio of the energy, (sum e)^2 / (N sum e^2): 1 where it is even, 1 / N in one point.
    """

    def spread(energy: Tensor) -> float:
        return float(energy.sum() ** 2 / (energy.numel() * energy.square().sum()))

    return spread(_energy(kspace)) > EVENLY * spread(_energy(to_image(kspace)))


def _energy(values: Tensor) -> Tensor:
    """(H, W) float64: the squared moduli of (..., H, W), summed over all other axes."""
    return values.abs().double().square().reshape(-1, *values.shape[-2:]).sum(dim=0)


def cropped(kspace: Tensor, axis: int, size: int) -> Tensor:
    """k-space (..., H, W) of the middle `size` pixels of its image along axis -2 or -1, as where the readout was sampled
    more densely than the field of view needs."""
    image = torch.fft.ifft(kspace, dim=axis, norm="ortho")
    image = image.narrow(axis, kspace.shape[axis] // 2 - size // 2, size)
    return torch.fft.fft(image, dim=axis, norm="ortho")
