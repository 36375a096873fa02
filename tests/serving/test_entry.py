"""/open leads to the viewer on a case; where people sign in, with a ticket of theirs."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from starlette.testclient import TestClient

from lib.phantoms.breast import BreastParameters, draw_mammogram
from lib.phantoms.dicom_mammogram import write_mammogram
from lib.serving import gate
from lib.serving.dicomweb import value_of
from lib.serving.server import create_server, load_app
from lib.serving.tickets import TICKET_SECONDS
from lib.serving.tokens import TokenFile
from lib.stages import PEOPLE, Role
from lib.store import layout
from lib.store.images import ImageState
from lib.volume import Volume, write_volume
from tests.serving.conftest import APPS, Here
from tests.serving.drawn_series import put_series
from tests.serving.issuer import issuing
from tests.serving.places import image_bytes, mask_bytes, put_label
from tests.serving.test_gate import Guarded
from tests.serving.test_tickets import HEADS


@pytest.fixture
def guarded(open_app: Callable[..., Here]) -> Guarded:
    """A server at which people sign in."""
    here = open_app(auth="tokens")
    file = TokenFile(here.data / layout.TOKENS)
    return Guarded(here, {role: file.add(str(role), role) for role in PEOPLE})


def led_to(reply: Any) -> tuple[str, dict[str, str]]:
    """Path and query of the address that a reply leads to."""
    assert reply.status_code == 303, reply.text
    assert reply.headers["cache-control"] == "no-store"
    address = urlsplit(reply.headers["location"])
    assert (address.scheme, address.netloc) == ("", "")
    return address.path, {
        name: text for name, (text,) in parse_qs(address.query, strict_parsing=bool(address.query)).items()
    }


def opened(client: TestClient, **query: str) -> tuple[str, dict[str, str]]:
    return led_to(client.get("/open", params=query, follow_redirects=False))


def test_a_case_is_opened_in_the_segmentation_mode_on_its_series(here: Here) -> None:
    (study,) = (one for one in here.client.get("/dicomweb/studies").json() if one["00100020"]["Value"] == ["case_01"])
    uid = study["0020000D"]["Value"][0]
    (series,) = here.client.get(f"/dicomweb/studies/{uid}/series").json()

    path, query = opened(here.client, image="case_01")

    assert path == "/ohif/segmentation"
    assert query == {"StudyInstanceUIDs": uid, "initialSeriesInstanceUID": series["0020000E"]["Value"][0]}


def put_views(folder: Path) -> list[str]:
    """Two radiographs of one series; their ids."""
    phantom = draw_mammogram(BreastParameters(seed=1))
    return [
        write_mammogram(folder, phantom, laterality="L", view=view, patient_id="p", seed=1) for view in ("CC", "MLO")
    ]


def test_of_radiographs_in_one_series_the_named_one_is_opened(tmp_path: Path) -> None:
    first, second = put_views(tmp_path / "studies")
    app = load_app(APPS / "mass", str(tmp_path / "studies"), {"data": str(tmp_path / "data"), "rescan": "0"})
    app.look()
    client = TestClient(create_server(app), base_url="http://127.0.0.1")

    asked = [opened(client, image=image)[1] for image in (first, second)]

    assert [one["initialSOPInstanceUID"] for one in asked] == [first.split("/")[1], second.split("/")[1]]
    assert asked[0]["StudyInstanceUIDs"] == asked[1]["StudyInstanceUIDs"]
    assert all("initialSeriesInstanceUID" not in one for one in asked)
    app.record.close()


def test_without_a_case_the_list_of_studies_is_opened(here: Here) -> None:
    assert opened(here.client) == ("/ohif/", {})


def test_an_unknown_case_is_told(here: Here) -> None:
    reply = here.client.get("/open", params={"image": "case_99"})

    assert reply.status_code == 404
    assert "There is no image 'case_99'." in reply.json()["detail"]


def test_a_quarantined_case_is_not_opened_and_says_why(here: Here) -> None:
    here.app.record.images.set_state("case_01", ImageState.QUARANTINED, "case_01.nii.gz is empty (0 bytes).")

    reply = here.client.get("/open", params={"image": "case_01"})

    assert reply.status_code == 422
    assert reply.json()["detail"] == "Image 'case_01' is quarantined: case_01.nii.gz is empty (0 bytes)."


def test_a_case_that_no_viewer_can_show_is_told(here: Here) -> None:
    here.app.dicom.list_new()
    here.app.record.listings.put("case_01", None)

    reply = here.client.get("/open", params={"image": "case_01"})

    assert reply.status_code == 404
    assert "Viewers cannot show image 'case_01'" in reply.json()["detail"]


# Where people sign in.


def test_a_browser_is_asked_for_a_token_and_keeps_the_case(guarded: Guarded) -> None:
    reply = guarded.stranger.get("/open", params={"image": 'a"><b>'})

    assert reply.status_code == 401
    assert reply.headers["content-type"].startswith("text/html")
    assert 'type="password" name="token"' in reply.text
    assert 'name="image" value="a&quot;&gt;&lt;b&gt;"' in reply.text


def test_the_form_leads_to_the_case_with_a_ticket_of_the_person(guarded: Guarded) -> None:
    token = guarded.tokens[Role.ANNOTATOR]

    path, query = led_to(
        guarded.stranger.post("/open", data={"image": "case_00", "token": token}, follow_redirects=False)
    )

    assert path == "/ohif/segmentation"
    assert query["token"] != token and "StudyInstanceUIDs" in query
    valid = guarded.stranger.get("/auth/token/valid", headers={"Authorization": f"Bearer {query['token']}"})
    assert (valid.json()["name"], valid.json()["roles"]) == ("annotator", ["annotator"])


def test_a_wrong_token_is_told_on_the_page(guarded: Guarded) -> None:
    reply = guarded.stranger.post("/open", data={"image": "case_00", "token": "wrong"})

    assert reply.status_code == 401
    assert "The token is not known." in reply.text and 'value="case_00"' in reply.text


@pytest.mark.parametrize("auth", ["tokens", "oidc"])
def test_an_odd_token_is_refused_wherever_one_is_taken(
    open_app: Callable[..., Here], auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who sends so many has to wait.
    monkeypatch.setattr(gate, "WRONG_TOKENS", 1000)
    with issuing() as issuer:
        client = open_app(auth=auth, **({"oidc_issuer": issuer.address} if auth == "oidc" else {})).client
        for head in HEADS:
            token = f"{base64.urlsafe_b64encode(head).rstrip(b'=').decode()}.e30.c2ln"
            signing_in = {"Authorization": f"Bearer {token}"}
            statuses = [
                client.get("/info/", headers=signing_in).status_code,
                client.get("/open", headers=signing_in).status_code,
                client.post("/open", data={"token": token}).status_code,
                client.post("/auth/token", data={"username": "dr.kim", "password": token}).status_code,
                client.get("/auth/token/valid", headers=signing_in).status_code,
            ]
            # In a form one may be longer than all that somebody may say who did not sign in.
            assert set(statuses[2:4]) <= {401, 413} and {*statuses[:2], statuses[4]} == {401}, head[:60]


def test_nobody_learns_without_a_token_which_cases_there_are(guarded: Guarded) -> None:
    known, unknown = (guarded.stranger.get("/open", params={"image": image}) for image in ("case_00", "case_99"))

    assert known.status_code == unknown.status_code == 401
    assert known.text == unknown.text.replace("case_99", "case_00")


@pytest.mark.parametrize("role", PEOPLE)
def test_a_ticket_gives_no_other_rights_than_the_token(guarded: Guarded, role: Role) -> None:
    ticket = opened(guarded.by(role))[1]["token"]
    by_ticket, by_token = ({"Authorization": f"Bearer {one}"} for one in (ticket, guarded.tokens[role]))

    for method, path in [
        ("GET", "/info/"),
        ("POST", "/activelearning/random"),
        ("DELETE", "/train/"),
        ("GET", "/audit/"),
    ]:
        replies = [guarded.stranger.request(method, path, headers=headers) for headers in (by_ticket, by_token)]
        assert replies[0].status_code == replies[1].status_code, path


def test_a_ticket_does_not_grow_older_by_opening_the_next_case(guarded: Guarded) -> None:
    first = opened(guarded.by(Role.EXPERT), image="case_00")[1]["token"]
    headers = {"Authorization": f"Bearer {first}"}

    reply = guarded.stranger.get("/open", params={"image": "case_01"}, headers=headers, follow_redirects=False)

    assert led_to(reply)[1]["token"] == first


def test_a_ticket_ends_with_the_token_it_was_given_for(guarded: Guarded) -> None:
    ticket = opened(guarded.by(Role.EXPERT))[1]["token"]
    file = TokenFile(guarded.here.data / layout.TOKENS)

    file.remove("expert")
    file.add("expert", Role.EXPERT)

    reply = guarded.stranger.get("/info/", headers={"Authorization": f"Bearer {ticket}"})
    assert reply.status_code == 401
    assert "The token of expert, with which the viewer was opened, was taken back." in reply.json()["detail"]


def test_no_token_is_kept_in_the_audit_or_the_log(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = guarded.tokens[Role.EXPERT]
    ticket = led_to(guarded.stranger.post("/open", data={"token": token}, follow_redirects=False))[1]["token"]
    expert = guarded.by(Role.EXPERT)
    expert.delete("/train/", params={"a": "b", "token": ticket, "c": "d"})
    guarded.stranger.post("/open", data={"token": f"{token}x"})

    kept = [change.query for _, change in guarded.here.app.record.audit.newest(10)]

    logged = [entry.getMessage() for entry in caplog.records if entry.name.startswith("lib.")]
    assert kept == ["a=b&token=…&c=d"]
    assert len(logged) == 2
    assert token not in f"{kept}{logged}" and ticket not in f"{kept}{logged}"


def test_a_person_of_an_issuer_gets_a_ticket_too(open_app: Callable[..., Here]) -> None:
    with issuing() as issuer:
        here = open_app(auth="oidc", oidc_issuer=issuer.address)
        headers = {"Authorization": f"Bearer {issuer.token()}"}

        ticket = led_to(here.client.get("/open", headers=headers, follow_redirects=False))[1]["token"]
        valid = here.client.get("/auth/token/valid", headers={"Authorization": f"Bearer {ticket}"})

    assert (valid.json()["name"], valid.json()["roles"]) == ("dr.kim", ["expert"])


def test_a_person_of_an_issuer_corrects_in_the_viewer_for_longer_than_the_issuers_token_lasts(
    open_app: Callable[..., Here],
) -> None:
    with issuing() as issuer:
        here = open_app(auth="oidc", oidc_issuer=issuer.address)
        asked = here.client.get("/open")
        form = {"image": "case_00", "token": issuer.token()}
        path, query = led_to(here.client.post("/open", data=form, follow_redirects=False))
        expired = here.client.post("/open", data={"image": "case_00", "token": issuer.token(exp=1)})
    # The issuer is not asked any more, and nobody else is let in.
    here.client.headers["Authorization"] = f"Bearer {query['token']}"
    put_label(here.client, "case_00", mask_bytes(0))

    assert asked.status_code == 401 and f"Take a token of {issuer.address}, or one" in asked.text
    assert (expired.status_code, path) == (401, "/ohif/segmentation") and "Sign in again." in expired.text
    assert len(here.client.get("/dicomweb/studies").json()) == 2
    assert here.app.record.annotations.tagged("case_00", "final").author == "dr.kim"


VIEWED = "/ohif/segmentation?StudyInstanceUIDs=1.2.3&initialSeriesInstanceUID=1.2.3.4"


def test_who_is_signed_out_in_the_viewer_comes_back_to_what_was_open(guarded: Guarded) -> None:
    asked = guarded.stranger.get("/open", params={"address": VIEWED})
    form = {"address": VIEWED, "token": guarded.tokens[Role.EXPERT]}
    path, query = led_to(guarded.stranger.post("/open", data=form, follow_redirects=False))

    assert asked.status_code == 401
    assert f'name="address" value="{VIEWED.replace("&", "&amp;")}"' in asked.text
    ticket = query.pop("token")
    assert (path, query) == (
        "/ohif/segmentation",
        {"StudyInstanceUIDs": "1.2.3", "initialSeriesInstanceUID": "1.2.3.4"},
    )
    valid = guarded.stranger.get("/auth/token/valid", headers={"Authorization": f"Bearer {ticket}"})
    assert valid.json()["name"] == "expert"


def test_where_nobody_signs_in_an_address_of_the_viewer_is_led_to_as_it_is(here: Here) -> None:
    assert opened(here.client, address=VIEWED)[0] == "/ohif/segmentation"


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/ohif/", "//evil.example/ohif/", "/", "ohif/", "/ohif", "/\\evil.example/ohif/",
     "javascript:alert(1)", " /ohif/", "\t/ohif/"],
)  # fmt: skip
def test_nobody_is_led_out_of_the_viewer(guarded: Guarded, address: str) -> None:
    form = {"address": address, "token": guarded.tokens[Role.EXPERT]}

    replies = [
        guarded.stranger.get("/open", params={"address": address}, follow_redirects=False),
        guarded.stranger.post("/open", data=form, follow_redirects=False),
    ]

    for reply in replies:
        assert reply.status_code == 422
        assert reply.json()["detail"].startswith("address is one of the viewer, which begins with /ohif/; found ")


# The start page.


def test_the_start_page_opens_each_case(here: Here) -> None:
    page = here.client.get("/").text

    links = re.findall(r'<a href="(open\?image=[^"]+)">([^<]+)</a>', page)
    assert links == [("open?image=case_00", "case_00"), ("open?image=case_01", "case_01")]
    assert opened(here.client, image="case_01")[0] == "/ohif/segmentation"


def test_the_start_page_shows_a_hundred_cases_at_once(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    for number in range(101):
        write_volume(tmp_path / "studies" / f"a&b {number:03}.nii.gz", Volume(np.ones((4, 4, 3), np.uint8), np.eye(4)))
    conf = {"data": str(tmp_path / "data"), "labels": "liver", "rescan": "0"}
    app = load_app(APPS / "segmentation", str(tmp_path / "studies"), conf)
    app.look()
    client = TestClient(create_server(app), base_url="http://127.0.0.1")

    first, second = client.get("/").text, client.get("/?offset=100").text

    assert first.count('"open?image=') == 100 and 'href="?offset=100#cases">more' in first
    assert '<a href="open?image=a%26b+100">a&amp;b 100</a><td>untouched' in second
    assert 'href="?offset=0#cases">earlier ones' in second and "more</a>" not in second
    app.record.close()


def test_the_start_page_names_a_series_by_what_its_header_says_and_its_id_when_pointed_at(here: Here) -> None:
    uid = put_series(here, "PAT-7")
    here.app.dicom.list_new()
    listing = here.app.record.listings.of_image(uid)

    page = here.client.get("/").text

    assert listing is not None
    day = f"{listing.study_date[:4]}-{listing.study_date[4:6]}-{listing.study_date[6:]}"
    described = value_of(listing.attributes, "SeriesDescription") or "CT"
    assert f'<a href="open?image={uid}" title="{uid}">PAT-7 · {described} · {day}</a>' in page


def test_radiographs_of_one_series_are_told_apart(tmp_path: Path) -> None:
    views = put_views(tmp_path / "studies")
    app = load_app(APPS / "mass", str(tmp_path / "studies"), {"data": str(tmp_path / "data"), "rescan": "0"})
    app.look()
    app.dicom.list_new()

    page = TestClient(create_server(app), base_url="http://127.0.0.1").get("/").text
    app.record.close()

    names = re.findall(r'<a href="open\?image=[^"]+" title="([^"]+)">([^<]+)</a>', page)
    assert [image for image, _ in names] == sorted(views)
    assert all(name.startswith("p · ") for _, name in names) and names[0][1] != names[1][1]


def test_the_start_page_counts_quarantined_images_and_says_why(here: Here) -> None:
    for name in ("a<b.nii.gz", "c.nii.gz"):
        (here.studies / name).write_bytes(b"")
    here.look()

    page = here.client.get("/").text

    assert "2 images are quarantined" in page and 'href="datastore/?output=all"' in page
    assert "<li>a&lt;b.nii.gz: a&lt;b.nii.gz is empty (0 bytes).</li>" in page


def test_of_many_quarantined_images_twenty_are_listed_and_the_others_counted(here: Here) -> None:
    for number in range(23):
        (here.studies / f"x{number:02}.nii.gz").write_bytes(b"")
    here.look()

    page = here.client.get("/").text

    assert page.count("<li>x") == 20 and "<li>and 3 more</li>" in page


def test_where_all_is_well_the_start_page_speaks_of_no_problem(here: Here) -> None:
    page = here.client.get("/").text

    assert "quarantined" not in page and "patient" not in page


def test_a_split_that_cannot_work_is_told_wherever_counts_stand(here: Here) -> None:
    for number in range(8):
        place = here.studies / ("benign" if number < 6 else "malignant") / f"{number}.nii.gz"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(image_bytes(number))
    assert here.client.get("/datastore/").json()["split_warning"] == ""
    here.look()

    told = here.client.get("/datastore/").json()["split_warning"]

    assert told.startswith("10 images, 4 patients: Every 5th patient measures the models")
    assert here.client.get("/info/").json()["datastore"]["split_warning"] == told
    assert told in here.client.get("/").text


def test_the_start_page_names_no_case_where_people_sign_in(guarded: Guarded) -> None:
    page = guarded.stranger.get("/").text

    assert 'href="open"' in page and "case_00" not in page and "quarantined" not in page
    # A browser sends no token when it follows a link.
    assert not re.findall(r'href="(?:info|datastore|logs)/', page)


@pytest.mark.parametrize("role", PEOPLE)
def test_who_has_signed_in_is_shown_cases_progress_and_what_waits(guarded: Guarded, role: Role) -> None:
    put_label(guarded.by(Role.ANNOTATOR), "case_01", mask_bytes(1))

    page = guarded.by(role).get("/cases/page").text

    assert f"You are {role}, {role}." in page and "0 of 2 images are labelled." in page
    assert "1 wait for an annotator, 1 for an expert." in page
    waiting, cases = page.split('id="cases"')
    assert 'href="open?image=case_01"' in waiting and "case_00" not in waiting
    assert 'href="open?image=case_00"' in cases and 'href="open?image=case_01"' in cases
    assert guarded.stranger.get("/cases/page").status_code == 401


def test_reasons_of_quarantine_are_no_link_where_a_browser_sends_no_token(guarded: Guarded) -> None:
    (guarded.here.studies / "a.nii.gz").write_bytes(b"")
    guarded.here.look()

    page = guarded.by(Role.VIEWER).get("/cases/page").text

    assert "1 image is quarantined" in page and "a.nii.gz is empty" in page and "datastore/" not in page


# --- A sign-in that ends ----------------------------------------------------------------------------------------------


def test_a_person_signs_in_anew_without_leaving_the_page(guarded: Guarded) -> None:
    told = guarded.stranger.post("/auth/ticket", data={"token": guarded.tokens[Role.ANNOTATOR]}).json()

    assert (told["username"], told["roles"]) == ("annotator", ["annotator"])
    assert 0 < told["ends"] <= TICKET_SECONDS
    person = guarded.stranger.get("/auth/token/valid", headers={"Authorization": f"Bearer {told['token']}"})
    assert person.json()["username"] == "annotator"


def test_a_token_that_nobody_has_signs_nobody_in_anew(guarded: Guarded) -> None:
    reply = guarded.stranger.post("/auth/ticket", data={"token": "wrong"})

    assert (reply.status_code, reply.json()["title"]) == (401, "NotSignedIn")


def test_a_ticket_signs_in_anew_without_growing_longer(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    first = guarded.stranger.post("/auth/ticket", data={"token": guarded.tokens[Role.ANNOTATOR]}).json()
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)

    again = guarded.stranger.post("/auth/ticket", data={"token": first["token"]}).json()

    assert again["token"] == first["token"] and again["ends"] <= TICKET_SECONDS - 3600


def test_who_has_a_case_open_is_told_when_the_sign_in_ends(guarded: Guarded) -> None:
    query = {"image": "case_00", "version": 0, "tab": "a"}
    ticket = guarded.stranger.post("/auth/ticket", data={"token": guarded.tokens[Role.VIEWER]}).json()["token"]

    by_ticket = guarded.stranger.post("/cases/open", params=query, headers={"Authorization": f"Bearer {ticket}"})
    by_token = guarded.by(Role.VIEWER).post("/cases/open", params=query)

    assert 0 < by_ticket.json()["ends"] <= TICKET_SECONDS
    assert by_token.json()["ends"] is None


def test_at_an_open_server_nobody_signs_in_anew(here: Here) -> None:
    assert here.client.post("/auth/ticket", data={"token": "any"}).json() == {"token": None, "ends": None}


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_who_did_not_sign_in_says_a_token_and_no_more(guarded: Guarded, kind: str) -> None:
    reply = guarded.stranger.post("/auth/ticket", content=b"token=" + b"x" * 200_000, headers={"Content-Type": kind})

    assert reply.status_code == 413
