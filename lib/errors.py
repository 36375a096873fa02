"""Every error that crosses a layer; ``serving/server.py`` turns each into one HTTP status.

LabelRefineryError
    InvalidRequest              the request itself is malformed
    NotSignedIn                 the request needs a valid token
    NotAllowed                  this person's role does not allow the request
        ForeignHost  ForeignOrigin
    NotFound                    there is no such thing
        UnknownImage  UnknownAnnotation  UnknownModel  UnknownMethod  UnknownSession  UnknownJob
    StageConflict               the thing exists, but not in a state that allows this
        NoModelYet  NoAnnotationsYet  DamagedFile  SavedMeanwhile
    UnacceptableFile            the file was read and cannot be taken
        UnreadableImage  UnreadableMask  GridMismatch  UnknownStructure
            NoImage
    TooLarge                    more bytes than the server accepts
    StorageFull                 the disk has no room left
    StorageUnusable             the data folder cannot be read or written
    ComputationInterrupted      a process that computes died or was stopped
    RecordAway                  the database server of the record does not answer
    SignInAway                  nobody can be told from anybody else just now
    StudiesAway                 the folder of the studies is away, or their DICOMweb server does not answer
    StudiesRefused              it answers, but not with what was asked for
    SetupError                  the server cannot start like this
        InvalidSetting  TaskMismatch  NotFetched
"""

from __future__ import annotations


class LabelRefineryError(Exception):
    """Base of all; the message says what was found, what was wanted and what to do."""


class InvalidRequest(LabelRefineryError):
    """A parameter is missing, malformed or not among the accepted ones."""


class NotSignedIn(LabelRefineryError):
    """The request came without a token, or with one that is not accepted."""


class NotAllowed(LabelRefineryError):
    """The person is known, but may not do this."""


class ForeignHost(NotAllowed):
    """Without sign-in, the request came under another name than this machine's own."""


class ForeignOrigin(NotAllowed):
    """A page of another host sent the request, which might be in the name of whoever sits at the browser."""


class NotFound(LabelRefineryError):
    """What the request names does not exist."""


class UnknownImage(NotFound):
    """No image has this id."""


class UnknownAnnotation(NotFound):
    """The image has no annotation with this version or tag."""


class UnknownModel(NotFound):
    """No infer task, trainer or model version has this name."""


class UnknownMethod(NotFound):
    """No strategy or scoring method has this name."""


class UnknownSession(NotFound):
    """No session has this id, or it has expired."""


class UnknownJob(NotFound):
    """No job has this id, or none is running."""


class StageConflict(LabelRefineryError):
    """The present state does not allow the request."""


class SavedMeanwhile(StageConflict):
    """Somebody has saved since the version that a request was made from.

    Attributes:
        version: the newest that was saved meanwhile.
    """

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class NoModelYet(StageConflict):
    """Nothing has been trained so far and the task has no rule-based draft."""


class NoAnnotationsYet(StageConflict):
    """There is nothing to learn from so far."""


class DamagedFile(StageConflict):
    """A file of the data folder holds other bytes than were stored; it is not used."""


class UnacceptableFile(LabelRefineryError):
    """A file was received and cannot be used."""


class UnreadableImage(UnacceptableFile):
    """The file is damaged, empty, or not an image of a kind that is read here."""


class NoImage(UnreadableImage):
    """The file is sound for all one can tell, but no image of the task: notes, a report, another modality.

    Attributes:
        modality: of an image that is left out for that, and only then.
    """

    def __init__(self, message: str, modality: str = "") -> None:
        super().__init__(message)
        self.modality = modality


class UnreadableMask(UnacceptableFile):
    """The mask that came with a request for an image cannot be read; the image may be sound."""


class GridMismatch(UnacceptableFile):
    """Two arrays that must share a voxel grid do not."""


class UnknownStructure(UnacceptableFile):
    """A mask holds a label value or a structure name that the task does not have."""


class TooLarge(LabelRefineryError):
    """More bytes than the server accepts in one request."""


class TooManyRequests(LabelRefineryError):
    """Somebody asks for more at once, or in a short time, than one person may.

    Attributes:
        retry_seconds: after this time the request may be sent again.
    """

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class StorageFull(LabelRefineryError):
    """The disk below the data folder has no room left."""


class StorageUnusable(LabelRefineryError):
    """A folder of the server cannot be read or written: it is gone, read-only, closed to the account, or broken."""


class ComputationInterrupted(LabelRefineryError):
    """The process that computes for this request died; the request may be sent again."""


class RecordAway(LabelRefineryError):
    """The database server that holds the record does not answer; the request may be sent again."""


class SignInAway(LabelRefineryError):
    """The list of people with a token cannot be read; the log says why, and a client is not told."""


class StudiesAway(LabelRefineryError):
    """What holds the studies, a folder or a DICOMweb server, does not show them; the request may be sent again."""


class StudiesRefused(LabelRefineryError):
    """The DICOMweb server that holds the studies refuses what was asked, or sends something else."""


class SetupError(LabelRefineryError):
    """The server cannot start with what it was given."""


class InvalidSetting(SetupError):
    """A setting is unknown or its value is not accepted."""


class TaskMismatch(SetupError):
    """The record was made for a task with other label values."""


class NotFetched(SetupError):
    """What the set-up downloads cannot be had, or is not what was wanted."""
