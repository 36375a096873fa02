"""Which annotation of an image counts, for every history of up to three versions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from lib.stages import PEOPLE, PROGRAMS, Role, Stage, Standing, current, in_force, stage_of, standing


@dataclass(frozen=True)
class Made:
    """One version, as the rules see it."""

    version: int
    role: Role
    stage: Stage
    parent: int | None = None


MODEL, RULE, REFINER = (Made(0, role, stage_of(role)) for role in (Role.MODEL, Role.RULE, Role.REFINER))
JUNIOR, EXPERT, ADMIN = (Made(0, role, stage_of(role)) for role in (Role.ANNOTATOR, Role.EXPERT, Role.ADMIN))
RANK = {MODEL: 1, RULE: 1, REFINER: 2, JUNIOR: 2, EXPERT: 3, ADMIN: 3}
"""The newest expert version counts, else the newest junior or refined one, else the newest program's draft."""


def history(*kinds):
    return [Made(number, kind.role, kind.stage) for number, kind in enumerate(kinds, start=1)]


def withdrawal(number, of):
    return Made(number, Role.EXPERT, Stage.WITHDRAWN, of)


@pytest.mark.parametrize(
    ("role", "stage"),
    [(Role.VIEWER, Stage.DRAFT), (Role.ANNOTATOR, Stage.DRAFT), (Role.EXPERT, Stage.EXPERT),
     (Role.ADMIN, Stage.EXPERT), (Role.MODEL, Stage.DRAFT), (Role.RULE, Stage.DRAFT), (Role.REFINER, Stage.REFINED)],
)  # fmt: skip
def test_the_stage_follows_from_the_role(role, stage):
    assert stage_of(role) is stage


def test_every_role_is_a_person_or_a_program():
    assert {*PEOPLE, *PROGRAMS} == set(Role) and not {*PEOPLE} & {*PROGRAMS}


@pytest.mark.parametrize(
    ("kind", "where"),
    [(None, Standing.UNTOUCHED), (MODEL, Standing.DRAFTED), (RULE, Standing.DRAFTED), (REFINER, Standing.WAITING),
     (JUNIOR, Standing.WAITING), (EXPERT, Standing.LABELLED), (ADMIN, Standing.LABELLED)],
)  # fmt: skip
def test_where_an_image_stands_follows_from_its_current_annotation(kind, where):
    assert standing(kind) is where


def test_nothing_is_current_where_nothing_is():
    assert current([]) is None


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_best_kind_counts_and_among_equals_the_newest(length):
    for kinds in itertools.product(RANK, repeat=length):
        versions = history(*kinds)
        ranks = [RANK[kind] for kind in kinds]
        newest_of_the_best = max(number for number, rank in enumerate(ranks, start=1) if rank == max(ranks))

        assert current(versions).version == newest_of_the_best, kinds


def test_the_order_in_which_versions_are_given_does_not_matter():
    versions = history(EXPERT, MODEL, EXPERT, JUNIOR)

    assert {current(order).version for order in itertools.permutations(versions)} == {3}


def test_a_draft_never_hides_an_expert_annotation():
    assert current(history(EXPERT, MODEL, REFINER, JUNIOR)).role is Role.EXPERT


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_withdrawn_version_counts_as_if_it_had_never_been(length):
    for kinds in itertools.product(RANK, repeat=length):
        versions = history(*kinds)
        for taken_back in range(1, length + 1):
            others = [version for version in versions if version.version != taken_back]

            found = current([*versions, withdrawal(length + 1, taken_back)])

            assert found == current(others), (kinds, taken_back)


def refined(number, of):
    return Made(number, Role.REFINER, Stage.REFINED, of)


def test_what_a_junior_stored_since_counts_before_a_refined_earlier_mask():
    assert current([*history(JUNIOR, JUNIOR), refined(3, of=1)]).version == 2
    assert current([*history(JUNIOR, JUNIOR), refined(3, of=2), refined(4, of=1)]).version == 3


def test_of_two_refined_versions_of_one_mask_the_newer_counts():
    assert current([*history(JUNIOR), refined(2, of=1), refined(3, of=1)]).version == 3


def test_a_refined_version_is_taken_back_with_what_it_was_made_from():
    versions = [*history(MODEL, JUNIOR), refined(3, of=2), refined(4, of=3), withdrawal(5, 2)]

    assert [version.version for version in in_force(versions)] == [1]


def test_what_an_expert_made_of_a_refined_version_stays_when_that_is_taken_back():
    versions = [*history(JUNIOR), refined(2, of=1), Made(3, Role.EXPERT, Stage.EXPERT, 2), withdrawal(4, 1)]

    assert [version.version for version in in_force(versions)] == [3]


def test_a_withdrawal_itself_is_never_current():
    assert current([*history(EXPERT), withdrawal(2, 1)]) is None


def test_what_is_in_force_is_what_nobody_took_back_oldest_first():
    versions = [*history(MODEL, EXPERT, JUNIOR), withdrawal(4, 2)]

    assert [version.version for version in in_force(versions[::-1])] == [1, 3]
