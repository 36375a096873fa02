"""A process that writes to the record until it is killed; ``bench_kill`` starts it.

Each line it prints is an annotation that is safe by promise: image, version and mask digest.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

THREADS = 4
IMAGES = 6


def main(data: Path, seed: int) -> None:
    """Opens (and migrates) the record and stores masks from several threads, for ever."""
    import numpy as np

    from lib.stages import Role, Stage
    from lib.store.annotations import NewAnnotation
    from lib.store.images import ImageKind, NewImage
    from lib.store.record import open_record
    from lib.task import Task, numbered
    from lib.volume import Grid

    record = open_record(Task("kill", "", numbered(["anterior", "posterior"])), data)
    grid = Grid((8, 8, 8), np.eye(4))
    for number in range(IMAGES):
        name = f"image_{number}"
        record.images.put(NewImage(name, ImageKind.FILE, f"{name}.nii", grid, "MR", name))
    printing = threading.Lock()

    def store(thread: int) -> None:
        random = np.random.default_rng([seed, thread])
        while True:
            digest = record.masks.put(random.bytes(int(random.integers(100, 20_000))))
            image = f"image_{random.integers(IMAGES)}"
            looked_at = tuple(record.task.values)
            new = NewAnnotation(image, Stage.EXPERT, f"author {thread}", Role.EXPERT, digest, looked_at, {})
            added = record.annotations.add(new)
            with printing:
                sys.stdout.write(f"{image} {added.version} {digest}\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
