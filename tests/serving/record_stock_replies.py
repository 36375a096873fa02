"""Records what a stock MONAI Label server answers on the tour of stock_calls; run by hand in the server's environment.

Start the server on a fresh folder that holds copies of the first six images, then
``python -m tests.serving.record_stock_replies --server http://127.0.0.1:8000 --images DIR --labels DIR``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.serving.reply_shape import described
from tests.serving.stock_calls import Call, label_params, send, tour

REPLIES = Path(__file__).with_name("stock_replies.json")
PACKAGES = ("monailabel", "monai", "torch", "fastapi", "starlette", "pydantic", "pydicom", "dicomweb-client")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--server", required=True, help="address of the running stock server")
    result.add_argument("--images", required=True, type=Path, help="NIfTI images whose first six the server holds")
    result.add_argument("--labels", required=True, type=Path, help="labels of the images, under the same file names")
    result.add_argument("--model", default="segmentation")
    result.add_argument("--scoring", default="dice", help="scoring method to ask for")
    result.add_argument("--parts", nargs="*", default=[], help="record these parts anew and keep the others")
    result.add_argument("--raw", type=Path, help="also write status, headers and body of each reply here")
    result.add_argument("--out", type=Path, default=REPLIES)
    return result


def context_from(images: Path, labels: Path, model: str, scoring: str) -> dict[str, Any]:
    """What fills the placeholders of the tour: words and file contents."""
    files = sorted(images.glob("*.nii.gz"))[:6]
    context: dict[str, Any] = {"model": model, "scoring": scoring, "client": "user-xyz", "unknown": "no-such-thing"}
    for number, file in enumerate(files, start=1):
        context[f"image_{number}"] = file.name.removesuffix(".nii.gz")
        context[f"label_{number}"] = (labels / file.name).read_bytes()
    context["image_file"] = files[0].read_bytes()
    context["image_sha256"] = hashlib.sha256(context["image_file"]).hexdigest()
    # One byte a voxel, behind a header of 352 bytes.
    context["raw_label"] = gzip.decompress(context["label_4"])[352:]
    context |= {"new_image": "added-a", "other_new_image": "added-b", "third_new_image": "added-c"}
    return context | {"params": label_params(context["client"])}


def known_values(context: dict[str, Any]) -> dict[str, str]:
    """Each word of the context with the placeholder that stands for it in a recorded reply."""
    return {
        value: f"{{{name}}}"
        for name, value in context.items()
        if isinstance(value, str) and value and name not in ("params", "image_sha256")
    }


def request_record(call: Call) -> dict[str, Any]:
    """The request as it stands in the record: method, path and query."""
    record: dict[str, Any] = {"method": call.method, "path": call.path}
    return record | ({"query": dict(call.query)} if call.query else {})


def raw_record(response: Any) -> dict[str, Any]:
    """The reply with its values, long or binary bodies cut short."""
    body = response.content
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = f"{body[:1600]!r}… ({len(body)} bytes)"
    return {"status": response.status_code, "headers": dict(response.headers), "body": text[:6000]}


def about() -> dict[str, Any]:
    """Which software answered, and when."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "server": "stock monailabel, sample app radiology, auth off, local datastore of six NIfTI images",
        "conf": "models segmentation, use_pretrained_model false, sam2 false, labels Anterior,Posterior",
        "versions": versions,
        "recorded": date.today().isoformat(),
    }


def one_per_line(replies: dict[str, Any]) -> str:
    """JSON with one reply a line, so that a change shows as the reply it is in."""
    lines = (f"{json.dumps(name)}: {json.dumps(reply, ensure_ascii=False)}" for name, reply in replies.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tour and writes the replies."""
    import httpx

    options = parser().parse_args(argv)
    context = context_from(options.images, options.labels, options.model, options.scoring)
    replies: dict[str, Any] = {}
    if options.parts and options.out.exists():
        replies = json.loads(options.out.read_text())
    replies["_about"] = about()
    raw: dict[str, Any] = {}
    # After a 500 uvicorn closes the connection, so none is used twice.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=options.server, timeout=300, limits=limits) as client:
        for call in tour(options.parts):
            response = send(client, call, context)
            sent = {name: value for name, value in context.items() if isinstance(value, bytes)}
            reply = described(response, known_values(context), sent)
            replies[call.name] = {"request": request_record(call), **reply}
            raw[call.name] = raw_record(response)
            print(f"{call.name}: {response.status_code}", flush=True)
    options.out.write_text(one_per_line(replies))
    if options.raw:
        options.raw.write_text(json.dumps(raw, indent=1, ensure_ascii=False))
    print(f"Wrote {len(replies) - 1} replies to {options.out}")


if __name__ == "__main__":
    main()
