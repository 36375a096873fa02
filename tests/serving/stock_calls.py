"""One ordered tour of every MONAI Label route that clients use, to be run against any server that speaks it.

``{name}`` in a path, query, form or file name, and a string of a JSON body that is nothing else, is filled in from a
context when the call is sent; a file's content is the context's entry of that name. The context holds

- ``model``, ``scoring``, ``unknown`` (a name that nothing has), ``client``: words;
- ``image_1`` to ``image_6``: ids of the images in the store, in the order of their names, none of them labelled;
- ``new_image``, ``other_new_image``, ``third_new_image``: ids that the tour adds;
- ``image_file`` (that of ``image_1``), ``label_1`` to ``label_6``: NIfTI files; ``raw_label``: voxels of
  ``label_4`` as bytes, first axis fastest;
- ``params``: what every submitted label says (JSON text), ``image_sha256``: of the file of ``image_1``.

The calls build on one another: each part leaves the store as the next one expects it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ENDED = ("DONE", "ERROR", "STOPPED")
PARAMS = '{"client_id": "{client}"}'
TRAIN = {"max_epochs": 1, "tracking": "None", "dataset": "Dataset", "val_split": 0.34, "client_id": "{client}"}
BATCH = {"device": "cpu", "multi_gpu": False, "max_batch_size": 1, "client_id": "{client}"}
OHIF = '{"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": false, "restore_label_idx": false}'


@dataclass(frozen=True)
class Upload:
    """A file of a form: the form's field, the name of its content in the context, and the name it is sent under."""

    part: str
    content: str
    filename: str = "{image_1}.nii.gz"


@dataclass(frozen=True)
class Wait:
    """Asks ``path`` until its ``status`` is one of the words, before the call is sent."""

    path: str
    words: tuple[str, ...] = ENDED
    seconds: float = 600.0


@dataclass(frozen=True)
class Call:
    """One request of the tour; ``keep`` names what later calls need: context name to key of the reply's JSON."""

    name: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Upload, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict)
    after: Wait | None = None
    note: str = ""

    @property
    def part(self) -> str:
        """The part of the tour it belongs to, which is the first word of its name."""
        return self.name.split(".")[0]


def filled(template: Any, context: Mapping[str, Any]) -> Any:
    """The template with every ``{name}`` of the context replaced, inside maps and lists too."""
    if isinstance(template, str):
        for name, value in context.items():
            if isinstance(value, str):
                template = template.replace("{" + name + "}", value)
        return template
    if isinstance(template, Mapping):
        return {filled(key, context): filled(value, context) for key, value in template.items()}
    return [filled(each, context) for each in template] if isinstance(template, list) else template


def send(client: Any, call: Call, context: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> Any:
    """Sends a call through an httpx client or a TestClient and notes in the context what the call keeps.

    Raises:
        TimeoutError: if what the call waits for does not come.
    """
    if call.after:
        wait_for(client, call.after, sleep)
    files = [(each.part, (filled(each.filename, context), context[each.content])) for each in call.files]
    response = client.request(
        call.method,
        filled(call.path, context),
        params=filled(call.query, context),
        json=filled(call.json, context),
        data=filled(call.form, context) or None,
        files=files or None,
        follow_redirects=False,
    )
    for name, key in call.keep.items():
        context[name] = response.json().get(key, "") if key else response.content
    return response


def wait_for(client: Any, wait: Wait, sleep: Callable[[float], None]) -> None:
    """Returns once the task at the path has one of the awaited states."""
    status = ""
    for _ in range(int(wait.seconds * 4)):
        status = client.get(wait.path).json().get("status", "")
        if status in wait.words:
            return
        sleep(0.25)
    raise TimeoutError(f"{wait.path} says {status!r}, not one of {', '.join(wait.words)}.")


def label_put(name: str, number: int, **more: Any) -> Call:
    """Submits label ``number`` for image ``number`` as the Slicer plugin does."""
    query = {"image": f"{{image_{number}}}"} | more.pop("query", {})
    upload = Upload("label", f"label_{number}", f"{{image_{number}}}.nii.gz")
    return Call(name, "PUT", "/datastore/label", query, files=(upload,), **({"form": {"params": "{params}"}} | more))


PAGES = [
    Call("pages.home", "GET", "/"),
    Call("pages.docs", "GET", "/docs"),
    Call("pages.openapi", "GET", "/openapi.json"),
    Call("pages.favicon", "GET", "/favicon.ico"),
    Call("pages.ohif", "GET", "/ohif/"),
    Call("pages.ohif_asset", "GET", "/ohif/app-config.js"),
    Call("pages.ohif_study", "GET", "/ohif/viewer", {"StudyInstanceUIDs": "1.2.3"}, note="a page of the viewer"),
    Call("pages.logs", "GET", "/logs/"),
    Call("pages.logs_text", "GET", "/logs/", {"lines": "5", "text": "true"}),
    Call("pages.logs_not_html", "GET", "/logs/", {"html": "false"}),
    Call("pages.logs_whole", "GET", "/logs/", {"lines": "0"}),
    Call("pages.auth", "GET", "/auth/", note="not there while access control is off; clients read this as off"),
    Call("pages.auth_token", "POST", "/auth/token", form={"username": "a", "password": "b"}),
    Call("pages.auth_valid", "GET", "/auth/token/valid"),
]

IDLE = [
    Call("idle.info", "GET", "/info/"),
    Call("idle.info_without_slash", "GET", "/info", note="a redirect"),
    Call("idle.stats", "GET", "/datastore/", {"output": "stats"}),
    Call("idle.train_list", "GET", "/datastore/", {"output": "train"}),
    Call("idle.dataset", "GET", "/datastore/dataset", note="nothing is labelled"),
    *(
        Call(f"idle.{what}{name}", "GET", path, query)
        for what, path in (("train", "/train/"), ("scoring", "/scoring/"), ("batch", "/batch/infer"))
        for name, query in (("", {}), ("_running", {"check_if_running": "true"}), ("_all", {"all": "true"}))
    ),
    Call("idle.train_stop", "DELETE", "/train/"),
    Call("idle.scoring_stop", "DELETE", "/scoring/"),
    Call("idle.batch_stop", "DELETE", "/batch/infer"),
    Call("idle.model_info", "GET", "/model/info/{model}", note="no weights yet"),
    Call("idle.model", "GET", "/model/{model}"),
    Call("idle.model_delete", "DELETE", "/model/{model}"),
]

IMAGES = [
    Call("images.get", "GET", "/datastore/image", {"image": "{image_1}"}),
    Call("images.head", "HEAD", "/datastore/image", {"image": "{image_1}"}),
    Call("images.head_sum", "HEAD", "/datastore/image", {"image": "{image_1}", "check_sum": "SHA256:{image_sha256}"}),
    Call("images.head_bare_sum", "HEAD", "/datastore/image", {"image": "{image_1}", "check_sum": "{image_sha256}"}),
    Call("images.info", "GET", "/datastore/image/info", {"image": "{image_1}"}),
    Call("images.info_put", "PUT", "/datastore/image/info", {"image": "{image_1}"}, form={"info": '{"seen": 1}'}),
    Call("images.info_again", "GET", "/datastore/image/info", {"image": "{image_1}"}),
    Call(
        "images.put",
        "PUT",
        "/datastore/image",
        {"image": "{new_image}"},
        form={"params": PARAMS},
        files=(Upload("file", "image_file"),),
    ),
    Call(
        "images.put_as_client",
        "PUT",
        "/datastore/",
        {"image": "{other_new_image}"},
        form={"params": PARAMS},
        files=(Upload("file", "image_file"),),
    ),
    Call(
        "images.put_unnamed",
        "PUT",
        "/datastore/image",
        files=(Upload("file", "image_file", "{third_new_image}.nii.gz"),),
        note="the id is the file's name",
    ),
    Call("images.info_new", "GET", "/datastore/image/info", {"image": "{new_image}"}),
    Call("images.get_new", "GET", "/datastore/image", {"image": "{new_image}"}),
    Call("images.stats", "GET", "/datastore/"),
    Call("images.delete", "DELETE", "/datastore/image", {"id": "{new_image}"}),
    Call("images.delete_old_spelling", "DELETE", "/datastore/", {"id": "{other_new_image}"}),
    Call("images.delete_third", "DELETE", "/datastore/image", {"id": "{third_new_image}"}),
    Call("images.get_deleted", "GET", "/datastore/image", {"image": "{new_image}"}),
]

NEXT = [
    Call("next.first", "POST", "/activelearning/first", json={"client_id": "{client}"}),
    Call("next.first_again", "POST", "/activelearning/first", json={}, note="the reply now has a history"),
    Call("next.without_body", "POST", "/activelearning/first"),
]

INFER = [
    Call("infer.all", "POST", "/infer/{model}", {"image": "{image_1}", "output": "all"}, form={"params": PARAMS}),
    Call("infer.image", "POST", "/infer/{model}", {"image": "{image_1}", "output": "image"}, form={"params": PARAMS}),
    Call("infer.json", "POST", "/infer/{model}", {"image": "{image_1}", "output": "json"}, form={"params": PARAMS}),
    Call("infer.as_client", "POST", "/infer/{model}", {"image": "{image_1}"}, form={"params": PARAMS}),
    Call("infer.as_ohif", "POST", "/infer/{model}", {"image": "{image_1}", "output": "image"}, form={"params": OHIF}),
    Call("infer.all_as_nrrd", "POST", "/infer/{model}", {"image": "{image_1}", "output": "all"}, form={"params": OHIF}),
    Call(
        "infer.file",
        "POST",
        "/infer/{model}",
        {"image": "", "output": "all"},
        form={"params": PARAMS},
        files=(Upload("file", "image_file"),),
    ),
    Call(
        "infer.saved",
        "POST",
        "/infer/{model}",
        {"image": "{image_6}", "output": "all"},
        form={"params": '{"save_label": true, "label_tag": "original"}'},
        note="the mask is kept as the image's original label",
    ),
    Call("infer.saved_info", "GET", "/datastore/label/info", {"label": "{image_6}", "tag": "original"}),
    Call("infer.saved_delete", "DELETE", "/datastore/label", {"id": "{image_6}", "tag": "original"}),
    Call(
        "infer.with_label",
        "POST",
        "/infer/{model}",
        {"image": "{image_4}", "output": "json"},
        form={"params": PARAMS},
        files=(Upload("label", "label_4", "{image_4}.nii.gz"),),
    ),
    Call(
        "infer.with_raw_label",
        "POST",
        "/infer/{model}",
        {"image": "{image_4}", "output": "json"},
        form={"params": PARAMS},
        files=(Upload("label", "raw_label", "label.bin"),),
        note="as OHIF sends scribbles",
    ),
    Call("infer.dicom_seg", "POST", "/infer/{model}", {"image": "{image_1}", "output": "dicom_seg"}),
]

SESSIONS = [
    Call(
        "session.put",
        "PUT",
        "/session/",
        form={"client_id": "{client}"},
        files=(Upload("files", "image_file"),),
        keep={"session": "session_id"},
    ),
    Call("session.get", "GET", "/session/{session}"),
    Call("session.get_touched", "GET", "/session/{session}", {"update_ts": "true"}),
    Call("session.image", "GET", "/session/{session}", {"image": "true"}),
    Call(
        "session.infer",
        "POST",
        "/infer/{model}",
        {"image": "", "session_id": "{session}"},
        form={"params": PARAMS},
    ),
    Call("session.delete", "DELETE", "/session/{session}"),
    Call("session.get_deleted", "GET", "/session/{session}"),
    Call("session.delete_again", "DELETE", "/session/{session}"),
    Call(
        "session.put_several",
        "PUT",
        "/session/",
        {"expiry": "120"},
        files=(Upload("files", "image_file", "a.nii.gz"), Upload("files", "image_file", "b.nii.gz")),
        keep={"session": "session_id"},
    ),
    Call("session.delete_several", "DELETE", "/session/{session}"),
]

LABELS = [
    label_put("labels.put", 1, note="no tag means final"),
    label_put("labels.put_original", 1, query={"tag": "original"}),
    label_put("labels.put_without_params", 2, form={}),
    label_put("labels.put_final", 3, query={"tag": "final"}),
    Call(
        "labels.put_raw",
        "PUT",
        "/datastore/label",
        {"image": "{image_4}"},
        form={"params": "{params}"},
        files=(Upload("label", "raw_label", "label.bin"),),
        note="as OHIF v2 does",
    ),
    Call("labels.delete_raw", "DELETE", "/datastore/label", {"id": "{image_4}", "tag": "final"}),
    Call("labels.get", "GET", "/datastore/label", {"label": "{image_1}", "tag": "final"}),
    Call("labels.get_original", "GET", "/datastore/label", {"label": "{image_1}", "tag": "original"}),
    Call("labels.head", "HEAD", "/datastore/label", {"image": "{image_1}", "tag": "final"}),
    Call("labels.head_none", "HEAD", "/datastore/label", {"image": "{image_5}", "tag": "final"}),
    Call("labels.head_label", "HEAD", "/datastore/label", {"label": "{image_1}", "tag": "final"}, note="a mistake"),
    Call("labels.info", "GET", "/datastore/label/info", {"label": "{image_1}", "tag": "final"}),
    Call(
        "labels.info_put",
        "PUT",
        "/datastore/label/info",
        {"label": "{image_1}", "tag": "final"},
        form={"info": '{"seen": 1}'},
    ),
    Call(
        "labels.info_put_old_spelling",
        "PUT",
        "/datastore/updatelabelinfo",
        {"label": "{image_1}", "tag": "final"},
        form={"params": '{"seen_twice": true}'},
    ),
    Call("labels.info_again", "GET", "/datastore/label/info", {"label": "{image_1}", "tag": "final"}),
    Call("labels.delete", "DELETE", "/datastore/label", {"id": "{image_1}", "tag": "original"}),
    Call("labels.get_deleted", "GET", "/datastore/label", {"label": "{image_1}", "tag": "original"}),
    Call("labels.store", "GET", "/datastore/", {"output": "all"}),
    Call("labels.train_list", "GET", "/datastore/", {"output": "train"}),
    Call("labels.stats", "GET", "/datastore/", {"output": "stats"}),
    Call("labels.dataset", "GET", "/datastore/dataset"),
    Call("labels.dataset_limited", "GET", "/datastore/dataset", {"limit_cases": "1"}),
    Call("labels.next_random", "POST", "/activelearning/random", json={"client_id": "{client}"}),
]

RUNNING = ("RUNNING",)
TRAINING = [
    Call("train.start", "POST", "/train/{model}", json=TRAIN),
    Call("train.start_second", "POST", "/train/{model}", json=TRAIN, after=Wait("/train/", RUNNING)),
    Call("train.status", "GET", "/train/"),
    Call("train.running", "GET", "/train/", {"check_if_running": "true"}),
    Call("train.done", "GET", "/train/", after=Wait("/train/")),
    Call("train.done_running", "GET", "/train/", {"check_if_running": "true"}),
    Call("train.done_stop", "DELETE", "/train/"),
    Call("train.info", "GET", "/info/", note="with the statistics of the training"),
    Call("train.start_all", "POST", "/train/", json={"{model}": TRAIN}, note="as OHIF does"),
    Call("train.stop", "DELETE", "/train/", after=Wait("/train/", RUNNING)),
    Call("train.stopped", "GET", "/train/", after=Wait("/train/")),
    Call("train.all", "GET", "/train/", {"all": "true"}),
]

MODELS = [
    Call("model.info", "GET", "/model/info/{model}"),
    Call("model.get", "GET", "/model/{model}", keep={"model_file": ""}),
    Call("model.put", "PUT", "/model/{model}", files=(Upload("file", "model_file", "{model}.pt"),)),
    Call("model.delete", "DELETE", "/model/{model}"),
    Call("model.info_deleted", "GET", "/model/info/{model}"),
    Call("model.put_again", "PUT", "/model/{model}", files=(Upload("file", "model_file", "{model}.pt"),)),
]

BATCHES = [
    Call("batch.start", "POST", "/batch/infer/{model}", {"images": "unlabeled"}, json=BATCH),
    Call("batch.start_second", "POST", "/batch/infer/{model}", json=BATCH, after=Wait("/batch/infer", RUNNING)),
    Call("batch.status", "GET", "/batch/infer"),
    Call("batch.running", "GET", "/batch/infer", {"check_if_running": "true"}),
    Call("batch.done", "GET", "/batch/infer", after=Wait("/batch/infer")),
    Call("batch.all", "GET", "/batch/infer", {"all": "true"}),
    Call("batch.start_again", "POST", "/batch/infer/{model}", {"images": "all"}, json=BATCH),
    Call("batch.stop", "DELETE", "/batch/infer", after=Wait("/batch/infer", RUNNING)),
    Call("batch.now", "POST", "/batch/infer/{model}", {"images": "all", "run_sync": "true"}, json=BATCH),
]

SCORING = [
    Call("scoring.start", "POST", "/scoring/{scoring}", json={"client_id": "{client}"}),
    Call("scoring.start_second", "POST", "/scoring/{scoring}", json={}, after=Wait("/scoring/", RUNNING)),
    Call("scoring.status", "GET", "/scoring/"),
    Call("scoring.running", "GET", "/scoring/", {"check_if_running": "true"}),
    Call("scoring.stop", "DELETE", "/scoring/"),
    Call("scoring.stopped", "GET", "/scoring/"),
    Call("scoring.start_all", "POST", "/scoring/", json={}),
    Call("scoring.all", "GET", "/scoring/", {"all": "true"}),
]

INFER_MISTAKES = [
    Call("mistakes.infer_model", "POST", "/infer/{unknown}", {"image": "{image_1}"}),
    Call("mistakes.infer_no_input", "POST", "/infer/{model}"),
    Call("mistakes.infer_image", "POST", "/infer/{model}", {"image": "{unknown}"}, form={"params": PARAMS}),
    Call("mistakes.infer_session", "POST", "/infer/{model}", {"session_id": "{unknown}"}),
    Call("mistakes.infer_params", "POST", "/infer/{model}", {"image": "{image_1}"}, form={"params": "{not json"}),
    Call("mistakes.infer_list", "POST", "/infer/{model}", {"image": "{image_1}"}, form={"params": "[1]"}),
    Call("mistakes.infer_output", "POST", "/infer/{model}", {"image": "{image_1}", "output": "video"}),
    Call("mistakes.infer_get", "GET", "/infer/{model}", {"image": "{image_1}"}),
]

STORE_MISTAKES = [
    Call("mistakes.path", "GET", "/{unknown}"),
    Call("mistakes.store_output", "GET", "/datastore/", {"output": "video"}),
    Call("mistakes.image_get", "GET", "/datastore/image", {"image": "{unknown}"}),
    Call("mistakes.image_head", "HEAD", "/datastore/image", {"image": "{unknown}"}),
    Call("mistakes.image_get_nothing", "GET", "/datastore/image"),
    Call("mistakes.image_info", "GET", "/datastore/image/info", {"image": "{unknown}"}),
    Call("mistakes.image_info_put", "PUT", "/datastore/image/info", {"image": "{unknown}"}, form={"info": "{}"}),
    Call("mistakes.image_info_json", "PUT", "/datastore/image/info", {"image": "{image_1}"}, form={"info": "{no"}),
    Call("mistakes.image_put_no_file", "PUT", "/datastore/image", {"image": "{new_image}"}, form={"params": "{}"}),
    Call("mistakes.image_delete", "DELETE", "/datastore/image", {"id": "{unknown}"}),
    Call("mistakes.image_delete_nothing", "DELETE", "/datastore/image"),
    Call("mistakes.label_get", "GET", "/datastore/label", {"label": "{unknown}", "tag": "final"}),
    Call("mistakes.label_get_tag", "GET", "/datastore/label", {"label": "{image_1}", "tag": "{unknown}"}),
    Call("mistakes.label_get_no_tag", "GET", "/datastore/label", {"label": "{image_1}"}),
    Call("mistakes.label_info", "GET", "/datastore/label/info", {"label": "{unknown}", "tag": "final"}),
    Call(
        "mistakes.label_info_put",
        "PUT",
        "/datastore/label/info",
        {"label": "{unknown}", "tag": "final"},
        form={"info": "{}"},
    ),
    label_put("mistakes.label_put_image", 1, query={"image": "{unknown}"}),
    label_put("mistakes.label_put_json", 4, form={"params": "{not json"}),
    label_put("mistakes.label_put_list", 4, form={"params": "[1]"}, note="an error, yet stock stores the label"),
    Call("mistakes.label_put_list_undone", "DELETE", "/datastore/label", {"id": "{image_4}", "tag": "final"}),
    Call("mistakes.label_put_no_file", "PUT", "/datastore/label", {"image": "{image_1}"}, form={"params": "{}"}),
    Call("mistakes.label_put_no_image", "PUT", "/datastore/label", files=(Upload("label", "label_1"),)),
    Call("mistakes.label_delete", "DELETE", "/datastore/label", {"id": "{unknown}", "tag": "final"}),
    Call("mistakes.label_delete_no_tag", "DELETE", "/datastore/label", {"id": "{image_1}"}),
]

TASK_MISTAKES = [
    Call("mistakes.next_strategy", "POST", "/activelearning/{unknown}", json={"client_id": "{client}"}),
    Call("mistakes.next_list", "POST", "/activelearning/first", json=[1]),
    Call("mistakes.session_get", "GET", "/session/{unknown}"),
    Call("mistakes.session_delete", "DELETE", "/session/{unknown}"),
    Call("mistakes.session_put_nothing", "PUT", "/session/"),
    Call("mistakes.model_info", "GET", "/model/info/{unknown}"),
    Call("mistakes.model_get", "GET", "/model/{unknown}"),
    Call("mistakes.model_delete", "DELETE", "/model/{unknown}"),
    Call("mistakes.model_put", "PUT", "/model/{unknown}", files=(Upload("file", "raw_label", "weights.pt"),)),
    Call("mistakes.model_put_no_file", "PUT", "/model/{model}"),
    Call("mistakes.train_list", "POST", "/train/{model}", json=[1]),
    Call("mistakes.train_model", "POST", "/train/{unknown}", json={"client_id": "{client}"}),
    Call("mistakes.train_model_status", "GET", "/train/", after=Wait("/train/")),
    Call("mistakes.batch_model", "POST", "/batch/infer/{unknown}", json=BATCH),
    Call("mistakes.batch_model_status", "GET", "/batch/infer", after=Wait("/batch/infer")),
    Call("mistakes.batch_images", "POST", "/batch/infer/{model}", {"images": "some"}, json=BATCH),
    Call("mistakes.scoring_method", "POST", "/scoring/{unknown}", json={}),
    Call("mistakes.scoring_method_status", "GET", "/scoring/", after=Wait("/scoring/")),
]

FINISHED = [
    *(label_put(f"finished.label_{number}", number) for number in range(1, 7)),
    Call("finished.stats", "GET", "/datastore/"),
    Call("finished.next", "POST", "/activelearning/first", json={}, note="nothing is left to label"),
    Call("finished.next_random", "POST", "/activelearning/random", json={}),
    Call("finished.delete_labelled", "DELETE", "/datastore/image", {"id": "{image_5}"}),
]


def label_params(client: str) -> str:
    """What Slicer says with a submitted label: who, and which label value has which name."""
    names = [{"name": "Anterior", "idx": 1}, {"name": "Posterior", "idx": 2}]
    return json.dumps({"client_id": client, "label_info": names})


def tour(parts: Iterable[str] = ()) -> list[Call]:
    """The calls in their order, or those of the named parts only."""
    wanted = set(parts)
    return [call for call in CALLS if not wanted or call.part in wanted]


CALLS: list[Call] = [
    *(PAGES + IDLE + NEXT + IMAGES + INFER + SESSIONS + LABELS + TRAINING + MODELS + BATCHES + SCORING),
    *(INFER_MISTAKES + STORE_MISTAKES + TASK_MISTAKES + FINISHED),
]
