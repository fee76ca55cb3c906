"""Commands of the library: ``python -m kdmri_lib --help``. The study's are ``python -m kdmri_study --help``."""

import argparse
import contextlib
import errno
import sys

from kdmri_lib.errors import StoppedError, StudyError


def reconstruct(arguments) -> None:
    """Reconstruct a scan (fastMRI, ISMRMRD, MATLAB, .npy, BART; images, for a trial) with an exported network."""
    from pathlib import Path

    from kdmri_lib.deployment import Model
    from kdmri_lib.deployment.reconstruct import How, reconstruct_file

    model = Model(
        arguments.model, arguments.engine, arguments.precision, threads=arguments.threads, device=arguments.device
    )
    about = model.about
    weights = "" if about["precision"] == "float32" else f", weights in {about['precision']}"
    print(
        f"{about['dataset']} {about['acceleration']:g}x, run {about['run']}; {model.engine} in {model.precision}{weights}"
    )
    how = How(
        order=arguments.order,
        axes=arguments.axes,
        undersample=arguments.undersample,
        coils=arguments.coils,
        sensitivities=Path(arguments.sensitivities) if arguments.sensitivities else None,
        remove_phase=arguments.remove_phase,
        complex=arguments.complex,
        batch=arguments.batch,
    )
    figures = Path(arguments.figures) if arguments.figures else None
    done = reconstruct_file(model, Path(arguments.input), Path(arguments.output), how, arguments.force, figures)
    print("\n".join([*done, f"written: {arguments.output}"]))


def main() -> int:
    """Run the command that the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m kdmri_lib", description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, *options) -> None:
        sub = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        for name, about in options:
            sub.add_argument(name, **about)
        sub.set_defaults(function=function)

    orders = [
        "auto",
        "unshifted",
        "shifted",
        "centred",
        "corners",
    ]  # orders.ORDERS, whose module takes seconds to import
    order = ("--order", {"default": "auto", "choices": orders, "help": "of k-space; auto finds it in the data"})
    command(
        reconstruct,
        ("--model", {"required": True, "help": "file from `export`"}),
        (
            "--input",
            {
                "required": True,
                "help": "k-space: HDF5 (fastMRI, ISMRMRD), .mat, .npy, .cfl; images: NIfTI, HDF5",
            },
        ),
        ("--output", {"required": True, "help": "an HDF5 file; a NIfTI file where the input is one"}),
        order,
        ("--axes", {"default": "", "help": "what an array's axes are: S slices, C coils, H rows, W columns; e.g. HWC"}),
        (
            "--coils",
            {"default": "rss", "choices": ["rss", "espirit"], "help": "root sum of squares, or ESPIRiT's maps"},
        ),
        (
            "--sensitivities",
            {"default": "", "help": "file of the coils' sensitivities, in HDF5 called so, to combine them with"},
        ),
        ("--complex", {"action": "store_true", "help": "write the complex image, with its phase"}),
        ("--remove-phase", {"action": "store_true", "help": "magnitude models: take the smooth phase off first"}),
        ("--undersample", {"action": "store_true", "help": "the input is fully sampled; keep the model's lines alone"}),
        ("--batch", {"type": int, "default": 4}),
        ("--engine", {"default": "auto", "choices": ["auto", "openvino", "onnxruntime"]}),
        ("--precision", {"default": "auto", "choices": ["auto", "float32", "bfloat16"]}),
        ("--device", {"default": "cpu", "choices": ["cpu", "cuda"]}),
        ("--threads", {"type": int, "default": 0, "help": "all cores when 0"}),
        ("--figures", {"default": "", "help": "folder for a PNG of each volume"}),
        ("--force", {"action": "store_true", "help": "replace the output"}),
    )
    return run(parser)


def run(parser: argparse.ArgumentParser) -> int:
    """Parse and run a command; its exit status. What is wrong is said in a line."""
    arguments = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # people's paths hold letters that a terminal's encoding may not have
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments.function(arguments)
    except StudyError as error:
        print(f"kdmri: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("kdmri_lib", "kdmri_study", "benchmarks"):
            raise
        needed = "pip install -e '.[deploy,dicom,scanner]'"
        print(f"kdmri: this needs the package {error.name}, which isn't installed: {needed}", file=sys.stderr)
        return 1
    except OSError as error:
        from kdmri_lib.storage import UNWRITABLE

        if error.errno not in (*UNWRITABLE, errno.ENAMETOOLONG):
            raise
        print(f"kdmri: {error.filename}: {error.strerror}; nothing was replaced", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kdmri: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except StoppedError as error:
        print(f"kdmri: {error}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
