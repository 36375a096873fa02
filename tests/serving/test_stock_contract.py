"""Our replies have the status, the keys and the types of a stock MONAI Label server, but for what one table names."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from lib.volume import suffix_of
from tests.serving.places import Server, image_bytes, mask_bytes, put_images, server
from tests.serving.record_stock_replies import known_values
from tests.serving.reply_shape import described, differences
from tests.serving.stock_calls import ENDED, Call, label_params, send, tour

STOCK: dict[str, Any] = json.loads(Path(__file__).with_name("stock_replies.json").read_text())

CALLS = {call.name: call for call in tour()}

Reply = dict[str, Any]


@dataclass(frozen=True)
class Deviation:
    """Where we answer something else on purpose.

    Attributes:
        calls: names of calls, with ``*`` for any.
        why: the reason.
        status: ours instead of stock's; the body is another one then.
        where: pattern of the differences that are meant, if the status is the same.
    """

    calls: str
    why: str
    status: int | None = None
    where: str = ""


MISTAKE = "stock answers a client's mistake with 500; we name what was found and what is accepted"
OWN_QUEUE = "a job keeps what the server understood, so that a second request for the same joins it"

DEVIATIONS = (
    Deviation("pages.auth*", "/auth/ is there and says that nobody needs to sign in", status=200),
    Deviation("pages.openapi", "whole-slide images are not for this server", where="routes: POST /infer/wsi_v2"),
    Deviation("pages.ohif_asset", "the viewer's settings are ours and made on request", where="headers"),
    Deviation("pages.favicon", "one small drawing instead of a file", where="content_type|headers"),
    Deviation("idle.dataset", "nothing is labelled: an archive without cases, not an error", status=200),
    Deviation("idle.train", "idle is no error: status IDLE", status=200),
    Deviation("idle.scoring", "idle is no error: status IDLE", status=200),
    Deviation("idle.batch", "idle is no error: status IDLE", status=200),
    Deviation("idle.*_all", "the list of jobs is empty, not missing", status=200),
    Deviation("*.start_second", "a second request for the same joins the job instead of 429", status=200),
    Deviation("images.head*_sum", "stock never finds a checksum right; ours compares it", status=200),
    Deviation("images.get*", "the name differs for each image and its content, as caches want it", where="disposition"),
    Deviation("infer.saved_info", "a draft keeps its label names; its times were told once", where="/params/.*missing"),
    Deviation("*.dicom_seg", MISTAKE, status=422),
    Deviation("session.image", "files have names of our own; the ending is the client's", where="disposition"),
    Deviation("labels.get_original", "original is the model's draft, never a person's mask", where="body"),
    Deviation("labels.head_label", "HEAD takes label= like GET, and image= like stock", status=200),
    Deviation("labels.next_random", "the order is drawn once; there is no weight", where="/weight: missing"),
    Deviation("train.*", OWN_QUEUE, where="(/[^/]+/result|.*)?/request/.*missing"),
    Deviation("batch.*", OWN_QUEUE, where=".*/request/.*"),
    Deviation("scoring.*", OWN_QUEUE, where=".*/request/client_id: missing"),
    Deviation("*.info", "clients read epoch, total_epochs, best_metric and the times; the rest is Ignite's own",
              where="/train_stats.*/(current_epoch|current_iteration|total_iterations|rank|eval|train): missing"),
    Deviation("train.info", "a model tells in words how it was validated", where=r"/models/\*/config/\*: .*str found"),
    Deviation("model.get", "the media type of .pt depends on the machine in stock", where="content_type"),
    Deviation("batch.now", "a batch never holds a connection open", status=422),
    Deviation("mistakes.*_status", "the mistake before started no job: this is the one before", where="/request/"),
    Deviation("mistakes.infer_model", MISTAKE, status=404),
    Deviation("mistakes.infer_no_input", MISTAKE, status=422),
    Deviation("mistakes.infer_image", MISTAKE, status=404),
    Deviation("mistakes.infer_session", MISTAKE, status=404),
    Deviation("mistakes.infer_params", MISTAKE, status=422),
    Deviation("mistakes.infer_list", MISTAKE, status=422),
    Deviation("mistakes.image_info", "stock says {} for an unknown image", status=404),
    Deviation("mistakes.image_info_put", MISTAKE, status=404),
    Deviation("mistakes.image_info_json", MISTAKE, status=422),
    Deviation("mistakes.image_delete", MISTAKE, status=404),
    Deviation("mistakes.label_get_no_tag", "reading without a tag reads final", status=200),
    Deviation("mistakes.label_info", "stock says {} for an unknown label", status=404),
    Deviation("mistakes.label_info_put", MISTAKE, status=404),
    Deviation("mistakes.label_put_image", MISTAKE, status=404),
    Deviation("mistakes.label_put_json", MISTAKE, status=422),
    Deviation("mistakes.label_put_list", MISTAKE, status=422),
    Deviation("mistakes.label_put_list_undone", "the mistake before stored nothing to take back", status=404),
    Deviation("mistakes.label_delete", "stock says 200 for a label that is not there", status=404),
    Deviation("mistakes.next_strategy", MISTAKE, status=404),
    Deviation("mistakes.model_put", MISTAKE, status=404),
    Deviation("mistakes.train_model", "stock accepts it, and the job fails later", status=404),
    Deviation("mistakes.batch_model", "stock accepts it, and the job fails later", status=404),
    Deviation("mistakes.scoring_method", "stock accepts it, and the job fails later", status=404),
)  # fmt: skip


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
    """Sends the calls, with a model for those that need one.

    The worker stands still between the start of a job and the wait for its end, so that what is asked meanwhile does
    not depend on who is faster.
    """

    def __init__(self, process: Server, weights: bytes) -> None:
        self.process = process
        self.weights = weights
        self.context = context()

    def replies(self) -> dict[str, Reply]:
        worker = self.process.pid_of("worker")
        found = {}
        for call in CALLS.values():
            if call.name == "infer.all":
                files = {"file": ("model.pt", self.weights)}
                assert self.process.client.put("/model/segmentation", files=files).status_code == 200
            if call.name == "labels.put":
                assert self.process.client.delete("/model/segmentation").status_code == 200
            if waits_for_end(call):
                os.kill(worker, signal.SIGCONT)
            elif call.part in ("train", "batch", "scoring") and call.method == "POST":
                os.kill(worker, signal.SIGSTOP)
            found[call.name] = self.reply(call)
        return found

    def reply(self, call: Call) -> Reply:
        asked = call if waits_for_end(call) else replace(call, after=None)
        response = send(self.process.client, asked, self.context, lambda seconds: time.sleep(seconds / 5))
        sent = {name: value for name, value in self.context.items() if isinstance(value, bytes)}
        return described(response, known_values(self.context), sent)


def waits_for_end(call: Call) -> bool:
    return call.after is not None and call.after.words == ENDED


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory, weights: bytes) -> Iterator[dict[str, Reply]]:
    folder = tmp_path_factory.mktemp("stock")
    put_images(folder / "studies", 6)
    with server(folder / "studies", folder / "data", {"train_seconds": "2"}) as process:
        yield Tour(process, weights).replies()


def deviations_of(name: str) -> list[Deviation]:
    return [deviation for deviation in DEVIATIONS if fnmatch(name, deviation.calls)]


def found_differences(stock: Reply, ours: Reply) -> list[str]:
    """What a client that knows the stock reply would miss in ours; more keys, headers and routes are welcome."""
    if ours["status"] != stock["status"]:
        return [f"status: {stock['status']} wanted, {ours['status']} found"]
    if ours["status"] >= 400:
        return []
    said = [] if ours["content_type"] == stock["content_type"] else [f"content_type: {ours['content_type']}"]
    said += [f"headers: {name} missing" for name in stock["headers"] if name not in ours["headers"]]
    said += disposition_differences(stock.get("disposition"), ours.get("disposition"))
    return said + body_differences(stock["body"], ours["body"])


def disposition_differences(stock: Any, ours: Any) -> list[str]:
    if stock is None or ours is None:
        return [] if stock is None else [f"disposition: {stock} wanted"]
    return (
        [] if {**stock, "filename": ending(stock)} == {**ours, "filename": ending(ours)} else [f"disposition: {ours}"]
    )


def ending(disposition: dict[str, Any]) -> str:
    """Of a temporary file's name only the end means something to clients."""
    name = disposition["filename"]
    return suffix_of(name) if name.startswith(("*", "draft-")) else name


def body_differences(stock: Any, ours: Any) -> list[str]:
    if stock["kind"] != ours["kind"]:
        return [f"body: {stock['kind']} wanted, {ours['kind']} found"]
    if stock["kind"] == "json":
        return shape_differences(stock["shape"], ours["shape"])
    if stock["kind"] == "multipart":
        return [each for pair in zip(stock["parts"], ours["parts"], strict=True) for each in part_differences(*pair)]
    if "routes" in stock:
        return [f"routes: {route} missing" for route in stock["routes"] if route not in ours["routes"]]
    if "members" in stock:
        return [f"members: {name} missing" for name in stock["members"] if name not in ours["members"]]
    return [] if stock.get("equals") == ours.get("equals") else [f"body: {stock['equals']} wanted"]


def part_differences(stock: Any, ours: Any) -> list[str]:
    said = [f"part: {key}" for key in ("name", "content_type") if stock[key] != ours[key]]
    if ending(stock | {"filename": stock.get("filename", "")}) != ending(ours | {"filename": ours.get("filename", "")}):
        said.append(f"part: {ours.get('filename')}")
    return said + shape_differences(stock.get("shape", {}), ours.get("shape", {}))


def shape_differences(stock: Any, ours: Any) -> list[str]:
    said = differences(without_moments(stock), without_moments(ours))
    return [each for each in said if not re.search(": not in the contract$|: str wanted, =[^|]*found$", each)]


def without_moments(shape: Any) -> Any:
    """The shape with how far a job has come left out: that depends on who is faster."""
    if isinstance(shape, dict):
        return {
            key: "str" if key == "status" and str(value).startswith("=") else without_moments(value)
            for key, value in shape.items()
        }
    return [without_moments(each) for each in shape] if isinstance(shape, list) else shape


@pytest.mark.parametrize("name", CALLS)
def test_the_reply_is_that_of_a_stock_server(replies: dict[str, Reply], name: str) -> None:
    stock, ours, meant = STOCK[name], replies[name], deviations_of(name)
    other_status = [deviation.status for deviation in meant if deviation.status]

    if other_status:
        assert ours["status"] == other_status[0]
    else:
        said = found_differences(stock, ours)
        patterns = [deviation.where for deviation in meant]
        assert [each for each in said if not any(re.match(pattern, each) for pattern in patterns)] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_is_problem_json_and_never_the_servers_fault(replies: dict[str, Reply], name: str) -> None:
    ours = replies[name]

    assert ours["status"] < 500
    if ours["status"] >= 400:
        assert ours["content_type"] == "application/problem+json"


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: f"{deviation.calls}: {deviation.why}")
def test_the_table_names_no_deviation_that_is_none(replies: dict[str, Reply], deviation: Deviation) -> None:
    names = [name for name in CALLS if fnmatch(name, deviation.calls)]
    said = [each for name in names for each in found_differences(STOCK[name], replies[name])]

    assert [each for each in said if re.match(deviation.where or "status", each)]
