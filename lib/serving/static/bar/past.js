// The versions of a case: looked at in place of what is open, listed, and restored.

import * as drawing from './drawing.js';
import { button, element, isListed, list, tell } from './panel.js';
import { moment, state } from './state.js';
import { activeViewport, elementOf, load, nameAll, openMask, setVisible, show, start, visibleSegments }
  from './viewer.js';
import { paint } from './voxels.js';

// While an earlier mask is shown: the viewport, what it showed otherwise, and the version.
let looking = null;

export const lookedAt = () => looking?.told ?? null;

export const forget = () => {
  looking = null;
  drawing.leaveOut(null);
  list(null);
};

const isDrawn = told => Object.values(told?.voxels ?? {}).some(count => count > 0);

export const nameOf = told => `version ${told.version}, ${told.description}`;

// A version is shown in place of all that is open, which is only hidden: what is drawn and not saved stays.
export async function lookAt(told, why = '') {
  back();
  const viewportId = activeViewport();
  const hidden = { viewportId, told, activeId: openMask()?.segmentationId, segments: visibleSegments(viewportId) };
  const segmentationId = await loadApart(told);
  drawing.leaveOut(segmentationId);
  looking = { ...hidden, segmentationId };
  setVisible(looking, false);
  await show(segmentationId);
  nameAll(segmentationId);
  const marks = isDrawn(told) ? '' : ', which marks nothing';
  return `Version ${told.version} is shown, ${told.description}${marks}${why}. Press Before again to go on.`;
}

// OHIF holds the mask of a series once. Where that may have been drawn on, the version is painted once more.
async function loadApart(told) {
  const { displaySetService, segmentationService } = window.services;
  const [displaySet] = displaySetService.getDisplaySetsForSeries(told.series_uid);
  const content = drawing.contentOf(told.series_uid);
  if (!content || !segmentationService.getSegmentation(displaySet?.displaySetInstanceUID)) {
    return load(state.entry, told);
  }
  const segmentationId = await start(`Version ${told.version}`);
  paint(segmentationId, content);
  return segmentationId;
}

export function back() {
  if (!looking) {
    return '';
  }
  const { segmentationService } = window.services;
  const { viewportId, activeId, segmentationId } = looking;
  try {
    setVisible(looking, true);
    if (activeId) {
      segmentationService.setActiveSegmentation(viewportId, activeId);
    }
    segmentationService.remove(segmentationId);
  } finally {
    looking = null;
    drawing.leaveOut(null);
  }
  return '';
}

export function toggleBefore() {
  const { current } = state.entry;
  return looking ? back() : lookAt(current.before, `: what version ${current.version} was made from`);
}

// What is past is looked at and not changed: the button and the finger that draw do not reach the image.
export function keepFromDrawing(event) {
  if (looking && elementOf(looking.viewportId)?.contains(event.target) && !event.button) {
    event.stopPropagation();
    tell('What was before cannot be changed. Press Before again to go on drawing.', 'error');
  }
}

// The list of all versions, or none if it is there already.
export function toggleList(work, restore) {
  list(isListed() ? null : state.versions.map(told => row(told, work, restore)));
  return '';
}

function row(told, work, restore) {
  const made = element('div', {}, { version: told.version });
  const isCurrent = told.version === state.entry.current?.version;
  const marked = Object.entries(told.voxels).filter(([, count]) => count).map(([name, count]) => `${name} ${count}`);
  const words = [
    `Version ${told.version}`, told.description, moment(new Date(told.created)),
    told.parent ? `from version ${told.parent}` : 'from nothing', marked.join(', ') || 'marks nothing',
    isCurrent ? 'current' : '',
  ];
  made.append(
    element('span', { textContent: words.filter(Boolean).join(' · ') }),
    button('Show', () => work('', () => lookAt(told))),
    button('Restore', () => work('Restore …', () => restore(told)), {
      disabled: isCurrent, title: 'Store this mask again, as a new version of yours',
    })
  );
  return made;
}
