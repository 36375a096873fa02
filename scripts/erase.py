"""Erases a patient: masks, uploaded images and notes are deleted, a tombstone stays in the record.

Files in the folder of studies are never changed by this project: the command lists them, for you to delete. It also
lists the model versions that learned from the patient.
"""

from __future__ import annotations

import contextlib

from scripts._record import data_folder, opened, parser


def main(argv: list[str] | None = None) -> None:
    """Erases and says what is left to do."""
    options = parser("erase", __doc__)
    options.add_argument("--patient", required=True, help="PatientID, or the record's key of the patient")
    options.add_argument("--issuer", default="", help="IssuerOfPatientID of DICOM images")
    chosen = options.parse_args(argv)

    from lib.errors import UnknownImage
    from lib.patients import read_patient_rule
    from lib.store import layout
    from lib.store.erase import erase_patient
    from lib.store.leftovers import delete_unfinished
    from lib.store.lock import FolderLock

    record, data = opened(chosen), data_folder(chosen)
    keys = [chosen.patient]
    key = data / layout.PATIENT_KEY
    if key.is_file():
        rule = read_patient_rule(None, "", key.read_bytes())
        # A series without PatientID belongs to its study.
        keys += [rule.of_series(f"{chosen.patient}@{chosen.issuer}"), rule.of_series(chosen.patient)]
    try:
        erased = erase_patient(record, data, keys)
    except UnknownImage as error:
        raise SystemExit(str(error)) from error
    with contextlib.ExitStack() as held:
        # What is unfinished is nobody's work any more, unless a server is at it: that deletes its own.
        if lock := FolderLock.taken(data):
            held.enter_context(lock)
            delete_unfinished(data)
        else:
            print("A server runs. What it was writing of the patient just now goes when it has written it.")
    print(f"Erased {len(erased.images)} images, {erased.masks} masks and {erased.files} other files.")
    if erased.models:
        print(f"These model versions learned from the patient: {', '.join(erased.models)}.")
    if erased.studies:
        print(
            "These files in the folder of studies, or series at their server, are left for you to delete:",
            *erased.studies,
            sep="\n  ",
        )


if __name__ == "__main__":
    main()
