"""A changed rule of patients at the next start of a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lib.errors import SetupError
from lib.patients import PATIENTS_FILE
from lib.split import Split
from tests.serving.conftest import Here
from tests.serving.places import mask_bytes, put_label

OTHER_RULE = "By the present rule 2 images are of other patients, 1 in all."


def patients(here: Here) -> set[str]:
    """As viewers find the two images."""
    studies = here.client.get("/dicomweb/studies").json()
    assert len(studies) == 2
    return {study["00100020"]["Value"][0] for study in studies}


def test_images_that_are_known_get_the_patients_of_the_rule_and_the_log_counts_them(
    open_app: Callable[..., Here], caplog: pytest.LogCaptureFixture
) -> None:
    before = open_app()
    assert patients(before) == {"case_00", "case_01"}

    after = open_app(patient="case")

    assert patients(after) == {"case"}
    assert [message for message in caplog.messages if "rule" in message] == [OTHER_RULE]
    (change,) = after.client.get("/audit/?count=1").json()
    assert (change["method"], change["path"], change["query"]) == ("RENEW", "patients", "images=2&patients=1&learned=0")


def test_the_files_for_viewers_tell_the_new_patient(open_app: Callable[..., Here]) -> None:
    def patient_in_file(here: Here) -> str:
        (study,) = here.client.get("/dicomweb/studies", params={"PatientName": "case_00*"}).json()
        uid = study["0020000D"]["Value"][0]
        return str(here.client.get(f"/dicomweb/studies/{uid}/metadata").json()[0]["00100020"]["Value"][0])

    assert patient_in_file(open_app()) == "case_00"

    assert patient_in_file(open_app(patient="case")) == "case"


def test_a_list_of_patients_beside_the_images_is_such_a_rule(open_app: Callable[..., Here], tmp_path: Path) -> None:
    open_app()
    (tmp_path / "studies" / PATIENTS_FILE).write_text("image,patient\ncase_00,anna\ncase_01,anna\n", "utf-8")

    assert patients(open_app()) == {"anna"}


def test_a_start_that_would_measure_on_a_patient_who_was_learned_from_is_refused(
    open_app: Callable[..., Here],
) -> None:
    here = open_app(images=5)
    for number in range(5):
        put_label(here.client, f"case_0{number}", mask_bytes(number))
    assert here.app.record.images.get("case_04").split is Split.VALIDATION

    with pytest.raises(SetupError, match=r"1 patient would be both learned from and measured on: .* 'case_04' are one"):
        open_app(images=5, patient="case")

    assert here.app.record.images.get("case_04").patient == "case_04"
