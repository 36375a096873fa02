"""How fast the server answers when it holds many images: next case, save, counts, restart.

Tiny images (4x4x4), so that what is measured is the record and not the voxels. Each size gets its own server.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

SIZES = "100,1000,10000,100000"
ROUNDS = 100


def main(argv: list[str] | None = None) -> None:
    """Measures each size and prints one JSON object as the last line."""
    from scripts.benchmarks.common import Rows, parser, plain

    options = parser("bench_store", __doc__)
    options.add_argument("--sizes", default=SIZES, help="numbers of images [%(default)s]")
    chosen = options.parse_args(argv)
    sizes = [int(size) for size in chosen.sizes.split(",")]
    sizes = [size for size in sizes if size <= 10_000] if chosen.quick else sizes

    from tqdm import tqdm

    rows = Rows(chosen.out, "bench_store")
    for size in tqdm(sizes, desc="sizes"):
        if rows.find(images=size) is None:
            with tempfile.TemporaryDirectory() as folder:
                rows.add(measure(size, Path(folder)))
    print(json.dumps(plain({"sizes": [rows.find(images=size) for size in sizes]})))


def measure(size: int, folder: Path) -> dict[str, float]:
    """One row: first start, times of the requests in milliseconds, restart, memory."""
    import time

    import nibabel as nib
    import numpy as np

    from scripts.benchmarks.common import percentile, served

    studies, data = folder / "studies", folder / "data"
    content = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    for number in range(size):
        path = studies / f"{number // 1000:03d}" / f"image_{number:06d}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    conf = {"labels": "anterior,posterior", "train_after": "0", "rescan": "0", "patient": r"image_\d+"}
    spent: dict[str, list[float]] = {"next": [], "save": [], "stats": [], "info": []}
    with served(studies, data, conf) as first:
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            case = first.client.post("/activelearning/random", json={"client_id": "bench"}).json()
            spent["next"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            reply = first.client.put(
                "/datastore/label", params={"image": case["id"]}, files={"label": ("label.nii", content)}
            )
            reply.raise_for_status()
            spent["save"].append(time.perf_counter() - begin)
            for name, path in (("stats", "/datastore/"), ("info", "/info/")):
                begin = time.perf_counter()
                first.client.get(path).raise_for_status()
                spent[name].append(time.perf_counter() - begin)
        first_start_s = first.start_s
    with served(studies, data, conf) as again:
        restart_s, rss_mib = again.start_s, again.rss_mib
    row: dict[str, float] = {"images": size, "first_start_s": round(first_start_s, 1)}
    for name, values in spent.items():
        row[f"{name}_p50_ms"] = round(1000 * percentile(values, 0.5), 1)
        row[f"{name}_p95_ms"] = round(1000 * percentile(values, 0.95), 1)
    return {**row, "restart_s": round(restart_s, 1), "rss_mib": round(rss_mib)}


if __name__ == "__main__":
    main()
