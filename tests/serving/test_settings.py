"""What ``--conf`` and the file beside the studies may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.errors import InvalidSetting, SetupError
from lib.serving.settings import (
    READERS,
    TASK_FILE,
    Settings,
    StudiesServer,
    configured,
    default_data,
    read_settings,
    studies_place,
)
from lib.stages import Role
from lib.task import Task, numbered

TASK = Task("segmentation", "Structures")
ORGANS = Task("organs", "Organs", numbered(["liver", "spleen"]), modality="CT", window_hu=(-160.0, 240.0))

READ: dict[str, tuple[str, Any]] = {
    "data": ("/data", Path("/data")),
    "labels": (" liver,spleen ", "liver,spleen"),
    "modality": ("CT", "CT"),
    "window": ("-160,240", "-160,240"),
    "spacing": ("1,1,3", "1,1,3"),
    "encoder": ("small", "small"),
    "encoder_weights": ("/sam.pth", Path("/sam.pth")),
    "loss": ("asymmetric", "asymmetric"),
    "ahead": ("5", 5),
    "train_after": ("8", 8),
    "train_seconds": ("2.5", 2.5),
    "role": ("annotator", Role.ANNOTATOR),
    "patient": (r"p\d+", r"p\d+"),
    "store": ("sqlite:///x.db", "sqlite:///x.db"),
    "ignore": ("*_mask.nii.gz,derivatives/*", "*_mask.nii.gz,derivatives/*"),
    "rescan": ("0", 0.0),
    "studies_login": ("/login", Path("/login")),
    "studies_author": (" pacs ", "pacs"),
    "cache_gib": ("0.5", 0.5),
    "max_upload_mib": ("10", 10),
    "assign_minutes": ("30", 30.0),
    "auth": ("tokens", "tokens"),
    "oidc_audience": ("here", "here"),
    "oidc_name": ("email", "email"),
    "oidc_roles": ("realm.roles", "realm.roles"),
    "origins": ("https://a.example", "https://a.example"),
    "proxies": ("127.0.0.1,10.1.0.0/16", "127.0.0.1,10.1.0.0/16"),
    "log": ("json", "json"),
}
"""A text for each key, and what it is read as."""


@pytest.mark.parametrize("key", sorted(READERS.keys() - {"oidc_issuer"}))
def test_every_key_is_read(key: str) -> None:
    text, value = READ[key]

    assert getattr(read_settings({key: text}, "segmentation"), key) == value


def test_patterns_to_ignore_are_taken_apart_and_written_like_ids() -> None:
    settings = read_settings({"ignore": " *_mask.nii.gz, ,Hu\u0308fte/* "}, "segmentation")

    assert settings.ignored == ("*_mask.nii.gz", "Hüfte/*")


def test_an_issuer_goes_with_its_way_to_sign_in() -> None:
    settings = read_settings({"auth": "oidc", "oidc_issuer": "https://id.example"}, "segmentation")

    assert settings.oidc_issuer == "https://id.example"
    for alone in ({"auth": "oidc"}, {"oidc_issuer": "https://id.example"}):
        with pytest.raises(InvalidSetting, match="go together"):
            read_settings(alone, "segmentation")


def test_without_settings_the_data_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert read_settings({}, "segmentation") == Settings(tmp_path / "label-refinery" / "segmentation")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_data("mass") == Path.home() / ".local/share/label-refinery/mass"


def test_an_unknown_key_is_refused_with_the_accepted_ones() -> None:
    with pytest.raises(InvalidSetting, match=r"--conf models is unknown\. Accepted are .*data, .*labels, .*window\."):
        read_settings({"models": "deepedit"}, "segmentation")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("ahead", "-1", "a number of 0 or more, found '-1'"),
        ("train_after", "often", "a number of 0 or more, found 'often'"),
        ("train_after", "-1", "a number of 0 or more, found '-1'"),
        ("train_after", "1.5", "a number of 0 or more"),
        ("train_seconds", "nan", "a number of 1 or more"),
        ("train_seconds", "0", "a number of 1 or more"),
        ("rescan", "-1", "a number of 0 or more"),
        ("max_upload_mib", "0", "a number of 1 or more"),
        ("role", "admin", "expert or annotator, found 'admin'"),
        ("auth", "password", "none, tokens, oidc, found 'password'"),
        ("log", "xml", "text, json, found 'xml'"),
    ],
)
def test_a_value_that_is_not_accepted_is_refused(key: str, value: str, wanted: str) -> None:
    with pytest.raises(InvalidSetting, match=f"--conf {key} .*{wanted}"):
        read_settings({key: value}, "segmentation")


def task_of(task: Task = TASK, folder: Path | None = None, **conf: str) -> Task:
    return configured(task, read_settings(conf, task.name), folder)


def test_structures_are_numbered_in_their_order_unless_values_are_given() -> None:
    assert task_of(labels="liver, spleen").values == {"liver": 1, "spleen": 2}
    assert task_of(labels="spleen=5,liver=1").values == {"liver": 1, "spleen": 5}


@pytest.mark.parametrize("labels", ["liver=one", "liver=", "liver=1,spleen", "liver=1.5"])
def test_structures_of_another_form_are_refused(labels: str) -> None:
    with pytest.raises(InvalidSetting, match="liver,spleen or liver=1,spleen=5"):
        task_of(labels=labels)


@pytest.mark.parametrize("labels", ["liver,Liver", "liver=1,spleen=1", "liver,,spleen", "liver=0", "liver=256"])
def test_structures_that_cannot_be_told_apart_are_refused(labels: str) -> None:
    with pytest.raises(InvalidSetting, match="tructure"):
        task_of(labels=labels)


def test_a_task_without_structures_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="No structures to label: name them by --conf labels"):
        task_of()


def test_ct_brings_a_window_and_another_modality_takes_it_away() -> None:
    assert task_of(labels="liver", modality="ct").window_hu == (-160.0, 240.0)
    assert task_of(ORGANS, modality="MR").window_hu is None


def test_a_task_that_is_given_a_modality_works_on_no_other(tmp_path: Path) -> None:
    assert task_of(labels="liver").modalities == ()
    assert task_of(labels="liver", modality="pt").modalities == ("PT",)
    (tmp_path / TASK_FILE).write_text('modality = "CT"\n')
    assert task_of(folder=tmp_path, labels="liver").modalities == ("CT",)
    assert task_of(folder=tmp_path, labels="liver", modality="MR").modalities == ("MR",)


def test_an_app_that_was_made_for_some_modalities_keeps_them() -> None:
    films = replace(ORGANS, modality="MG", modalities=("MG", "CR"))

    assert task_of(films, modality="CR").modalities == ("MG", "CR")
    with pytest.raises(InvalidSetting, match="The task organs works on MG or CR, found 'CT'"):
        task_of(films, modality="CT")


def test_a_window_and_a_spacing_replace_those_of_the_app() -> None:
    task = task_of(ORGANS, window="0,80", spacing="1,1,5")

    assert (task.window_hu, task.spacing_mm) == ((0.0, 80.0), (1.0, 1.0, 5.0))
    assert task_of(ORGANS, window="none", spacing="none").window_hu is None


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("window", "80,0", "a lower and an upper bound"), ("window", "5", "needs 2 numbers"),
        ("window", "a,b", "needs 2 numbers"), ("window", "nan,nan", "needs 2 numbers"),
        ("spacing", "1,1", "needs 3 numbers"),
        ("spacing", "1,1,0", "three lengths above 0 mm"), ("spacing", "1,1,nan", "needs 3 numbers"),
        ("spacing", "1,1,inf", "needs 3 numbers"), ("window", "-inf,inf", "needs 2 numbers"),
    ],
)  # fmt: skip
def test_a_window_or_spacing_of_another_form_is_refused(key: str, value: str, wanted: str) -> None:
    with pytest.raises(InvalidSetting, match=f"--conf {key} .*{wanted}"):
        task_of(ORGANS, **{key: value})


def test_a_file_beside_the_studies_declares_the_task(tmp_path: Path) -> None:
    (tmp_path / TASK_FILE).write_text(
        'modality = "CT"\nwindow_hu = [-100, 200]\nspacing_mm = [2, 2, 4]\n'
        '[[structures]]\nname = "spleen"\nvalue = 3\n'
        '[[structures]]\nname = "liver"\nvalue = 1\ncolour = [1, 2, 3]\ncode = "10200004"\n'
    )

    task = task_of(folder=tmp_path)

    assert task.values == {"liver": 1, "spleen": 3}
    assert (task.structures[0].colour, task.structures[0].code) == ((1, 2, 3), "10200004")
    assert (task.modality, task.window_hu, task.spacing_mm) == ("CT", (-100.0, 200.0), (2.0, 2.0, 4.0))


def test_a_range_of_intensities_makes_drafts_by_threshold(tmp_path: Path) -> None:
    (tmp_path / TASK_FILE).write_text(
        '[[structures]]\nname = "liver"\nvalue = 1\nrange_hu = [60, 200]\n[[structures]]\nname = "spleen"\nvalue = 2\n'
    )

    task = task_of(folder=tmp_path)

    assert [structure.range for structure in task.structures] == [(60.0, 200.0), None]
    assert task.draft_rule == "threshold"
    assert task_of(ORGANS).draft_rule == ""


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / TASK_FILE).write_text('modality = "CT"\n[[structures]]\nname = "liver"\nvalue = 1\n')

    task = task_of(folder=tmp_path, labels="kidney", modality="MR")

    assert (task.values, task.modality) == ({"kidney": 1}, "MR")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("modality = ", "is no valid TOML"),
        ("organs = 1", "unknown key 'organs'. Accepted are modality, window_hu, spacing_mm, structures"),
        ('window_hu = "wide"', "window_hu in label-refinery.toml needs 2 numbers"),
        ("spacing_mm = [1, 1]", "spacing_mm in label-refinery.toml needs 3 numbers"),
        ("spacing_mm = 1", "spacing_mm in label-refinery.toml needs 3 numbers"),
        ('[[structures]]\nname = "liver"', "needs name and value"),
        ('[[structures]]\nname = "liver"\nvalue = "one"', "needs name and value"),
        ('[[structures]]\nname = "liver"\nvalue = 1\ncolour = "red"', "colour = "),
        ('[[structures]]\nname = "liver"\nvalue = 1\nrange_hu = [200, 60]', "a lower and an upper bound"),
        ("structures = 5", "structures"),
        ('structures = ["liver"]', "needs name and value"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str, wanted: str) -> None:
    (tmp_path / TASK_FILE).write_text(content)

    with pytest.raises(InvalidSetting, match=wanted.replace("[", r"\[")):
        task_of(folder=tmp_path)


FILMS = Task("films", "", numbered(["mass"]), is_flat=True)


def test_a_frozen_encoder_is_taken_together_with_its_weight_file(tmp_path: Path) -> None:
    file = tmp_path / "sam.pth"
    file.touch()

    task = configured(FILMS, Settings(tmp_path, encoder="sam_vit_b", encoder_weights=file), None)

    assert (task.network, task.encoder_weights) == ("sam_vit_b", str(file))
    for alone in (Settings(tmp_path, encoder="sam_vit_l"), Settings(tmp_path, encoder_weights=file)):
        with pytest.raises(InvalidSetting, match="go together; one of them is missing"):
            configured(FILMS, alone, None)


def test_a_weight_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"gone.pth is no file. Name a weight file of Segment Anything"):
        configured(FILMS, Settings(tmp_path, encoder="sam_vit_b", encoder_weights=tmp_path / "gone.pth"), None)


def test_an_encoder_for_images_of_one_slice_is_refused_for_volumes(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"--conf encoder small is for images of one slice; .* works on volumes"):
        configured(ORGANS, Settings(tmp_path, encoder="small"), None)


# --- Where the studies are --------------------------------------------------------------------------------------------


def test_studies_are_a_folder_or_a_dicomweb_server(tmp_path):
    login = tmp_path / "login"
    login.write_text("label:secret")
    settings = read_settings({"studies_login": str(login), "cache_gib": "0.5"}, "segmentation")

    assert studies_place(str(tmp_path), settings) == tmp_path
    assert studies_place("https://pacs/dicom-web/", settings) == StudiesServer(
        "https://pacs/dicom-web", login, cache_bytes=2**29
    )


@pytest.mark.parametrize("address", ["ftp://pacs/dicom-web", "https:///dicom-web", "https://pacs/dicom-web?key=1"])
def test_other_addresses_are_refused(address):
    with pytest.raises(SetupError, match="is no address of a DICOMweb server, such as https://host/dicom-web"):
        studies_place(address, read_settings({}, "segmentation"))


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(SetupError, match="would be seen by everybody") as refused:
        studies_place("https://label:secret@pacs/dicom-web", read_settings({}, "segmentation"))

    assert "secret" not in str(refused.value)


def test_a_login_that_is_no_file_is_refused(tmp_path):
    settings = read_settings({"studies_login": str(tmp_path / "none")}, "segmentation")

    with pytest.raises(InvalidSetting, match=r"is no file\. It holds NAME:PASSWORD, or a bearer token"):
        studies_place("https://pacs/dicom-web", settings)
