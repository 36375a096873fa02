"""Tasks whose label values are not 1, 2, 3 …, in clients that count names: what is shown is what is stored."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.testclient import TestClient

from lib.labels import voxels_per_structure
from lib.metrics.findings import findings
from lib.serving.inference import Drafted, Order
from lib.serving.loop import LabelingLoop
from lib.serving.renumbering import renumbered
from lib.serving.server import create_server, load_app
from lib.task import Structure, Task
from lib.volume import Volume, nifti_bytes
from tests.serving.conftest import APPS, Here
from tests.serving.places import CONF, put_label
from tests.serving.slicer import Slicer

TASKS = {
    "liver and spleen": {"liver": 1, "spleen": 5},
    "tumour": {"necrosis": 1, "edema": 2, "enhancing": 4},
    "from two": {"liver": 2, "spleen": 3},
    "largest first": {"spleen": 200, "vessel": 7, "liver": 3},
}
"""Label values by name; the grey values of the n-th structure lie around 100 n."""

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def grey(count: int) -> np.ndarray:
    """A drawn CT with so many blocks, the n-th of n voxels less than the one before along I."""
    voxels = np.full((44, 30, 16), -1000, np.int16)
    voxels[2:42, 2:28, 1:15] = 20
    for number in range(count):
        voxels[4 + 12 * number : 14 + 11 * number, 6:24, 3:13] = 100 * (number + 1)
    return voxels


def drafted(values: dict[str, int], order: Order) -> Drafted:
    """A draft that finds each block exactly."""
    mask = Volume(truth(values), AFFINE)
    counts = voxels_per_structure(mask.voxels, order.task.structures)
    return Drafted(
        nifti_bytes(mask), counts, findings(mask.voxels, mask.grid, order.task, "rule", is_measured=True), {}
    )


def structures(values: dict[str, int]) -> str:
    """A configuration whose rule finds the blocks by their grey values."""
    lines = ['modality = "CT"', "window_hu = [-160, 440]"]
    for number, (name, value) in enumerate(values.items(), start=1):
        lines += ["[[structures]]", f'name = "{name}"', f"value = {value}",
                  f"range_hu = [{100 * number - 40}, {100 * number + 40}]"]  # fmt: skip
    return "\n".join(lines)


@pytest.fixture(params=TASKS)
def values(request: pytest.FixtureRequest) -> dict[str, int]:
    """Label values by name, in the order of the configuration."""
    return TASKS[request.param]


@pytest.fixture
def open_numbered(tmp_path: Path) -> Iterator[Callable[[dict[str, int]], Here]]:
    """Opens a server for a task with these label values and two images."""
    opened: list[Here] = []

    def open_it(values: dict[str, int]) -> Here:
        studies, data = tmp_path / "studies", tmp_path / "data"
        studies.mkdir()
        (studies / "label-refinery.toml").write_text(structures(values))
        for number in range(2):
            (studies / f"c{number}.nii.gz").write_bytes(nifti_bytes(Volume(grey(len(values)), AFFINE)))
        conf = {key: text for key, text in CONF.items() if key != "labels"}
        app: LabelingLoop = load_app(APPS / "segmentation", str(studies), {**conf, "data": str(data)})
        app.drafting.compute = partial(drafted, values)
        app.look()
        client = TestClient(create_server(app), base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(Here(client, app, studies, data))
        return opened[-1]

    yield open_it
    for each in opened:
        each.client.close()
        each.app.record.close()


def truth(values: dict[str, int]) -> np.ndarray:
    """The blocks with the task's label values."""
    mask = np.zeros(grey(len(values)).shape, np.uint8)
    for number, value in enumerate(values.values(), start=1):
        mask[grey(len(values)) == 100 * number] = value
    return mask


def stored(here: Here, image_id: str, tag: str = "final") -> np.ndarray:
    """A mask in the record, which holds the task's values."""
    return here.app.library.mask(here.app.record.annotations.tagged(image_id, tag))


def shown(slicer: Slicer, values: dict[str, int]) -> np.ndarray:
    """What the segments on the screen mark, with the task's values of their names."""
    mask = np.zeros(slicer.image.voxels.shape, np.uint8)
    for name, voxels in slicer.segments.items():
        if voxels is not None:
            mask[voxels] = values[name]
    return mask


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii"])
def test_what_slicer_shows_of_a_draft_is_the_draft_and_comes_back_unchanged(
    open_numbered: Callable[..., Here], values: dict[str, int], tmp_path: Path, suffix: str
) -> None:
    here = open_numbered(values)
    slicer = Slicer(here.client, tmp_path / "cache")
    sample = slicer.next_sample()

    told = slicer.infer("segmentation", sample["id"], suffix)
    saved = slicer.submit(sample["id"])

    np.testing.assert_array_equal(shown(slicer, values), truth(values))
    assert told["label_names"] == {name: n for n, name in enumerate(sorted(values, key=lambda name: values[name]), 1)}
    assert saved.status_code == 200, saved.text
    np.testing.assert_array_equal(stored(here, sample["id"]), truth(values))


def test_the_original_label_of_the_next_sample_is_shown_as_it_is_stored(
    open_numbered: Callable[..., Here], values: dict[str, int], tmp_path: Path
) -> None:
    here = open_numbered(values)
    here.client.post("/infer/segmentation", params={"image": "c0", "output": "json"})
    slicer = Slicer(here.client, tmp_path / "cache")

    assert slicer.next_sample()["id"] == "c0"

    np.testing.assert_array_equal(shown(slicer, values), truth(values))
    assert slicer.submit("c0").status_code == 200
    np.testing.assert_array_equal(stored(here, "c0"), truth(values))


def test_a_draft_from_before_is_told_with_the_numbers_of_its_file(
    open_numbered: Callable[..., Here], values: dict[str, int], tmp_path: Path
) -> None:
    here = open_numbered(values)
    here.client.post("/infer/segmentation", params={"image": "c0", "output": "json"})
    earlier = here.app.record.annotations.tagged("c0", "original")
    here.app.record.annotations.note("c0", earlier.version, {**earlier.info, "params": {"label_names": values}})
    slicer = Slicer(here.client, tmp_path / "cache")

    slicer.next_sample()

    np.testing.assert_array_equal(shown(slicer, values), truth(values))


def test_a_label_that_is_downloaded_has_the_numbers_that_its_information_tells(
    open_numbered: Callable[..., Here], values: dict[str, int], tmp_path: Path
) -> None:
    here = open_numbered(values)
    slicer = Slicer(here.client, tmp_path / "cache")
    slicer.next_sample()
    # The segments stand in another order on the screen.
    slicer.segments = {name: truth(values) == value for name, value in reversed(values.items())}
    slicer.submit("c0")

    mask = slicer.label("c0", "final")
    told = here.client.get("/datastore/?output=all").json()["objects"]["c0"]["labels"]["final"]["info"]["label_info"]

    assert told == here.client.get("/datastore/label/info?label=c0&tag=final").json()["label_info"]
    for entry in told:
        np.testing.assert_array_equal(mask == entry["idx"], truth(values) == values[entry["name"]])


def test_what_the_server_says_of_its_models_has_the_numbers_of_their_masks(
    open_numbered: Callable[..., Here], values: dict[str, int]
) -> None:
    info = open_numbered(values).client.get("/info/").json()

    in_order = sorted(values, key=lambda name: values[name])
    positions = {name: position for position, name in enumerate(in_order, start=1)}
    assert info["labels"] == in_order
    assert [model["labels"] for model in info["models"].values()] == [positions, positions]
    assert [trainer["labels"] for trainer in info["trainers"].values()] == [positions, positions]


def test_what_is_no_form_of_monai_labels_keeps_the_tasks_values(
    open_numbered: Callable[..., Here], values: dict[str, int]
) -> None:
    here = open_numbered(values)
    put_label(here.client, "c0", nifti_bytes(Volume(truth(values), AFFINE)), label_info=[])

    latest = here.client.get("/annotations/latest", params={"image": "c0"}).content
    archive = zipfile.ZipFile(io.BytesIO(here.client.get("/datastore/dataset").content))
    told = json.loads(archive.read("metadata.json"))

    for content in (latest, archive.read("label/c0.nii.gz")):
        read: Any = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        np.testing.assert_array_equal(np.asarray(read.dataobj), truth(values))
    assert told["structures"] == dict(sorted(values.items(), key=lambda each: each[1]))


def test_without_label_info_the_tasks_values_are_meant(
    open_numbered: Callable[..., Here], values: dict[str, int]
) -> None:
    here = open_numbered(values)

    put_label(here.client, "c0", nifti_bytes(Volume(truth(values), AFFINE)), label_info=[])

    np.testing.assert_array_equal(stored(here, "c0"), truth(values))


@pytest.mark.parametrize(
    ("values", "sent", "found"),
    [
        ({"liver": 2, "spleen": 3}, {2}, [2]),
        ({"liver": 1, "spleen": 5}, {1, 2}, [1, 2]),
        ({"necrosis": 1, "edema": 2, "enhancing": 4}, {1, 2, 3}, [1, 2, 3]),
        ({"liver": 1, "spleen": 3, "kidney": 2, "tumor": 5}, {4}, [4]),
        ({"spleen": 200, "vessel": 2, "liver": 3}, {2, 3}, [2, 3]),
    ],
)
def test_without_label_info_numbers_that_may_mean_two_things_are_refused_with_both(
    open_numbered: Callable[..., Here], values: dict[str, int], sent: set[int], found: list[int]
) -> None:
    here = open_numbered(values)
    mask = np.zeros(grey(1).shape, np.uint8)
    for number in sent:
        mask[number] = number
    content = nifti_bytes(Volume(mask, AFFINE))

    reply = here.client.put("/datastore/label", params={"image": "c0"}, files={"label": ("m.nii.gz", content)})

    detail = reply.json()["detail"]
    assert reply.status_code == 422
    in_order = sorted(values, key=lambda name: values[name])
    assert detail.startswith(
        f"The mask holds the label values {found}: the task's are {', '.join(f'{n}={values[n]}' for n in in_order)}, "
        "but masks are sent to clients with the structures numbered from 1 on."
    )
    # The remedy that it names is one.
    remedy = json.loads(detail.partition("they are ")[2].removesuffix("."))
    put_label(here.client, "c0", content, label_info=remedy)
    for number in sent:
        np.testing.assert_array_equal(stored(here, "c0") == values[in_order[number - 1]], mask == number)


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        ({"necrosis": 1, "edema": 2, "enhancing": 4}, {1, 2}),
        ({"necrosis": 1, "edema": 2, "enhancing": 4}, {2, 4}),
        ({"liver": 1, "spleen": 5}, {1}),
        ({"liver": 2, "spleen": 3}, {3}),
        ({"liver": 2, "spleen": 3}, set()),
        ({"liver": 1, "spleen": 2}, {2}),
    ],
)
def test_without_label_info_numbers_that_mean_one_thing_are_taken(
    open_numbered: Callable[..., Here], values: dict[str, int], sent: set[int]
) -> None:
    here = open_numbered(values)
    mask = np.zeros(grey(1).shape, np.uint8)
    for number in sent:
        mask[number] = number

    put_label(here.client, "c0", nifti_bytes(Volume(mask, AFFINE)), label_info=[])

    np.testing.assert_array_equal(stored(here, "c0"), mask)


def test_masks_of_several_stages_are_renumbered_like_one(tmp_path: Path) -> None:
    task = Task("t", "", tuple(Structure(name, value, (0, 0, 0)) for name, value in TASKS["largest first"].items()))
    stages = np.random.default_rng(0).choice([0, 3, 7, 200], (4, 3, 2, 5)).astype(np.uint8)
    (tmp_path / "stages.nii.gz").write_bytes(nifti_bytes(Volume(stages, AFFINE)))

    read: Any = nib.Nifti1Image.from_bytes(gzip.decompress(renumbered(tmp_path / "stages.nii.gz", task)))

    np.testing.assert_array_equal(
        np.asarray(read.dataobj), np.select([stages == 3, stages == 7, stages == 200], [1, 2, 3])
    )
    np.testing.assert_array_equal(read.affine, AFFINE)


def test_a_task_numbered_from_one_sends_the_stored_file_itself(here: Here) -> None:
    saved = put_label(here.client, "case_00", nifti_bytes(Volume(np.zeros((24, 20, 16), np.uint8), np.eye(4))))
    annotation = here.app.record.annotations.tagged("case_00", saved["tag"])

    sent = here.client.get("/datastore/label", params={"label": "case_00", "tag": "final"}).content

    assert sent == here.app.record.mask_file(annotation).read_bytes()


@pytest.mark.parametrize("said", [[], [{"name": "background", "idx": 0}], [{"name": "background", "idx": 7}]])
def test_who_names_only_what_is_no_structure_has_said_as_little(
    open_numbered: Callable[..., Here], said: list[dict[str, Any]]
) -> None:
    here = open_numbered({"liver": 2, "spleen": 3})
    mask = np.zeros(grey(1).shape, np.uint8)
    mask[2], mask[4] = 2, 7 if said and said[0]["idx"] else 0

    reply = here.client.put(
        "/datastore/label",
        params={"image": "c0"},
        files={"label": ("m.nii.gz", nifti_bytes(Volume(mask, AFFINE)))},
        data={"params": json.dumps({"label_info": said})},
    )

    assert reply.status_code == 422
    assert "masks are sent to clients with the structures numbered from 1 on" in reply.json()["detail"]
