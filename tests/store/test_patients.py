"""A changed rule of patients reaches images that are known already, and nobody comes to stand on both sides."""

from __future__ import annotations

import pytest

from lib.errors import SetupError
from lib.split import Split
from lib.stages import Role
from lib.store.images import ImageKind, ImageState, NewImage
from lib.store.patients import Renewed, renew_patients
from lib.store.verify import verify
from scripts import renew_patients as command
from tests.store.records import GRID, ONLY_SQLITE, Outside, add, put_image
from tests.store.stored import data_of

IMAGES = ("cases/a1", "cases/a2", "cases/b1", "cases/b2")
"""By the first-level folder all are one patient's."""


def by_letter(image_id):
    """The rule that was meant: ``cases/a1`` is of patient a; other images are patients of their own."""
    return image_id[6] if image_id.startswith("cases/") else image_id


def by_folder(image_id):
    return image_id.partition("/")[0]


@pytest.fixture
def sorted_wrongly(record):
    """Four images of one patient, none of them offered yet."""
    for image_id in IMAGES:
        put_image(record, image_id, by_folder(image_id))
    return record


@pytest.fixture
def torn(record):
    """Images of five patients, labelled; the last one measures the models."""
    for number in range(1, 6):
        put_image(record, f"cases/{number}")
        add(record, f"cases/{number}", Role.EXPERT)
    assert record.images.get("cases/5").split is Split.VALIDATION
    return record


def renew(record, rule=by_letter, **more):
    return renew_patients(record, data_of(record), rule, "root", **more)


def whose(record, *ids):
    """Patient and side of each image, as another connection reads them."""
    images = Outside(record).images
    return [(images.get(image_id).patient, images.get(image_id).split) for image_id in ids]


def test_images_that_nobody_labelled_get_the_patients_of_the_rule_and_wait_for_a_side(sorted_wrongly):
    sorted_wrongly.images.offer("cases/a1")
    assert whose(sorted_wrongly, *IMAGES) == [("cases", Split.TRAINING)] * 4

    assert renew(sorted_wrongly) == Renewed(images=4, patients=2)

    assert whose(sorted_wrongly, *IMAGES) == [("a", None), ("a", None), ("b", None), ("b", None)]
    assert verify(sorted_wrongly) == []


def test_what_an_expert_labelled_keeps_its_side_and_gives_it_to_its_patient_alone(sorted_wrongly):
    add(sorted_wrongly, "cases/a1", Role.EXPERT)

    renew(sorted_wrongly)

    assert whose(sorted_wrongly, *IMAGES) == [("a", Split.TRAINING), ("a", Split.TRAINING), ("b", None), ("b", None)]


def test_what_was_withdrawn_keeps_its_side_too(sorted_wrongly):
    """A model may have learned from it in the meantime."""
    add(sorted_wrongly, "cases/a1", Role.EXPERT)
    sorted_wrongly.annotations.withdraw("cases/a1", 1, "ann", Role.EXPERT)

    renew(sorted_wrongly)

    assert whose(sorted_wrongly, "cases/a2") == [("a", Split.TRAINING)]


def test_a_patient_who_gets_an_image_gives_it_the_own_side(record):
    for image_id in ("cases/a1", "a"):
        put_image(record, image_id)
    add(record, "a", Role.EXPERT)

    renew(record)

    assert whose(record, "cases/a1") == [("a", Split.TRAINING)]


def test_a_rule_that_changed_nothing_writes_nothing(sorted_wrongly):
    assert renew(sorted_wrongly, by_folder) == Renewed()

    assert whose(sorted_wrongly, *IMAGES) == [("cases", None)] * 4
    assert sorted_wrongly.audit.newest(10) == []


def test_the_audit_tells_who_and_how_many(sorted_wrongly):
    renew(sorted_wrongly)

    ((_, change),) = sorted_wrongly.audit.newest(10)
    assert (change.author, change.method, change.path) == ("root", "RENEW", "patients")
    assert change.query == "images=4&patients=2&learned=0"


def test_a_patient_on_both_sides_is_refused_and_nothing_changed(torn):
    before = whose(torn, "cases/1", "cases/5")

    with pytest.raises(
        SetupError,
        match=r"1 patient would be both learned from and measured on: 'cases/\d' and 'cases/5' are one person's, for "
        r"example\. Start with the rule of before\. .* scripts\.renew_patients has all images of such persons learned",
    ):
        renew(torn, by_folder)

    assert whose(torn, "cases/1", "cases/5") == before
    assert torn.audit.newest(10) == []


def test_who_stood_on_both_sides_is_learned_from_when_that_is_wanted(torn):
    assert renew(torn, by_folder, may_learn=True) == Renewed(images=5, patients=1, learned=1)

    assert whose(torn, "cases/1", "cases/5") == [("cases", Split.TRAINING)] * 2
    assert "learned=1" in torn.audit.newest(1)[0][1].query
    assert torn.images.counts() == torn.images.recounted()


def test_a_start_with_a_forgotten_rule_can_be_taken_back(sorted_wrongly):
    """Nobody is labelled on both sides, so nothing is refused; the next start with the rule brings all back."""
    renew(sorted_wrongly)
    add(sorted_wrongly, "cases/b1", Role.EXPERT)
    before = whose(sorted_wrongly, *IMAGES)

    renew(sorted_wrongly, by_folder)
    renew(sorted_wrongly)

    assert whose(sorted_wrongly, *IMAGES) == before


def test_series_and_erased_images_keep_their_patients(record):
    record.images.put(NewImage("1.2.3", ImageKind.SERIES, "ct", GRID, "CT", "hash"))
    record.images.put(NewImage("cases/a1", ImageKind.FILE, "cases/a1.nii", GRID, "CT", "cases"))
    record.images.set_state("cases/a1", ImageState.ERASED, "erased")

    assert renew(record, lambda image_id: "everybody").images == 3

    every = {image.id: image.patient for image in record.images.every(*ImageState)}
    assert (every["1.2.3"], every["cases/a1"], every["ct_017"]) == ("hash", "cases", "everybody")


def test_unreadable_and_removed_images_follow_the_rule(record):
    put_image(record, "cases/a1", "cases", reason="cut off")
    put_image(record, "cases/a2", "cases")
    record.images.set_state("cases/a2", ImageState.HIDDEN)

    renew(record)

    assert {record.images.find(image_id).patient for image_id in ("cases/a1", "cases/a2")} == {"a"}


def test_what_viewers_were_shown_of_a_patient_is_made_anew(sorted_wrongly):
    cache = data_of(sorted_wrongly) / "cache" / "cases"
    for name in ("a1-7-dicom2/0000.dcm", "a1-v1-ab-2.dcm", "a11-7-dicom2/0000.dcm"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).touch()
    for image_id in IMAGES:
        sorted_wrongly.listings.put(image_id, None)
    assert [i for i in sorted_wrongly.listings.missing(10) if i in IMAGES] == []

    renew(sorted_wrongly)

    assert [path.name for path in cache.iterdir()] == ["a11-7-dicom2"]
    assert [i for i in sorted_wrongly.listings.missing(10) if i in IMAGES] == list(IMAGES)


# --- the command -----------------------------------------------------------------------------------------------------


@ONLY_SQLITE
def test_the_command_takes_the_rule_of_the_next_start(torn, tmp_path, capsys):
    (tmp_path / "patients.csv").write_text("image,patient\ncases/1,one\n", "utf-8")

    command.main(["--data", str(data_of(torn)), "--patient", "(cases)/", "--studies", str(tmp_path)])

    assert capsys.readouterr().out == (
        "5 images are of other patients now, 2 in all; 1 labelled images that measured the models are learned from now "
        "on.\n"
    )
    assert whose(torn, "cases/1", "cases/5") == [("one", Split.TRAINING), ("cases", Split.TRAINING)]


@ONLY_SQLITE
def test_the_command_refuses_a_pattern_that_is_none(torn):
    with pytest.raises(SystemExit, match=r"--conf patient '\(' is no regular expression"):
        command.main(["--data", str(data_of(torn)), "--patient", "("])
