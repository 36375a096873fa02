"""The server answers while a network computes."""

from __future__ import annotations

import http.client
import select

import numpy as np

from lib.volume import Volume, nifti_bytes
from tests.serving.places import Server

EDGE = 96


def form(content: bytes) -> tuple[bytes, str]:
    """A multipart form with one file."""
    head = b'--end\r\ncontent-disposition: form-data; name="file"; filename="large.nii"\r\n\r\n'
    return head + content + b"\r\n--end--\r\n", "multipart/form-data; boundary=end"


def test_info_is_answered_many_times_before_a_large_volume_is_drafted(running: Server, weights: bytes) -> None:
    files = {"file": ("model.pt", weights)}
    assert running.client.put("/model/segmentation", files=files).status_code == 200
    noise = np.random.default_rng(0).normal(50, 20, (EDGE, EDGE, EDGE)).astype(np.float32)
    body, content_type = form(nifti_bytes(Volume(noise, np.eye(4)), compressed=False))
    connection = http.client.HTTPConnection("127.0.0.1", running.client.base_url.port, timeout=300)
    connection.request("POST", "/infer/segmentation?output=json", body, {"content-type": content_type})

    answered = 0
    while not select.select([connection.sock], [], [], 0)[0]:
        assert running.get("/info/")["name"] == "Label Refinery: segmentation"
        answered += 1

    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    assert answered >= 10
    connection.close()
