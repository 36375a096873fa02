"""The replies have the status, the keys and the types of a stock MONAI Label server, but for what the table names."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.places import Server, image_bytes, mask_bytes, put_images, server
from tests.serving.record_stock_replies import known_values
from tests.serving.reply_shape import Shape, described, differences
from tests.serving.stock_calls import ENDED, Call, label_params, send, tour

STOCK: dict[str, Any] = json.loads(Path(__file__).with_name("stock_replies.json").read_text())

CALLS = {call.name: call for call in tour()}
DEVIATIONS: dict[str, Any] = {}

WORDS = ("SUBMITTED", "RUNNING", *ENDED)


def context() -> dict[str, Any]:
    """What fills the placeholders of the tour: six drawn images and their masks."""
    filled: dict[str, Any] = {"model": "segmentation", "scoring": "dice", "client": "user-xyz"}
    filled["unknown"] = "no-such-thing"
    for number in range(1, 7):
        filled[f"image_{number}"] = f"case_{number - 1:02d}"
        filled[f"label_{number}"] = mask_bytes(number - 1)
    filled["image_file"] = image_bytes(0)
    filled["image_sha256"] = hashlib.sha256(filled["image_file"]).hexdigest()
    filled["raw_label"] = gzip.decompress(filled["label_4"])[352:]
    filled |= {"new_image": "added-a", "other_new_image": "added-b", "third_new_image": "added-c"}
    return filled | {"params": label_params(filled["client"])}


class Tour:
    """Sends the calls; the worker stands still between the start of a job and the wait for its end, so that what is
    asked meanwhile does not depend on who is faster."""

    def __init__(self, process: Server) -> None:
        self.process = process
        self.context = context()

    def replies(self) -> dict[str, dict[str, Any]]:
        worker = self.process.pid_of("worker")
        found = {}
        for call in CALLS.values():
            waits_for_end = call.after is not None and call.after.words == ENDED
            if waits_for_end:
                os.kill(worker, signal.SIGCONT)
            elif call.part in ("train", "batch", "scoring") and call.method == "POST":
                os.kill(worker, signal.SIGSTOP)
            found[call.name] = self.reply(call, waits_for_end)
        return found

    def reply(self, call: Call, waits_for_end: bool) -> dict[str, Any]:
        asked = call if waits_for_end else Call(**{**call.__dict__, "after": None})
        response = send(self.process.client, asked, self.context, lambda seconds: time.sleep(seconds / 10))
        sent = {name: value for name, value in self.context.items() if isinstance(value, bytes)}
        return described(response, known_values(self.context), sent)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("stock")
    put_images(folder / "studies", 6)
    conf = {"labels": "Anterior,Posterior", "train_seconds": "2"}
    with server(folder / "studies", folder / "data", conf) as process:
        yield Tour(process).replies()


def test_dump(replies):
    for name, got in replies.items():
        want = {k: v for k, v in STOCK[name].items() if k != "request"}
        if got != want:
            print("#", name, got["status"], want["status"])
            for k in want:
                if got.get(k) != want[k]:
                    if k == "body" and want[k].get("kind") == got["body"]["kind"] == "json":
                        print("     ", differences(want[k]["shape"], got[k]["shape"]))
                    else:
                        print("     ", k, str(want[k])[:300], "| OURS", str(got.get(k))[:300])
