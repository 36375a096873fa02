"""An image that is no DICOM as a series: the same voxels at the same place."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pydicom
import pytest

from lib.dicom.derived import DerivedSeries
from lib.dicom.source import read_source
from lib.errors import UnreadableImage
from lib.phantoms.scanner import oriented_grid
from lib.series import read_series
from lib.volume import Grid, Volume, view_on

NOON = dt.datetime(2026, 1, 2, 12, 0, tzinfo=dt.UTC)


def derived(grid: Grid, modality: str = "CT", image_id: str = "case_00") -> DerivedSeries:
    return DerivedSeries(image_id, "p1", modality, grid, NOON)


def placed(orientation: str, tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Grid:
    shape, affine = oriented_grid(orientation, (7, 5, 4), (0.7, 1.3, 5.0), (12.0, -34.0, 567.8), tilt_deg)
    return Grid(shape, affine)


def shown(folder: Path, volume: Volume, modality: str = "CT") -> Volume:
    """What a reader of the series gets, put back on the image's own grid."""
    folder.mkdir()
    derived(volume.grid, modality).write(folder, volume)
    read = read_series(sorted(folder.iterdir()))
    return Volume(view_on(read, volume.grid, "case_00"), volume.grid.affine)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "PIR", "SAL"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_whole_numbers_come_back_at_their_place_from_any_orientation(
    tmp_path: Path, orientation: str, tilt_deg: tuple[float, float, float]
) -> None:
    grid = placed(orientation, tilt_deg)
    voxels = np.arange(140).reshape(grid.shape).astype(np.int16) - 1024

    np.testing.assert_array_equal(shown(tmp_path / "dicom", Volume(voxels, grid.affine)).voxels, voxels)


@pytest.mark.parametrize(
    ("orientations", "directions", "rows", "columns"),
    [
        (("RAS", "LPS", "ARS", "PLI"), (1, 0, 0, 0, 1, 0), 5, 7),
        (("RSA", "LIP", "ILP", "SRA"), (1, 0, 0, 0, 0, -1), 4, 7),
        (("PIR", "ASL", "SAL", "IPR"), (0, 1, 0, 0, 0, -1), 4, 5),
    ],
    ids=["axial", "coronal", "sagittal"],
)
def test_slices_are_turned_as_readers_look_at_them(
    tmp_path: Path, orientations: tuple[str, ...], directions: tuple[int, ...], rows: int, columns: int
) -> None:
    for orientation in orientations:
        grid = placed(orientation)
        voxels = np.arange(140).reshape(grid.shape).astype(np.int16)

        found = shown(tmp_path / orientation, Volume(voxels, grid.affine)).voxels

        slices = [pydicom.dcmread(path) for path in sorted((tmp_path / orientation).iterdir())]
        np.testing.assert_array_equal(found, voxels)
        assert {tuple(one.ImageOrientationPatient) for one in slices} == {directions}
        assert {(one.Rows, one.Columns) for one in slices} == {(rows, columns)}
        for k, one in enumerate(slices):
            assert set(one.pixel_array.ravel()) == set(voxels[:, :, k].ravel())


def test_tilted_slices_are_turned_to_the_nearest_direction_of_readers(tmp_path: Path) -> None:
    grid = placed("RAS", (8.0, -5.0, 11.0))

    derived(grid).write(tmp_path, Volume(np.zeros(grid.shape, np.int16), grid.affine))

    along_row, along_column = np.reshape(pydicom.dcmread(tmp_path / "0000.dcm").ImageOrientationPatient, (2, 3))
    assert np.argmax(np.abs(along_row)) == 0 and along_row[0] > 0.9
    assert np.argmax(np.abs(along_column)) == 1 and along_column[1] > 0.9


def test_one_slice_that_is_no_radiograph_is_turned_too(tmp_path: Path) -> None:
    volume = Volume(np.arange(35).reshape((7, 5, 1)).astype(np.int16), placed("RAS").affine)

    np.testing.assert_array_equal(shown(tmp_path / "dicom", volume).voxels, volume.voxels)
    first = pydicom.dcmread(tmp_path / "dicom" / "0000.dcm")
    np.testing.assert_array_equal(first.pixel_array, volume.voxels[::-1, ::-1, 0].T)


def test_viewers_are_told_a_window_of_which_both_bounds_count(tmp_path: Path) -> None:
    grid = placed("RAS")
    volume = Volume(np.linspace(-1000, 3000, 140).reshape(grid.shape).astype(np.int16), grid.affine)

    derived(grid).write(tmp_path, volume, (-40.0, 120.0))

    one = pydicom.dcmread(tmp_path / "0000.dcm")
    assert (one.WindowCenter, one.WindowWidth) == (40.5, 161)


@pytest.mark.parametrize("modality", ["CT", "MR", "", "PT"])
def test_fractions_are_rounded_to_one_of_65536_steps(tmp_path: Path, modality: str) -> None:
    grid = placed("RAS")
    voxels = np.random.default_rng(0).normal(0.3, 0.1, grid.shape).astype(np.float32)

    found = shown(tmp_path / "dicom", Volume(voxels, grid.affine), modality).voxels

    assert np.abs(found - voxels).max() <= (voxels.max() - voxels.min()) / 65535


def test_large_whole_numbers_within_65536_are_kept(tmp_path: Path) -> None:
    grid = placed("RAS")
    voxels = np.linspace(1, 65000, 140).astype(np.int32).reshape(grid.shape)

    np.testing.assert_array_equal(shown(tmp_path / "dicom", Volume(voxels, grid.affine)).voxels, voxels)


def test_what_is_no_number_becomes_the_lowest_value(tmp_path: Path) -> None:
    grid = placed("RAS")
    voxels = np.full(grid.shape, 7.0)
    voxels[0, 0, 0], voxels[1, 0, 0] = np.nan, 2.0

    assert shown(tmp_path / "dicom", Volume(voxels, grid.affine)).voxels[0, 0, 0] == 2


def test_a_sheared_stack_keeps_its_drift(tmp_path: Path) -> None:
    affine = placed("LPS").affine.copy()
    affine[1, 2] += 1.5
    voxels = np.arange(140).reshape((7, 5, 4)).astype(np.int16)

    np.testing.assert_array_equal(shown(tmp_path / "dicom", Volume(voxels, affine)).voxels, voxels)


def test_a_radiograph_is_one_image_of_its_own(tmp_path: Path) -> None:
    volume = Volume(np.arange(35).reshape((7, 5, 1)).astype(np.uint8), np.diag([-0.2, -0.1, 1.0, 1.0]))
    series = derived(volume.grid, "MG")

    series.write(tmp_path, volume)

    source = read_source([tmp_path / "0000.dcm"])
    assert source.is_projection and source.name == f"{series.series_uid}/{series.instance_uid(0)}"
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "0000.dcm").pixel_array.T, volume.voxels[:, :, 0])


def test_uids_follow_from_the_image_alone() -> None:
    first, again, other = (derived(placed("RAS"), image_id=name) for name in ("a", "a", "b"))

    assert (first.series_uid, first.instance_uid(3)) == (again.series_uid, again.instance_uid(3))
    assert len({first.series_uid, first.study_uid, first.instance_uid(0), other.series_uid, other.study_uid}) == 5


def test_a_long_name_with_signs_of_dicom_can_be_stored(tmp_path: Path) -> None:
    header = derived(placed("RAS"), image_id="Müller^A=\\" + "x" * 100).header()

    assert len(header.SeriesDescription) == 64 and header.PatientName.family_name == "x" * 63
    assert pydicom.Dataset.from_json(header.to_json()).SeriesDescription == header.SeriesDescription


def test_rows_and_columns_that_are_not_at_right_angles_are_refused() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.5

    with pytest.raises(UnreadableImage, match=r"case_00 are not at right angles \(cosine 0\.4472\)"):
        derived(Grid((7, 5, 4), affine)).header()


# --- wild voxels -----------------------------------------------------------------------------------------------------


def tissue(kind: type = np.float32) -> np.ndarray:
    """Air, tissue of 30 and in it a small lesion of 75."""
    voxels = np.full((32, 32, 8), 30, kind)
    voxels[:8] = -1000
    voxels[10:13, 10:13, 3:5] = 75
    return voxels


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("wild", [3e7, -3e7, 1e9])
@pytest.mark.parametrize("window", [None, (-40.0, 120.0)])
def test_a_wild_voxel_leaves_the_others_their_steps(
    tmp_path: Path, kind: type, wild: float, window: tuple[float, float] | None
) -> None:
    voxels = tissue(kind)
    voxels[0, 0, 0], voxels[20, 20, 7] = wild, -wild
    volume = Volume(voxels, np.diag([-1.0, -1, 2, 1]))

    derived(volume.grid).write(tmp_path, volume, window)

    found = view_on(read_series(sorted(tmp_path.iterdir())), volume.grid, "case_00")
    is_sound = np.abs(voxels) < 2000
    np.testing.assert_allclose(found[is_sound], voxels[is_sound], atol=0.2)
    assert found.max() > 75 and found.min() < -1000
    one = pydicom.dcmread(tmp_path / "0000.dcm")
    assert one.SeriesDescription.startswith("cut to -") and one.SeriesDescription.endswith("case_00")
    assert len(one.SeriesDescription) <= 64 and one.StudyDescription == "case_00"


def test_small_structures_on_a_constant_background_keep_their_steps(tmp_path: Path) -> None:
    voxels = np.full((32, 32, 8), 30, np.float32)
    voxels[10:15, 10:15, 3:5], voxels[0, 0, 0] = 75.5, 3e7

    found = shown(tmp_path / "dicom", Volume(voxels, np.diag([-1.0, -1, 2, 1]))).voxels

    assert found[12, 12, 4] == pytest.approx(75.5, abs=0.1) and found[20, 20, 4] == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize("voxels", [tissue(), tissue() * np.float32(0.001), tissue() + np.float32(0.5)])
def test_without_wild_voxels_nothing_is_cut(tmp_path: Path, voxels: np.ndarray) -> None:
    volume = Volume(voxels, np.diag([-1.0, -1, 2, 1]))

    derived(volume.grid).write(tmp_path, volume)

    assert pydicom.dcmread(tmp_path / "0000.dcm").SeriesDescription == "case_00"
    found = view_on(read_series(sorted(tmp_path.iterdir())), volume.grid, "case_00")
    assert np.abs(found - voxels).max() <= np.ptp(voxels) / 65535


@pytest.mark.parametrize("value", [0.37, -1024.25, 0.0, 7.0, 1e-6, 3e7])
def test_an_image_of_one_value_keeps_it(tmp_path: Path, value: float) -> None:
    voxels = np.full((7, 5, 4), value, np.float64)

    found = shown(tmp_path / "dicom", Volume(voxels, placed("LPS").affine)).voxels

    np.testing.assert_allclose(found, value, rtol=1e-9)
    assert pydicom.dcmread(tmp_path / "dicom" / "0000.dcm").get("RescaleSlope", 1) == 1
