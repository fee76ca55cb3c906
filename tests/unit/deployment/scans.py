"""Scans with known content: an object with phase, simulated coils, and one volume in every format, written by each format's
own rules. Nothing here uses the code under test."""

from pathlib import Path

import h5py
import ismrmrd
import numpy as np

from kdmri_lib.deployment import Model
from tests.downloads import save_matlab73

FORMATS = {
    "fft2": lambda image: np.fft.fft2(image, norm="ortho"),
    "fftshift(fft2)": lambda image: shifted(np.fft.fft2(image, norm="ortho")),
    "fftshift(fft2(ifftshift))": lambda image: shifted(np.fft.fft2(unshifted(image), norm="ortho")),
    "fft2(ifftshift)": lambda image: np.fft.fft2(unshifted(image), norm="ortho"),
}
centred = FORMATS["fftshift(fft2(ifftshift))"]


def shifted(values: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(values, axes=(-2, -1))


def unshifted(values: np.ndarray) -> np.ndarray:
    return np.fft.ifftshift(values, axes=(-2, -1))


def grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows' and columns' places, -1 to 1."""
    return tuple(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))


def objects(slices: int = 3, shape: tuple[int, int] = (48, 40)) -> np.ndarray:
    """(slices, H, W) float64 magnitudes: ellipses within one off the middle, without symmetry, in an empty field."""
    rows, columns = grid(shape)
    moved = columns - 0.05 * np.arange(slices)[:, None, None]
    images = 0.6 * ((rows + 0.1) ** 2 / 0.5 + moved**2 / 0.4 < 1)
    images += 0.4 * ((rows - 0.2) ** 2 / 0.05 + (columns + 0.25) ** 2 / 0.02 < 1)
    return images + 0.2 * ((rows + 0.3) ** 2 / 0.03 + (columns - 0.2) ** 2 / 0.06 < 1)


def smooth_phase(shape: tuple[int, int], radians: float) -> np.ndarray:
    """exp(i phase), a phase that is quadratic over the field of view, from -`radians` to `radians` at most."""
    rows, columns = grid(shape)
    field = 0.7 * rows + 0.4 * columns * rows - columns**2
    return np.exp(1j * radians * (field - field.mean()) / np.abs(field - field.mean()).max())


def sensitivities(shape: tuple[int, int], coils: int = 4) -> np.ndarray:
    """(coils, H, W) complex: Gaussians around the field of view, each with a phase of its own; of modulus 1 together."""
    (rows, columns), number = grid(shape), np.arange(coils)[:, None, None]
    angle = 2 * np.pi * number / coils
    distance = (rows - np.sin(angle)) ** 2 + (columns - np.cos(angle)) ** 2
    phase = 0.7 * number + 0.8 * (np.cos(angle) * rows - columns * np.sin(angle))
    maps = np.exp(-distance / 2 + 1j * phase)
    return maps / np.linalg.norm(maps, axis=0)


class StandIn(Model):
    """A network that gives back the zero-filled image, of either domain, for the mask of these lines."""

    def __init__(self, lines: np.ndarray, shape: tuple[int, int], axis: int = 1, domain: str = "complex"):
        self.lines, self.shape, self.axis, self.domain = lines, shape, axis, domain
        self.path, self.engine, self.about = Path("stand-in.onnx"), "none", {"run": "stand-in"}

    def restore(self, zero_filled: np.ndarray, scale: float) -> np.ndarray:
        return zero_filled if self.domain == "complex" else np.abs(zero_filled)


def every_other_line(size: int, centre: int = 10) -> np.ndarray:
    """Lines of an undersampling mask, boolean (N,), unshifted: `centre` about zero frequency and every third beyond."""
    frequency = np.fft.fftfreq(size, 1 / size)
    return ((frequency >= -(centre // 2)) & (frequency < centre // 2)) | (frequency % 3 == 0)


def header(shape: tuple[int, int], pixels: int = 0, limits: tuple[int, int, int] | None = None) -> str:
    """An ISMRMRD header of an encoded (readout, lines), its image `pixels` along the readout, 1 mm each."""
    samples, lines = shape
    step = ""
    if limits:
        inner = "<minimum>{}</minimum><maximum>{}</maximum><center>{}</center>".format(*limits)
        step = f"<encodingLimits><kspace_encoding_step_1>{inner}</kspace_encoding_step_1></encodingLimits>"
    spaces = "".join(
        f"<{name}><matrixSize><x>{size}</x><y>{lines}</y><z>1</z></matrixSize>"
        f"<fieldOfView_mm><x>{size}</x><y>{lines}</y><z>5</z></fieldOfView_mm></{name}>"
        for name, size in (("encodedSpace", samples), ("reconSpace", pixels or samples))
    )
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
        "<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions><encoding>"
        f"{spaces}{step}<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def save_fastmri(path: Path, kspace: np.ndarray, xml: str | None = None, **more) -> None:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        if xml:
            file["ismrmrd_header"] = xml
        file.update(more)
        file.attrs["patient"] = "somebody"


def save_ismrmrd(path: Path, kspace: np.ndarray, xml: str, centre: int | None = None, **more) -> None:
    """Readouts of centred k-space (slices, coils, readout, lines), of the lines alone that hold anything, out of order; a
    noise measurement first. `more` of each readout's header."""
    lines = kspace.shape[-1]
    noise = ismrmrd.Acquisition.from_array(np.ones(kspace.shape[1:3], np.complex64))
    noise.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    readouts = [noise]
    for line in np.random.default_rng(0).permutation(lines):
        for number, one in enumerate(kspace):
            if not one[..., line].any():
                continue
            samples = np.ascontiguousarray(one[..., line])
            readout = ismrmrd.Acquisition.from_array(samples, center_sample=one.shape[1] // 2)
            readout.idx.slice = number
            readout.idx.kspace_encode_step_1 = line if centre is None else line + centre - lines // 2
            for name, value in more.items():
                setattr(readout if hasattr(readout, name) else readout.idx, name, value)
            readouts.append(readout)
    with ismrmrd.Dataset(str(path), mode="w") as file:
        file.write_xml_header(xml)
    with ismrmrd.File(path) as file:
        file["dataset"].acquisitions = readouts


def as_in_matlab(kspace: np.ndarray) -> np.ndarray:
    """(slices, [coils,] H, W) as MATLAB users have it: (H, W, [coils,] slices)."""
    return np.moveaxis(kspace, (-2, -1), (0, 1)).swapaxes(2, -1)


def save_bart(path: Path, kspace: np.ndarray) -> None:
    """(slices, coils, H, W) as x.hdr and x.cfl: the first of 16 axes fastest."""
    slices, coils, height, width = kspace.shape
    sizes = [height, width, 1, coils, *[1] * 9, slices, 1, 1]
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, sizes)) + " \n")
    kspace.transpose(2, 3, 1, 0).astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))


def save_every_format(folder: Path, kspace: np.ndarray) -> dict[str, Path]:
    """The same centred k-space (slices, coils, H, W) in all formats; a single coil without an axis where that may be."""
    plain = kspace[:, 0] if kspace.shape[1] == 1 else kspace
    xml = header(kspace.shape[2:])
    paths = {name: folder / f"scan.{ending}" for name, ending in (("MATLAB", "mat"), ("NumPy", "npy"), ("BART", "cfl"))}
    paths |= {"fastMRI": folder / "fastmri.h5", "ISMRMRD": folder / "ismrmrd.h5"}
    save_matlab73(paths["MATLAB"], "kspace", as_in_matlab(plain))
    np.save(paths["NumPy"], plain)
    save_bart(paths["BART"], kspace)
    lines = kspace.any(axis=(0, 1, 2))
    save_fastmri(paths["fastMRI"], plain, xml, mask=lines)
    save_ismrmrd(paths["ISMRMRD"], kspace, xml)
    return paths


CENTRED = centred(objects(2, (24, 20))[:, None] * sensitivities((24, 20), 3)).astype(np.complex64)
