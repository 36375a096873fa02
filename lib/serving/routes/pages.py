"""``/`` and ``/docs``: two pages that need nothing from other hosts."""

from __future__ import annotations

import re
from html import escape
from itertools import islice
from string import Template
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from lib.serving.dicomweb import value_of
from lib.serving.loop import LabelingLoop
from lib.serving.routes.common import App, Offset, Who
from lib.store.images import ImageState
from lib.store.listings import Listing
from lib.store.queue import ANNOTATOR_STANDINGS, EXPERT_STANDINGS

router = APIRouter()

STYLE = """<style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .8rem .3rem 0;vertical-align:top;
border-bottom:1px solid #8884}code{font-family:ui-monospace,monospace}
.square{display:inline-block;width:.8em;height:.8em;border-radius:2px}
</style>"""

HOME = Template("""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>$title</title>$style</head><body>
<h1>$title</h1><p>$description</p>
$work
<table><tr><th>value<th>structure</tr>$structures</table>
<h2>Go on</h2><ul>
<li>3D Slicer: module <i>MONAI Label</i>, server address <code>$address</code></li>
<li><a href="docs">All requests</a>, <a href="openapi.json">as OpenAPI</a></li>
$raw<li><a href="annotators">Annotators</a>: what each does differently from the experts</li>
<li><a href="open">Viewer (OHIF)</a>: the studies in the browser$panel</li>
</ul>$cases</body></html>
""")

RAW = """<li><a href="info/">State</a>, <a href="datastore/?output=all">images and labels</a>,
<a href="logs/">log</a></li>
"""
"""Links that a browser can open where nobody signs in: it sends no token by itself."""

PANEL = """; <a href="ohif-monai/">the one with MONAI Label's own panel</a>"""
"""The panel cannot sign in."""

SIGNING_IN = """<form id="signing-in" hidden><label>Your token: <input id="token" type="password"
autocomplete="current-password"></label> <button>Sign in</button></form>
<p id="message" role="status"></p><div id="work"></div>
<script>
const TOKEN = "label-refinery-token";
const at = id => document.getElementById(id);
const tell = error => { at("message").textContent = error.message; };

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const reply = await fetch(path, {headers: token ? {Authorization: "Bearer " + token} : {}, ...options});
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => null);
  if (reply.status === 401) {
    sessionStorage.removeItem(TOKEN);
    at("signing-in").hidden = false;
    at("work").replaceChildren();
  }
  throw new Error(told?.detail ?? `The server answered with status ${reply.status}.`);
}

async function show(offset) {
  at("work").innerHTML = await (await ask("cases/page?offset=" + offset)).text();
  at("signing-in").hidden = true;
  at("message").textContent = "";
}

// A link sends no token: the viewer's address is asked for with it.
async function open(address) {
  location.assign((await ask(address)).url);
}

async function next() {
  const [strategy] = Object.keys((await (await ask("info/")).json()).strategies);
  const offer = await (await ask("activelearning/" + strategy + "?checksum=false", {
    method: "POST", headers: {Authorization: "Bearer " + sessionStorage.getItem(TOKEN)}})).json();
  if (!offer.id) throw new Error(offer.message);
  await open("open?image=" + encodeURIComponent(offer.id));
}

document.addEventListener("click", event => {
  const link = event.target.closest("a");
  const address = link?.getAttribute("href") ?? "";
  if (!sessionStorage.getItem(TOKEN) || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (/^open([?]|$)/.test(address)) {
    event.preventDefault();
    open(address).catch(tell);
  } else if (address.startsWith("?offset=")) {
    event.preventDefault();
    show(parseInt(address.slice(8), 10)).catch(tell);
  } else if (event.target.id === "next") {
    next().catch(tell);
  } else if (event.target.id === "sign-out") {
    sessionStorage.removeItem(TOKEN);
    location.reload();
  }
});
at("signing-in").onsubmit = event => {
  event.preventDefault();
  const body = new URLSearchParams({token: at("token").value});
  fetch("auth/ticket", {method: "POST", body}).then(async reply => {
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.detail);
    sessionStorage.setItem(TOKEN, told.token);
    at("token").value = "";
    await show(0);
  }).catch(tell);
};
if (sessionStorage.getItem(TOKEN)) {
  show(0).catch(tell);
} else {
  at("signing-in").hidden = false;
}
</script>"""
"""What stands on the start page where people sign in: who has a token is shown the cases."""

CASES = Template("""<h2 id="cases">Cases</h2>
<table><tr><th>image<th>stands at</tr>$rows</table><p>$others</p>""")

CASES_SHOWN = 100
"""Cases on one page."""

WAITING_SHOWN = 20
"""Cases that wait for an expert, before all others."""

PROBLEMS_SHOWN = 20
"""Quarantined images on the start page; the list of all images holds the others."""


DOCS = Template("""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Requests</title>$style</head><body>
<h1>Requests</h1><p>The same in machine-readable form: <a href="openapi.json">openapi.json</a>.</p>
<table><tr><th>request<th>what it does<th>in the address<th>in the body</tr>$rows</table></body></html>
""")


@router.get("/", include_in_schema=False)
def home(app: App, request: Request, offset: Offset = 0) -> HTMLResponse:
    """What this server is, and where to go."""
    task = app.record.task
    is_open = app.settings.auth == "none"
    work = f"<p>{_progress(app)}</p>{_problems(app)}" if is_open else SIGNING_IN
    rows = (
        f'<tr><td>{s.value}<td><span class="square" style="background:rgb{s.colour}"></span> {escape(s.name)}</tr>'
        for s in task.structures
    )
    return HTMLResponse(
        HOME.substitute(
            title=f"Label Refinery: {escape(task.name)}",
            description=escape(task.description),
            style=STYLE,
            work=work,
            raw=RAW if is_open else "",
            panel=PANEL if is_open else "",
            cases=_cases(app, offset) if is_open else "",
            structures="".join(rows),
            address=escape(str(request.base_url).rstrip("/")),
        )
    )


@router.get("/cases/page", include_in_schema=False)
def work(app: App, who: Who, offset: Offset = 0) -> HTMLResponse:
    """The part of the start page that is for people who have signed in."""
    person = who(None)
    return HTMLResponse(
        f'<p>You are {escape(person.name)}, {person.role}. <button id="sign-out">Sign out</button></p>'
        f'<p>{_progress(app)}</p><p><button id="next">Next case</button></p>'
        f"{_problems(app)}{_waiting(app)}{_cases(app, offset)}"
    )


def _waiting(app: LabelingLoop) -> str:
    """What waits for an expert, longest first, and how much there is for annotators."""
    queue = app.record.queue
    with app.record.database.reading():
        left, total = queue.count(ANNOTATOR_STANDINGS), queue.count(EXPERT_STANDINGS)
        first = queue.page(EXPERT_STANDINGS, 0, WAITING_SHOWN)
    images = [case.image for case in first]
    listings = app.record.listings.of_images(images)
    rows = "".join(f"<tr><td>{_link(image, listings.get(image))}</tr>" for image in images)
    more = f"<p>and {total - len(images)} more</p>" if total > len(images) else ""
    told = f"<p>{left} wait for an annotator, {total} for an expert.</p>"
    return f"{told}<h2>Waiting for an expert</h2><table>{rows}</table>{more}" if rows else told


def _progress(app: LabelingLoop) -> str:
    status, serving = app.datastore().status(), app.record.models.serving()
    if serving is not None:
        drafts = f"Model version {serving.version} makes drafts."
    elif app.record.task.draft_rule:
        drafts = "There is no model yet: a rule makes drafts."
    else:
        drafts = "There is no model yet."
    return f"{status['completed']} of {status['total']} images are labelled. {drafts}"


def _problems(app: LabelingLoop) -> str:
    """Studies and images that cannot be seen or read, and a split that cannot work."""
    status = app.datastore().status()
    warnings = (app.studies_fault, status["split_warning"])
    told = "".join(f"<p><b>{escape(warning)}</b></p>" for warning in warnings if warning)
    if not (count := status["quarantined"]):
        return told
    listed = "".join(
        f"<li>{escape(image.source)}: {escape(image.reason)}</li>"
        for image in islice(app.record.images.every(ImageState.QUARANTINED), PROBLEMS_SHOWN)
    )
    more = f"<li>and {count - PROBLEMS_SHOWN} more</li>" if count > PROBLEMS_SHOWN else ""
    is_open = app.settings.auth == "none"
    all_reasons = '<p><a href="datastore/?output=all">All reasons</a></p>' if is_open else ""
    said = "1 image is quarantined: it" if count == 1 else f"{count} images are quarantined: they"
    return (
        f"{told}<details><summary><b>{said} cannot be read and nobody is offered them.</b> Why</summary>"
        f"<ul>{listed}{more}</ul>{all_reasons}</details>"
    )


def _cases(app: LabelingLoop, offset: int) -> str:
    """Some of the cases, each opened by a click."""
    page = app.record.images.page(offset, CASES_SHOWN + 1)
    listings = app.record.listings.of_images([image for image, _ in page])
    rows = "".join(
        f"<tr><td>{_link(image, listings.get(image))}<td>{standing}</tr>" for image, standing in page[:CASES_SHOWN]
    )
    before = f'<a href="?offset={max(0, offset - CASES_SHOWN)}#cases">earlier ones</a> ' if offset else ""
    behind = f'<a href="?offset={offset + CASES_SHOWN}#cases">more</a>' if len(page) > CASES_SHOWN else ""
    return CASES.substitute(rows=rows, others=before + behind) if rows else ""


def _link(image: str, listing: Listing | None) -> str:
    return f'<a href="open?{escape(urlencode({"image": image}))}"{_named(image, listing)}</a>'


def _named(image: str, listing: Listing | None) -> str:
    """The rest of a link's tag and its text: a DICOM image by what its header says, its id as tooltip."""
    if listing is None or listing.source_name != image:
        return f">{escape(image)}"
    told = listing.attributes
    described = value_of(told, "SeriesDescription") or value_of(told, "StudyDescription") or listing.modality
    day = re.sub(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", listing.study_date)
    # Radiographs of one series share all of these.
    end = f"…{listing.instance_uid[-8:]}" if listing.instance_uid else ""
    words = [str(word) for word in (listing.patient_id, described, day, end) if word]
    return f' title="{escape(image)}">{escape(" · ".join(words))}'


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """All requests in a table."""
    described: dict[str, Any] = request.app.openapi()
    schemas = described["components"]["schemas"]
    rows = "".join(
        f"<tr><td><code>{method.upper()} {escape(path)}</code><td>{_marked_up(operation.get('description', ''))}"
        f"<td>{escape(', '.join(_parameters(operation)))}<td>{escape(', '.join(_fields(operation, schemas)))}</tr>"
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    )
    return HTMLResponse(DOCS.substitute(style=STYLE, rows=rows))


def _marked_up(text: str) -> str:
    """Descriptions are Markdown, of which they use code marks alone."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _parameters(operation: dict[str, Any]) -> list[str]:
    return [parameter["name"] for parameter in operation.get("parameters", [])]


def _fields(operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    """The fields of a form, or what else the body is."""
    (kind, content), *_ = operation.get("requestBody", {}).get("content", {"": {}}).items()
    if not kind:
        return []
    fields = schemas.get(content["schema"].get("$ref", "").rpartition("/")[2], {}).get("properties")
    if fields:
        return [f"form: {', '.join(fields)}"]
    return ["JSON object" if kind == "application/json" else kind]


ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#2b6777"/>'
    '<path d="M4 11c2-6 6-6 8-1" stroke="#fff" stroke-width="2" fill="none"/></svg>'
)


@router.get("/favicon.ico", include_in_schema=False)
def favicon() -> Response:
    """The sign in the browser's tab."""
    return Response(ICON, media_type="image/svg+xml")
