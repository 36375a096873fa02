// What the bar does with OHIF 3.12 by what that offers scripts on `window`: images, masks, segments, slices.

import { authorization } from './server.js';
import { state } from './state.js';
import { countsOf, fullestOf, placesOf, segmentsOf, taken } from './voxels.js';

export const LABELMAP = 'Labelmap';

export const dataSource = () => window.extensionManager.getActiveDataSource()[0];
export const activeViewport = () => window.services.viewportGridService.getActiveViewportId();
export const openMask = () => window.services.segmentationService.getActiveSegmentation(activeViewport());
const viewportOf = id => window.services.cornerstoneViewportService.getCornerstoneViewport(id);

// The ids of the masks in the active viewport that belong to the image there; of one before it some may be left.
export function masksInView() {
  const { segmentationService } = window.services;
  const found = segmentationService.getSegmentationRepresentations(activeViewport());
  const images = new Set(shownImage()?.imageIds);
  return [...new Set(found.filter(one => one.type === LABELMAP).map(one => one.segmentationId))].filter(id => {
    const [first] = segmentationService.getSegmentation(id)?.representationData.Labelmap?.imageIds ?? [];
    return images.has(window.cornerstone.cache.getImage(first)?.referencedImageId);
  });
}

// Whether somebody draws contours in the active viewport; what the server has is shown beside a mask of the same.
export const hasContours = () =>
  window.services.segmentationService.getSegmentationRepresentations(activeViewport()).some(
    one => one.type === 'Contour' && !seriesOf(one.segmentationId)
  );

// The image in the active viewport, also where it lies below a segmentation.
export function shownImage() {
  if (!window.commandsManager || !document.querySelector('.cornerstone-canvas')) {
    return null;
  }
  const { viewportGridService, displaySetService } = window.services;
  const [uid] = viewportGridService.getDisplaySetsUIDsForViewport(activeViewport()) ?? [];
  const displaySet = displaySetService.getDisplaySetByUID(uid);
  return displaySet?.isDerivedDisplaySet
    ? displaySetService.getDisplaySetByUID(displaySet.referencedDisplaySetInstanceUID)
    : displaySet;
}

export const keyOf = image => (image ? `${image.SeriesInstanceUID}/${image.instances?.[0]?.SOPInstanceUID}` : '');

// The series of a mask that OHIF loaded; empty for one that was begun here.
export const seriesOf = segmentationId =>
  window.services.displaySetService.getDisplaySetByUID(segmentationId)?.SeriesInstanceUID ?? '';

// The series of a mask as OHIF knows it; one that came after the study was opened is fetched.
export async function displaySetOf(studyUid, { series_uid: seriesUid, description, version }) {
  const { displaySetService } = window.services;
  if (!displaySetService.getDisplaySetsForSeries(seriesUid).length) {
    const source = dataSource();
    source.deleteStudyMetadataPromise(`${source.getConfig().name}:${studyUid}`);
    await source.retrieve.series.metadata({
      StudyInstanceUID: studyUid,
      filters: { seriesInstanceUID: [seriesUid] },
    });
  }
  const [displaySet] = displaySetService.getDisplaySetsForSeries(seriesUid);
  if (!displaySet) {
    throw new Error(`OHIF does not show version ${version}, ${description}.`);
  }
  const named = `${description} (v${version})`;
  if (displaySet.SeriesDescription !== named) {
    displaySet.SeriesDescription = named;
    // The list of series at the left is drawn anew.
    displaySetService._broadcastEvent(
      displaySetService.EVENTS.DISPLAY_SETS_CHANGED, displaySetService.getActiveDisplaySets()
    );
  }
  return displaySet;
}

export async function load({ study_uid: studyUid }, told) {
  try {
    const displaySet = await displaySetOf(studyUid, told);
    await displaySet.load({ headers: authorization() });
    return displaySet.displaySetInstanceUID;
  } catch (error) {
    throw new Error(`Version ${told.version} did not open (${error.message}). Press Versions, then Show or Restore.`);
  }
}

// An empty mask, so that the brush has something to draw on.
export function start(label = 'New') {
  const segments = Object.fromEntries(
    state.task.structures.map(({ name }, index) => [index + 1, { segmentIndex: index + 1, label: name }])
  );
  return window.services.segmentationService.createLabelmapForDisplaySet(shownImage(), { label, segments });
}

export const show = segmentationId =>
  window.services.segmentationService.addSegmentationRepresentation(
    activeViewport(), { segmentationId, type: LABELMAP }
  );

// OHIF reads the names in a DICOM object as if it knew no other letters than those of western Europe.
const misread = name => new TextDecoder('windows-1252').decode(new TextEncoder().encode(name)).trim();

export function lacksNames(segmentationId) {
  const labels = new Set(segmentsOf(segmentationId).map(one => one.label));
  return state.task.structures.some(({ name }) => !labels.has(name));
}

// Every structure of the task gets its segment and its colour: what is drawn must have the right name.
export function nameAll(segmentationId) {
  const { segmentationService } = window.services;
  for (const { name, colour } of state.task.structures) {
    const color = [...colour, 255];
    const segments = segmentsOf(segmentationId);
    const segment = segments.find(one => one.label === name) ?? segments.find(one => one.label === misread(name));
    if (segment && segment.label !== name) {
      segmentationService.setSegmentLabel(segmentationId, segment.segmentIndex, name);
    }
    if (segment) {
      segmentationService.setSegmentColor(activeViewport(), segmentationId, segment.segmentIndex, color);
    } else {
      segmentationService.addSegment(segmentationId, { label: name, color });
    }
  }
}

// The structure of which there is most is drawn next, and the slice with the most of the mask is shown.
export function choose(segmentationId) {
  const { voxels, onSlice } = countsOf(taken(segmentationId));
  const names = state.task.structures.map(({ name }) => name);
  const most = names.reduce((best, name) => ((voxels[name] ?? 0) > (voxels[best] ?? 0) ? name : best));
  const { segmentIndex } = segmentsOf(segmentationId).find(one => one.label === most);
  window.services.segmentationService.setActiveSegment(segmentationId, segmentIndex);
  if (onSlice.size) {
    settling.slice = fullestOf(onSlice);
    settle();
  }
}

// What an image that has come into view still lacks: OHIF sets a window and a slice of its own once it is loaded.
// `slice` is an image, or `MIDDLE`.
const settling = { window: false, slice: '' };

const MIDDLE = 'middle';

export function unsettled(isEmpty) {
  Object.assign(settling, { window: Boolean(state.task.window_hu), slice: isEmpty ? MIDDLE : '' });
  settle();
}

// The viewport of the case, once it shows the image.
function settledViewport() {
  const viewport = viewportOf(activeViewport());
  const shown = viewport?.viewportStatus === 'rendered' ? viewport.getCurrentImageId() : '';
  return shownImage()?.instances?.some(one => shown?.includes(one.SOPInstanceUID)) ? viewport : null;
}

// The window in which the task's images are read, until somebody touches the image; the slice to begin with.
export function settle() {
  const viewport = settling.window || settling.slice ? settledViewport() : null;
  if (!viewport) {
    return;
  }
  const [lower, upper] = state.task.window_hu ?? [];
  const found = viewport.getProperties().voiRange;
  if (settling.window && !(Math.abs(found?.lower - lower) < 1 && Math.abs(found?.upper - upper) < 1)) {
    viewport.setProperties({ voiRange: { lower, upper } });
    viewport.render();
  }
  if (settling.slice) {
    const wanted =
      settling.slice === MIDDLE
        ? Math.floor(viewport.getNumberOfSlices() / 2)
        : viewport.getImageIds().indexOf(settling.slice);
    settling.slice = '';
    if (wanted >= 0) {
      viewport.scroll(wanted - viewport.getSliceIndex());
    }
  }
}

// Who touches what is not shown yet has not chosen its window.
export function touched() {
  if (settling.window && settledViewport()) {
    settling.window = false;
  }
}

// OHIF leaps to the middle of a structure that is chosen, or to a corner if there is none of it. The slice stays if it
// shows the structure, or if there is none; else that with the most of it comes.
export function keepSlice() {
  const { segmentationService } = window.services;
  const leap = segmentationService.jumpToSegmentCenter;
  segmentationService.jumpToSegmentCenter = (segmentationId, segmentIndex, viewportId, ...more) => {
    const viewport = viewportOf(viewportId ?? activeViewport());
    const onSlice = placesOf(segmentationId, segmentIndex);
    if (!onSlice.size || !viewport) {
      return;
    }
    const places = viewport.type === 'stack' ? viewport.getImageIds() : [];
    const wanted = places.indexOf(fullestOf(onSlice));
    if (wanted < 0) {
      leap.call(segmentationService, segmentationId, segmentIndex, viewportId, ...more);
    } else if (!onSlice.has(places[viewport.getSliceIndex()])) {
      viewport.scroll(wanted - viewport.getSliceIndex());
    }
  };
}

// What is shown of masks: pairs of a mask and a segment.
export const visibleSegments = viewportId =>
  window.services.segmentationService.getSegmentationRepresentations(viewportId).flatMap(
    ({ segmentationId, segments }) =>
      Object.values(segments).filter(one => one.visible).map(one => [segmentationId, one.segmentIndex])
  );

export function setVisible({ viewportId, segments }, isVisible) {
  for (const [segmentationId, segmentIndex] of segments) {
    window.services.segmentationService.setSegmentVisibility(
      viewportId, segmentationId, segmentIndex, isVisible, LABELMAP
    );
  }
}

export const elementOf = viewportId => viewportOf(viewportId)?.element;
