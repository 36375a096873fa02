"""Deletes the masks of drafts that nobody corrected and whose model no longer serves; their rows stay."""

from __future__ import annotations

from scripts._record import opened, parser


def main(argv: list[str] | None = None) -> None:
    """Deletes and says how many."""
    chosen = parser("prune_drafts", __doc__).parse_args(argv)

    from lib.store.prune import prune_drafts

    print(f"Deleted {prune_drafts(opened(chosen))} masks of drafts that were no longer used.")


if __name__ == "__main__":
    main()
