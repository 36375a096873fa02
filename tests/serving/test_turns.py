"""Askers take turns, whoever asks for more."""

import threading

from lib.serving.inference import Drafted, Order
from lib.serving.turns import NOBODY, Turns
from tests.serving.conftest import Here


def served(turns: Turns[str], count: int) -> list[str | None]:
    return [turns.get() for _ in range(count)]


def test_one_asker_is_served_in_order():
    turns: Turns[str] = Turns()
    for wanted in "abc":
        turns.put("kim", wanted)

    assert served(turns, 3) == ["a", "b", "c"]


def test_who_asks_for_one_thing_does_not_wait_for_all_things_of_another():
    turns: Turns[str] = Turns()
    for number in range(3):
        turns.put("batch", f"batch {number}")
    turns.put("kim", "kim's")
    turns.put("lee", "lee's")

    assert served(turns, 5) == ["batch 0", "kim's", "lee's", "batch 1", "batch 2"]


def test_who_comes_back_stands_at_the_end():
    turns: Turns[str] = Turns()
    turns.put("kim", "first")
    turns.put("lee", "second")
    assert served(turns, 1) == ["first"]
    turns.put("kim", "third")

    assert served(turns, 2) == ["second", "third"]


def test_what_nobody_waits_for_comes_last_however_early_it_was_put():
    turns: Turns[str] = Turns()
    turns.put(NOBODY, "ahead")
    turns.put("kim", "first")
    turns.put("kim", "second")
    turns.put("lee", "third")

    assert served(turns, 4) == ["first", "third", "second", "ahead"]


def test_what_somebody_wants_after_all_takes_that_persons_turn():
    turns: Turns[str] = Turns()
    turns.put(NOBODY, "a")
    turns.put(NOBODY, "b")
    turns.put("kim", "c")

    turns.adopt("lee", lambda waiting: waiting == "b")
    turns.put("kim", "d")

    assert served(turns, 4) == ["c", "b", "d", "a"]


def test_a_waiting_thread_gets_what_comes_later():
    turns: Turns[str] = Turns()
    got: list[str | None] = []
    thread = threading.Thread(target=lambda: got.append(turns.get()))
    thread.start()

    turns.put("kim", "late")
    thread.join(timeout=10)

    assert got == ["late"]


def test_closing_gives_back_what_is_left_and_ends_the_waiting():
    turns: Turns[str] = Turns()
    turns.put("kim", "a")
    turns.put("kim", "b")
    turns.put("lee", "c")

    assert turns.close() == ["a", "c", "b"]
    assert turns.get() is None
    assert turns.put("kim", "too late") is False


def test_drafts_are_made_in_the_name_of_who_asks(here: Here, weights: bytes):
    here.put_weights(weights)
    compute, asked = here.app.drafting.compute, []

    def noted(order: Order) -> Drafted:
        asked.append(order.asker)
        return compute(order)

    here.app.drafting.compute = noted
    here.client.post("/infer/segmentation?image=case_00", data={"params": '{"client_id": "kim"}'})
    image = (here.studies / "case_01.nii.gz").read_bytes()
    here.client.post(
        "/infer/segmentation", data={"params": '{"client_id": "lee"}'}, files={"file": ("a.nii.gz", image)}
    )

    assert asked == ["kim", "lee"]
