"""How long GET /info/ takes while the server drafts large volumes, and how long when it has nothing to do.

Last it is asked while one model drafts, one trains, and eight clients save labels. The volumes are images of the data
set, repeated until they have --edge voxels along each axis. Without --server the benchmark starts one and trains a
small model first, so that there is something to compute.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROUNDS, QUICK_ROUNDS = 5, 2
IDLE_REQUESTS, QUICK_IDLE_REQUESTS = 500, 200
SAVERS = 8
PAUSE_S = 0.01
"""Between two requests, as a browser that polls eagerly."""


def main(argv: list[str] | None = None) -> None:
    """Measures and prints one JSON object as the last line."""
    from scripts.benchmarks.common import ROOT, Rows, parser, plain

    options = parser("bench_latency", __doc__)
    options.add_argument("--server", metavar="URL", help="a running server with a model [one of its own]")
    options.add_argument("--edge", type=int, default=160, help="voxels along each axis [%(default)s]")
    chosen = options.parse_args(argv)

    from tqdm import tqdm

    images, labels = ROOT / "sample-data/segmentation", ROOT / "sample-data/segmentation-truth"
    if chosen.dataset:
        images, labels = chosen.dataset / "images", chosen.dataset / "labels"
    rounds, idle = (QUICK_ROUNDS, QUICK_IDLE_REQUESTS) if chosen.quick else (ROUNDS, IDLE_REQUESTS)
    rows = Rows(chosen.out, "bench_latency")
    key = {"edge": chosen.edge, "seed": chosen.seed, "rounds": rounds}
    row = rows.find(**key)
    if row is None:
        with _client(chosen.server, images, labels) as client, tqdm(total=rounds + 2, desc="rounds") as bar:
            waited_idle = [_timed(client) for _ in range(idle)]
            bar.update()
            drafted = []
            for number in range(rounds):
                drafted.append(_drafting(client, _large(images, chosen.edge, chosen.seed + number)))
                bar.update()
            with _savers_and_training(client, labels) as saved:
                loaded = _drafting(client, _large(images, chosen.edge, chosen.seed))[1]
            bar.update()
        row = {**key, **_summary(waited_idle, drafted), **_under_load(loaded, saved)}
        rows.add(row)
    print(json.dumps(plain(row)))


@contextmanager
def _client(server: str | None, images: Path, labels: Path) -> Iterator[Any]:
    """A client of a server that has a model."""
    import httpx

    from scripts.benchmarks.common import served

    if server:
        with httpx.Client(base_url=server, timeout=600) as client:
            yield client
        return
    names = ["liver", "spleen", "kidney"] if "sample-data" in images.parts else ["anterior", "posterior"]
    conf = {"labels": ",".join(names), "train_after": "0", "rescan": "0", "ahead": "0"}
    with tempfile.TemporaryDirectory() as folder, served(images, Path(folder), conf) as started:
        _train(started.client, labels)
        yield started.client


def _train(client: Any, labels: Path, cases: int = 4) -> None:
    import time

    for mask in sorted(labels.glob("*.nii.gz"))[:cases]:
        image = {"image": mask.name.removesuffix(".nii.gz")}
        client.put("/datastore/label", params=image, files={"label": mask.open("rb")}).raise_for_status()
    client.post("/train/segmentation", json={"seconds": 10}).raise_for_status()
    while client.get("/train/", params={"check_if_running": True}).status_code == 200:
        time.sleep(0.2)


def _large(images: Path, edge: int, number: int) -> bytes:
    """One image of the data set, mirrored at its borders until it is large enough, as a NIfTI file."""
    import nibabel as nib
    import numpy as np

    files = sorted(images.glob("*.nii.gz"))
    image = nib.load(files[number % len(files)])
    voxels = np.asarray(image.dataobj)
    voxels = np.pad(voxels, [(0, max(0, edge - size)) for size in voxels.shape], mode="symmetric")
    content: bytes = nib.Nifti1Image(voxels[:edge, :edge, :edge].astype(np.int16), image.affine).to_bytes()
    return content


def _timed(client: Any) -> float:
    import time

    begin = time.perf_counter()
    client.get("/info/").raise_for_status()
    return time.perf_counter() - begin


def _drafting(client: Any, content: bytes) -> tuple[float, list[float]]:
    """Seconds of one draft, and of each ``/info/`` that was asked for and answered meanwhile."""
    import threading
    import time

    import httpx

    spent: list[float] = []

    def draft() -> None:
        begin = time.perf_counter()
        files = {"file": ("large.nii", content)}
        with httpx.Client(base_url=client.base_url, timeout=600) as own:
            own.post("/infer/segmentation", params={"output": "json"}, files=files).raise_for_status()
        spent.append(time.perf_counter() - begin)

    thread = threading.Thread(target=draft)
    thread.start()
    waited = []
    while thread.is_alive():
        waited.append(_timed(client))
        time.sleep(PAUSE_S)
    thread.join()
    if not spent:
        raise SystemExit("The draft failed; the server's log says why.")
    return spent[0], waited


@contextmanager
def _savers_and_training(client: Any, labels: Path) -> Iterator[list[float]]:
    """Clients that save labels as fast as they are answered, and a training, while the block runs; seconds of saves."""
    import threading
    import time

    import httpx

    masks = sorted(labels.glob("*.nii.gz"))[:SAVERS]
    client.post("/train/segmentation", json={"seconds": 600}).raise_for_status()
    stop, spent = threading.Event(), []

    def save(mask: Path) -> None:
        content, image = mask.read_bytes(), {"image": mask.name.removesuffix(".nii.gz")}
        with httpx.Client(base_url=client.base_url, timeout=600) as own:
            while not stop.is_set():
                begin = time.perf_counter()
                files = {"label": ("label.nii.gz", content)}
                own.put("/datastore/label", params=image, files=files).raise_for_status()
                spent.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=save, args=(masks[number % len(masks)],)) for number in range(SAVERS)]
    for thread in threads:
        thread.start()
    yield spent
    stop.set()
    for thread in threads:
        thread.join()
    client.delete("/train/").raise_for_status()


def _under_load(waited: list[float], saved: list[float]) -> dict[str, float | int]:
    from scripts.benchmarks.common import percentile

    return {
        "info_under_load_p50_ms": round(1000 * percentile(waited, 0.5), 1),
        "info_under_load_p95_ms": round(1000 * percentile(waited, 0.95), 1),
        "saves_under_load": len(saved),
        "save_under_load_p95_ms": round(1000 * percentile(saved, 0.95), 1),
    }


def _summary(idle: list[float], drafted: list[tuple[float, list[float]]]) -> dict[str, float | int]:
    from scripts.benchmarks.common import percentile

    busy = [seconds for _, waited in drafted for seconds in waited]
    return {
        "info_idle_p50_ms": round(1000 * percentile(idle, 0.5), 1),
        "info_idle_p95_ms": round(1000 * percentile(idle, 0.95), 1),
        "info_while_inferring_p50_ms": round(1000 * percentile(busy, 0.5), 1),
        "info_while_inferring_p95_ms": round(1000 * percentile(busy, 0.95), 1),
        "info_while_inferring_max_ms": round(1000 * max(busy), 1),
        "info_while_inferring_requests": len(busy),
        "infer_s": round(percentile([seconds for seconds, _ in drafted], 0.5), 2),
    }


if __name__ == "__main__":
    main()
