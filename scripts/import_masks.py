"""Makes existing masks annotations of a server's images; --studies, --data and --conf as for the server.

Layouts, told by the names below --masks, also mixed:

  IMAGE.nii.gz                one file for all structures, with the task's label values or those of --label-map
  IMAGE/STRUCTURE.nii.gz      one file for each structure, not 0 inside (also CASE/segmentations/STRUCTURE.nii.gz)
  STRUCTURE/IMAGE.nii.gz      the same the other way round

IMAGE is the image's id: its path below the studies without the suffix; for DICOM the SeriesInstanceUID or the folder
of the series. A structure without a file counts as not looked at. Where two structures claim a voxel, the larger label
value has it. The server may run meanwhile. Doing it twice adds nothing.
"""

from __future__ import annotations

from pathlib import Path

from scripts._record import app_parser, on_bar, opened_app

SHOWN = 3


def main(argv: list[str] | None = None) -> None:
    """Imports, and lists what was imported, skipped and refused; ends with 1 if nothing could be used."""
    options = app_parser("import_masks", __doc__)
    options.add_argument("--masks", type=Path, required=True, metavar="DIR", help="folder of masks")
    options.add_argument("--author", required=True, metavar="NAME", help="who made them")
    options.add_argument(
        "--role", choices=("expert", "annotator"), default="expert", help="of the author [%(default)s]"
    )
    options.add_argument(
        "--label-map", default="", metavar="MAP", help="1=liver,2=spleen for values, kidney_left=kidney for files"
    )
    options.add_argument("--dry-run", action="store_true", help="only say what would happen")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    from lib.errors import LabelRefineryError
    from lib.labels_folder import Meaning
    from lib.serving.annotator import annotator_of
    from lib.serving.importing_masks import Fate, MaskFolder, import_masks
    from lib.stages import Role

    record = opened_app(chosen)
    try:
        annotator = annotator_of(chosen.author, Role(chosen.role), "scripts.import_masks")
        source = MaskFolder(
            chosen.masks.expanduser().absolute(), annotator, Meaning.read(chosen.label_map, record.task)
        )
        with tqdm(desc="Importing masks", unit=" images", disable=None) as bar:
            outcomes = import_masks(record, source, on_bar(bar), is_trial=chosen.dry_run)
    except LabelRefineryError as error:
        raise SystemExit(str(error)) from error
    for fate in Fate:
        names: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.fate is fate:
                names.setdefault(outcome.note, []).append(outcome.name)
        would = "would be " if chosen.dry_run and fate is Fate.IMPORTED else ""
        print(f"{sum(map(len, names.values())):6d} {would}{fate}")
        for note, found in names.items():
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            print(f"         {', '.join(found[:SHOWN])}{more}{': ' if note else ''}{note}")
    if all(outcome.fate is Fate.REFUSED for outcome in outcomes):
        raise SystemExit(1)
    if not chosen.dry_run:
        print(f"They are versions by {annotator.name}. Next: ./scripts/run and POST /train/{record.task.name}.")


if __name__ == "__main__":
    main()
