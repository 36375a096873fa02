// Storing what is drawn: as one object, made from the version that was opened, and never twice.

import * as drawing from './drawing.js';
import { offer, withdraw } from './panel.js';
import { lookAt } from './past.js';
import { ask, Refusal, store } from './server.js';
import { isExpert, state } from './state.js';
import { displaySetOf, hasContours, LABELMAP, openMask } from './viewer.js';
import { isEmpty, isSame, joined, NOTHING, paint, segmentsOf } from './voxels.js';
import * as worked from './worked.js';

const LONGEST_TEXT = 64;
const JOBS = 'Label-Refinery-Jobs';
const VERSION = 'Label-Refinery-Version';

const KEPT = 'Your drawing is still here: press Save again. What is stored already is not stored twice.';

// The object that was sent last, and what it holds: if its reply is lost, the very same is sent again.
let sent = null;

// What was sent and may be stored: the mask, what it held, and its series.
let unclear = null;

// Whether a Save would store that none of the structures is there.
export const isNothingMarked = () => {
  const masks = [...drawing.drawn().values()];
  return masks.length > 0 && masks.every(isEmpty);
};

// Stores all masks in view as one. All structures were offered, so all count as looked at.
export async function save(actions, isAnyway = false) {
  const ids = drawing.masks();
  if (!ids.length) {
    return bringBack(actions);
  }
  if (isNothingMarked()) {
    return actions.noFinding(isAnyway);
  }
  await learnWhatBecame(actions);
  const parent = drawing.parent();
  const { mask, count } = join(ids);
  // What is drawn from here on is not in the object, and stays unsaved.
  const content = drawing.drawn().get(mask.segmentationId);
  const dataset = sent && isSame(sent.content, content) ? sent.dataset : await written(mask);
  sent = { content, dataset };
  const query = { parent, seconds: worked.seconds(), ...(isAnyway ? { anyway: true } : {}) };
  let told;
  drawing.noteSent(dataset.SeriesInstanceUID);
  try {
    told = await store(dataset, query);
  } catch (error) {
    if (error.meanwhile) {
      drawing.noteSent(null);
      return offerMeanwhile(error, 'Save as mine anyway', () => save(actions, true), actions);
    }
    if (error.isUnclear) {
      unclear = { segmentationId: mask.segmentationId, content, seriesUid: dataset.SeriesInstanceUID };
      throw new Refusal(`${error.message} ${KEPT}`, error.status);
    }
    drawing.noteSent(null);
    throw error;
  }
  sent = null;
  withdraw('meanwhile');
  const version = Number(told(VERSION)) || undefined;
  drawing.noteOrigin(mask.segmentationId, { seriesUid: dataset.SeriesInstanceUID, version }, content);
  drawing.noteSent(null);
  worked.restart();
  return saved(told, { parent, version, seriesUid: dataset.SeriesInstanceUID, mask, count }, actions);
}

// Whether what was sent last is stored, though no reply came: what was drawn since is then made from that.
async function learnWhatBecame(actions) {
  if (!unclear) {
    return;
  }
  try {
    await actions.reload();
  } catch (error) {
    throw error.isUnclear ? new Refusal(`${error.message} ${KEPT}`, error.status) : error;
  }
  const { segmentationId, content, seriesUid } = unclear;
  const stored = state.versions.find(one => one.series_uid === seriesUid);
  if (stored && drawing.isKnown(segmentationId) && !isSame(drawing.drawn().get(segmentationId) ?? NOTHING, content)) {
    drawing.noteOrigin(segmentationId, { seriesUid, version: stored.version }, content);
  }
  unclear = null;
}

// What became of an object that is stored.
async function saved(told, { parent, version, seriesUid, mask, count }, actions) {
  const others = drawing.beside();
  const joinedTold = (count > 1 ? ` It holds all ${count} masks that were in view.` : '') +
    (others.length ? ` Version ${others.join(', ')} in view beside it is no part of it.` : '');
  const [, job] = /\brefining=([^,\s]+)/.exec(told(JOBS)) ?? [];
  try {
    await actions.reload();
    // Of an object that it had already the server does not say what it is.
    const stored = state.versions.find(one => (version ? one.version === version : one.series_uid === seriesUid));
    drawing.nameOrigin(mask.segmentationId, stored.version);
    await displaySetOf(state.entry.study_uid, stored);
    relabel(mask.segmentationId, stored);
    if (stored.version === parent) {
      return `Version ${parent} holds just this already; nothing new was stored.`;
    }
    return `Saved as version ${stored.version}.${joinedTold}${contoursTold()}${aside(stored, job)}${actions.follow(job)}`;
  } catch (error) {
    // It is stored: what went wrong came after it.
    return `Saved${version ? ` as version ${version}` : ''}.${joinedTold} What is shown of the case may be old: ${error.message}`;
  }
}

// Contours that somebody drew are no mask.
const contoursTold = () =>
  hasContours() ? " The contours in view are not part of it: OHIF's own menu exports them (DICOM RTSTRUCT)." : '';

// The list of masks in OHIF says what the mask is now.
function relabel(segmentationId, stored) {
  const { segmentationService } = window.services;
  const { label } = segmentationService.getSegmentation(segmentationId);
  const named = `${stored.description} (v${stored.version})`;
  if (label !== named) {
    segmentationService.addOrUpdateSegmentation({ segmentationId, label: named });
  }
}

// What becomes of a mask that does not become the current one.
function aside(stored, job) {
  const { current } = state.entry;
  // It may have been refined by now.
  if (!current || job || current.version === stored.version || current.parent === stored.version) {
    return '';
  }
  const why = current.stage === 'expert' && !isExpert() ? ", since an expert's mask counts before an annotator's" : '';
  return ` The current version stays ${current.version} by ${current.author}${why}; yours is kept, see Versions.`;
}

// Makes one mask of all in view, as the active one.
function join(ids) {
  const { segmentationService } = window.services;
  const mask = ids.includes(openMask()?.segmentationId)
    ? openMask()
    : segmentationService.getSegmentation(ids[0]);
  // Empty ones beside it add nothing.
  const marked = ids.filter(id => id === mask.segmentationId || !isEmpty(drawing.drawn().get(id)));
  if (marked.length > 1) {
    const others = marked.filter(id => id !== mask.segmentationId);
    paint(mask.segmentationId, joined([mask.segmentationId, ...others].map(id => drawing.drawn().get(id))));
    others.forEach(id => segmentationService.remove(id));
    drawing.changed();
  }
  return { mask, count: marked.length };
}

async function written(mask) {
  const { dataset } = await window.commandsManager.runCommand(
    'generateSegmentation',
    { segmentationId: mask.segmentationId, options: { SeriesDescription: description() } },
    'SEGMENTATION'
  );
  dataset.SpecificCharacterSet = 'ISO_IR 192';
  addAbsent(dataset, mask);
  return dataset;
}

// How viewers list what is stored, as the server calls its own.
function description() {
  return `${isExpert() ? 'EXPERT' : 'DRAFT'} ${state.person.username}`.slice(0, LONGEST_TEXT);
}

// OHIF leaves out segments without voxels; with them the mask says that they were looked for.
function addAbsent(dataset, mask) {
  const described = [dataset.SegmentSequence].flat();
  const written = described.map(one => one.SegmentLabel);
  const absent = segmentsOf(mask.segmentationId).map(one => one.label).filter(label => !written.includes(label));
  const last = Math.max(...described.map(one => Number(one.SegmentNumber)));
  const added = absent.map((label, index) => ({
    ...described[0], SegmentNumber: String(last + 1 + index), SegmentLabel: label,
  }));
  dataset.SegmentSequence = [...described, ...added];
}

// Somebody took the mask out of the view, or deleted it.
async function bringBack(actions) {
  const { segmentationService } = window.services;
  const known = segmentationService.getSegmentations().filter(one => drawing.isKnown(one.segmentationId)).at(-1);
  if (!known) {
    await actions.open();
    return 'There was no mask in view: it had been deleted. The current one is open again; nothing was stored.';
  }
  await segmentationService.addSegmentationRepresentation(
    window.services.viewportGridService.getActiveViewportId(), { segmentationId: known.segmentationId, type: LABELMAP }
  );
  return 'There was no mask in view: it had been taken out. It is shown again; nothing was stored. Press Save again.';
}

// Somebody else has saved since: neither mask may be lost, so the person decides.
export function offerMeanwhile(error, label, anyway, actions) {
  offer('meanwhile', error.message, [
    ['Compare', () => {
      actions.work('', async () => {
        await actions.reload();
        const theirs = state.versions.find(one => one.version === error.meanwhile);
        return theirs
          ? lookAt(theirs, ': what was saved meanwhile')
          : `The mask of version ${error.meanwhile} is no longer kept.`;
      });
      return true;
    }],
    [label, () => { actions.work(`${label} …`, anyway); }],
    ['Leave it', () => {}],
  ]);
  return 'Nothing is stored yet: see above.';
}

// Another version's mask, once more as a version of this person.
export async function restore(told, actions, isAnyway = false) {
  const query = {
    image: state.entry.image, version: told.version, parent: state.entry.current?.version ?? 0,
    ...(isAnyway ? { anyway: true } : {}),
  };
  let stored;
  try {
    stored = await ask('POST', '/annotations/restore', query);
  } catch (error) {
    if (error.meanwhile) {
      return offerMeanwhile(error, 'Restore anyway', () => restore(told, actions, true), actions);
    }
    throw error;
  }
  withdraw('meanwhile');
  withdraw('undo');
  await actions.refresh();
  const { version } = stored;
  return `Version ${version} has the mask of version ${told.version} again, as yours.` +
    aside({ version }, stored.refining) + actions.follow(stored.refining);
}
