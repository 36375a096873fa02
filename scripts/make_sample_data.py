"""Draws the sample data of the segmentation app: abdomen CT phantoms with their true masks."""

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

Abdomen CT phantoms, drawn from code alone (`lib/phantoms`): no patient, no scanner, no download.
Licence: CC0-1.0. Made by, from the repository root:

    python -m scripts.make_sample_data --out sample-data --cases {cases} --seed {seed}

`segmentation/` is a study folder: NIfTI, NRRD and DICOM images, int16 HU, each of its own patient, and the
structures in `label-refinery.toml`. `segmentation-truth/` holds the true masks (uint8; 1 liver, 2 spleen,
3 kidney) under the images' names, on the images' grids; never show it to a server. Case 06 shows the lower
abdomen, so that liver and spleen are absent from it.

Equal seed, equal bytes, as long as numpy, scipy and zlib are the same. Spacing in mm along I, J, K; a DICOM
series is digested as its files one after the other (`cat segmentation/abdomen_13/*.dcm | sha256sum`).

| file | voxels | spacing | axes | bytes | sha256 |
|---|---|---|---|---|---|
{rows}
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_sample_data", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sample-data"), help="where to write (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=14, help="patients; the last two are DICOM (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2040, help="decides every voxel (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Writes images, truth, settings and README, and prints what it wrote."""
    chosen = parser().parse_args(argv)

    from tqdm import tqdm

    from lib.phantoms.sample_data import IMAGES, write_case

    volumes = []
    for number in tqdm(range(1, chosen.cases + 1), desc="drawing", unit="case"):
        volumes += write_case(chosen.out, number, chosen.cases, chosen.seed)
    (chosen.out / IMAGES / "label-refinery.toml").write_text(SETTINGS, encoding="utf-8")
    rows = "\n".join(volume.row() for volume in sorted(volumes, key=lambda volume: volume.name))
    text = README.format(cases=chosen.cases, seed=chosen.seed, rows=rows)
    (chosen.out / "README.md").write_text(text, encoding="utf-8")
    size_mb = sum(volume.size_bytes for volume in volumes) / 1e6
    print(f"Wrote {chosen.cases} images and {chosen.cases} masks, {size_mb:.1f} MB, to {chosen.out}/")


if __name__ == "__main__":
    main()
