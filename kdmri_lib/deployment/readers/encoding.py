"""How k-space was encoded, by an ISMRMRD header in XML (Inati et al. 2017), which fastMRI's files carry too."""

from pathlib import Path
from typing import NamedTuple

import defusedxml
import defusedxml.ElementTree as ElementTree

from kdmri_lib.errors import StudyError


class Encoding(NamedTuple):
    """What a header says of one k-space.

    samples, lines : the encoded matrix along the readout and across it; k-space is padded to it with zeros.
    pixels : how many pixels along the readout the image has once oversampling is cut off.
    measured : first and one past the last line that the scan was to measure, counted with zero frequency at `lines` // 2.
    centre : the number of the line of zero frequency, as acquisitions count.
    spacing : (slice, readout, across) in mm of the encoded voxels.
    trajectory : "cartesian" or another.
    coils : how many receivers it says that there were; 0 where it doesn't say.
    """

    samples: int
    lines: int
    pixels: int
    measured: tuple[int, int]
    centre: int
    spacing: tuple[float, float, float]
    trajectory: str
    coils: int = 0


def encoding_of(header: str | bytes, path: Path) -> Encoding:
    """The first encoding of a header; `StudyError` when it can't be read, or contradicts itself."""
    try:
        tree = ElementTree.fromstring(header)
        space = tree.find(".//{*}encoding")
        encoded, wanted = (
            {
                (part, axis): float(space.find(f"{{*}}{name}/{{*}}{part}/{{*}}{axis}").text)
                for part in ("matrixSize", "fieldOfView_mm")
                for axis in "xyz"
            }
            for name in ("encodedSpace", "reconSpace")
        )
        limits = space.find("{*}encodingLimits/{*}kspace_encoding_step_1")
        numbers = limits is not None and [int(limits.find(f"{{*}}{n}").text) for n in ("minimum", "maximum", "center")]
        trajectory = space.find("{*}trajectory")
        receivers = tree.find("{*}acquisitionSystemInformation/{*}receiverChannels")
        coils = 0 if receivers is None else int(receivers.text)
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"{path}: its ISMRMRD header can't be read ({error})") from None
    samples, lines, slices = (int(encoded["matrixSize", axis]) for axis in "xyz")
    fields = [encoded["fieldOfView_mm", axis] for axis in "xyz"]
    if min(samples, lines, slices, *fields, wanted["fieldOfView_mm", "x"]) <= 0:
        raise StudyError(f"{path}: its ISMRMRD header says {samples} x {lines} x {slices} points of {fields} mm")
    pixels = min(samples, round(samples * wanted["fieldOfView_mm", "x"] / fields[0]))
    first, last, centre = numbers or (0, lines - 1, lines // 2)
    start = lines // 2 - centre
    measured = (start + first, start + last + 1)
    if not 0 <= measured[0] < measured[1] <= lines:
        raise StudyError(
            f"{path}: its ISMRMRD header says lines {first} to {last} about {centre}, which don't fit in its {lines}"
        )
    spacing = (fields[2] / slices, fields[0] / samples, fields[1] / lines)
    kind = "cartesian" if trajectory is None else str(trajectory.text).strip().lower()
    return Encoding(samples, lines, pixels, measured, centre, spacing, kind, coils)
