"""The errors that users see without a traceback."""


class StudyError(Exception):
    """Bad input or a bad state of files; the message names the thing, what was found and what was expected."""


class UnwritableError(StudyError):
    """A file couldn't be written: no space, no permission. Nothing is wrong with what was to be in it."""


class NotFiniteError(StudyError):
    """Numbers went wrong: a loss, weights or a reconstruction with NaN or infinite values.

    That is a run's result, and recorded as such: where its numbers would stand there is a hole.

    Attributes
    ----------
    rows : validations so far, as in a run's curve, and the step that it ended at.
    """

    def __init__(self, message: str, rows: list[dict] | None = None):
        super().__init__(message)
        self.rows = rows or []


class StoppedError(Exception):
    """Training was asked to stop; the checkpoint holds all that was done."""
