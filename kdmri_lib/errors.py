"""The errors that users see without a traceback."""


class StudyError(Exception):
    """Bad input or a bad state of files; the message names the thing, what was found and what was expected."""


class Stopped(Exception):
    """Training was asked to stop; the checkpoint holds all that was done."""
