"""Speed on this machine: of training steps, beside plain ones and by loss; or of inference at 640x368, batch 1."""

import argparse

from kdmri_lib.masks import published_mask
from kdmri_study.runs import processor_name


def main() -> None:
    """Measure what the arguments ask for, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=["training", "inference"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each number")
    given = parser.parse_args()
    if given.what == "training":
        from benchmarks.training import training_times

        table = training_times(given.threads, given.seconds)
    else:
        from benchmarks.inference import inference_times  # needs the optional packages of [deploy]

        table = inference_times(published_mask("knee", 4), [(given.threads, 1)], given.seconds)
    print(f"{processor_name()}; {given.threads} threads; medians\n{table.round(2).to_string(na_rep='')}")


if __name__ == "__main__":
    main()
