"""Compares the rows of the record with its files; changes nothing unless --repair."""

from __future__ import annotations

import sys

from scripts._record import opened, parser


def main(argv: list[str] | None = None) -> None:
    """Prints what is wrong; ends with 1 if anything is left that needs a person."""
    options = parser("verify_store", __doc__)
    options.add_argument("--repair", action="store_true", help="mend what can be mended; stop the server first")
    chosen = options.parse_args(argv)

    from lib.store.verify import repair, verify

    record = opened(chosen)
    found = repair(record) if chosen.repair else verify(record)
    for finding in found:
        mended = "repaired: " if chosen.repair and finding.can_be_repaired else ""
        print(f"{mended}{finding.what}")
    left = [finding for finding in found if not (chosen.repair and finding.can_be_repaired)]
    print(f"{len(found)} found, {len(left)} left." if found else "All rows and files agree.")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
