"""Gives images their patients by a new rule where that puts images of both sides together, which a start refuses.

All images of such a patient are learned from now on: models have seen some of them, so measuring on the others would
flatter. The rule is that of the next start: --conf patient there is --patient here.
"""

from __future__ import annotations

from pathlib import Path

from scripts._record import data_folder, opened, parser


def main(argv: list[str] | None = None) -> None:
    """Renews and says what came of it."""
    options = parser("renew_patients", __doc__)
    options.add_argument("--patient", default="", help="regular expression, as in --conf patient")
    options.add_argument("--studies", type=Path, help="folder of images in which patients.csv lies, if there is one")
    chosen = options.parse_args(argv)

    from lib.errors import SetupError
    from lib.patients import read_patient_rule
    from lib.serving.annotator import system_user
    from lib.store.patients import renew_patients

    record = opened(chosen)
    try:
        # The key is for DICOM series, whose patients no rule changes.
        rule = read_patient_rule(chosen.studies, chosen.patient, b"")
    except SetupError as error:
        raise SystemExit(str(error)) from error
    renewed = renew_patients(record, data_folder(chosen), rule.of_file, system_user(), may_learn=True)
    print(
        f"{renewed.images} images are of other patients now, {renewed.patients} in all; {renewed.learned} labelled "
        "images that measured the models are learned from now on."
    )


if __name__ == "__main__":
    main()
