"""Draws what the serving refiner makes of drafts: each image with its draft, every stage and the expert's outline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scripts._record import app_parser, opened_app

if TYPE_CHECKING:
    from lib.refinement.refine import Refiner
    from lib.serving.library import Library
    from scripts.evaluation.stages import Refined


def main(argv: list[str] | None = None) -> None:
    """Refines, draws, and says where the picture is."""
    options = app_parser("show_refinement", __doc__)
    options.add_argument(
        "--image", action="append", required=True, metavar="ID", help="a row of the picture; repeatable"
    )
    options.add_argument("--stages", type=int, metavar="K", help="at most so many [as many as the server does]")
    options.add_argument("--out", type=Path, default=Path("refinement.png"), help="the picture [%(default)s]")
    chosen = options.parse_args(argv)
    if chosen.stages is not None and chosen.stages < 1:
        options.error(f"--stages is a number from 1 on, found {chosen.stages}.")

    from lib.errors import LabelRefineryError
    from lib.refinement.refine import STAGES, Refiner
    from lib.serving.inference import device
    from lib.serving.learning import checkpoint_of
    from scripts.evaluation.stages import draw_stages

    library = opened_app(chosen)
    record = library.record
    serving = record.refiners.serving()
    if serving is None:
        raise SystemExit(f"No refiner serves yet in {library.data}; it learns from drafts that experts corrected.")
    refiner = Refiner(checkpoint_of(record, serving), device())
    try:
        rows = [refined(library, refiner, image, chosen.stages or STAGES) for image in chosen.image]
    except LabelRefineryError as error:
        raise SystemExit(str(error)) from error
    chosen.out.write_bytes(draw_stages(rows, record.task.window_hu))
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    print(f"Wrote {chosen.out}: {images} by version {serving.version} of the refiner.")


def refined(library: Library, refiner: Refiner, image_id: str, stages: int) -> Refined:
    """An image with its last draft before the expert's version, and what the refiner makes of that.

    Of the expert's mask only the structures are shown that the draft's author looked at.

    Raises:
        UnknownImage, UnreadableImage: if it cannot be read.
        UnknownAnnotation: if it has no draft.
    """
    import numpy as np

    from lib.errors import UnknownAnnotation
    from lib.stages import Stage, in_force
    from scripts.evaluation.stages import Refined

    image = library.readable(image_id)
    versions = [one for one in in_force(library.record.annotations.history(image_id)) if one.mask is not None]
    expert = next((one for one in reversed(versions) if one.stage is Stage.EXPERT), None)
    before = [one for one in versions if expert is None or one.version < expert.version]
    draft = next((one for one in reversed(before) if one.stage is Stage.DRAFT), None)
    if draft is None:
        raise UnknownAnnotation(f"{image_id!r} has no draft from before the expert's version; infer or store one.")
    volume, values = library.volume(image), library.record.task.values
    looked_at = [values[name] for name in draft.looked_at]
    found = refiner.refine(volume, library.mask(draft), stages, looked_at=looked_at)
    masks = {f"draft v{draft.version}, {draft.author}": found.draft}
    masks |= {f"stage {number}": mask for number, mask in enumerate(found.stages, start=1)}
    if found.kept:
        masks[f"taken, as\n{found.kept}"] = found.mask
    truth = library.mask(expert) if expert is not None else None
    return Refined(image_id, volume, masks, truth if truth is None else truth * np.isin(truth, looked_at))


if __name__ == "__main__":
    main()
