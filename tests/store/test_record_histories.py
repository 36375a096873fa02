"""Random histories of a record: whatever people, models and threads do to it, its promises hold."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lib.errors import StageConflict, UnknownAnnotation
from lib.stages import Role, Stage, current, in_force, standing
from lib.store.annotations import Annotation
from lib.store.images import ImageState
from lib.store.models import ModelState, NewModel
from lib.store.record import Record, open_record
from lib.store.verify import verify
from tests.store.records import TASK, new, put_image

IMAGES = ("ct_017", "ct_018", "ct_019")
ROLES = (Role.ANNOTATOR, Role.EXPERT, Role.ADMIN, Role.MODEL, Role.RULE, Role.REFINER)

images = st.sampled_from(IMAGES)
authors = st.sampled_from(("kim", "lee", "model:x@v1"))
roles = st.sampled_from(ROLES)
contents = st.binary(min_size=1, max_size=3)


class Histories(RuleBasedStateMachine):
    """What was acknowledged is remembered here, beside the record, and compared with it after every step."""

    @initialize()
    def open_new(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="histories-"))
        self.record: Record = open_record(TASK, self.folder)
        for image_id in IMAGES:
            put_image(self.record, image_id, patient="ann" if image_id == "ct_019" else "bob")
        self.acknowledged: dict[tuple[str, int], Annotation] = {}
        self.masks: dict[str, bytes] = {}
        self.serving: int | None = None
        self.noting = threading.Lock()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.record.close()
            shutil.rmtree(self.folder)

    def add(self, image_id: str, role: Role, author: str, content: bytes, **more: Any) -> None:
        digest = self.record.masks.put(content)
        added = self.record.annotations.add(new(image_id, role, author, mask=digest, **more))
        with self.noting:
            self.acknowledged[image_id, added.version] = added
            self.masks[digest] = content

    @rule(image_id=images, role=roles, author=authors, content=contents)
    def somebody_stores_a_mask(self, image_id: str, role: Role, author: str, content: bytes) -> None:
        self.add(image_id, role, author, content)

    @rule(image_id=images, author=authors, content=contents, back=st.integers(0, 4))
    def somebody_corrects_a_version_that_they_name(self, image_id: str, author: str, content: bytes, back: int) -> None:
        parent = max(1, len(self.record.annotations.history(image_id)) - back)
        valid = {a.version for a in in_force(self.record.annotations.history(image_id))}
        try:
            self.add(image_id, Role.EXPERT, author, content, parent=parent)
        except StageConflict:
            assert parent not in valid
        else:
            assert parent in valid

    @rule(image_id=images, author=authors, version=st.integers(1, 8))
    def somebody_withdraws(self, image_id: str, author: str, version: int) -> None:
        valid = {a.version for a in in_force(self.record.annotations.history(image_id))}
        try:
            made = self.record.annotations.withdraw(image_id, version, author, Role.EXPERT)
        except UnknownAnnotation:
            assert version not in valid
        else:
            assert version in valid
            self.acknowledged[image_id, made.version] = made

    @rule(image_id=images, data=st.data())
    def an_image_changes_its_state(self, image_id: str, data: st.DataObject) -> None:
        state = data.draw(st.sampled_from((ImageState.OK, ImageState.QUARANTINED)))
        self.record.images.set_state(image_id, state)

    @rule(image_id=images)
    def an_image_is_hidden_and_comes_back(self, image_id: str) -> None:
        self.record.images.set_state(image_id, ImageState.HIDDEN)
        assert self.record.images.counts() == self.record.images.recounted()
        self.record.images.set_state(image_id, ImageState.OK)

    @rule(image_id=images, patient=st.sampled_from(("ann", "bob", "carl")))
    def the_indexer_sees_an_image_again(self, image_id: str, patient: str) -> None:
        put_image(self.record, image_id, patient)

    @rule(role=st.sampled_from((Role.ANNOTATOR, Role.EXPERT)), author=authors, by_id=st.booleans())
    def somebody_asks_for_the_next_case(self, role: Role, author: str, by_id: bool) -> None:
        image = next(self.record.images.candidates(author, role, by_id=by_id), None)
        if image is not None:
            assert image.state is ImageState.OK
            assert standing(current(self.record.annotations.history(image.id))) != "labelled"
            self.record.images.offer(image.id)

    @rule(state=st.sampled_from((ModelState.SERVING, ModelState.REJECTED)))
    def a_model_is_trained(self, state: ModelState) -> None:
        made = self.record.models.add(NewModel(self.serving, "cd" * 32, {}, [], [], {}), state, "x")
        self.serving = made.version if state is ModelState.SERVING else self.serving

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def an_earlier_model_serves_again(self, data: st.DataObject) -> None:
        versions = [model.version for model in self.record.models.every()]
        self.serving = self.record.models.serve(data.draw(st.sampled_from(versions)), "dr.kim").version

    @rule(image_id=images, fails=st.booleans(), content=contents)
    def several_writes_happen_together_or_not_at_all(self, image_id: str, fails: bool, content: bytes) -> None:
        class Crash(Exception):
            pass

        before = dict(self.acknowledged)
        try:
            with self.record.database.transaction():
                self.add(image_id, Role.EXPERT, "kim", content)
                self.add(image_id, Role.MODEL, "model:x@v1", content)
                if fails:
                    raise Crash
        except Crash:
            self.acknowledged = before

    @rule(content=contents)
    def four_people_store_at_once(self, content: bytes) -> None:
        start = threading.Barrier(4)

        def store(number: int) -> None:
            start.wait(timeout=20)
            self.add(IMAGES[number % 2], ROLES[number], f"thread {number}", content + bytes([number]))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(store, range(4)))

    @rule()
    def the_server_starts_again(self) -> None:
        self.record.close()
        self.record = open_record(TASK, self.folder)

    @invariant()
    def versions_have_no_gaps_and_old_rows_never_change(self) -> None:
        histories = self.record.annotations.all_histories()
        for history in histories.values():
            assert [a.version for a in history] == list(range(1, len(history) + 1))
        assert {(a.image, a.version): a for history in histories.values() for a in history} == self.acknowledged

    @invariant()
    def what_counts_is_what_the_history_says(self) -> None:
        histories = self.record.annotations.all_histories()
        for image_id in IMAGES:
            image, now = self.record.images.find(image_id), current(histories.get(image_id, []))
            assert image is not None
            assert (image.current, image.standing) == (now.version if now else None, standing(now))
            if any(a.stage is Stage.EXPERT for a in in_force(histories.get(image_id, []))):
                assert now is not None and now.stage is Stage.EXPERT

    @invariant()
    def the_running_count_is_right(self) -> None:
        assert self.record.images.counts() == self.record.images.recounted()

    @invariant()
    def every_acknowledged_mask_is_there_bit_for_bit(self) -> None:
        for annotation in self.acknowledged.values():
            if annotation.mask is not None:
                assert self.record.masks.get(annotation.mask) == self.masks[annotation.mask]

    @invariant()
    def one_model_serves_at_most_and_it_is_the_chosen_one(self) -> None:
        serving = self.record.models.serving()
        assert (serving.version if serving else None) == self.serving

    @invariant()
    def images_of_one_patient_are_on_one_side(self) -> None:
        sides: dict[str, set[Any]] = {}
        for image in self.record.images.every(*ImageState):
            sides.setdefault(image.patient, set()).add(image.split)
        assert all(len(found - {None}) <= 1 for found in sides.values())


class Verified(Histories):
    """The same, looked at by verify when it is over."""

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            found = [finding.what for finding in verify(self.record) if "weights" not in finding.what]
            super().teardown()
            assert found == []


def test_whatever_happens_to_a_record_its_promises_hold():
    run_state_machine_as_test(
        Verified,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
