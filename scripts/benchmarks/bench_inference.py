"""How long a draft of a full-size image takes and where the time goes: a head CT and a mammogram.

Each is a phantom in a file, drafted by the app's rule and by a fresh network of the plan that its training would
make, in a process as the server's; the rule's draft is then refined by a fresh refiner. The second time is told: the
first one warms up.
"""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path
from typing import Any

THREADS = (1, 2)
IMAGES = ("hemorrhage", "mass")


def main(argv: list[str] | None = None) -> None:
    """Measures every image with one and two threads and prints one JSON object as the last line."""
    from tqdm import tqdm

    from scripts.benchmarks.common import apart, parser

    chosen = parser("bench_inference", __doc__).parse_args(argv)
    runs = [(image, threads) for image in IMAGES for threads in THREADS]
    # A process of its own: the peak of memory is that of one image, drafted as the server does.
    rows = [apart(measured, image, threads, chosen.seed) for image, threads in tqdm(runs, desc="images")]
    print(json.dumps({"drafts": rows}))


def measured(image: str, threads: int, seed: int) -> dict[str, Any]:
    """Seconds of each step of the second draft, by rule and by network, and the most memory that was used."""
    import torch

    from lib.networks.checkpoint import Checkpoint
    from lib.networks.segmenter import seeded_network
    from lib.preprocessing import body_grid, plan_for
    from lib.refinement.plan import refiner_plan
    from lib.serving.inference import Draftsman, Order, RoughMask
    from lib.store.images import ImageKind
    from lib.volume import read_volume
    from scripts.benchmarks.common import apart, task_of

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        path, draft = Path(folder) / "image.nii.gz", Path(folder) / "draft.nii.gz"
        apart(draw, image, seed, path)
        task = task_of(image)
        volume = read_volume(path)
        grids = [body_grid(volume, task)]
        plan = plan_for(task, grids)
        weights = {"network": plan, "refiner": refiner_plan(task, grids)}
        for name, made_by in weights.items():
            content = Checkpoint(made_by, seeded_network(made_by, seed).state_dict()).to_bytes()
            (Path(folder) / name).write_bytes(content)
        rough = RoughMask(draft, tuple(task.values))
        seconds = {}
        for name in ("rule", *weights):
            file = Path(folder) / name if name in weights else None
            asked = rough if name == "refiner" else None
            draftsman, order = Draftsman(), Order(image, ImageKind.FILE, (path,), task, file, rough=asked)
            drafted = draftsman.draft(order)
            if name == "rule":
                draft.write_bytes(drafted.content)
            seconds[name] = draftsman.draft(order).seconds
    peak_mib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    spacing_mm = [round(edge, 3) for edge in plan.spacing_mm]
    return {
        "image": image, "voxels": volume.grid.shape, "network_mm": spacing_mm, "patch": plan.patch, "threads": threads,
        **seconds, "peak_mib": peak_mib,
    }  # fmt: skip


def draw(image: str, seed: int, path: Path) -> None:
    """Draws an image in full size and writes it."""
    from dataclasses import replace

    from lib.phantoms import breast, head
    from lib.volume import Volume, write_volume

    if image == "mass":
        phantom = breast.draw_mammogram(replace(breast.random_parameters(seed), shape=(2560, 3328)))
    else:
        parameters = head.random_parameters(seed, ("IPH", "SDH"))
        phantom = head.draw_head(replace(parameters, shape=(512, 512, 32), spacing_mm=(0.47, 0.47, 5.0)))
    write_volume(path, Volume(phantom.image, phantom.affine))


if __name__ == "__main__":
    main()
