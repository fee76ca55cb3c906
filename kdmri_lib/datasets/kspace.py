"""From k-space, in whichever order a file has it, to the images of a data set's slices."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kdmri_lib.coils import complex_image
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.values import measured_whole
from kdmri_lib.declarations import Dataset
from kdmri_lib.fourier import magnitude_image, root_sum_of_squares, to_image
from kdmri_lib.orders import ORDERS, check_slices, from_order, sampled, the_order, to_order


def slice_images(
    dataset: Dataset,
    read: Callable[[int], np.ndarray],
    slices: Sequence[int],
    usual: str,
    where: Callable[[int], str],
    centre: Callable[[slice, slice], np.ndarray] | None = None,
    combine: Callable[[int, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Images of slices, (slices, *dataset.shape): the coils' root sum of squares, float32; of a complex data set their
    complex image (`kdmri_lib.coils`), complex64. `StudyError` for what is no k-space, shows no order, has slices
    that aren't transformed, or holes.

    Parameters
    ----------
    read : a slice's k-space (coils, H, W), one at a time, since all coils can be gigabytes.
    usual : the order that the source's files are in, where they show no other.
    where : what messages call a slice's file.
    centre : of all slices there are, (slices, ...), the values at these points of H and W; these slices' by default.
    combine : what combines a slice's k-space in the usual order to an image in another way.
    """
    held, order, images = {number: read(number) for number in sorted({*sampled(slices)})}, ORDERS[usual], []
    middle = where(slices[len(slices) // 2])
    found = ORDERS[the_order(np.stack([*held.values()]), "auto", middle, usual)]
    plane = next(iter(held.values())).shape[-2:]
    about = tuple(slice(n // 2 - 1, n // 2 + 2) if found.kspace_centred else slice(0, 2) for n in plane)
    said, seen = check_slices(centre(*about), middle) if centre else "", []
    for number in slices:
        kspace = held.pop(number) if number in held else read(number)
        if centre is None:
            seen.append(kspace[(..., *about)].copy())
        if found != order:
            kspace = to_order(from_order(kspace, found), order)
        measured_whole(kspace, where(number), order.kspace_centred)
        if combine is not None:
            image = combine(number, kspace)
        elif dataset.channels == 2:
            image = complex_image(from_order(kspace, order), where(number))
        else:
            coils = torch.from_numpy(kspace)
            image = magnitude_image(coils) if order.image_shifted else root_sum_of_squares(to_image(coils))
        images.append(padded(np.asarray(image), dataset.shape))
    said = said if centre else check_slices(np.stack(seen), middle)
    if said:
        warnings.warn(f"{middle}: {said}", stacklevel=2)
    return np.stack(images)
