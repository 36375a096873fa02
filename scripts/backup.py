"""Copies the record and its files into a new folder while the server goes on: a folder that a server can start on.

To restore, start the server with --data on the copy (or on a copy of it). A PostgreSQL record is copied to SQLite.
"""

from __future__ import annotations

from pathlib import Path

from scripts._record import data_folder, opened, parser


def main(argv: list[str] | None = None) -> None:
    """Copies, checks the copy, and says what it did."""
    options = parser("backup", __doc__)
    options.add_argument("--to", type=Path, required=True, metavar="DIR", help="a folder that does not exist yet")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    from lib.errors import SetupError, StorageFull
    from lib.store.backup import back_up
    from lib.store.record import open_existing
    from lib.store.verify import verify

    record, target = opened(chosen), chosen.to.expanduser().absolute()
    with tqdm(desc="Copying files", unit=" files", disable=None) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            files = back_up(record, data_folder(chosen), target, report)
        except (SetupError, StorageFull) as error:
            raise SystemExit(str(error)) from error
    copy = open_existing(target, name=record.task.name)
    found = verify(copy)
    copy.close()
    if found:
        raise SystemExit("The copy is not whole:\n" + "\n".join(finding.what for finding in found))
    print(f"Copied the record and {files} files to {target}; rows and files of the copy agree.")


if __name__ == "__main__":
    main()
