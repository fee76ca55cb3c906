"""What all tables of a profile follow from, in one file: declarations, records, curves and metrics of its runs, no weights.

`results/<profile>/evidence.tar.xz` is committed, so that whoever has the repository can check every table without training.
"""

import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write
from kdmri_study.experiments.part import PARTS
from kdmri_study.metrics import untrained_folder
from kdmri_study.runs import CURVE, SLICES, VOLUMES, RunFolder
from kdmri_study.study import Study

NAME = "evidence.tar.xz"
OF_RUN = ("declaration.json", "run.json", CURVE, VOLUMES, SLICES)
OF_UNTRAINED = ("inputs.json", VOLUMES, SLICES)


def evidence_file(study: Study) -> Path:
    """Where a study's evidence lies."""
    return study.results / NAME


def untrained_folders(study: Study) -> Iterator[Path]:
    """Where the metrics of all methods without training lie that a table shows."""
    for cell in study.cells:
        yield untrained_folder(study, study.dataset(cell.dataset), cell.degradation, "zero_filled")
    for name in study.profile.experiments:
        seed = study.experiment_seeds(name)[0]
        for part in map(PARTS.find, study.experiment_parts(name)):
            run = next(iter(study.experiment_rows(name, part.name, seed).values())).run
            for method in part.untrained if part.tabled else ():
                yield untrained_folder(study, run.dataset, run.degradation, method)


def write_evidence(study: Study) -> Path:
    """Write the evidence of a study whose runs are finished; the same runs give the same bytes."""
    files = [RunFolder(study, run).path / name for run in study.runs.values() for name in OF_RUN]
    files += [folder / name for folder in set(untrained_folders(study)) for name in OF_UNTRAINED]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files):
            content = file.read_bytes()
            about = tarfile.TarInfo(file.relative_to(study.results).as_posix())  # of no owner and no time
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    with atomic_write(evidence_file(study)) as temporary:
        temporary.write_bytes(lzma.compress(buffer.getvalue()))
    return evidence_file(study)


def unpacked(study: Study, folder: Path) -> Study:
    """The same study in another, empty folder, with its evidence in place of its runs.

    Raises
    ------
    StudyError
        When there is no evidence, it is damaged, or it holds other runs than the profile declares.
    """
    path, there = evidence_file(study), Study(study.source, folder)
    try:
        # Whole first: a tar stops reading at its end, before the checks of the last block.
        content = io.BytesIO(lzma.decompress(path.read_bytes()))
        with tarfile.open(fileobj=content, mode="r") as archive:
            archive.extractall(there.results, filter="data")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; ./run_all.sh --profile {study.name} makes it") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise StudyError(f"{path}: damaged or cut short ({error})") from None
    missing = [run for run in there.runs if not (there.results / "runs" / run / "run.json").exists()]
    if missing:
        raise StudyError(
            f"{path}: {len(missing)} of the {len(there.runs)} runs that the profile declares aren't in it; the first: "
            f"{missing[0]}"
        )
    return there
