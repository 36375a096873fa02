"""All that MONAI Label's own Python client can ask, over HTTP; 3D Slicer uses this class."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.serving.places import LABEL_INFO, STRUCTURES, Server, image_bytes, mask_bytes, until

with warnings.catch_warnings():
    # The client still uses Python's cgi module.
    warnings.simplefilter("ignore", DeprecationWarning)
    from monailabel.client.client import MONAILabelClient

MODEL = "segmentation"
BATCH = {"device": "cpu", "multi_gpu": True, "gpus": "all", "max_workers": 1, "max_batch_size": 0}
"""What stock MONAI Label's page proposes for a batch."""


def loaded(path: str | Path) -> nib.Nifti1Image:
    return nib.load(path)  # type: ignore[attr-defined,no-any-return]


# The client leaves files and sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_all_seventeen_steps_of_the_client_work(running: Server, tmp_path: Path) -> None:
    client = MONAILabelClient(running.address, tmpdir=str(tmp_path), client_id="dr.kim")
    image_file, label_file = tmp_path / "brain.nii.gz", tmp_path / "brain.label.nii.gz"
    image_file.write_bytes(image_bytes(20))
    label_file.write_bytes(mask_bytes(20))

    # info
    info = client.info()
    assert info["models"][MODEL]["labels"] == {"Anterior": 1, "Posterior": 2}
    assert info["models"][MODEL]["config"]["ready"] is False

    # train status when nothing ran
    assert client.train_status()["status"] == "IDLE"
    assert client.train_status(check_if_running=True) is False
    assert client.train_stop() is None

    # next sample
    first = client.next_sample("first", {})
    assert Path(first["path"]).name == "case_00.nii.gz"

    # upload image
    assert client.upload_image(str(image_file), "uploaded/brain") == {"image": "uploaded/brain"}

    # save label, download label
    saved = client.save_label("uploaded/brain", str(label_file), params={"label_info": LABEL_INFO})
    assert (saved["image"], saved["label"], saved["author"]) == ("uploaded/brain", "uploaded/brain", "dr.kim")
    downloaded, sent = loaded(client.download_label("uploaded/brain", "final")), loaded(label_file)
    np.testing.assert_array_equal(np.asarray(downloaded.dataobj), np.asarray(sent.dataobj))
    np.testing.assert_array_equal(downloaded.affine, sent.affine)

    # datastore
    assert client.datastore()["objects"]["uploaded/brain"]["labels"]["final"]["info"]["client_id"] == "dr.kim"

    # train: start, status while running, stop
    for number in range(3):
        running.submit(f"case_{number:02d}", number)
    assert client.train_start(MODEL, {"seconds": 60})["status"] in ("SUBMITTED", "RUNNING")
    until(lambda: client.train_status()["status"] == "RUNNING", what="the training")
    assert client.train_status(check_if_running=True) is True
    stopped = client.train_stop()
    assert stopped["status"] == "STOPPED"
    assert stopped["details"]
    until(lambda: not client.train_status(check_if_running=True), what="the stop")
    client.train_start(MODEL, {"seconds": 2})
    done = running.ended()
    assert done["status"] == "DONE", done
    stats = client.info()["train_stats"][MODEL]
    assert stats["total_epochs"] >= stats["epoch"] >= 1
    assert stats["total_time"].count(":") == 2

    # infer by id, by file, by session; session create, get, remove
    by_id, params = client.infer(MODEL, "case_05", {})
    assert params["label_names"] == {"Anterior": 1, "Posterior": 2}
    assert loaded(by_id).shape == (24, 20, 16)
    by_file, params = client.infer(MODEL, "", {}, file=str(image_file))
    assert params["stored"] is False
    session = client.create_session(str(image_file))["session_id"]
    assert client.get_session(session)["name"] == session
    by_session, _ = client.infer(MODEL, "", {}, session_id=session)
    np.testing.assert_array_equal(np.asarray(loaded(by_session).dataobj), np.asarray(loaded(by_file).dataobj))
    np.testing.assert_array_equal(loaded(by_session).affine, sent.affine)
    assert client.remove_session(session)["name"] == session
    with pytest.raises(Exception, match="There is no session"):
        client.get_session(session)

    # batch infer on the CPU
    running.post(f"/batch/infer/{MODEL}", BATCH, images="unlabeled")
    batch = running.ended("/batch/infer")
    assert batch["status"] == "DONE"
    assert all("version" in drafted for drafted in batch["result"]["images"].values())

    # scoring
    client.infer(MODEL, "case_00", {})
    running.post("/scoring/dice", {})
    scored = running.ended("/scoring/")
    assert scored["status"] == "DONE"
    assert set(scored["result"]["images"]["case_00"]) == set(STRUCTURES)
