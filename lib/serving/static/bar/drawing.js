// What was drawn: whether it differs from what was opened or stored, from which versions it was made, and the copy of it
// that this browser keeps until it is stored.

import * as copies from './copies.js';
import { newId, state } from './state.js';
import { keyOf, masksInView, openMask, seriesOf, shownImage } from './viewer.js';
import { isEmpty, isSame, NOTHING, taken } from './voxels.js';

const KEEP_MS = 300;

// Of each mask in OHIF: the version that it was opened from or last stored as (0: none), and what that holds.
const origins = new Map();

// What each series was found to hold.
const contents = new Map();

// The copy of what is drawn on one mask since that was opened: its id, whether there is one, and which other one it is
// to replace.
let copy = { id: newId(), isKept: false, instead: null, on: null };

// The series as which it was sent, as long as nobody knows whether that is stored.
let sentAs = null;

let timer = null;
let hidden = null;

const listeners = [];

export const onTrouble = listener => listeners.push(listener);

// A mask that is only looked at is none that is drawn on.
export function leaveOut(segmentationId) {
  hidden = segmentationId;
}

const isVersion = segmentationId => Boolean(origins.get(segmentationId)?.version || seriesOf(segmentationId));

// The masks in view that belong to one drawing: that of one version, the active one if there are several, and those that
// were begun beside it.
export function masks() {
  const inView = masksInView().filter(id => id !== hidden);
  const versions = inView.filter(isVersion);
  const active = openMask()?.segmentationId;
  const main = versions.includes(active) ? active : versions.at(-1);
  return inView.filter(id => id === main || !isVersion(id));
}

// Versions that are in view beside it.
export const beside = () =>
  masksInView().filter(id => id !== hidden && !masks().includes(id)).map(versionOf).filter(Boolean);

export function noteOrigin(segmentationId, { seriesUid, version }, content = taken(segmentationId)) {
  origins.set(segmentationId, { version, content });
  if (seriesUid) {
    contents.set(seriesUid, content);
  }
}

// Which version that is may be known later only.
export const nameOrigin = (segmentationId, version) => Object.assign(origins.get(segmentationId), { version });

export const isKnown = segmentationId => origins.has(segmentationId);

export const contentOf = seriesUid => contents.get(seriesUid);

// The version that a mask was made from; 0: from nothing. What OHIF opened is known by its series.
const versionOf = segmentationId =>
  origins.get(segmentationId)?.version ??
  state.versions.find(one => one.series_uid === seriesOf(segmentationId))?.version ?? 0;

// The newest version that the masks in view were made from; 0: from nothing.
export const parent = () => Math.max(0, ...masks().map(versionOf));

// What the server tells of it; `undefined` if there is none, or its mask is no longer kept.
export const shown = () => state.versions.find(one => one.version === parent());

// What the masks of the drawing hold, by their ids. It is read anew each time: OHIF tells of a stroke after it.
export const drawn = () => new Map(masks().map(id => [id, taken(id)]));

export const isChanged = () =>
  [...drawn()].some(([id, mask]) => !isSame(mask, origins.get(id)?.content ?? NOTHING));

// Another case or mask is opened: what was drawn before stays as a copy of its own.
export function restart() {
  keep();
  origins.clear();
  sentAs = null;
  copy = { id: newId(), isKept: false, instead: null, on: null };
}

// The drawing is that of a copy, which it replaces once it is kept.
export function continues(other) {
  copy.instead = other.id;
  changed();
}

// The copies of other openings of this case, newest first.
export async function others() {
  const found = await copies.of(state.person.username, state.entry.image);
  return found.filter(one => one.id !== copy.id);
}

export function changed() {
  // OHIF opens masks, too.
  for (const id of masks().filter(one => !isKnown(one) && seriesOf(one))) {
    noteOrigin(id, { seriesUid: seriesOf(id) });
  }
  timer ??= setTimeout(keep, KEEP_MS);
}

// It is being sent as a series, and may be stored though the page is gone by then; `null`: what became of it is known.
export function noteSent(seriesUid) {
  sentAs = seriesUid;
  keep();
}

// What is drawn is stored, though no mask in view says so.
export function settled() {
  masks().forEach(id => noteOrigin(id, { version: parent() }));
  keep();
}

// Keeps a copy of what is drawn and not saved, or takes it away again. Whoever leaves the page calls it, too.
export function keep() {
  clearTimeout(timer);
  timer = null;
  const ids = masks();
  // A mask that was taken out of the view stays as it was.
  if (!state.entry || state.isOpening || !ids.length || keyOf(shownImage()) !== state.shown) {
    return;
  }
  if (copy.on && !ids.includes(copy.on)) {
    // Another mask was made active: what was drawn on the one before is kept.
    copy = { id: newId(), isKept: false, instead: null, on: null };
  }
  copy.on ??= ids[0];
  if (isChanged()) {
    const { image } = state.entry;
    const kept = { id: copy.id, person: state.person.username, image, kept: Date.now(), version: parent(), sentAs };
    const { instead } = copy;
    Object.assign(copy, { isKept: true, instead: null });
    tried(copies.keep({ ...kept, masks: [...drawn().values()].filter(mask => !isEmpty(mask)) }, instead));
  } else {
    const old = [copy.isKept && copy.id, copy.instead].filter(Boolean);
    Object.assign(copy, { isKept: false, instead: null });
    old.forEach(id => tried(copies.forget(id)));
  }
}

const tried = writing => writing.catch(error => listeners.forEach(listener => listener(error)));

// `onDrawn` is called with each stroke, and whenever OHIF changes voxels by itself.
export function begin(onDrawn) {
  const { segmentationService } = window.services;
  const events = segmentationService.EVENTS;
  segmentationService.subscribe(events.SEGMENTATION_DATA_MODIFIED, onDrawn);
  for (const event of ['SEGMENTATION_DATA_MODIFIED', 'SEGMENTATION_MODIFIED', 'SEGMENTATION_REPRESENTATION_MODIFIED']) {
    segmentationService.subscribe(events[event], changed);
  }
  window.addEventListener('pagehide', keep);
  document.addEventListener('visibilitychange', keep);
}
