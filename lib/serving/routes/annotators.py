"""``/annotators``: what each annotator does differently from the experts, as JSON, picture and page."""

from __future__ import annotations

from string import Template
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from lib.errors import InvalidRequest, NotAllowed
from lib.serving.annotator import Annotator
from lib.serving.bias_plot import plot
from lib.serving.bias_report import annotators, report
from lib.serving.routes.common import App, Name
from lib.serving.routes.pages import STYLE
from lib.stages import Role

router = APIRouter(prefix="/annotators", tags=["Annotators"])

PAGE = Template("""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Annotators</title>$style
<style>img{max-width:100%;background:#fff}</style></head><body>
<h1>Annotators</h1>
<p>How an annotator's masks differ from the experts' versions of the same images. A mean whose 95 % interval does not
hold 0 is a habit rather than chance: too large or too small (volume), drawn too far out or in (shift), components
that were missed or invented.</p>
<form id="signing-in" hidden><label>Token <input id="token" type="password" autocomplete="off"></label>
<button>Sign in</button></form>
<p id="message"></p>
<p><select id="names" hidden></select></p>
<div id="report" hidden>
<p id="counts"></p><img id="plot" alt="Every case, means and intervals by structure">
<h2>Structures</h2><table id="structures"></table>
<h2>Cases</h2><table id="cases"></table>
</div>
<script>
const at = id => document.getElementById(id);
const number = (value, digits) => value === null ? "" : value.toFixed(digits);
const mean = (spread, digits) => spread.mean === null ? "" : number(spread.mean, digits)
  + (spread.interval[0] === null ? "" : ` ($${spread.interval.map(bound => number(bound, digits)).join(" to ")})`);
const FIGURES = ["dice", "volume (%)", "shift (mm)", "missed", "invented"];

async function ask(path) {
  const token = sessionStorage.getItem("label-refinery-token");
  const reply = await fetch(path, token ? {headers: {Authorization: "Bearer " + token}} : {});
  at("signing-in").hidden = reply.status !== 401;
  if (!reply.ok) throw new Error((await reply.json()).detail);
  return reply;
}

function fill(table, head, rows) {
  table.replaceChildren();
  [head, ...rows].forEach((texts, row) => {
    const line = table.insertRow();
    texts.forEach(text => line.appendChild(document.createElement(row ? "td" : "th")).textContent = text);
  });
}

async function show(name) {
  const query = "?name=" + encodeURIComponent(name);
  const told = await (await ask("annotators/report" + query)).json();
  at("counts").textContent = `Cases compared: $${told.cases}. `
    + (told.not_compared ? `Not compared yet: $${told.not_compared}; they follow by themselves.` : "");
  fill(at("structures"), ["structure", "cases", ...FIGURES], Object.entries(told.structures).map(([structure, bias]) =>
    [structure, bias.cases, mean(bias.dice, 3), mean(bias.volume_percent, 1), mean(bias.shift_mm, 2), bias.missed,
     bias.invented]));
  fill(at("cases"), ["image", "versions", "structure", ...FIGURES], told.rows.flatMap(row => {
    const found = Object.entries(row.structures).map(([structure, bias]) =>
      [structure, number(bias.dice, 3), number(bias.volume_percent, 1), number(bias.shift_mm, 2), bias.missed,
       bias.invented]);
    return (found.length ? found : [[row.reason || ""]]).map(cells =>
      [row.image, `$${row.version} and expert's $${row.expert_version}`, ...cells]);
  }));
  at("report").hidden = false;
  URL.revokeObjectURL(at("plot").src);
  at("plot").src = URL.createObjectURL(await (await ask("annotators/report.png" + query)).blob());
}

async function start() {
  const people = await (await ask("annotators/report")).json();
  at("message").textContent = people.length ? "" : "No annotator has a case yet that an expert labelled too.";
  at("names").replaceChildren(...people.map(one => new Option(one.name)));
  at("names").hidden = !people.length;
  if (people.length) await show(people[0].name);
}

const tell = error => { at("message").textContent = error.message; };
at("names").onchange = () => show(at("names").value).catch(tell);
at("signing-in").onsubmit = event => {
  event.preventDefault();
  const body = new URLSearchParams({token: at("token").value});
  fetch("auth/ticket", {method: "POST", body}).then(async reply => {
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.detail);
    sessionStorage.setItem("label-refinery-token", told.token);
    await start();
  }).catch(tell);
};
start().catch(tell);
</script></body></html>
""")


def _shown_to(request: Request) -> str | None:
    """The only name that the person who asks may look at; ``None``: all, as for experts and at an open server."""
    person: Annotator | None = request.state.person
    return person.name if person is not None and person.role not in (Role.EXPERT, Role.ADMIN) else None


Shown = Annotated[str | None, Depends(_shown_to)]


@router.get("", include_in_schema=False)
def page() -> HTMLResponse:
    """The report for people. It holds no names itself: a browser sends no token when it opens a page."""
    return HTMLResponse(PAGE.substitute(style=STYLE))


@router.get("/report")
def report_on_annotators(app: App, shown: Shown, name: Name = "") -> Any:
    """How an annotator's masks differ from the experts', by structure and case; without `name` who has cases."""
    if name:
        return _report(app, shown, name)
    return [one for one in annotators(app.record) if shown in (None, one["name"])]


@router.get("/report.png")
def plot_of_annotator(app: App, shown: Shown, name: Name) -> Response:
    """The same as a picture."""
    if not name:
        raise InvalidRequest("Name the annotator: ?name=NAME. GET /annotators/report lists all.")
    return Response(plot(_report(app, shown, name)), media_type="image/png", headers={"Cache-Control": "no-store"})


def _report(app: App, shown: str | None, name: str) -> dict[str, Any]:
    if shown not in (None, name):
        raise NotAllowed(f"The report on {name!r} is for experts and that person; {shown} may read that on {shown}.")
    return report(app.record, name)
