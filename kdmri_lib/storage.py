"""Writing files whole or not at all, and recognising a file that has changed since it was written."""

import errno
import glob
import hashlib
import json
import os
import re
import socket
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from kdmri_lib.errors import StudyError, UnwritableError

PROJECT = Path(__file__).resolve().parents[1]
# No space, quota, too large; no permission, read-only.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)
HOST = socket.gethostname()
CHECKED_MAGIC = b"kdmri-checked-1\n"


@contextmanager
def atomic_write(path: Path):
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it otherwise.

    `UnwritableError` when the disk is full or the folder can't be written; what stood at `path` before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{HOST}-{os.getpid()}.partial.{_short(path)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if number is None and (told := re.search(r"errno = (\d+)", str(error))):  # HDF5 tells it in words
            number = int(told[1])
        if number in UNWRITABLE:
            raise UnwritableError(f"{path}: can't be written ({os.strerror(number)}); nothing was replaced") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def _short(path: Path) -> str:
    """What a temporary name has of `path`: a digest, since whole names get too long, and the suffixes, which tell writers
    the format."""
    return hashlib.sha256(path.name.encode()).hexdigest()[:16] + "".join(path.suffixes[-2:])[-32:]


def reserve(path: Path, size: int) -> None:
    """Make `path` a file of that many bytes; `OSError` when they don't fit, as far as the system can tell beforehand."""
    with Path(path).open("wb") as file:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)


def _remove_abandoned(path: Path) -> None:
    """Remove what a process of this machine was writing beside `path` when it was killed."""
    for left in path.parent.glob(f".{HOST}-*.partial.{glob.escape(_short(path))}"):
        writer = left.name.removeprefix(f".{HOST}-").partition(".")[0]
        if not writer.isdigit():
            continue  # of another machine, whose name begins like this one's
        with suppress(psutil.NoSuchProcess):
            # One that has ended and that nobody has asked about isn't at work.
            if psutil.Process(int(writer)).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                continue
        left.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value) -> None:
    """Write a JSON file whole or not at all, its keys in order."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: Path):
    """Read a JSON file; `StudyError` names the file when it is missing or isn't JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a JSON file, or cut short ({error})") from None


def write_checked(path: Path, payload: bytes) -> None:
    """Write `payload` behind its own SHA-256, so that `read_checked` can refuse a damaged file."""
    write_bytes(path, CHECKED_MAGIC + hashlib.sha256(payload).digest() + payload)


def read_checked(path: Path) -> bytes:
    """Return the payload of a file from `write_checked`; `StudyError` when it is cut short, altered or of another kind."""
    content = Path(path).read_bytes()
    payload = content[len(CHECKED_MAGIC) + 32 :]
    if not content.startswith(CHECKED_MAGIC + hashlib.sha256(payload).digest()):
        raise StudyError(
            f"{path}: damaged or not a KD-MRI checkpoint (its checksum is wrong); delete it and the run begins anew"
        )
    return payload


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
