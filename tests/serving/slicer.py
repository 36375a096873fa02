"""What 3D Slicer's MONAI Label module does with names, numbers and files, written down from how it behaves."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from lib.volume import Volume, read_volume, write_volume

LOADED = (".nii.gz", ".nii", ".nrrd", ".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
"""Ends of names by which a volume's reader is found."""


class Slicer:
    """One computer with 3D Slicer, without the server's disks: its cache, and the segments on its screen.

    Attributes:
        client: speaks with a server; may be exchanged for another server's.
        segments: bool (I, J, K) by name, in the order of the list; ``None``: empty.
        image: the volume on the screen.
        names: of volumes on the screen, by image id.
    """

    def __init__(self, client: Any, cache: Path) -> None:
        self.client = client
        self.cache = cache
        self.segments: dict[str, np.ndarray | None] = {}
        self.image: Volume
        self.names: dict[str, str] = {}
        cache.mkdir(exist_ok=True)

    def next_sample(self, **params: Any) -> dict[str, Any]:
        """Closes the scene and opens the next image, and its original label if there is one."""
        sample: dict[str, Any] = self._json("POST", "/activelearning/first", json={"client_id": "kim", **params})
        self.image = read_volume(self._downloaded(sample))
        self.names[sample["id"]] = str(sample.get("PatientID") or sample.get("name", sample["id"]))[-20:]
        self.segments = {}
        labels = self._json("GET", "/datastore/", params={"output": "all"})["objects"][sample["id"]]["labels"]
        if "original" in labels:
            # The keys as they stand there, whatever numbers stand beside them.
            names = list(labels["original"]["info"]["params"]["label_names"])
            self.show(self.label(sample["id"], "original"), names)
        for name in self._json("GET", "/info/")["labels"]:
            self.segments.setdefault(name, None)
        return sample

    def _downloaded(self, sample: dict[str, Any]) -> Path:
        """The image by its name in the cache, unless the checksum tells that it is another one."""
        path = self.cache / sample["name"]
        assert path.parent == self.cache and path.name.endswith(LOADED), f"{sample['name']} opens nothing"
        algorithm, _, digest = (sample.get("checksum") or "").partition(":")

        def is_right() -> bool:
            return not digest or hashlib.new(algorithm.lower(), path.read_bytes()).hexdigest() == digest

        if not path.exists() or not is_right():
            reply = self.client.get("/datastore/image", params={"image": sample["id"]})
            assert reply.status_code == 200, reply.text
            path.write_bytes(reply.content)
            assert is_right(), "the checksum is not that of what was sent"
        return path

    def infer(self, model: str, image_id: str, suffix: str = ".nrrd") -> dict[str, Any]:
        """Runs a model and shows what it found; returns the parameters of the reply."""
        params = {"client_id": "kim", "result_extension": suffix}
        ask = {"params": {"image": image_id}, "data": {"params": json.dumps(params)}}
        told = self._json("POST", f"/infer/{model}", **{**ask, "params": {"image": image_id, "output": "json"}})
        content = self._sent("POST", f"/infer/{model}", **{**ask, "params": {"image": image_id, "output": "image"}})
        names: dict[str, int] = told["label_names"]
        self.show(_voxels(content, suffix), sorted(names, key=lambda name: names[name]))
        return dict(told)

    def label(self, image_id: str, tag: str) -> np.ndarray:
        """A label as the client downloads it."""
        return _voxels(self._sent("GET", "/datastore/label", params={"label": image_id, "tag": tag}), ".nii.gz")

    def show(self, mask: np.ndarray, names: list[str]) -> None:
        """Gives the n-th name the voxels of value n."""
        for value, name in enumerate((name for name in names if name != "background"), start=1):
            self.segments[name] = mask == value

    def submit(self, image_id: str, suffix: str = ".nii.gz") -> Any:
        """Sends the segments, numbered by their position."""
        mask = np.zeros(self.image.voxels.shape, np.uint8)
        for value, voxels in enumerate(self.segments.values(), start=1):
            if voxels is not None:
                mask[voxels] = value
        info = [{"name": name, "idx": value} for value, name in enumerate(self.segments, start=1)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"tmp{suffix}"
            write_volume(path, Volume(mask, self.image.affine))
            return self.client.put(
                "/datastore/label",
                params={"image": image_id},
                files={"label": (str(path), path.read_bytes())},
                data={"params": json.dumps({"label_info": info, "client_id": "kim"})},
            )

    def _json(self, method: str, path: str, **about: Any) -> Any:
        reply = self.client.request(method, path, **about)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def _sent(self, method: str, path: str, **about: Any) -> bytes:
        reply = self.client.request(method, path, **about)
        assert reply.status_code == 200, reply.text
        return bytes(reply.content)


def _voxels(content: bytes, suffix: str) -> np.ndarray:
    """A mask as SimpleITK reads it, with which the module does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mask{suffix}"
        path.write_bytes(content)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
