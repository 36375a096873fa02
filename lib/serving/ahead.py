"""Drafts ahead: the drafts of the next images are made before somebody opens them.

One thread looks again and again, so that nobody need tell it of new images, stored corrections or a new model version.
It has one draft made at a time, by the inference process, which turns to it when no person waits.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from lib.errors import LabelRefineryError, NoModelYet, RecordAway, StorageFull, StudiesAway, UnknownImage
from lib.serving.drafting import Drafting, Source
from lib.serving.studies import Studies
from lib.serving.turns import NOBODY
from lib.stages import Standing
from lib.store.images import Image, ImageKind, ImageState

LOG = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Between two looks when there is nothing to do."""

RETRY_SECONDS = 60.0
"""Until the next look when the last one failed, as on a full disk or while the server of the studies is away."""

REMEMBERED = 10
"""Images that were opened last."""


class DraftingAhead:
    """Keeps the drafts of the next images at hand.

    Only images that nobody has corrected are drafted; one that was drafted by an earlier model version gets another
    draft, unless somebody works on it. An image that cannot be drafted is tried once by each model version.
    """

    def __init__(self, drafting: Drafting, studies: Studies, upcoming: Callable[[], Iterable[Image]]) -> None:
        """Does not start yet.

        Args:
            drafting: makes and stores the drafts.
            studies: where viewers find them.
            upcoming: the images that would be offered next, best first.
        """
        self._drafting = drafting
        self._studies = studies
        self._upcoming = upcoming
        self._opened: deque[str] = deque(maxlen=REMEMBERED)
        self._failed: set[tuple[str, str]] = set()
        self._is_stopping = False
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts to draft."""
        self._thread = threading.Thread(target=self._keep_drafting, name="ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Lets the thread end as soon as its present draft is made or given up."""
        self._is_stopping = True
        self._woken.set()

    def join(self) -> None:
        """Waits until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def opened(self, image_id: str) -> None:
        """Puts an image first that somebody has opened; it is left alone if there is a draft of it."""
        self._opened.appendleft(image_id)
        self._woken.set()

    def _keep_drafting(self) -> None:
        while not self._is_stopping:
            pause = PAUSE_SECONDS
            try:
                pause = 0.0 if self.draft_next() else PAUSE_SECONDS
            except StudiesAway as error:
                LOG.info("Nothing is drafted ahead: %s", error)
                pause = RETRY_SECONDS
            except Exception:
                LOG.exception("Drafting ahead failed; trying again in %g s.", RETRY_SECONDS)
                pause = RETRY_SECONDS
            self._woken.wait(pause)
            self._woken.clear()

    def draft_next(self) -> bool:
        """Drafts the first image that lacks the draft of what makes drafts now; tells whether there was one."""
        try:
            source = self._drafting.source()
        except NoModelYet:
            return False
        for image in self._wanted():
            if (image.id, source.author) not in self._failed and self._drafting.lacks_draft(image.id, source):
                self._draft(image, source)
                return True
        return False

    def _wanted(self) -> Iterator[Image]:
        for image_id in tuple(self._opened):
            image = self._drafting.record.images.find(image_id)
            # Who has opened a draft corrects that one: another must not come in between.
            if image is not None and image.state is ImageState.OK and image.standing is Standing.UNTOUCHED:
                yield image
        yield from self._upcoming()

    def _draft(self, image: Image, source: Source) -> None:
        LOG.info("%s is being drafted ahead by %s.", image.id, source.author)
        try:
            draft = self._drafting.of_image(image.id, NOBODY)
            if image.kind is ImageKind.SERIES:
                # Other images would have to be written as DICOM for that, which takes as much room as they do.
                self._studies.files.segmentation(draft.annotation)
        except (StorageFull, RecordAway, StudiesAway):
            raise
        # Whatever a network or a reader stumbles over belongs to this image.
        except Exception as error:
            self._failed.add((image.id, source.author))
            if not self._is_stopping and not isinstance(error, UnknownImage):
                reason = error if isinstance(error, LabelRefineryError) else repr(error)
                LOG.warning("%s is not drafted ahead by %s: %s", image.id, source.author, reason)
