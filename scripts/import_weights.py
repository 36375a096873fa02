"""Makes weights from elsewhere a model version; --studies, --data and --conf as for the server.

FILE is one of: a weight file of this server (GET /model/NAME gives it); a MONAI bundle, as a folder or ZIP file; a
PyTorch file with the tensors of a network like the task's. Nothing in it is executed. The new version is kept and the
next training goes on from it if no other serves; with --serve it serves at once.
"""

from __future__ import annotations

from pathlib import Path

from scripts._record import app_parser, opened_app


def main(argv: list[str] | None = None) -> None:
    """Imports and says what matched."""
    options = app_parser("import_weights", __doc__)
    options.add_argument("source", type=Path, metavar="FILE", help="weights, or the folder of a bundle")
    options.add_argument("--label-map", default="", metavar="MAP", help="1=liver or Leber=liver for a bundle's classes")
    options.add_argument("--serve", action="store_true", help="let it make the drafts, though nobody measured it here")
    options.add_argument("--dry-run", action="store_true", help="only say what matches")
    chosen = options.parse_args(argv)

    from lib.errors import LabelRefineryError
    from lib.labels_folder import Meaning
    from lib.serving.importing import add_weights, read_weights

    record = opened_app(chosen).record
    task = record.task
    try:
        names = Meaning.read(chosen.label_map, task).names
        brought = read_weights(chosen.source.expanduser().absolute(), record, task, names)
        print(*brought.notes, sep="\n")
        if chosen.dry_run:
            return
        model = add_weights(record, brought, is_to_serve=chosen.serve)
    except LabelRefineryError as error:
        raise SystemExit(str(error)) from error
    print(f"Version {model.version} of {task.name} is {model.state}: {model.reason}.")
    if chosen.serve:
        print("Next: ./scripts/run and ask for a draft.")
    elif record.models.serving() is None:
        print(
            f"Next: store corrections and train; training goes on from it. Or POST /model/serve/{task.name}?version=N."
        )
    else:
        print(
            f"Another version serves; POST /model/serve/{task.name}?version={model.version} puts this one in its place."
        )


if __name__ == "__main__":
    main()
