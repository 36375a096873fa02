"""What every app of ours is: a MONAI Label app on top of the record.

An app is a class ``class OrganApp(LabelingLoop, MONAILabelApp)`` with a ``TASK``. MONAI Label finds an app by its
*direct* base, which is why the common part is a mixin and not a base between the two.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.app import MONAILabelApp

from lib import __version__
from lib.decoder.client import decoder
from lib.errors import NotFound, StudiesAway, StudiesRefused, UnknownMethod, UnknownModel
from lib.patients import read_patient_rule
from lib.serving.ahead import DraftingAhead
from lib.serving.comparison import METHODS
from lib.serving.datastore import RecordDatastore
from lib.serving.drafting import Drafting
from lib.serving.folder import FolderReader
from lib.serving.foreign import ForeignDrawings
from lib.serving.infer import DraftTask, MaskTask, RefineTask
from lib.serving.inference import Inference
from lib.serving.intake import Intake
from lib.serving.library import Library
from lib.serving.offers import Offers
from lib.serving.presence import Presence
from lib.serving.refine_jobs import RefineJobs
from lib.serving.refining import Refining
from lib.serving.relay import Relay
from lib.serving.scoring import RecordScoring
from lib.serving.sessions import Sessions
from lib.serving.settings import Settings, configured, read_settings, studies_place
from lib.serving.strategies import strategies
from lib.serving.studies import Studies
from lib.serving.train import FineTuneTask, LearnToRefineTask
from lib.serving.watch import FolderWatch
from lib.serving.worker import Worker, Workplace
from lib.store import layout
from lib.store.annotations import Annotation
from lib.store.files import write_durably
from lib.store.images import Image
from lib.store.leftovers import delete_unfinished
from lib.store.models import Models
from lib.store.record import open_record
from lib.task import Task

__all__ = ["LabelingLoop", "MONAILabelApp"]

LOG = logging.getLogger(__name__)

T = TypeVar("T")

WALK_SHARE = 20.0
"""Pauses between two walks through the studies are at least this many times as long as a walk."""

DIGEST_SECONDS, DIGEST_SHARE = 0.5, 9.0
"""Files are digested for this long; the pause then is this many times as long as that took."""


class LabelingLoop:
    """Mixin: opens the record, offers MONAI Label's tasks on it, owns the processes that compute."""

    TASK: ClassVar[Task]

    if TYPE_CHECKING:
        # What MONAILabelApp, the other base of every app, brings along.
        _infers: dict[str, MaskTask]
        _trainers: dict[str, FineTuneTask]
        _strategies: dict[str, Any]

        def info(self) -> dict[str, Any]:
            """What ``/info/`` tells."""

        def datastore(self) -> RecordDatastore:
            """The record as MONAI Label sees it."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.settings: Settings = read_settings(conf, Path(app_dir).name)
        place = studies_place(studies, self.settings)
        folder = place if isinstance(place, Path) else None
        task = configured(self.TASK, self.settings, folder)
        data = self.settings.data
        # The server's lock keeps other servers away, and its worker is not started yet: nobody is writing.
        delete_unfinished(data)
        self.temporary = _fresh_folder(data / layout.TEMPORARY)
        self.record = open_record(task, data, self.settings.store)
        self.record.masks.sweep()
        self.record.weights.sweep()
        self.record.delete_lost_weights()
        self.record.segmentations.files.sweep()
        if not self.record.database.is_shared:
            # For the same reason whoever had a job is dead.
            self.record.jobs.take_back_all()
        self.library = Library(self.record, place, data)
        self.dicom = Studies(self.record, self.library)
        patients = read_patient_rule(folder, self.settings.patient, patient_key(data))
        self.intake = Intake(self.library, FolderReader(patients, self.record.task), self.settings.ignored)
        self.watch = FolderWatch(folder) if folder is not None else None
        self.relay = Relay(self.dicom, self.library.fetched) if self.library.fetched is not None else None
        self.foreign = ForeignDrawings(self.relay, self.settings) if self.relay is not None else None
        self._fault = ""
        self.inference = Inference(self.settings)
        self.worker = Worker(self.record, Workplace(task, place, self.settings))
        self.drafting = Drafting(
            self.record,
            self.library,
            self.inference.draft,
            needed=self.settings.train_after or 1,
            hurry=self.inference.hurry,
        )
        self.refining = Refining(self.drafting, self.inference.draft)
        self.refine_jobs = RefineJobs(self.refining)
        self._order = "random"
        self.ahead = DraftingAhead(self.drafting, self.dicom, self._upcoming)
        self.presence = Presence()
        self.begun = Offers()
        self._stopping = threading.Event()
        # What MONAI Label would keep in the home directory or start by itself.
        monailabel_settings.MONAI_LABEL_SESSIONS = False
        monailabel_settings.MONAI_LABEL_AUTO_UPDATE_SCORING = False
        super().__init__(  # type: ignore[call-arg]
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"Label Refinery: {task.name}",
            description=task.description,
            version=__version__,
            labels=list(self.record.task.values),
        )
        self._sessions = Sessions(data / layout.SESSIONS, self.settings.max_upload_mib * 2**20)

    # What MONAI Label's constructor asks for.

    def init_datastore(self) -> RecordDatastore:
        """The record as MONAI Label sees it."""
        return RecordDatastore(self.record, self.library, self.intake, self.settings)

    def init_infers(self) -> dict[str, Any]:
        """The draft by the serving model, and its refining."""
        return {
            self.record.models.name: DraftTask(self.drafting, self.temporary),
            self.record.refiners.name: RefineTask(self.refining, self.temporary),
        }

    def init_trainers(self) -> dict[str, Any]:
        """The training of the serving model, and of the refiner."""
        segmenters, refiners = self.record.models, self.record.refiners
        return {
            segmenters.name: FineTuneTask(self.record, self.settings, segmenters),
            refiners.name: LearnToRefineTask(self.record, self.settings, refiners),
        }

    def init_strategies(self) -> dict[str, Any]:
        """The orders in which images are offered."""
        return dict(strategies(self.library, self.settings))

    def init_scoring_methods(self) -> dict[str, Any]:
        """The comparisons of drafts and corrections."""
        return {method: RecordScoring(method, self.record, self.library) for method in METHODS}

    def sessions(self) -> Sessions:
        """Images that clients sent for a while."""
        return self._sessions

    # What requests ask for.

    def find_infer(self, model: Any) -> MaskTask:
        """The infer task of this name.

        Raises:
            UnknownModel: if there is none.
        """
        return _named(self._infers, model, "model", UnknownModel)

    def models_of(self, name: str) -> Models:
        """The versions of the model of this name.

        Raises:
            UnknownModel: if there is none.
        """
        every = {models.name: models for models in (self.record.models, self.record.refiners)}
        return _named(every, name, "model", UnknownModel)

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Runs an infer task.

        Raises:
            UnknownModel: if there is none of this name.
        """
        file, params = self.find_infer(request.get("model"))(request)
        return {"label": file, "tag": "original", "file": file, "params": params}

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Queues a training.

        Raises:
            UnknownModel: if there is no trainer of this name.
        """
        trainer = _named(self._trainers, request.get("model"), "trainer", UnknownModel)
        return trainer(request, self.datastore())

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Asks a strategy; an answer without ``id`` says in ``message`` that nothing is left.

        Raises:
            UnknownMethod: if there is no strategy of this name.
        """
        strategy = _named(self._strategies, request.get("strategy") or "random", "strategy", UnknownMethod)
        offer: dict[str, Any] | None = strategy(request, self.datastore())
        self._order = request.get("strategy") or self._order
        if offer is None:
            return {"message": self.studies_fault or _nothing_left(self.datastore().status())}
        self.ahead.opened(offer["id"])
        if annotator := request.get("annotator"):
            self.begun.offer(offer["id"], annotator.name)
        image = self.record.images.get(offer["id"])
        return {**offer, "path": str(self.library.places(image)[0])}

    @property
    def studies_fault(self) -> str:
        """What of the studies cannot be seen at the moment, as a sentence; empty if all can."""
        return self._fault or self.intake.fault

    def _upcoming(self) -> list[Image]:
        """The images that come next in the order that was asked for last."""
        upcoming: list[Image] = self._strategies[self._order].upcoming(self.settings.ahead)
        return upcoming

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Does what follows on a save; MONAI Label's own name for it, which does not say what was saved."""
        return self.saved(self.record.annotations.tagged(image_id, ""))

    def saved(self, annotation: Annotation) -> dict[str, Any]:
        """Refines what an annotator stored, trains when enough corrections have come; tells which jobs do it."""
        training, learning_to_refine = (trainer.ask_if_due() for trainer in self._trainers.values())
        jobs = {
            "refining": self.refine_jobs.ask(annotation),
            "training": training,
            "training_refiner": learning_to_refine,
        }
        return {what: job.id for what, job in jobs.items() if job is not None}

    # Running.

    def look(self, report: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Brings the record in step with the studies.

        Raises:
            StudiesAway, StudiesRefused: if the server of the studies does not tell what it has.
        """
        self.intake.look(report)
        if self.foreign is not None:
            self.foreign.take(self.saved)

    def start(self) -> None:
        """Starts the processes that compute, and looks after the studies."""
        self._sessions.remove_expired()
        decoder().start()
        self.inference.start()
        self.worker.start()
        self.refine_jobs.start()
        self.dicom.start()
        if self.settings.ahead > 0:
            self.ahead.start()
        if self.settings.rescan > 0 and self.watch is not None:
            threading.Thread(target=self._keep_looking, args=[self.watch], name="look", daemon=True).start()
            threading.Thread(target=self._keep_digesting, name="digest", daemon=True).start()
        elif self.settings.rescan > 0:
            threading.Thread(target=self._keep_asking, name="look", daemon=True).start()

    def stop(self) -> None:
        """Ends what ``start`` began."""
        self._stopping.set()
        if self.watch is not None:
            self.watch.stop()
        self.ahead.stop()
        self.refine_jobs.stop()
        self.inference.stop()
        self.worker.stop()
        self.ahead.join()
        self.dicom.stop()
        if self.relay is not None:
            self.relay.remote.close()
        self.refine_jobs.join()
        self.record.close()

    def _keep_asking(self) -> None:
        """Looks at the server of the studies now and then."""
        pause = 0.0
        while not self._stopping.wait(pause):
            begin = time.monotonic()
            self._has_looked(None)
            pause = max(self.settings.rescan, WALK_SHARE * (time.monotonic() - begin))

    def _keep_looking(self, watch: FolderWatch) -> None:
        """Walks through the studies now and then, and in between looks at what is said to have changed."""
        due = soonest = time.monotonic()
        while not self._stopping.is_set():
            changed = watch.changes(max(0.0, due - time.monotonic()))
            if changed is None:
                due = min(due, soonest)
            begin = time.monotonic()
            if begin >= due:
                self._has_looked(None)
                end = time.monotonic()
                # A walk past a hundred thousand files takes seconds: it must not be most of what this process does.
                soonest = end + WALK_SHARE * (end - begin)
                due = max(soonest, end + self.settings.rescan)
            elif changed and not self._has_looked(changed):
                due = min(due, soonest)
        watch.stop()

    def _has_looked(self, paths: Collection[str] | None) -> bool:
        """Looks at some paths, or walks through all; tells whether that went well."""
        try:
            if paths is not None:
                self.intake.look_at(paths)
            else:
                # First of all, so that nothing that comes during the walk is missed.
                if self.watch is not None:
                    self.watch.renew()
                self.look()
                self._sessions.remove_expired()
            self.dicom.list_new()
        except (StudiesAway, StudiesRefused) as error:
            self._note_fault(str(error))
            return False
        # A folder on the network may be away for a while; the next walk may find it again.
        except Exception:
            LOG.exception("Looking at the studies failed; trying again later.")
            return False
        self._note_fault("")
        return True

    def _note_fault(self, fault: str) -> None:
        """Says once that the server of the studies is away, and once that it is back."""
        if fault and fault != self._fault:
            LOG.warning("%s It is asked again every %g s.", fault, self.settings.rescan)
        elif self._fault and not fault:
            LOG.warning("The server of the studies answers again.")
        self._fault = fault

    def _keep_digesting(self) -> None:
        """Digests the studies little by little, so that copies are known again."""
        pause = self.settings.rescan
        while not self._stopping.wait(pause):
            begin = time.monotonic()
            try:
                digested = self.intake.digest_some(DIGEST_SECONDS)
            except Exception:
                LOG.exception("Digesting the studies failed; trying again in %s s.", self.settings.rescan)
                digested = 0
            share = DIGEST_SHARE * (time.monotonic() - begin)
            pause = share if digested else max(self.settings.rescan, share)


def _named(tasks: dict[str, T], name: Any, what: str, error: type[NotFound]) -> T:
    if name not in tasks:
        raise error(f"There is no {what} {name!r}; accepted are {', '.join(sorted(tasks))}.")
    return tasks[name]


def _fresh_folder(folder: Path) -> Path:
    """An empty folder for what need not survive a restart."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)
    return folder


def patient_key(data: Path) -> bytes:
    """The key that hides patient ids, made at the first start."""
    path = data / layout.PATIENT_KEY
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, secrets.token_bytes(32))
    return path.read_bytes()


def _nothing_left(status: dict[str, Any]) -> str:
    total, completed, waiting = status["total"], status["completed"], status["waiting"]
    if total == 0:
        return "There are no images yet. Put some into the folder of studies or upload one."
    rest = f", {waiting} wait for an expert" if waiting else ""
    return f"Nothing is left for you: {completed} of {total} images are labelled{rest}. Thank you!"
