"""Laws that every app obeys; the pages that every app serves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from lib.errors import InvalidSetting
from lib.serving.server import create_server, load_app
from lib.volume import Volume, write_volume
from tests.serving.places import put_images

APPS = sorted(path.parent for path in (Path(__file__).resolve().parents[2] / "apps").glob("*/main.py"))


def put_flat_images(folder: Path, count: int) -> None:
    """Fills a folder with images of one slice."""
    for number in range(count):
        write_volume(folder / f"film_{number}.nii.gz", Volume(np.full((30, 40, 1), number, np.uint8), np.eye(4)))


@pytest.fixture(params=APPS, ids=lambda app: app.name)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestClient]:
    """A client of each app, loaded by MONAI Label's loader, on two images."""
    (tmp_path / "studies").mkdir()
    put = put_flat_images if request.param.name == "mass" else put_images
    put(tmp_path / "studies", 2)
    conf = {"data": str(tmp_path / "data"), "labels": "liver,spleen"}
    app = load_app(request.param, str(tmp_path / "studies"), conf)
    app.look()
    # Outside of a with block it starts none of the processes that compute.
    client = TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)
    yield client
    client.close()
    app.record.close()


def test_every_app_loads_by_monai_labels_loader_and_answers_info(client):
    reply = client.get("/info/")

    assert reply.status_code == 200
    info = reply.json()
    assert info["labels"] == ["liver", "spleen"]
    assert info["models"].keys() == info["trainers"].keys() != set()
    assert {"random", "first"} <= info["strategies"].keys()
    assert info["datastore"]["total"] == 2


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
def test_an_app_is_one_class_that_mixes_the_loop_into_monai_labels_app(app):
    tree = ast.parse((app / "main.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]

    # MONAI Label finds the class by its direct base, and starts the first one that has it.
    (only,) = classes
    assert [ast.unparse(base) for base in only.bases] == ["LabelingLoop", "MONAILabelApp"]


def test_two_apps_of_one_folder_have_their_own_settings(tmp_path):
    put_images(tmp_path / "studies", 1)

    def labels(name, structures):
        conf = {"data": str(tmp_path / name), "labels": structures}
        app = load_app(APPS[0], str(tmp_path / "studies"), conf)
        app.record.close()
        return list(app.record.task.values)

    assert labels("a", "liver") == ["liver"]
    assert labels("b", "spleen") == ["spleen"]


def test_a_task_without_structures_does_not_start(tmp_path):
    put_images(tmp_path / "studies", 1)

    with pytest.raises(InvalidSetting, match="No structures to label"):
        load_app(APPS[0].parent / "segmentation", str(tmp_path / "studies"), {"data": str(tmp_path / "data")})


@pytest.mark.parametrize("path", ["/", "/docs", "/logs/"])
def test_a_page_loads_nothing_from_another_host(client, path):
    from lib.serving.log import log_file

    app = client.app.state.loop
    log_file(app.settings.data).parent.mkdir(parents=True, exist_ok=True)
    log_file(app.settings.data).write_text("Started.\n")

    reply = client.get(path)

    assert reply.status_code == 200
    loaded = re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//([^/"'\s>]+)""", reply.text)
    assert [host for host in loaded if host != "127.0.0.1"] == []
    assert "url(http" not in reply.text


def test_the_policy_lets_pages_load_from_this_server_only(client):
    # The viewer's page names two hosts with fonts; a browser that obeys this does not ask them.
    policy = client.get("/ohif/").headers["content-security-policy"]

    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_the_page_of_requests_names_every_one(client):
    page = client.get("/docs").text

    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page


def test_the_page_of_requests_names_what_their_bodies_hold(client):
    rows = client.get("/docs").text.split("<tr>")

    def row(request):
        (found,) = [row for row in rows if f"<code>{request}</code>" in row]
        return found

    assert "form: label, params" in row("PUT /datastore/label")
    assert "form: params, file, label" in row("POST /infer/{model}")
    assert "form: files" in row("PUT /session/")
    assert "JSON object" in row("POST /train/{model}")
    assert "form" not in row("GET /datastore/label")


def test_every_file_and_text_of_a_form_is_described(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    forms = {name: schema["properties"] for name, schema in schemas.items() if name.startswith("Body_")}

    assert len(forms) >= 7
    sign_in = {"username", "password"}
    assert [field for fields in forms.values() for field, about in fields.items()
            if "description" not in about and field not in sign_in] == []  # fmt: skip


def test_descriptions_are_markdown_and_their_code_is_shown_as_such(client):
    assert "``" not in client.get("/openapi.json").text
    page = client.get("/docs").text
    assert "`" not in page and "<code>message</code>" in page
