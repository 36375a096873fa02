"""``/ohif``: the viewer that comes inside the monailabel wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from string import Template

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from lib.errors import NotFound
from lib.serving.routes.dicomweb import PREFIX

router = APIRouter(prefix="/ohif", tags=["Viewer"])

CONFIG = Template("""window.config = {
  routerBasename: '/ohif/',
  showStudyList: true,
  extensions: [], modes: [], customizationService: {},
  investigationalUseDialog: { option: 'never' },
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: true,
  showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true,
  useSharedArrayBuffer: 'FALSE',
  disableConfirmationPrompts: true,
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Label Refinery', name: 'dicomweb',
      qidoRoot: '$root', wadoRoot: '$root', wadoUriRoot: '$root',
      qidoSupportsIncludeField: true, supportsReject: false, supportsStow: true,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, dicomUploadEnabled: false,
      omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
""")
"""What OHIF reads first: where the studies are, and that a segmentation opens without a question."""


def viewer_folder() -> Path:
    """Where monailabel keeps its OHIF build."""
    spec = find_spec("monailabel")
    if spec is None or spec.origin is None:
        raise NotFound("monailabel is not installed, so there is no viewer.")
    return Path(spec.origin).parent / "endpoints" / "static" / "ohif"


@router.get("/{path:path}", include_in_schema=False)
def ohif(path: str) -> Response:
    """A file of the viewer; its own pages are all drawn by ``index.html``, and its settings are ours."""
    if path == "app-config.js":
        return Response(CONFIG.substitute(root=PREFIX), media_type="text/javascript")
    folder = viewer_folder().resolve()
    wanted = _file_below(folder, path) or folder / "index.html"
    if not wanted.is_file():
        raise NotFound("This installation of monailabel has no OHIF build.")
    return FileResponse(wanted)


def _file_below(folder: Path, path: str) -> Path | None:
    try:
        wanted = (folder / path).resolve()
        return wanted if wanted.is_relative_to(folder) and wanted.is_file() else None
    # No file can have such a name: it holds a zero byte, or is too long.
    except (ValueError, OSError):
        return None
