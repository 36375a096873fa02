"""Every fifth patient measures the models, until there are enough."""

import pytest

from lib.split import ENOUGH, Split, split_of


def test_every_fifth_patient_is_a_validation_patient():
    sides = [split_of(offered_before, labelled_validation=0) for offered_before in range(15)]

    assert [number for number, side in enumerate(sides, start=1) if side is Split.VALIDATION] == [5, 10, 15]


@pytest.mark.parametrize(("labelled", "side"), [(0, Split.VALIDATION), (19, Split.VALIDATION), (20, Split.TRAINING)])
def test_once_twenty_validation_patients_are_labelled_all_others_are_learned_from(labelled, side):
    assert ENOUGH == 20
    assert split_of(offered_before=4, labelled_validation=labelled) is side
