"""Compares a folder of predicted masks with a folder of true ones, structure by structure and lesion by lesion.

Files belong together if they have the same name (NIfTI, NRRD, SEG.NRRD). A case that cannot be compared gets a line
that says why, and stops nothing.
"""

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", required=True, type=Path, metavar="FOLDER", help="predicted masks")
    parser.add_argument("--truth", required=True, type=Path, metavar="FOLDER", help="true masks")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="cases.csv, summary.json, overlays")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--labels", help="liver=1,spleen=2, or a label-refinery.toml (default: numbers in the truth)")
    which.add_argument("--app", type=Path, metavar="FOLDER", help="structures of an app, such as apps/hemorrhage")
    parser.add_argument("--looked-at", type=Path, metavar="CSV", help="columns image,structures (liver;spleen)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="images: their grids count, overlays show them")
    parser.add_argument("--least-lesion", type=float, default=0.0, metavar="MM3", help="smallest that counts, in mm3; "
                        "in mm2 for images of one slice (default: %(default)s)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=0.1, help="share that finds a lesion (default: %(default)s)")
    parser.add_argument("--overlays", type=int, default=6, metavar="N", help="worst cases drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Writes the files and prints the tables."""
    chosen = parser().parse_args(argv)

    from lib.errors import SetupError
    from scripts.evaluation.run import evaluate

    for folder in (chosen.truth, chosen.predictions, chosen.images):
        if folder is not None and not folder.is_dir():
            raise SystemExit(f"{folder} is no folder.")
    try:
        evaluate(chosen)
    except SetupError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
