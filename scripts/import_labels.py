"""Makes existing labels annotations of a server's images; --studies, --data and --conf as for the server.

DICOM segmentations (SEG) and structure sets (RTSTRUCT) belong to the image that they refer to; where that is not known
here, to the one whose name they have: IMAGE.dcm, IMAGE.seg.dcm or IMAGE.rtstruct.dcm. Segments and regions are matched
to structures by name, segments by code as well; several objects of one image become one version.

Mask files (NIfTI, NRRD) are told by the names below --labels, also mixed:

  IMAGE.nii.gz                one file for all structures, with the task's label values or those of --label-map
  IMAGE/STRUCTURE.nii.gz      one file for each structure, not 0 inside (also CASE/segmentations/STRUCTURE.nii.gz)
  STRUCTURE/IMAGE.nii.gz      the same the other way round

IMAGE is the image's id: its path below the studies without the suffix; for DICOM the SeriesInstanceUID or the folder
of the series. Fixed words may make the difference, which the report then tells: case_0000 and case, case_ct and
case_seg, volume-1 and segmentation-1, CASE/imaging and CASE/segmentation, imagesTr/case and labelsTr/case. Masks may
lie among the images (--labels as --studies): there only a name with such a word, or of a structure, is that of a mask.

A structure without a file, segment or region counts as not looked at. Where two structures claim a voxel, the larger
label value has it. The server may run meanwhile. Doing it twice adds nothing.
"""

from __future__ import annotations

from pathlib import Path

from scripts._record import app_parser, on_bar, opened_app

SHOWN = 3

ROLES = {"expert": "expert", "draft": "annotator"}
"""The role of an author by the stage of the labels."""


NEXT = {
    "expert": "An import starts no training; only corrections do. Next: ./scripts/run, then POST /train/{}.",
    "draft": "Models learn from them once an expert has accepted or corrected them. Next: ./scripts/run.",
}
"""What to do after an import, by the stage of the labels."""


def main(argv: list[str] | None = None) -> None:
    """Imports, and lists what was imported, skipped and refused; ends with 1 if nothing could be used."""
    options = app_parser("import_labels", __doc__)
    options.add_argument("--labels", type=Path, required=True, metavar="DIR", help="folder of labels")
    options.add_argument("--author", required=True, metavar="NAME", help="who made them")
    options.add_argument(
        "--stage", choices=tuple(ROLES), default="expert", help="draft: an expert must look at them [%(default)s]"
    )
    options.add_argument(
        "--label-map", default="", metavar="MAP", help="1=liver,2=spleen for values, kidney_left=kidney for names"
    )
    options.add_argument(
        "--leave-out", default="", metavar="NAMES", help="segments, regions, files and values to ignore: BODY,PTV,2,255"
    )
    options.add_argument("--dry-run", action="store_true", help="only say what would happen")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    from lib.errors import LabelRefineryError
    from lib.labels_folder import Meaning
    from lib.serving.annotator import annotator_of
    from lib.serving.importing_labels import LabelFolder, import_labels
    from lib.serving.studies import Studies
    from lib.stages import Role

    library = opened_app(chosen)
    task = library.record.task
    try:
        annotator = annotator_of(chosen.author, Role(ROLES[chosen.stage]), "scripts.import_labels")
        left_out = [name.strip() for name in chosen.leave_out.split(",") if name.strip()]
        values = [f"{name}=background" for name in left_out if name.isdecimal()]
        meaning = Meaning.read(",".join([chosen.label_map, *values]), task)
        source = LabelFolder(chosen.labels.expanduser().absolute(), annotator, meaning, left_out)
        with tqdm(desc="Importing labels", unit=" images", disable=None) as bar:
            outcomes = import_labels(Studies(library.record, library), source, on_bar(bar), is_trial=chosen.dry_run)
    except LabelRefineryError as error:
        raise SystemExit(str(error)) from error
    if not _told(outcomes, chosen.dry_run):
        raise SystemExit(1)
    if not chosen.dry_run:
        print(f"They are versions by {annotator.name}. {NEXT[chosen.stage].format(task.name)}")


def _told(outcomes: list, is_trial: bool) -> bool:  # type: ignore[type-arg]
    """Prints the outcomes by their fate and note; tells whether anything could be used."""
    from lib.serving.importing_labels import Fate

    for fate in Fate:
        names: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.fate is fate:
                names.setdefault(outcome.note, []).append(outcome.name)
        would = "would be " if is_trial and fate is Fate.IMPORTED else ""
        print(f"{sum(map(len, names.values())):6d} {would}{fate}")
        for note, found in names.items():
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            print(f"         {', '.join(found[:SHOWN])}{more}{': ' if note else ''}{note}")
    return any(outcome.fate is not Fate.REFUSED for outcome in outcomes)


if __name__ == "__main__":
    main()
