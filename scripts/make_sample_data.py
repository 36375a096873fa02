"""Draws the sample data of the apps: phantoms with their true masks."""

import argparse
from pathlib import Path

SETTINGS = """\
modality = "CT"

[[structures]]
name = "liver"
value = 1
colour = [221, 130, 101]
code = "10200004"     # SNOMED CT

[[structures]]
name = "spleen"
value = 2
colour = [157, 108, 162]
code = "78961009"

[[structures]]
name = "kidney"
value = 3
colour = [185, 102, 83]
code = "64033007"
"""

README = """\
# Sample data

Phantoms drawn from code alone (`lib/phantoms`): no patient, no scanner, no download. Licence: CC0-1.0.
Made by, from the repository root:

    python -m scripts.make_sample_data --out sample-data --seed {seed}

Each app has a study folder under its name, every image of its own patient, and a folder with the true masks
(uint8) under the images' names, on the images' grids; never show that one to a server. `parameters.json` beside the
masks holds what each phantom was drawn with, its seed included.

Equal seed, equal bytes, as long as numpy, scipy and zlib are the same. Spacing in mm along I, J, K; a DICOM
series is digested as its files one after the other (`cat segmentation/abdomen_13/*.dcm | sha256sum`).
"""

ABOUT = {
    "segmentation": """\
## `segmentation`: upper bellies in CT

NIfTI, NRRD and DICOM, int16 HU; 1 liver, 2 spleen, 3 kidney, as `segmentation/label-refinery.toml` says.
Case 06 shows the lower abdomen, so that liver and spleen are absent from it.
""",
    "hemorrhage": """\
## `hemorrhage`: heads in CT

NIfTI and DICOM, int16 HU; 1 EDH, 2 IPH, 3 IVH, 4 SAH, 5 SDH (extradural, intraparenchymal, intraventricular,
subarachnoid and subdural blood). Cases 03, 06, 09 and 12 show none.
""",
    "mass": """\
## `mass`: mammograms

NIfTI and DICOM, one view each, grey values of 12 bits; 1 mass. Cases 04, 08 and 12 show none.
""",
}

TABLE = """\
| file | voxels | spacing | axes | bytes | sha256 |
|---|---|---|---|---|---|
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_sample_data", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sample-data"), help="where to write (default: %(default)s)")
    parser.add_argument("--app", choices=[*ABOUT, "all"], default="all", help="whose images (default: %(default)s)")
    parser.add_argument("--cases", type=int, help="patients of each app; the last two are DICOM (default: the app's)")
    parser.add_argument("--seed", type=int, default=2040, help="decides every voxel (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Writes images, truth, settings and README, and prints what it wrote."""
    chosen = parser().parse_args(argv)

    from tqdm import tqdm

    from lib.phantoms.sample_data import COLLECTIONS, write_cases, written_volumes

    for app in ABOUT if chosen.app == "all" else [chosen.app]:
        cases = chosen.cases or COLLECTIONS[app].cases
        for _ in tqdm(write_cases(chosen.out, app, cases, chosen.seed), desc=app, total=cases, unit="case"):
            pass
        if app == "segmentation":
            (chosen.out / app / "label-refinery.toml").write_text(SETTINGS, encoding="utf-8")
        size_mb = sum(volume.size_bytes for volume in written_volumes(chosen.out, app)) / 1e6
        print(f"Wrote {cases} images and {cases} masks, {size_mb:.1f} MB, to {chosen.out}/{app}/ and {app}-truth/")
    text = README.format(seed=chosen.seed)
    for app, about in ABOUT.items():
        if (chosen.out / app).is_dir():
            rows = "".join(f"{volume.row()}\n" for volume in written_volumes(chosen.out, app))
            text += f"\n{about}\n{TABLE}{rows}"
    (chosen.out / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
