"""Commands of the library: ``python -m kdmri_lib --help``. The study's are ``python -m kdmri_study --help``."""

import argparse
import contextlib
import errno
import sys
from pathlib import Path

from kdmri_lib.errors import StoppedError, StudyError


def reconstruct(arguments) -> None:
    """Reconstruct a scan (fastMRI, ISMRMRD, MATLAB, .npy, BART; images, for a trial) with an exported network."""
    from dataclasses import fields

    from kdmri_lib.deployment import Model
    from kdmri_lib.deployment.reconstruct import How, reconstruct_file

    given = vars(arguments)
    model = Model(arguments.model, **{name: given[name] for name in ("engine", "precision", "threads", "device")})
    about = model.about
    weights = "" if about["precision"] == "float32" else f", weights in {about['precision']}"
    print(
        f"{about['dataset']} {about['acceleration']:g}x, run {about['run']}; {model.engine} in {model.precision}{weights}"
    )
    how = How(**{field.name: given[field.name] for field in fields(How)})
    done = reconstruct_file(model, arguments.input, arguments.output, how, arguments.force, arguments.figures)
    print("\n".join([*done, f"written: {arguments.output}"]))


def main() -> int:
    """Run the command that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m kdmri_lib", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser("reconstruct", help=reconstruct.__doc__, description=reconstruct.__doc__)
    sub.set_defaults(function=reconstruct)
    add = sub.add_argument
    add("--model", required=True, help="file from `export`")
    kinds = "k-space: HDF5 (fastMRI, ISMRMRD), .mat, .npy, .cfl; images: NIfTI, HDF5"
    add("--input", required=True, type=Path, help=kinds)
    add("--output", required=True, type=Path, help="an HDF5 file; a NIfTI file where the input is one")
    # Those of orders.ORDERS, whose module takes seconds to import.
    orders = ["auto", "unshifted", "shifted", "centred", "corners"]
    add("--order", default="auto", choices=orders, help="of k-space; auto finds it in the data")
    add("--axes", default="", help="what an array's axes are: S slices, C coils, H rows, W columns; e.g. HWC")
    add("--coils", default="rss", choices=["rss", "espirit"], help="root sum of squares, or ESPIRiT's maps")
    add("--sensitivities", type=Path, help="file of the coils' sensitivities, in HDF5 called so, to combine them with")
    add("--complex", action="store_true", help="write the complex image, with its phase")
    add("--remove-phase", action="store_true", help="magnitude models: take the smooth phase off first")
    add("--undersample", action="store_true", help="the input is fully sampled; keep the model's lines alone")
    add("--batch", type=int, default=4)
    add("--engine", default="auto", choices=["auto", "openvino", "onnxruntime"])
    add("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--threads", type=int, default=0, help="all cores when 0")
    add("--figures", type=Path, help="folder for a PNG of each volume")
    add("--force", action="store_true", help="replace the output")
    return run(parser)


def run(parser: argparse.ArgumentParser) -> int:
    """Parse and run a command; its exit status. What is wrong is said in a line."""
    arguments = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # people's paths hold letters that a terminal's encoding may not have
        sys.stdout.reconfigure(errors="backslashreplace")
    status = 1
    try:
        arguments.function(arguments)
        return 0
    except StudyError as error:
        said = error
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("kdmri_lib", "kdmri_study", "benchmarks"):
            raise
        said = f"this needs the package {error.name}, which isn't installed: pip install -e '.[deploy,dicom,scanner]'"
    except OSError as error:
        from kdmri_lib.storage import UNWRITABLE

        if error.errno not in (*UNWRITABLE, errno.ENAMETOOLONG):
            raise
        said = f"{error.filename}: {error.strerror}; nothing was replaced"
    except KeyboardInterrupt:
        said, status = "interrupted; the same command goes on from the last checkpoint", 130
    except StoppedError as error:
        said, status = error, 130
    print(f"kdmri: {said}", file=sys.stderr)
    return status


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
