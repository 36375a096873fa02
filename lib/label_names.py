"""Which image the name of a mask means where both are not called alike, as in data sets that add fixed words to names.

``case_0000`` and ``case`` (nnU-Net), ``case_ct`` and ``case_seg``, ``volume-1`` and ``segmentation-1`` (LiTS),
``img0001`` and ``label0001`` (BTCV), ``CASE/imaging`` and ``CASE/segmentation`` (KiTS), ``imagesTr/case`` and
``labelsTr/case``, ``sub/anat/sub_T1w`` and ``derivatives/labels/sub/anat/sub_T1w_seg-manual`` (BIDS). A name that
could mean several images means none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lib.errors import UnknownImage

IMAGE_FOLDERS = frozenset("imagestr imagests imagesval images image imgs img volumes scans".split())
MASK_FOLDERS = frozenset(
    "labelstr labelsts labelsval labels label masks mask segmentations segmentation segs seg annotations gt "
    "derivatives".split()
)
"""Folders of nothing but images and nothing but masks, which are no part of a case's name."""

IMAGE_WORDS = (
    "000[0-9]|ct|mr|mri|pet|us|img|image|imaging|volume|vol|scan|orig|t1|t1w|t1n|t1c|t1ce|t1gd|t2|t2w|t2f|flair|dwi|adc"
)
MASK_WORDS = "seg|dseg|segs|segmentation|segmentations|label|labels|labelmap|mask|masks|gt|roi|annotation|manual"
"""What stands in front of or behind the name of a case, or takes its place in a folder of its own."""


@dataclass(frozen=True)
class Form:
    """A name without the words that say only whether it is an image or a mask.

    Attributes:
        base: what is left of it.
        left_out: the words.
    """

    base: str
    left_out: tuple[str, ...]


class _Words:
    """The words of images, or those of masks."""

    def __init__(self, words: str, folders: frozenset[str], most: int) -> None:
        """Of these words so many may be left out of one name, and any of these folders."""
        forms = (
            f"(?P<rest>.+)(?P<word>[-_.](?:{words}))",
            f"(?P<word>(?:{words})(?:[-_.](?=.)|(?=[0-9])))(?P<rest>.+)",
            f"(?P<word>{words})(?P<rest>)",
        )
        self._behind, *_ = self._forms = [re.compile(form, re.IGNORECASE) for form in forms]
        self._folders, self._most = folders, most

    def behind(self, last: str) -> str:
        """The word at the end of a name with the sign in front of it; empty if there is none."""
        match = self._behind.fullmatch(last)
        return match["word"] if match else ""

    def forms(self, stem: str) -> list[Form]:
        """A name without folders of this kind, then also without words of it, behind or in front; fewer ones first."""
        *folders, last = stem.split("/")
        kept = [folder for folder in folders if folder.casefold() not in self._folders]
        dropped = tuple(f"{folder}/" for folder in folders if folder.casefold() in self._folders)
        found = names = [Form(last, dropped)]
        for _ in range(self._most):
            names = [shorter for name in names for shorter in self._shorter(name)]
            found = found + names
        paths = [Form("/".join((*kept, one.base) if one.base else kept), one.left_out) for one in found]
        return [one for one in paths if one.base]

    def _shorter(self, name: Form) -> Iterator[Form]:
        for match in filter(None, (form.fullmatch(name.base) for form in self._forms)):
            yield Form(match["rest"], (*name.left_out, match["word"]))


OF_IMAGES = _Words(IMAGE_WORDS, IMAGE_FOLDERS, most=1)
OF_MASKS = _Words(MASK_WORDS, MASK_FOLDERS, most=2)


def is_named_as_mask(stem: str) -> bool:
    """Whether a path without its suffix has a word that only masks have."""
    return any(form.left_out for form in OF_MASKS.forms(stem))


def word_behind(stem: str) -> str:
    """The end of a path by which masks of its kind are told: a word of masks, else its last part."""
    last = stem.rpartition("/")[2]
    return OF_MASKS.behind(last) or last


@dataclass(frozen=True)
class Match:
    """The image that a name means.

    Attributes:
        image_id: the image.
        left_out: the words in which both names differ; empty where they are alike.
    """

    image_id: str
    left_out: tuple[str, ...] = ()


class ImageNames:
    """Finds images by the names of their masks."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """Sorts the names.

        Args:
            names: image id by each name that an image goes by.
        """
        self._exact = names
        # By how much is left out of the image's name: folders, then a word as well.
        self._forms: tuple[dict[str, dict[str, Form]], ...] = ({}, {})
        for name, image_id in names.items():
            whole, *shorter = OF_IMAGES.forms(name)
            for found, forms in zip(self._forms, ([whole], shorter), strict=True):
                for form in forms:
                    found.setdefault(form.base, {}).setdefault(image_id, form)

    def find(self, stem: str) -> Match | None:
        """The image that a mask shows, by its path without its suffix; as little as possible is left out of names.

        Raises:
            UnknownImage: if it may be any of several.
        """
        if stem in self._exact:
            return Match(self._exact[stem])
        for forms in self._forms:
            for asked in OF_MASKS.forms(stem):
                if found := forms.get(asked.base):
                    return self._only(stem, asked, found)
        return None

    @staticmethod
    def _only(stem: str, asked: Form, found: Mapping[str, Form]) -> Match:
        if len(found) > 1:
            raise UnknownImage(
                f"by its name {stem!r} may belong to any of the images {_listed(found)}; give it the name of one of "
                "them, or leave the others out of the studies (--conf ignore)"
            )
        ((image_id, form),) = found.items()
        return Match(image_id, (*form.left_out, *asked.left_out))


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return ", ".join(map(repr, found[:4])) + more
