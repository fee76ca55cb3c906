"""What lies in a folder of images: one rule for every source.

What systems leave beside people's files is passed over: hidden files and folders, macOS's side-cars (``._scan.nii.gz``,
``__MACOSX``), the trash and thumbnails of network drives. Links are followed, but not back to a folder above. A folder
that is named as a file (``scan.nii/any.nii``, as some unpackers leave it) and holds one image is that image. Label maps go
by their names: they are no images, nor is anybody's ``derivatives`` another person (BIDS). Everything else is looked at,
and the source says what it recognises.
"""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kdmri_lib.datasets.cohort import in_order
from kdmri_lib.datasets.reading import reading
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT

NIFTI = (".nii", ".nii.gz")
OF_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "Icon\r"}
LABELS = re.compile(
    r"(a|d|prob)?seg(m|s|mentations?)?|masks?|label(s|map|maps)?(for(training|testing))?|gt|(ground)?truth|parcellations?"
)
LABELS_IN_FRONT = re.compile(r"seg(mentations?)?|masks?|labels?")
OF_LABELS = re.compile(r"(labels|masks|segmentations|ground[-_ ]?truth)(tr|ts)?|derivatives")  # folders
NO_TEXT = re.compile("[\ud800-\udfff]")  # bytes of another encoding, as old archives hold them


class Entry(NamedTuple):
    """A file of a download: `place` is the path below the folder that it counts as, `file` what is opened."""

    place: Path
    file: Path

    @property
    def bare(self) -> Path:
        """`place` without the ending that says what kind of file it is."""
        return self.place.with_name(without_ending(self.place.name))


def without_ending(name: str) -> str:
    """A file's name without its ending; ``.nii.gz`` is one."""
    return PurePosixPath(re.sub(r"(?i)\.nii\.gz$", ".nii", name)).stem


def ends_in(name: str, endings: Sequence[str]) -> bool:
    """Whether a name ends in one of these, in capitals or not."""
    return name.lower().endswith(tuple(endings))


def is_label_map(place: Path) -> bool:
    """Whether a NIfTI file's name, or a folder's that it lies in, says that it holds labels, or a copy of somebody's image:
    its last word (``x_seg``, ``x_brain_mask``, ``patient001_frame01_gt``), or its first (``label_001``)."""
    *folders, name = place.parts
    named = [name, *(folder for folder in folders if ends_in(folder, NIFTI))]
    return any(map(_of_labels, named)) or any(OF_LABELS.fullmatch(folder.lower()) for folder in folders)


def _of_labels(name: str) -> bool:
    words = [re.sub(r"\d+$", "", word) for word in re.split(r"[-_.\s]+", without_ending(name).lower())]
    words = [word for word in words if word] or [""]
    return bool(LABELS_IN_FRONT.fullmatch(words[0]) or LABELS.fullmatch(words[-1]))


def folder_of(dataset: Dataset) -> Path:
    """The absolute folder of a download, relative ones below the project; `StudyError` when none is named or there."""
    if not dataset.folder:
        raise StudyError(f"data set '{dataset.name}': source {dataset.source} needs folder")
    folder = PROJECT / dataset.folder
    if not folder.is_dir():
        raise StudyError(f"data set '{dataset.name}': no folder {folder}; data/README.md says how to get the images")
    return folder


def files_of(dataset: Dataset, endings: Sequence[str]) -> list[Entry]:
    """The files of a data set's download, as `files_in` finds them."""
    return files_in(folder_of(dataset), endings, dataset.pattern)


def files_in(folder: Path, endings: Sequence[str] = (), pattern: str | None = None) -> list[Entry]:
    """The files of a download that end in one of `endings` (all where there are none), in the order of their places.

    `pattern` : glob that `place` must match; ``**`` stands for any number of folders. `StudyError` when a folder may not be
    read, a name isn't text, one volume is there under two endings (``x.nii``, ``x.nii.gz``), or one file twice, by a link.
    """
    found = [entry for entry in _matching(folder, endings, pattern) if not (endings and is_label_map(entry.place))]
    seen: dict[str | Path, Entry] = {}
    for entry in found:
        names = {entry.bare: ("volume", "by their names", "one file of each volume (remove one")} if endings else {}
        links = {os.path.realpath(entry.file): ("file", "by a link", "each once (remove the link")}
        for key, (what, how, expected) in (names | links).items():
            if (other := seen.setdefault(key, entry)) != entry:
                raise StudyError(
                    f"{folder / entry.place}: the same {what} as {folder / other.place}, {how}; expected {expected}, or "
                    "give a pattern)"
                )
    return found


def label_maps(folder: Path, endings: Sequence[str] = NIFTI, pattern: str | None = None) -> list[Path]:
    """The places of what `files_in` passes over, as label maps or copies, by their names."""
    return [entry.place for entry in _matching(folder, endings, pattern) if is_label_map(entry.place)]


def _matching(folder: Path, endings: Sequence[str], pattern: str | None) -> list[Entry]:
    wanted = PurePosixPath(pattern or "**/*").parts
    if ".." in wanted or (wanted and wanted[0] == "/"):
        raise StudyError(f"pattern '{pattern}': leads out of {folder}; expected a glob below it")
    entries = [entry for entry in _walk(folder, Path(), endings, ()) if _matches(entry.place.parts, wanted)]
    return in_order(entries, key=lambda entry: entry.place)


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[n:], wanted[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])


def _walk(folder: Path, place: Path, endings: Sequence[str], above: tuple[str, ...]) -> Iterator[Entry]:
    """Every file below `folder`, which counts as `place`; `above`: the real paths of the folders that it is in."""
    above = (*above, os.path.realpath(folder))
    with reading(folder, "folder"):
        # A link to nothing is somebody's file, that isn't there; a device or a pipe is none.
        paths = [(path, path.is_dir(), path.is_file() or not path.exists()) for path in sorted(folder.iterdir())]
    for path, is_folder, is_file in paths:
        name, within = path.name, place / path.name
        if name.startswith(".") or name in OF_SYSTEMS or os.path.realpath(path) in above:
            continue
        if is_folder:
            inner = list(_walk(path, within, endings, above))
            images = [entry for entry in inner if not _of_labels(entry.place.name)]
            alone = endings and ends_in(name, endings) and len(images) == 1
            yield from [Entry(within, images[0].file)] if alone else inner
        elif is_file and ends_in(name, endings or ("",)):
            if NO_TEXT.search(str(within)):
                raise StudyError(f"{str(path)!a}: a name that isn't text in UTF-8; expected one that is: rename it")
            yield Entry(within, path)
