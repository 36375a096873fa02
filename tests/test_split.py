"""Every fifth patient measures the models, until there are enough."""

import pytest

from lib.split import ENOUGH, Split, split_of, split_warning


def test_every_fifth_patient_is_a_validation_patient():
    sides = [split_of(offered_before, labelled_validation=0) for offered_before in range(15)]

    assert [number for number, side in enumerate(sides, start=1) if side is Split.VALIDATION] == [5, 10, 15]


@pytest.mark.parametrize(("labelled", "side"), [(0, Split.VALIDATION), (19, Split.VALIDATION), (20, Split.TRAINING)])
def test_once_twenty_validation_patients_are_labelled_all_others_are_learned_from(labelled, side):
    assert ENOUGH == 20
    assert split_of(offered_before=4, labelled_validation=labelled) is side


def test_with_fewer_than_five_patients_nobody_measures_the_models_and_it_is_told():
    told = split_warning(images=95, patients=2, most=83)

    assert told.startswith("95 images, 2 patients: Every 5th patient measures the models, so none of these will.")
    assert "--conf patient REGEX or a patients.csv" in told and "see README" in told
    assert split_warning(images=8, patients=1, most=8).startswith("8 images, 1 patient: ")


def test_a_patient_with_more_than_half_of_the_images_is_told():
    assert "10 images, 5 patients: 6 of the images are of one of them" in split_warning(10, 5, 6)
    assert split_warning(10, 5, 5) == ""


@pytest.mark.parametrize(("images", "patients", "most"), [(0, 0, 0), (7, 1, 7), (8, 8, 1), (40, 5, 20)])
def test_a_split_that_can_work_or_too_few_images_to_say_are_not_spoken_of(images, patients, most):
    assert split_warning(images, patients, most) == ""
