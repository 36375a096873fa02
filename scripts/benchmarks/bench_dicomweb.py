"""How fast viewers get studies from this server and from Orthanc with its DICOMweb plugin, asked in turn in one run.

Both hold the same files: several series of --shape, of which each round opens another one, and --series tiny ones for
the searches. Orthanc's own settings are Debian's defaults with a storage below a temporary folder; its path is found
by itself, and it is ended afterwards.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scripts.benchmarks.viewer import Study

ROUNDS, QUICK_ROUNDS = 7, 3
SERIES, QUICK_SERIES = 10_000, 1_000
SHAPE = "512,512,40"
WARM_UP = 2


def main(argv: list[str] | None = None) -> None:
    """Measures, prints a table, and one JSON object as the last line."""
    from scripts.benchmarks.common import Rows, parser, plain

    options = parser("bench_dicomweb", __doc__)
    options.add_argument("--series", type=int, help=f"tiny series to search in [{SERIES}]")
    options.add_argument("--shape", default=SHAPE, metavar="I,J,K", help="voxels of the large series [%(default)s]")
    chosen = options.parse_args(argv)
    series = chosen.series or (QUICK_SERIES if chosen.quick else SERIES)
    rounds = QUICK_ROUNDS if chosen.quick else ROUNDS
    key = {"series": series, "shape": chosen.shape, "seed": chosen.seed, "rounds": rounds}
    rows = Rows(chosen.out, "bench_dicomweb")
    row = rows.find(**key)
    if row is None:
        with tempfile.TemporaryDirectory() as folder:
            shape = tuple(int(edge) for edge in chosen.shape.split(","))
            row = {**key, "measured": measure(Path(folder), series, shape, rounds, chosen.seed)}
        rows.add(row)
    print(table(row["measured"]))
    print(json.dumps(plain(row)))


def measure(folder: Path, series: int, shape: tuple[int, ...], rounds: int, seed: int) -> dict[str, dict[str, float]]:
    """Median of the rounds for each kind of request, of both servers, with their ratio."""
    from tqdm import tqdm

    from scripts.benchmarks.common import served
    from scripts.benchmarks.orthanc import orthanc, orthanc_program, upload
    from scripts.benchmarks.viewer import KINDS, Viewer

    orthanc_program()
    large = [put_large(folder / "studies" / "large", shape, seed + number) for number in range(rounds + WARM_UP)]
    put_tiny(folder / "studies" / "tiny", series, seed)
    spent: dict[str, dict[str, list[float]]] = {kind: {"ours": [], "orthanc": []} for kind in KINDS}
    conf = {"labels": "a,b", "ahead": "0", "rescan": "0"}
    with served(folder / "studies", folder / "data", conf) as ours, orthanc(folder / "orthanc") as port:
        upload(port, tqdm(sorted((folder / "studies").rglob("*.dcm")), desc="upload to Orthanc", unit=" files"))
        viewers = {
            "ours": Viewer(ours.client.base_url.port or 0, "/dicomweb", series),
            "orthanc": Viewer(port, "/dicom-web", series),
        }
        ours.settle()
        for number, study in enumerate(tqdm(large, desc="rounds")):
            # Who comes second finds the machine warmer: they take turns.
            for name, viewer in list(viewers.items())[:: 1 if number % 2 else -1]:
                for kind, value in viewer.opened(study).items():
                    if number >= WARM_UP:
                        spent[kind][name].append(value)
    return compared(spent)


def compared(spent: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Medians of what both servers spent on each kind of request, with their ratio."""
    from scripts.benchmarks.common import percentile

    measured: dict[str, dict[str, float]] = {}
    for kind, by_server in spent.items():
        medians = {name: percentile(values, 0.5) for name, values in by_server.items()}
        measured[kind] = {**medians, "ratio": medians["ours"] / medians["orthanc"]}
    return measured


def put_large(folder: Path, shape: tuple[int, ...], seed: int) -> Study:
    """Writes a series of noise."""
    import numpy as np
    import pydicom

    from lib.phantoms.dicom_series import write_dicom_series
    from scripts.benchmarks.viewer import Study

    voxels = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    affine = np.diag([-0.5, -0.5, 5.0, 1.0])
    folder /= str(seed)
    series_uid = write_dicom_series(folder, voxels, affine, patient_id=f"large {seed}", seed=seed)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
    return Study(headers[0].StudyInstanceUID, series_uid, tuple(header.SOPInstanceUID for header in headers))


def put_tiny(folder: Path, series: int, seed: int) -> None:
    """Writes series of one small slice, CT and MR in turn, two in a study."""
    import numpy as np

    from lib.phantoms.dicom_series import write_dicom_series

    voxels = np.zeros((8, 8, 1), np.int16)
    modalities: tuple[Literal["CT", "MR"], ...] = ("CT", "MR")
    patterns = []
    for modality in modalities:
        write_dicom_series(folder / modality, voxels, np.eye(4), modality=modality, patient_id="tiny 00000", seed=seed)
        (path,) = (folder / modality).iterdir()
        patterns.append(path.read_bytes())
        path.unlink()
    for number in range(series):
        place = folder / f"{number // 100:03d}"
        place.mkdir(exist_ok=True)
        (place / f"{number:05d}.dcm").write_bytes(_numbered(patterns[number % 2], number))


def _numbered(content: bytes, number: int) -> bytes:
    """The same file with another patient, study, series and instance, whose names are as long as before."""
    from io import BytesIO

    import pydicom

    header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    names = {"PatientID": number // 2, "StudyInstanceUID": number // 2, "FrameOfReferenceUID": number // 2}
    for keyword, serial in {**names, "SeriesInstanceUID": number, "SOPInstanceUID": number}.items():
        old = str(header[keyword].value)
        content = content.replace(old.encode(), f"{old[:-5]}{serial:05d}".encode())
    return content


def table(measured: dict[str, dict[str, Any]]) -> str:
    """The medians as Markdown."""
    lines = ["| | this server | Orthanc | ratio |", "|---|---|---|---|"]
    for kind, row in measured.items():
        lines.append(f"| {kind} | {row['ours']:.1f} | {row['orthanc']:.1f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
