"""How long a draft of a full-size image takes and where the time goes: a head CT and a mammogram.

Each is a phantom in a file, drafted by the app's rule and by a fresh network of the plan that its training would
make, in a process as the server's. The second draft is told: the first one warms up.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

THREADS = (1, 2)
IMAGES = ("hemorrhage", "mass")


def main(argv: list[str] | None = None) -> None:
    """Measures every image with one and two threads and prints one JSON object as the last line."""
    from scripts.benchmarks.common import parser

    options = parser("bench_inference", __doc__)
    options.add_argument("--one", nargs=2, metavar=("IMAGE", "THREADS"), help="only this, in this process")
    chosen = options.parse_args(argv)
    if chosen.one:
        print(json.dumps(measured(chosen.one[0], int(chosen.one[1]), chosen.seed)))
        return

    from tqdm import tqdm

    rows = []
    for image, threads in tqdm([(image, threads) for image in IMAGES for threads in THREADS], desc="images"):
        # A process of its own: the peak of memory is that of one image, drafted as the server does.
        command = [sys.executable, "-m", "scripts.benchmarks.bench_inference", "--one", image, str(threads)]
        done = subprocess.run([*command, "--seed", str(chosen.seed)], capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps({"drafts": rows}))


def measured(image: str, threads: int, seed: int) -> dict[str, Any]:
    """Seconds of each step of the second draft, by rule and by network, and the most memory that was used."""
    import torch

    from lib.networks.checkpoint import Checkpoint
    from lib.networks.segmenter import seeded_network
    from lib.preprocessing import body_grid, plan_for
    from lib.serving.inference import Draftsman, Order
    from lib.store.images import ImageKind
    from lib.volume import read_volume

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / "image.nii.gz", Path(folder) / "weights.pt"
        subprocess.run([sys.executable, "-c", DRAW[image].format(path=str(path), seed=seed)], check=True)
        task = task_of(image)
        volume = read_volume(path)
        plan = plan_for(task, [body_grid(volume, task)])
        weights.write_bytes(Checkpoint(plan, seeded_network(plan, seed).state_dict()).to_bytes())
        seconds = {}
        for name, file in (("rule", None), ("network", weights)):
            draftsman, order = Draftsman(), Order(image, ImageKind.FILE, (path,), task, file)
            draftsman.draft(order)
            seconds[name] = draftsman.draft(order).seconds
    peak_mib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    spacing_mm = [round(edge, 3) for edge in plan.spacing_mm]
    return {
        "image": image, "voxels": volume.grid.shape, "network_mm": spacing_mm, "patch": plan.patch, "threads": threads,
        **seconds, "peak_mib": peak_mib,
    }  # fmt: skip


def task_of(image: str) -> Any:
    """The app's task."""
    from importlib import util

    from scripts.benchmarks.common import ROOT

    spec = util.spec_from_file_location(f"apps_{image}", ROOT / "apps" / image / "main.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(value.TASK for name, value in vars(module).items() if name.endswith("App") and hasattr(value, "TASK"))


DRAW = {
    "hemorrhage": """
from pathlib import Path
from dataclasses import replace
from lib.phantoms.head import draw_head, random_parameters
from lib.volume import Volume, write_volume
parameters = replace(random_parameters({seed}, ("IPH", "SDH")), shape=(512, 512, 32), spacing_mm=(0.47, 0.47, 5.0))
phantom = draw_head(parameters)
write_volume(Path({path!r}), Volume(phantom.image, phantom.affine))
""",
    "mass": """
from pathlib import Path
from dataclasses import replace
from lib.phantoms.breast import draw_mammogram, random_parameters
from lib.volume import Volume, write_volume
parameters = replace(random_parameters({seed}), shape=(2560, 3328))
phantom = draw_mammogram(parameters)
write_volume(Path({path!r}), Volume(phantom.image, phantom.affine))
""",
}
"""Draws and writes an image; in another process, so that its memory does not count."""


if __name__ == "__main__":
    main()
