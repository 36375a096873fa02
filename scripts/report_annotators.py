"""Writes what each annotator does differently from the experts: report.json, and a picture for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from scripts._record import opened, parser


def main(argv: list[str] | None = None) -> None:
    """Compares what is not compared yet, writes, and says where."""
    options = parser("report_annotators", __doc__)
    options.add_argument("--out", type=Path, default=Path("annotators"), help="folder for the files [%(default)s]")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    from lib.serving.bias_plot import plot
    from lib.serving.bias_report import annotators, report
    from lib.serving.measuring import compare_next

    record = opened(chosen)
    with tqdm(desc="Comparing with the experts", unit=" images", disable=None, leave=False) as bar:
        while compare_next(record):
            bar.update()
    reports = [report(record, one["name"]) for one in annotators(record)]
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "report.json").write_text(json.dumps(reports, indent=2), encoding="utf-8")
    for one in reports:
        # A name may hold anything that people are called, also a slash.
        (chosen.out / f"{quote(one['name'], safe=' ')}.png").write_bytes(plot(one))
    print(f"Wrote report.json and the pictures of {len(reports)} annotators into {chosen.out}.")


if __name__ == "__main__":
    main()
