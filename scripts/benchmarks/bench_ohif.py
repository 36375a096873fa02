"""How soon OHIF shows a study, from this server and from Orthanc with its DICOMweb plugin, asked in turn in one run.

The same build of OHIF, which this server serves, opens series of --shape, each once from the one and the other; its own
files are in the browser's cache by then. Orthanc is another host to a browser: the page is given its address, and the
browser does not ask whether hosts trust each other.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ROUNDS, QUICK_ROUNDS = 9, 5
SHAPE = "512,512,40"
WARM_UP = 2

CHROMIUM = "--headless=new --no-sandbox --disable-gpu --enable-unsafe-swiftshader --use-gl=swiftshader".split()
"""Drawn by the CPU; as root Chromium starts without its sandbox only."""

WINDOW = {"width": 1180, "height": 720}

PATIENCE_MS = 120_000
"""A busy machine draws slowly."""

ANOTHER_ROOT = """
Object.defineProperty(window, 'config', {
    get: () => window.settings,
    set: settings => {
        Object.assign(settings.dataSources[0].configuration, { qidoRoot: 'ROOT', wadoRoot: 'ROOT' });
        window.settings = settings;
    },
});
"""
"""Lets OHIF ask another server."""

NOTE_FIRST_IMAGE = """
document.addEventListener('CORNERSTONE_IMAGE_RENDERED', ({ detail }) => {
    const canvas = detail.element.querySelector('canvas');
    const row = canvas.getContext('2d').getImageData(0, canvas.height >> 1, canvas.width, 1).data;
    if (!window.shown && row.some((value, place) => value > 0 && place % 4 < 3)) {
        window.shown = performance.now();
    }
}, true);
"""
"""Notes when the first picture that is not black is drawn, in ms from navigation on."""

ASKED = "performance.getEntriesByType('resource').filter(one => /dicom-?web\\/studies/.test(one.name))"
FRAMES = f"{ASKED}.filter(one => one.responseEnd && one.name.includes('/frames/'))"
TIMES = f"""() => {{
    const asked = {ASKED}[0].startTime, last = Math.max(...{FRAMES}.map(one => one.responseEnd));
    return {{
        'from navigation to the first image (ms)': window.shown,
        'from the first question for the study to the first image (ms)': window.shown - asked,
        'from the first question to the last slice (ms)': last - asked,
    }};
}}"""


def main(argv: list[str] | None = None) -> None:
    """Measures, prints a table, and one JSON object as the last line."""
    from scripts.benchmarks.bench_dicomweb import table
    from scripts.benchmarks.common import Rows, parser, plain

    options = parser("bench_ohif", __doc__)
    options.add_argument("--shape", default=SHAPE, metavar="I,J,K", help="voxels of the series [%(default)s]")
    chosen = options.parse_args(argv)
    rounds = QUICK_ROUNDS if chosen.quick else ROUNDS
    key = {"shape": chosen.shape, "seed": chosen.seed, "rounds": rounds}
    rows = Rows(chosen.out, "bench_ohif")
    row = rows.find(**key)
    if row is None:
        with tempfile.TemporaryDirectory() as folder:
            shape = tuple(int(edge) for edge in chosen.shape.split(","))
            row = {**key, "measured": measure(Path(folder), shape, rounds, chosen.seed)}
        rows.add(row)
    print(table(row["measured"]))
    print(json.dumps(plain(row)))


def measure(folder: Path, shape: tuple[int, ...], rounds: int, seed: int) -> dict[str, dict[str, float]]:
    """Median of the rounds for each time, of both servers, with their ratio."""
    from playwright.sync_api import sync_playwright
    from tqdm import tqdm

    from scripts.benchmarks.bench_dicomweb import compared, put_large
    from scripts.benchmarks.common import served
    from scripts.benchmarks.orthanc import orthanc, upload

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is needed: apt-get install chromium.")
    large = [put_large(folder / "studies", shape, seed + number) for number in range(rounds + WARM_UP)]
    spent: dict[str, dict[str, list[float]]] = {}
    conf = {"labels": "a,b", "ahead": "0", "rescan": "0"}
    with (
        served(folder / "studies", folder / "data", conf) as ours,
        orthanc(folder / "orthanc") as port,
        sync_playwright() as playwright,
    ):
        upload(port, sorted((folder / "studies").rglob("*.dcm")))
        ours.settle()
        browser = playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM, "--disable-web-security"])
        people = {name: browser.new_context(viewport=WINDOW, bypass_csp=True) for name in ("ours", "orthanc")}
        people["orthanc"].add_init_script(ANOTHER_ROOT.replace("ROOT", f"http://127.0.0.1:{port}/dicom-web"))
        for number, study in enumerate(tqdm(large, desc="rounds")):
            address = f"{ours.client.base_url}/ohif/segmentation?StudyInstanceUIDs={study.study_uid}"
            # Who comes second finds the machine warmer: they take turns.
            for name, person in list(people.items())[:: 1 if number % 2 else -1]:
                for kind, value in opened(person, address, shape[2]).items():
                    if number >= WARM_UP:
                        spent.setdefault(kind, {"ours": [], "orthanc": []})[name].append(value)
        browser.close()
    return compared(spent)


def opened(person: BrowserContext, address: str, slices: int) -> dict[str, float]:
    """Opens a study in a new tab; milliseconds by what is timed."""
    page = person.new_page()
    page.add_init_script(NOTE_FIRST_IMAGE)
    page.goto(address)
    page.wait_for_function(f"() => window.shown && {FRAMES}.length >= {slices}", timeout=PATIENCE_MS)
    times: dict[str, float] = page.evaluate(TIMES)
    page.close()
    return times


if __name__ == "__main__":
    main()
