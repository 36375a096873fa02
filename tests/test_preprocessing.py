"""Laws of the way from an image to the network and back, over many grids."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.errors import GridMismatch, UnacceptableFile
from lib.networks.checkpoint import NetworkPlan
from lib.preprocessing import (
    AIR_SHARE,
    LOWEST_SCORE,
    MAX_PIXELS,
    MAX_VOXELS,
    PATCH_VOXELS,
    PERCENTILES,
    _resized,
    body_grid,
    mask_on_image,
    plan_for,
    prepared,
    prepared_mask,
    region_on_image,
)
from lib.task import Task, numbered
from lib.volume import Grid, Volume

STRUCTURES = {"liver": 1, "spleen": 5}
ORIENTATIONS = ("RAS", "LPS", "LAS", "ASR", "SPL", "PIR", "IRA")


def plan(spacing_mm=(2.0, 2.0, 2.0), window_hu=None, structures=STRUCTURES, region="tissue") -> NetworkPlan:
    return NetworkPlan(
        "residual_unet", structures, spacing_mm, window_hu, (16, 16, 16), (8, 16), ((2, 2, 2),), region=region
    )


def affine_of(orientation: str, spacing_mm, turned_degrees: float = 0.0) -> np.ndarray:
    """I, J and K of the given edge lengths towards the named directions, all turned about the head-foot axis."""
    affine = np.eye(4)
    for axis, (code, edge) in enumerate(zip(orientation, spacing_mm, strict=True)):
        world = next(number for number, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        column = np.zeros(3)
        column[world] = edge if code in "RAS" else -edge
        affine[:3, axis] = column
    angle = np.deg2rad(turned_degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine
    affine[:3, 3] = (-31.0, 12.0, 700.0)
    return affine


def ball_mask(grid_shape, affine) -> np.ndarray:
    """Two balls of 9 and 7 mm radius at fixed places relative to the middle, drawn in millimetres."""
    indices = np.stack(np.meshgrid(*(np.arange(size) for size in grid_shape), indexing="ij"), axis=-1)
    mm = indices @ affine[:3, :3].T + affine[:3, 3]
    middle = affine[:3, :3] @ ((np.array(grid_shape) - 1) / 2) + affine[:3, 3]
    mask = np.zeros(grid_shape, np.uint8)
    mask[np.linalg.norm(mm - middle - (5, 4, 2), axis=-1) < 9] = 1
    mask[np.linalg.norm(mm - middle + (9, 4, 5), axis=-1) < 7] = 5
    return mask


def volume_like(mask: np.ndarray, affine: np.ndarray) -> Volume:
    return Volume((mask * 100 + 40).astype(np.int16), affine)


def there_and_back(mask: np.ndarray, affine: np.ndarray, wanted: NetworkPlan) -> np.ndarray:
    image = prepared(volume_like(mask, affine), wanted)
    target = torch.from_numpy(prepared_mask(mask, image.frame, wanted))
    assert target.shape == image.voxels.shape[1:]
    certain = torch.stack([(target == channel).float() for channel in range(wanted.classes)])
    return mask_on_image(certain, image.frame, wanted)


def dice_of(truth, found, value) -> float:
    return 2 * ((truth == value) & (found == value)).sum() / ((truth == value).sum() + (found == value).sum())


@pytest.mark.parametrize("turned", [0.0, 20.0])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.5, 1.0, 3.0), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_mask_sent_there_and_back_stays_in_its_place(orientation, spacing_mm, turned):
    edges = [spacing_mm[("RL", "AP", "SI").index(next(p for p in ("RL", "AP", "SI") if c in p))] for c in orientation]
    shape = tuple(round(50 / edge) for edge in edges)
    affine = affine_of(orientation, edges, turned)
    mask = ball_mask(shape, affine)

    found = there_and_back(mask, affine, plan())

    assert found.shape == mask.shape and found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1, 5}
    assert min(dice_of(mask, found, 1), dice_of(mask, found, 5)) > 0.9


def on_network_grid(mask: np.ndarray, edge_mm: float, structures=STRUCTURES) -> np.ndarray:
    """The channels of a mask of 1 mm voxels on a grid of other ones."""
    wanted = plan((edge_mm,) * 3, structures=structures)
    frame = prepared(Volume(np.ones(mask.shape, np.float32), np.eye(4)), wanted).frame
    return prepared_mask(mask, frame, wanted)


def balls(radius: float, count: int = 8) -> Iterator[np.ndarray]:
    """Balls of the value 1 in 48x48x48 voxels, their middles anywhere between voxels."""
    places = np.indices((48, 48, 48)) + 0.0
    for middle in np.random.default_rng(0).uniform(22.5, 25.5, (count, 3)):
        yield (np.linalg.norm(places - middle[:, None, None, None], axis=0) < radius).astype(np.uint8)


def shares(mask: np.ndarray, value: int, edge: int) -> np.ndarray:
    """How much of each block of so many voxels along every edge has a value."""
    i, j, k = (size // edge for size in mask.shape)
    return (mask == value).reshape(i, edge, j, edge, k, edge).mean(axis=(1, 3, 5))


@pytest.mark.parametrize("edge", [2, 3])
@pytest.mark.parametrize("thickness", [1, 2, 3, 4])
def test_a_sheet_fills_every_voxel_of_the_network_that_it_fills_at_least_to_half(thickness, edge):
    for first in range(12, 12 + edge):
        mask = np.zeros((36, 12, 12), np.uint8)
        mask[first : first + thickness] = 1

        found = on_network_grid(mask, edge)

        filled = [2 * len(set(range(at * edge, (at + 1) * edge)) & set(range(first, first + thickness))) >= edge
                  for at in range(36 // edge)]  # fmt: skip
        assert found.all(axis=(1, 2)).tolist() == found.any(axis=(1, 2)).tolist() == filled


@pytest.mark.parametrize("edge", [2, 3])
@pytest.mark.parametrize("radius", [1.5, 4, 8, 16])
def test_a_ball_fills_every_voxel_of_the_network_that_it_fills_at_least_to_half(radius, edge):
    for ball in balls(radius):
        assert np.array_equal(on_network_grid(ball, edge), shares(ball, 1, edge) >= 0.5)


@pytest.mark.parametrize(
    ("edge_mm", "radius", "least", "most"),
    [(2, 4, 0.98, 1.10), (2, 8, 0.98, 1.06), (2, 16, 0.98, 1.04), (3, 8, 0.95, 1.05), (1.5, 4, 0.9, 1.05),
     (1.5, 8, 0.95, 1.05), (0.7, 8, 0.98, 1.03)],
)  # fmt: skip
def test_a_ball_keeps_its_volume_on_the_network_grid(edge_mm, radius, least, most):
    """Background where half-filled voxels tie took a fifth of a small ball, and a thirteenth of one of 8 mm."""
    kept = [
        on_network_grid(ball, edge_mm).sum() * (48 / round(48 / edge_mm)) ** 3 / ball.sum() for ball in balls(radius)
    ]

    assert least < np.mean(kept) < most


def test_what_a_perfect_network_finds_of_a_small_ball_loses_no_fifth_of_it():
    found = [there_and_back(ball, np.eye(4), plan((2.0, 2.0, 2.0))) for ball in balls(4)]

    assert np.mean([mask.sum() / ball.sum() for mask, ball in zip(found, balls(4), strict=True)]) > 0.88
    assert np.mean([dice_of(ball, mask, 1) for mask, ball in zip(found, balls(4), strict=True)]) > 0.87


@pytest.mark.parametrize("structures", [{"liver": 1, "cyst": 5, "spleen": 9}, {"spleen": 9, "liver": 1, "cyst": 5}])
def test_where_structures_meet_the_largest_share_wins_the_larger_value_of_equal_ones_and_no_gap_opens(structures):
    mask = np.random.default_rng(0).choice(np.array([0, 1, 5, 9], np.uint8), (24, 24, 24), p=(0.4, 0.2, 0.2, 0.2))
    by_value = sorted(structures.values())

    found = on_network_grid(mask, 2, structures)

    each = np.stack([shares(mask, value, 2) for value in by_value])
    # The last of equal ones.
    winners = np.array(by_value)[len(by_value) - 1 - each[::-1].argmax(axis=0)]
    expected = np.where(each.sum(axis=0) >= 0.5, winners, 0)
    assert np.array_equal(np.array([0, *structures.values()])[found], expected)
    assert {0, 1, 5, 9} == set(np.unique(expected))


@pytest.mark.parametrize("structures", [{"liver": 1, "cyst": 5}, {"cyst": 5, "liver": 1}])
def test_a_voxel_that_two_structures_share_evenly_is_the_larger_values(structures):
    mask = np.ones((8, 8, 8), np.uint8)
    mask[1::2] = 5

    assert set(np.unique(np.array([0, *structures.values()])[on_network_grid(mask, 2, structures)])) == {5}


@pytest.mark.parametrize("structures", [{"liver": 1, "cyst": 5}, {"cyst": 5, "liver": 1}])
def test_on_the_way_back_a_structure_wins_against_the_background_and_the_larger_value_of_two(structures):
    wanted = plan(structures=structures)
    frame = prepared(Volume(np.ones((2, 1, 1), np.float32), np.diag([2.0, 2, 2, 1])), wanted).frame
    by_value = {0: [0.5, 0.2], 1: [0.5, 0.4], 5: [0.0, 0.4]}

    found = mask_on_image(
        torch.tensor([by_value[value] for value in (0, *structures.values())])[:, :, None, None], frame, wanted
    )

    assert found.ravel().tolist() == [1, 5]


@pytest.mark.parametrize("edges_mm", [(1.5, 1.5, 1.5), (2.0, 0.8, 3.0), (0.6, 1.0, 1.3)])
def test_every_voxel_of_the_image_gets_the_most_probable_structure_of_all(edges_mm):
    """Compared with all probabilities at full size at once."""
    structures = {f"structure {value}": value for value in range(1, 8)}
    wanted = plan(edges_mm, structures=structures)
    frame = prepared(Volume(np.ones((30, 24, 20), np.float32), np.eye(4)), wanted).frame
    generator = torch.Generator().manual_seed(0)
    probabilities = (4 * torch.randn((8, *frame.shape), generator=generator)).softmax(dim=0)

    found = mask_on_image(probabilities, frame, wanted)

    whole = torch.stack([_resized(one, (30, 24, 20)) for one in probabilities])
    first, second = whole.topk(2, dim=0).values
    is_clear = (first - second > 1e-3).numpy()
    assert is_clear.mean() > 0.95
    assert np.array_equal(found[is_clear], whole.argmax(dim=0).numpy()[is_clear])


def peak_mib() -> int:
    """The most memory that this process held since the peak was last forgotten (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def test_many_structures_take_no_more_memory_than_a_few():
    """4 million voxels: as a float channel each of 60 structures would take 16 MiB, all together 940."""
    wanted = plan((2.0, 2.0, 2.0), (0.0, 1.0), {f"structure {value}": value for value in range(1, 61)})
    frame = prepared(Volume(np.ones((160, 160, 160), np.float32), np.eye(4)), wanted).frame
    mask = np.zeros((160, 160, 160), np.uint8)
    for value in range(1, 61):
        i, j = 20 * (value % 8), 20 * (value // 8)
        mask[i : i + 16, j : j + 16, 20:100] = value
    try:
        # Forgets the peak of what ran in this process before.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the peak of memory cannot be set back here: {error}")
    before = peak_mib()

    target = torch.from_numpy(prepared_mask(mask, frame, wanted))
    on_network = peak_mib()
    found = mask_on_image(torch.stack([target == channel for channel in range(61)]), frame, wanted)

    assert on_network - before < 100
    assert peak_mib() - on_network < 150
    assert set(np.unique(found)) == set(range(61))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nothing_changes_at_the_networks_own_spacing(orientation):
    affine = affine_of(orientation, (2.0, 2.0, 2.0))
    mask = ball_mask((25, 22, 24), affine)

    assert np.array_equal(there_and_back(mask, affine, plan()), mask)


def test_the_network_sees_every_image_from_the_same_side():
    """The bright voxel lies right, anterior, superior in both files."""
    ras, lps = np.zeros((8, 9, 10), np.float32), np.zeros((8, 9, 10), np.float32)
    ras[6, 7, 8], lps[1, 1, 8] = 1000, 1000

    seen = [
        prepared(Volume(voxels, affine_of(codes, (2.0, 2.0, 2.0))), plan(window_hu=(0, 1000))).voxels
        for voxels, codes in ((ras, "RAS"), (lps, "LPS"))
    ]

    assert torch.equal(*seen)
    assert seen[0][0, 6, 7, 8] == 1


@pytest.mark.parametrize("shape", [*itertools.permutations((1, 40, 33)), (1, 1, 5), (1, 1, 1)])
def test_a_flat_image_comes_back_flat(shape):
    affine = affine_of("LPS", (0.7, 0.7, 0.7))
    mask = np.ones(shape, np.uint8)

    found = there_and_back(mask, affine, plan())

    assert np.array_equal(found, mask)


def test_a_window_becomes_minus_one_to_one():
    voxels = np.array([-1000, -40, 40, 120, 3000], np.int16).reshape(5, 1, 1)

    seen = prepared(Volume(voxels, np.diag([2.0, 2, 2, 1])), plan(window_hu=(-40, 120))).voxels

    assert seen[0, :, 0, 0].tolist() == [-1, -1, 0, 1, 1]


@pytest.mark.parametrize(("region", "columns"), [("tissue", 95), ("largest", 46)])
def test_a_network_for_the_largest_piece_does_not_see_what_lies_beside_it(region, columns):
    """A head of 40 columns, ten free columns, and a holder up to the edge; three voxels of margin."""
    voxels = np.full((130, 60, 30), -1000, np.int16)
    voxels[20:60, 10:50] = 40
    voxels[104:109, 10:50] = 200
    volume = Volume(voxels, np.eye(4))

    seen = prepared(volume, plan(window_hu=(-40, 120), spacing_mm=(1.0, 1.0, 1.0), region=region))

    assert seen.frame.box_shape == (columns, 46, 30)


@pytest.mark.parametrize(("shape", "first"), [((2560, 3328, 1), 907), ((512, 512, 8), 51), ((300, 300, 60), 33)])
def test_the_largest_piece_is_seen_with_its_margin_and_without_a_marker_however_large_the_image_is(shape, first):
    """A breast up to one edge of the image; the marker beside it is thinner than any step."""
    voxels = np.full(shape, -1000, np.int16)
    voxels[first:, 40 : shape[1] - 200] = 40
    voxels[first - 30 : first - 27, 40:80] = 40
    wanted = plan(window_hu=(-160, 240), spacing_mm=(1.0, 1.0, 1.0), region="largest")

    frame = prepared(Volume(voxels, np.eye(4)), wanted).frame

    assert frame.box == ((first - 3, shape[0]), (37, shape[1] - 197), (0, shape[2]))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_without_a_window_the_scale_of_an_image_does_not_matter(scale):
    voxels = np.random.default_rng(0).gamma(4.0, 20.0, (20, 20, 20)).astype(np.float32)
    wanted = plan(spacing_mm=(1.0, 1.0, 1.0))

    seen = [prepared(Volume(v, np.eye(4)), wanted).voxels for v in (voxels, voxels * np.float32(scale))]

    assert torch.allclose(*seen, atol=1e-3)
    assert abs(float(seen[0].mean())) < 0.2 and 0.8 < float(seen[0].std()) < 1.2


def test_a_single_hot_voxel_does_not_flatten_the_rest():
    voxels = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    voxels[3, 3, 3] = 1e6

    seen = prepared(Volume(voxels, np.eye(4)), plan(spacing_mm=(1.0, 1.0, 1.0))).voxels

    assert float(seen.std()) > 0.8 and float(seen.max()) < 5


def test_the_air_around_does_not_shift_the_scale():
    voxels = np.zeros((40, 40, 40), np.float32)
    voxels[15:30, 15:30, 15:30] = np.random.default_rng(0).normal(100, 10, (15, 15, 15))

    tissue = prepared(Volume(voxels, np.eye(4)), plan(spacing_mm=(1.0, 1.0, 1.0))).voxels[0, 3:-3, 3:-3, 3:-3]

    assert abs(float(tissue.mean())) < 0.1 and abs(float(tissue.std()) - 1) < 0.1


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((1024, 1024, 20), slice(0, 1)),
        ((512, 512, 64), slice(0, None, 16)),
        ((200, 200, 400), slice(0, None, 8)),
        ((200, 200, 200), slice(0, None, 2)),
    ],
)
def test_the_scale_of_a_large_image_is_that_of_all_its_slices(shape, dim):
    """Some slices are dim, as far from a coil; in the others there is a lesion brighter than tissue."""
    voxels = np.random.default_rng(0).integers(90, 110, shape, dtype=np.int16)
    voxels[tuple(slice(size // 3, 2 * size // 3 + 1) for size in shape)] *= 3
    voxels[:, :, dim] //= 5

    seen = prepared(Volume(voxels, np.eye(4)), plan(spacing_mm=(1.0, 1.0, 1.0))).voxels[0].numpy()

    low, high = np.percentile(voxels, (1, 99))
    tissue = voxels[voxels > low + AIR_SHARE * (high - low)]
    low, high = np.percentile(tissue, PERCENTILES)
    within = tissue.clip(low, high)
    expected = (voxels[::5, ::5].clip(max=high) - within.mean()) / within.std()
    assert np.abs(seen[::5, ::5] - expected).max() < 0.05


def test_no_voxel_is_more_than_five_deviations_darker_than_the_mean():
    """Tissue of 1000 with a deviation of 10 in air of 0."""
    voxels = np.random.default_rng(0).normal(1000, 10, (20, 20, 20)).astype(np.float32)
    voxels[:, :, :10:2] = 0

    seen = prepared(Volume(voxels, np.eye(4)), plan(spacing_mm=(1.0, 1.0, 1.0))).voxels

    assert float(seen.min()) == LOWEST_SCORE == -5.0


@pytest.mark.parametrize("no_number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("window_hu", [None, (0.0, 100.0)])
def test_voxels_that_are_no_number_are_as_dark_as_the_darkest(no_number, window_hu):
    """A tenth of the image: more than the percentiles leave out."""
    voxels = np.random.default_rng(0).normal(50, 10, (20, 20, 20)).astype(np.float32)
    voxels[0, 0, 0] = 0
    dark = voxels.copy()
    voxels[:2], dark[:2] = no_number, voxels[2:].min()
    wanted = plan(spacing_mm=(1.0, 1.0, 1.0), window_hu=window_hu)

    seen, expected = (prepared(Volume(each, np.eye(4)), wanted).voxels for each in (voxels, dark))

    assert torch.equal(seen, expected)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_an_image_without_contrast_becomes_zero(value):
    seen = prepared(Volume(np.full((6, 6, 6), value, np.float32), np.eye(4)), plan()).voxels

    assert torch.equal(seen, torch.zeros_like(seen))


def test_surrounding_air_is_cropped_and_never_labelled():
    voxels = np.full((60, 60, 30), -1000, np.int16)
    voxels[20:40, 18:40, :] = 40

    image = prepared(Volume(voxels, np.diag([1.0, 1, 2, 1])), plan((1.0, 1.0, 2.0), (-160, 240)))
    everywhere = torch.stack([torch.zeros(image.frame.shape), torch.ones(image.frame.shape)])
    found = mask_on_image(everywhere, image.frame, plan(structures={"liver": 1}))

    assert image.frame.box == ((17, 43), (15, 43), (0, 30))
    assert found.sum() == 26 * 28 * 30 and found[:17].sum() == 0


def test_little_air_is_not_worth_cropping():
    voxels = np.full((60, 60, 30), 40, np.int16)
    voxels[:4] = -1000

    assert prepared(Volume(voxels, np.eye(4)), plan(window_hu=(-160, 240))).frame.box == ((0, 60), (0, 60), (0, 30))


def test_values_that_the_network_does_not_know_are_background():
    mask = np.full((4, 4, 4), 9, np.uint8)
    mask[0] = 5
    image = prepared(Volume(mask, np.diag([2.0, 2, 2, 1])), plan())

    assert np.unique(prepared_mask(mask, image.frame, plan())).tolist() == [0, 2]


def test_a_mask_of_another_shape_is_refused():
    image = prepared(Volume(np.zeros((4, 4, 4)), np.eye(4)), plan())

    with pytest.raises(GridMismatch, match=r"4x4x5 voxels, the image is 4x4x4"):
        prepared_mask(np.zeros((4, 4, 5), np.uint8), image.frame, plan())


def test_probabilities_are_interpolated_so_that_edges_fall_between_voxels():
    """Halfway between two network voxels of 4 mm the probabilities cross: the fine mask ends there."""
    image = prepared(Volume(np.arange(16, dtype=np.float32).reshape(16, 1, 1), np.eye(4)), plan((4.0, 1.0, 1.0)))
    liver = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1)

    found = mask_on_image(torch.stack([1 - liver, liver]), image.frame, plan(structures={"liver": 1}))

    # Network centres lie at 1.5, 5.5, 9.5, 13.5; 0.5 is crossed at 3.5 and 11.5. Were the outermost centres those of
    # the image, they would lie at 0, 5, 10, 15 and the crossings at 2.5 and 12.5.
    assert found[:, 0, 0].tolist() == [0] * 4 + [1] * 8 + [0] * 4


@pytest.mark.parametrize("edge_mm", [0.5, 0.75, 1.25, 1.6, 2.0, 3.0])
def test_a_ramp_has_at_every_voxel_of_the_network_the_value_of_its_place(edge_mm):
    ramp = np.arange(30, dtype=np.float32).reshape(30, 1, 1)
    wanted = plan((edge_mm, 1.0, 1.0), window_hu=(0.0, 30.0))

    seen = (prepared(Volume(ramp, np.eye(4)), wanted).voxels[0, :, 0, 0] + 1) * 15

    edge = 30 / len(seen)
    places = (torch.arange(len(seen)) + 0.5) * edge - 0.5
    assert torch.allclose(seen, places.clamp(0, 29), atol=1e-4)


TASK = Task("organs", "", numbered(["liver", "spleen"]))


def test_a_region_reaches_those_voxels_of_the_image_that_lie_within_a_voxel_of_it():
    image = Volume(np.full((12, 6, 1), 100.0, np.float32), affine_of("LPS", (1.0, 1.0, 1.0)))
    frame = prepared(image, plan(spacing_mm=(2.0, 2.0, 1.0))).frame
    region = torch.zeros(frame.shape, dtype=torch.bool)
    region[5, 0] = True

    found = region_on_image(region, frame)

    # The last voxel towards the right is the first two along I; interpolation reaches one voxel of the image further.
    assert frame.shape == (6, 3, 1)
    assert np.argwhere(found[:, :, 0]).min(axis=0).tolist() == [0, 3]
    assert found[:3, 3:, 0].all() and found.sum() == 9


def test_a_plan_takes_the_median_spacing_whatever_the_orientation():
    grids = [
        Grid((40, 50, 20), affine_of("RAS", (1.0, 1.5, 3.0))),
        Grid((20, 40, 50), affine_of("SLP", (3.0, 1.0, 1.5))),
        Grid((90, 90, 90), affine_of("RAS", (0.5, 0.5, 9.0))),
    ]

    assert plan_for(TASK, grids).spacing_mm == pytest.approx((1.0, 1.5, 3.0))


def test_a_task_may_name_its_spacing():
    task = Task("organs", "", numbered(["liver"]), window_hu=(-160, 240), spacing_mm=(2.0, 2.0, 4.0))

    found = plan_for(task, [Grid((512, 512, 100), np.diag([0.7, 0.7, 5, 1]))])

    assert (found.spacing_mm, found.window_hu) == ((2.0, 2.0, 4.0), (-160, 240))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((36, 50, 36), (1.0, 1.0, 1.0)),
        ((512, 512, 118), (0.7, 0.7, 2.5)),
        ((512, 512, 20), (0.45, 0.45, 6.0)),
        ((3000, 4000, 1), (0.07, 0.07, 1.0)),
        ((7, 9, 5), (1.0, 1.0, 1.0)),
        ((1, 1, 1), (1.0, 1.0, 1.0)),
        ((600, 1, 300), (0.4, 2.0, 0.4)),
    ],
)
def test_a_plan_fits_images_and_machine(shape, spacing_mm):
    found = plan_for(TASK, [Grid(shape, np.diag([*spacing_mm, 1]))])

    assert np.prod(np.multiply(shape, spacing_mm) / found.spacing_mm) <= MAX_VOXELS * 1.01
    assert np.prod(found.patch) <= PATCH_VOXELS
    assert not np.any(np.mod(found.patch, found.multiple))
    assert all(patch < size + step for patch, size, step in zip(found.patch, shape, found.multiple, strict=True))
    assert all(kernel == (1 if size == 1 else 3) for kernel, size in zip(found.kernel, shape, strict=True))


def test_a_task_may_ask_for_smaller_patches():
    head = Grid((96, 112, 28), np.diag([2.0, 2.0, 5.5, 1]))

    whole, small = (plan_for(replace(TASK, patch_voxels=voxels), [head]).patch for voxels in (None, 64 * 64 * 16))

    assert 64 * 64 * 16 < np.prod(whole) <= PATCH_VOXELS
    assert 64 * 64 * 8 < np.prod(small) <= 64 * 64 * 16


@pytest.mark.parametrize(("structures", "features"), [(1, 4), (2, 4), (6, 8), (104, 16)])
def test_more_structures_get_more_features(structures, features):
    task = Task("organs", "", numbered(f"structure {number}" for number in range(structures)))

    assert plan_for(task, [Grid((64, 64, 64), np.eye(4))]).features == features


def test_thick_slices_are_strided_later():
    found = plan_for(TASK, [Grid((128, 128, 32), np.diag([1.0, 1.0, 5.0, 1]))])

    assert found.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2))


def test_a_plan_is_made_for_what_is_left_without_air():
    voxels = np.full((100, 100, 40), -1000, np.int16)
    voxels[30:70, 20:70] = 40

    grid = body_grid(Volume(voxels, affine_of("LPS", (1.0, 1.0, 3.0))), plan(window_hu=(-160, 240)))

    assert (grid.shape, grid.spacing_mm) == ((46, 56, 40), (1.0, 1.0, 3.0))


MASS = Task("mass", "", numbered(["mass"]), network="adapter_unet", is_flat=True)


@pytest.mark.parametrize(("network", "at_most"), [("adapter_unet", 320 * 256), ("residual_unet", MAX_PIXELS)])
def test_a_mammogram_works_at_what_its_network_handles_in_good_time(network, at_most):
    """3328x2560 pixels of 0.07 mm: every edge becomes longer by the same factor."""
    found = plan_for(replace(MASS, network=network), [Grid((2560, 3328, 1), np.diag([0.07, 0.07, 1, 1]))])

    pixels = np.multiply((2560, 3328), 0.07) / found.spacing_mm[:2]
    assert found.spacing_mm[0] == found.spacing_mm[1] and found.spacing_mm[2] == 1
    assert 0.95 * at_most < np.prod(pixels) <= at_most


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_the_network_for_flat_images_takes_them_along_any_axis(flat):
    shape = np.insert([300, 400], flat, 1)

    found = plan_for(MASS, [Grid(tuple(shape), np.eye(4))])

    assert (found.network, found.channels, found.features) == ("adapter_unet", (8, 16, 32, 64, 128), 8)
    assert found.patch[flat] == found.kernel[flat] == 1 and np.prod(found.patch) <= 256 * 256
    assert all(stride == tuple(np.insert([2, 2], flat, 1)) for stride in found.strides)


def test_a_plan_names_the_file_of_a_frozen_encoder_and_its_bytes(tmp_path):
    file = tmp_path / "sam.pth"
    file.write_bytes(b"weights")
    task = replace(MASS, network="sam_vit_b", encoder_weights=str(file))

    found = plan_for(task, [Grid((800, 900, 1), np.eye(4))])

    assert (found.encoder, found.encoder_sha256) == (str(file), hashlib.sha256(b"weights").hexdigest())
    assert (found.multiple, found.channels[-1]) == ((16, 16, 1), 256)


def test_without_its_encoder_file_no_plan_is_made():
    with pytest.raises(UnacceptableFile, match=r"gone\.pth cannot be read"):
        plan_for(replace(MASS, encoder_weights="/gone.pth"), [Grid((80, 90, 1), np.eye(4))])


@pytest.mark.parametrize("window_hu", [None, (-160.0, 240.0)])
@pytest.mark.parametrize("kind", ["int16", "uint8", "uint16", "int32", "float64", ">f4"])
def test_the_type_of_the_voxels_changes_nothing_and_they_stay_as_they_are(kind: str, window_hu) -> None:
    drawn = np.random.default_rng(3).integers(0, 250, (20, 18, 12))
    drawn[:4] = 0
    image, alike = (
        Volume(drawn.astype(kind), np.diag([-1, -1, 2, 1.0])),
        Volume(drawn.astype(np.float32), np.diag([-1, -1, 2, 1.0])),
    )

    found, wanted = prepared(image, plan(window_hu=window_hu)), prepared(alike, plan(window_hu=window_hu))

    assert found.frame.box == wanted.frame.box and torch.equal(found.voxels, wanted.voxels)
    assert (image.voxels == drawn).all() and (alike.voxels == drawn).all()


@pytest.mark.parametrize("kind", ["int16", "uint8", "float32"])
def test_preparing_takes_room_for_one_copy_of_the_image(kind: str) -> None:
    image = Volume(np.zeros((160, 160, 100), kind), np.diag([-1, -1, 1, 1.0]))
    network = plan(window_hu=(-160.0, 240.0))
    prepared(Volume(image.voxels[:20, :20, :20], image.affine), network)

    tracemalloc.start()
    try:
        prepared(image, network)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 1.5 * 4 * image.voxels.size
