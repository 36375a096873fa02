"""Images of another kind than a task works on are refused in one sentence that says what came and what is wanted."""

import numpy as np
import pytest

from lib.errors import NoImage, UnreadableImage
from lib.suitability import refuse_other_modality, refuse_other_shape, refuse_other_values
from lib.task import Task
from lib.volume import Grid, Volume

HEAD_CT = Task("hemorrhage", "Bleeds", modality="CT", modalities=("CT",), window_hu=(-40, 120))
MAMMOGRAMS = Task("mass", "Masses", modality="MG", modalities=("MG", "CR"), is_flat=True)
ANYTHING = Task("segmentation", "Organs")

VOLUME = Grid((512, 512, 32), np.eye(4))
FILM = Grid((512, 640, 1), np.eye(4))


def volume(*values: float) -> Volume:
    return Volume(np.array(values, np.float32).reshape(-1, 1, 1), np.eye(4))


def test_an_mr_is_no_head_ct():
    with pytest.raises(NoImage, match=r"Series 1\.2 is MR, the task hemorrhage works on CT\."):
        refuse_other_modality("Series 1.2", "MR", HEAD_CT)


def test_a_volume_is_no_mammogram():
    with pytest.raises(NoImage, match=r"a is a volume of 512x512x32 .* works on single images of one slice"):
        refuse_other_shape("a", VOLUME, MAMMOGRAMS)


@pytest.mark.parametrize(
    ("grid", "modality", "task"),
    [
        (VOLUME, "CT", HEAD_CT),
        (VOLUME, "", HEAD_CT),
        (FILM, "CT", HEAD_CT),
        (FILM, "CR", MAMMOGRAMS),
        (FILM, "", MAMMOGRAMS),
        (VOLUME, "PT", ANYTHING),
        (FILM, "MR", ANYTHING),
    ],
)
def test_what_a_task_works_on_passes(grid, modality, task):
    refuse_other_modality("a", modality, task)
    refuse_other_shape("a", grid, task)


@pytest.mark.parametrize("values", [(0, 40, 1200), (0, 1, 255), (0, 1000, 4095), (-20, 300, 900)])
def test_values_that_are_no_hu_are_refused(values):
    """MR, an 8-bit picture, a CT that lost its rescale, an MR with a little ringing."""
    with pytest.raises(UnreadableImage, match=f"a holds values from {values[0]} to {values[-1]}; .* export it in HU"):
        refuse_other_values("a", volume(*values), HEAD_CT)


@pytest.mark.parametrize("values", [(-1024, 40, 1500), (-3024, 0, 3071), (-12, 30, 110)])
def test_values_in_hu_pass(values):
    """With air, with the padding of some scanners, and a brain that was cut out."""
    refuse_other_values("a", volume(*values), HEAD_CT)


def test_without_a_fixed_scale_all_values_pass():
    refuse_other_values("a", volume(0, 4000), MAMMOGRAMS)
