"""Pictures: grey ones become images of one slice, whatever their format; colour, pages and damage are refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib.errors import UnreadableImage
from lib.picture import PICTURE_SUFFIXES, picture_size, read_picture
from lib.volume import read_grid, read_volume, suffix_of

COUNTED = (np.arange(12, dtype=np.uint8) * 20).reshape(4, 3)
"""Pixels (I, J): I counts the columns."""

COUNTED_16 = COUNTED.astype(np.uint16) * 256 + 7


def save(path, pixels, **options):
    """Writes pixels (I, J) or (I, J, channels)."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.swapaxes(0, 1)))
    picture.save(path, **options)
    return path


def coloured(pixels, **changes):
    """Three alike channels, or with a pixel of one of them changed."""
    channels = np.repeat(pixels[:, :, None], 3, axis=2)
    for channel, value in changes.items():
        channels[1, 1, "rgb".index(channel)] = value
    return channels


# --- grey pixels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".tiff", ".bmp", ".PNG"])
def test_a_grey_picture_of_eight_bits_is_an_image_of_one_slice(tmp_path, suffix):
    path = save(tmp_path / f"film{suffix}", COUNTED)

    volume = read_volume(path)

    assert volume.voxels.dtype == np.uint8 and volume.voxels.shape == (4, 3, 1)
    np.testing.assert_array_equal(volume.voxels[:, :, 0], COUNTED)
    assert read_grid(path).is_same_as(volume.grid)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif"])
def test_sixteen_bits_are_kept(tmp_path, suffix):
    path = save(tmp_path / f"film{suffix}", COUNTED_16)

    volume = read_volume(path)

    assert volume.voxels.dtype == np.uint16
    np.testing.assert_array_equal(volume.voxels[:, :, 0], COUNTED_16)
    assert read_grid(path).shape == (4, 3, 1)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_an_even_jpeg_picture_keeps_its_value(tmp_path, suffix):
    pixels, _ = read_picture(save(tmp_path / f"film{suffix}", np.full((16, 8), 90, np.uint8)))

    np.testing.assert_array_equal(pixels, np.full((16, 8), 90))


def test_columns_run_to_the_left_and_rows_to_the_back_as_where_simpleitk_puts_a_picture(tmp_path):
    volume = read_volume(save(tmp_path / "film.png", COUNTED))

    assert volume.grid.orientation == "LPS"
    np.testing.assert_array_equal(volume.affine, np.diag([-1, -1, 1, 1]))


def test_the_values_of_a_pgm_file_are_stretched_to_all_bits(tmp_path):
    (tmp_path / "film.pgm").write_bytes(b"P5 3 1 100\n" + bytes([0, 50, 100]))

    assert read_picture(tmp_path / "film.pgm")[0].ravel().tolist() == [0, 128, 255]


def test_a_tiff_file_that_counts_from_white_is_read_bright_where_it_shows_white(tmp_path):
    path = save(tmp_path / "film.tif", np.array([[0, 1, 5]], np.uint16), tiffinfo={262: 0})

    assert read_picture(path)[0].tolist() == [[65535, 65534, 65530]]


def test_a_colour_picture_with_alike_channels_is_grey(tmp_path):
    path = save(tmp_path / "film.png", coloured(COUNTED))

    np.testing.assert_array_equal(read_picture(path)[0], COUNTED)
    assert picture_size(path)[0] == (4, 3)


def test_a_palette_of_greys_is_grey(tmp_path):
    Image.fromarray(COUNTED.T.copy()).convert("P").save(tmp_path / "film.png")

    np.testing.assert_array_equal(read_picture(tmp_path / "film.png")[0], COUNTED)


# --- the size of a pixel ---------------------------------------------------------------------------------------------

# 254 pixels per inch are 0.1 mm, 127 are 0.2 mm.
LARGE = np.zeros((1000, 800), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_pixel_size_comes_from_the_resolution_along_each_axis(tmp_path, suffix):
    path = save(tmp_path / f"film{suffix}", LARGE, dpi=(254, 127))

    assert read_grid(path).spacing_mm == pytest.approx((0.1, 0.2, 1), rel=1e-3)
    assert read_volume(path).grid.is_same_as(read_grid(path))
    assert read_volume(path).is_measured


def test_pixels_per_centimetre_are_understood(tmp_path):
    path = save(tmp_path / "film.tif", LARGE, resolution=100, resolution_unit="cm")

    assert read_grid(path).spacing_mm == pytest.approx((0.1, 0.1, 1))


@pytest.mark.parametrize("dpi", [72, 96, 10, 5000])
def test_a_resolution_for_screens_or_of_no_radiograph_is_not_believed(tmp_path, dpi):
    path = save(tmp_path / "film.png", LARGE, dpi=(dpi, dpi))

    assert read_grid(path).spacing_mm == (1, 1, 1)
    assert not read_volume(path).is_measured


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_formats_that_carry_a_resolution_for_printers_only_are_not_believed(tmp_path, suffix):
    assert read_grid(save(tmp_path / f"film{suffix}", LARGE, dpi=(254, 254))).spacing_mm == (1, 1, 1)


def test_without_a_resolution_an_edge_is_one_millimetre(tmp_path):
    assert read_picture(save(tmp_path / "film.png", COUNTED))[1] == (1, 1)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_coloured_picture_is_refused(tmp_path, read, suffix):
    path = save(tmp_path / f"film{suffix}", coloured(COUNTED, g=255))

    with pytest.raises(UnreadableImage, match=r"film\.\w+ is a colour picture; wanted is one grey value a pixel"):
        read(path)


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_several_pages_in_one_file_are_refused(tmp_path, read, suffix):
    pages = [Image.fromarray(COUNTED + page) for page in range(3)]
    pages[0].save(tmp_path / f"film{suffix}", save_all=True, append_images=pages[1:])

    with pytest.raises(UnreadableImage, match=r"holds 3 pages; wanted is one picture a file"):
        read(tmp_path / f"film{suffix}")


@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_broken_numbers_of_grey_are_refused(tmp_path, read):
    path = save(tmp_path / "film.tif", COUNTED.astype(np.float32))

    with pytest.raises(UnreadableImage, match=r"pixels of the type 'F'; wanted are 8 or 16 bits of grey"):
        read(path)


@pytest.mark.parametrize("value", [-5, 70000])
def test_values_beyond_sixteen_bits_are_refused(tmp_path, value):
    path = save(tmp_path / "film.tif", np.array([[0, value]], np.int32))

    with pytest.raises(UnreadableImage, match=rf"values from .*{value}.*; wanted are 16 bits of grey"):
        read_volume(path)


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_a_file_of_another_kind_is_refused(tmp_path, read, suffix):
    (tmp_path / f"film{suffix}").write_bytes(b"a letter" * 40)

    with pytest.raises(UnreadableImage, match=r"is no readable picture, neither PNG, PGM, TIFF, BMP, JPEG"):
        read(tmp_path / f"film{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".bmp", ".jpg"])
def test_a_cut_picture_is_refused_by_name_and_without_the_folders_of_this_machine(tmp_path, suffix):
    path = save(tmp_path / f"film{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-1500])

    with pytest.raises(UnreadableImage, match=rf"film\{suffix} .*(cannot be read|is no readable)") as refused:
        read_volume(path)

    assert str(tmp_path) not in str(refused.value)


def test_a_cut_png_file_is_found_out_by_its_header_and_checksums(tmp_path):
    path = save(tmp_path / "film.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-1500])

    with pytest.raises(UnreadableImage, match=r"film\.png cannot be read"):
        read_grid(path)


def test_an_empty_picture_is_told_as_such(tmp_path):
    (tmp_path / "film.png").touch()

    with pytest.raises(UnreadableImage, match=r"film\.png is empty \(0 bytes\)"):
        read_grid(tmp_path / "film.png")


def test_a_picture_of_no_resolution_unit_has_no_pixel_size(tmp_path):
    text = PngInfo()
    text.add(b"pHYs", (9).to_bytes(4, "big") + (9).to_bytes(4, "big") + b"\0")

    assert picture_size(save(tmp_path / "film.png", COUNTED, pnginfo=text))[1] == (1, 1)


def test_every_suffix_is_found_whatever_its_case():
    assert [suffix_of(f"film{suffix}") for suffix in PICTURE_SUFFIXES] == list(PICTURE_SUFFIXES)
    assert suffix_of("FILM.JPG") == ".jpg"
