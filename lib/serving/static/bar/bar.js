// The bar below the viewer: which case this is, how far it has come, and what can be done with it.
//
// It runs beside OHIF 3.12. This file puts its parts together and says what the buttons do:
//   panel.js    the bar as it looks                    viewer.js    OHIF: images, masks, slices
//   server.js   what is asked of the server            voxels.js    masks as runs of voxels
//   saving.js   storing, and what somebody else saved  drawing.js   what is drawn and not stored yet
//   past.js     earlier versions                       copies.js    copies of that in this browser
//   leaving.js  the ways out                           signing.js   signing in again
//   presence.js who else has the case open             worked.js    time spent
// What DICOM has no words for is asked at /cases/, /infer/, /train/ and /activelearning/.

import * as copies from './copies.js';
import * as drawing from './drawing.js';
import * as leaving from './leaving.js';
import * as panel from './panel.js';
import { bar, tell } from './panel.js';
import * as past from './past.js';
import * as presence from './presence.js';
import * as saving from './saving.js';
import { ask, reach } from './server.js';
import * as signing from './signing.js';
import { moment, state } from './state.js';
import { choose, keepSlice, keyOf, lacksNames, load, nameAll, seriesOf, settle, show as showMask, shownImage, start, touched,
  unsettled } from './viewer.js';
import { isSame, NOTHING, paint } from './voxels.js';
import * as worked from './worked.js';

const LOOK_MS = 400;
const BUSY_MS = 1000;
const IDLE_MS = 10000;
const RUNNING = ['SUBMITTED', 'RUNNING'];

// Roles of people; programs draft and refine by themselves.
const PEOPLE = ['viewer', 'annotator', 'expert', 'admin'];

const isDrawn = annotation => Object.values(annotation?.voxels ?? {}).some(count => count > 0);

// What the buttons do; a text that comes back is shown.

const ACTIONS = {
  draft: () => infer(state.task.name),
  refine: () => infer(`${state.task.name}_refine`),
  before: past.toggleBefore,
  versions: () => past.toggleList(work, told => saving.restore(told, PARTS)),
  save: () => saving.save(PARTS),
  accept: () => accept(),
  'no-finding': () => noFinding(),
  next,
  train: async () => {
    await ask('POST', `/train/${state.task.name}`);
    return '';
  },
};

// What saving needs of the others.
const PARTS = { noFinding, reload, refresh, follow, work, open: () => open() };

// What an action would lose that should not be lost by one press.
function lossBy(action) {
  const current = drawing.shown() ?? state.entry?.current;
  if (action === 'save' && saving.isNothingMarked() && !isNothing(current)) {
    return ['Nothing is marked.', 'store that none of the structures is there'];
  }
  if (LOSING.includes(action) && drawing.isChanged()) {
    return ['Your drawing is not saved.', 'go on without it'];
  }
  if (action === 'no-finding' && isDrawn(current)) {
    const marked = Object.entries(current.voxels).filter(([, count]) => count).map(([name]) => name);
    return [
      `Version ${current.version} by ${current.author} marks ${marked.join(', ')}.`, 'store that nothing is there',
    ];
  }
  return null;
}

const LOSING = ['draft', 'refine', 'accept', 'no-finding', 'next'];

// Whether an annotation says already that nothing is there.
const isNothing = annotation => Boolean(annotation) && !isDrawn(annotation);

async function infer(model) {
  const told = await ask('POST', `/infer/${model}`, { image: state.entry.image, output: 'json' });
  state.refining = null;
  await refresh();
  const stays = told.annotation_version === state.entry.current.version ? '' : 'What is further along stays open.';
  // Each reason begins with the structure that it is about.
  const kept = told.kept ? `Not changed: ${told.kept}.` : '';
  return [kept, told.summary, stays].filter(Boolean).join(' ');
}

// What is on the screen is accepted, whatever has come meanwhile.
async function accept(isAnyway = false) {
  const version = drawing.parent() || state.entry.current.version;
  try {
    await ask('POST', '/annotations/accept', {
      image: state.entry.image, version, ...(isAnyway ? { anyway: true } : {}),
    });
  } catch (error) {
    if (error.meanwhile) {
      return saving.offerMeanwhile(error, `Accept version ${version} anyway`, () => accept(true), PARTS);
    }
    throw error;
  }
  panel.withdraw('meanwhile');
  await refresh();
  return 'Accepted.';
}

async function noFinding(isAnyway = false) {
  const before = drawing.shown() ?? state.entry.current;
  const isDrawing = drawing.isChanged() && !saving.isNothingMarked();
  let told;
  try {
    told = await ask('POST', '/cases/no-finding', {
      image: state.entry.image, parent: before?.version ?? 0, seconds: worked.seconds(),
      ...(isAnyway ? { anyway: true } : {}),
    });
  } catch (error) {
    if (error.meanwhile) {
      return saving.offerMeanwhile(error, 'No finding anyway', () => noFinding(true), PARTS);
    }
    throw error;
  }
  panel.withdraw('meanwhile');
  if (!isDrawing) {
    drawing.settled();
  }
  await refresh();
  if (isDrawn(before)) {
    const said = `Version ${told.version} says that nothing is there, after version ${before.version} that marked something.`;
    panel.offer('undo', said, [
      [`Restore version ${before.version}`, () => { work('Restore …', () => saving.restore(before, PARTS)); }],
      ['It is right', () => {}],
    ]);
  }
  return `Stored: no finding.${follow(told.refining)}`;
}

// What a junior saved is refined meanwhile; how that ended is told in the part for jobs.
function follow(job) {
  state.refining = job ?? null;
  return job ? ` It is being refined (job ${job}).` : '';
}

async function next() {
  const [strategy] = Object.keys(state.info.strategies);
  const offer = await ask('POST', `/activelearning/${strategy}`, { checksum: false });
  if (!offer.id) {
    return offer.message;
  }
  // Where /open leads to, with what it adds for somebody who is signed in.
  const { url } = await reach('GET', '/open', { image: offer.id });
  leaving.agree();
  window.location.assign(url);
  return 'Opening …';
}

// The case.

// Opens a version of the case, or an empty mask, in place of all masks that are open.
async function open(told = state.entry.current) {
  const { segmentationService, viewportGridService } = window.services;
  past.forget();
  drawing.restart();
  state.isOpening = true;
  try {
    // A mask that OHIF still holds would come back with what was drawn on it.
    const before = segmentationService.getSegmentationRepresentations(viewportGridService.getActiveViewportId());
    before.forEach(one => segmentationService.remove(one.segmentationId));
    const segmentationId = told ? await load(state.entry, told) : await start();
    await showMask(segmentationId);
    nameAll(segmentationId);
    drawing.noteOrigin(segmentationId, { seriesUid: told?.series_uid, version: told?.version ?? 0 });
    choose(segmentationId);
    return segmentationId;
  } finally {
    state.isOpening = false;
    worked.restart();
    leaving.arrive();
    panel.withdrawAll('sign-in');
    offerCopies().catch(() => {});
  }
}

// What was drawn and not saved, before a reload for instance, is offered.
async function offerCopies() {
  const found = await drawing.others();
  const shown = [...drawing.drawn().values()][0] ?? NOTHING;
  panel.withdraw('copy');
  const copy = found.find(one => !(one.masks.length === 1 && isSame(one.masks[0], shown)));
  for (const stored of found.filter(one => one !== copy && one.masks.length === 1 && isSame(one.masks[0], shown))) {
    await copies.forget(stored.id);
  }
  if (!copy) {
    return;
  }
  const from = copy.version ? `on version ${copy.version}` : 'from nothing';
  panel.offer(
    'copy', `What you drew ${from}, until ${moment(new Date(copy.kept))}, was not saved. This browser has kept it.`, [
      ['Open it', () => { work('Opening …', () => reopen(copy)); }],
      ['Discard it', async () => {
        await copies.forget(copy.id);
        await offerCopies();
        return true;
      }],
    ]
  );
}

// A drawing comes back as it was, on the version that it was drawn on.
async function reopen(copy) {
  const { segmentationService } = window.services;
  // What was sent before the page was gone may be stored: then it was drawn on that.
  const told =
    state.versions.find(one => copy.sentAs && one.series_uid === copy.sentAs) ??
    state.versions.find(one => one.version === copy.version);
  const segmentationId = await open(told ?? null);
  if (!told) {
    // The mask that it was drawn on may no longer be kept; what it was made from is true all the same.
    drawing.noteOrigin(segmentationId, { version: copy.version });
  }
  const [first = NOTHING, ...more] = copy.masks;
  paint(segmentationId, first);
  for (const mask of more) {
    const added = await start(mask.label);
    await showMask(added);
    nameAll(added);
    paint(added, mask);
  }
  nameAll(segmentationId);
  segmentationService.setActiveSegmentation(window.services.viewportGridService.getActiveViewportId(), segmentationId);
  choose(segmentationId);
  drawing.continues(copy);
  return 'Your drawing is open again, as it was. It is not saved yet.';
}

// Asks the server anew about the case, and opens its current mask.
async function refresh() {
  await reload();
  await open();
}

// The images of a study; what can be done with them may have changed too.
async function casesOf(study) {
  const [{ cases, task }, info] = await Promise.all([ask('GET', '/cases/', { study }), ask('GET', '/info/')]);
  Object.assign(state, { task, info });
  return cases;
}

async function reload() {
  const cases = await casesOf(state.entry.study_uid);
  const { versions } = await ask('GET', '/cases/versions', { image: state.entry.image });
  state.entry = cases.find(one => one.image === state.entry.image);
  state.versions = versions;
  show();
}

// The mask in view, as far as it is known what it was made from.
function show() {
  const isInView = state.entry && drawing.masks().length > 0;
  panel.show(isInView ? (drawing.shown() ?? null) : undefined, past.lookedAt());
}

async function press(action) {
  const loss = bar.dataset.warned === action ? null : lossBy(action);
  if (loss) {
    bar.dataset.warned = action;
    tell(`${loss[0]} Press ${panel.labelOf(action)} again to ${loss[1]}.`, 'error');
    return;
  }
  delete bar.dataset.warned;
  await work(`${panel.labelOf(action)} …`, ACTIONS[action]);
  watch();
}

async function work(begun, action) {
  state.isBusy = true;
  show();
  tell(begun);
  try {
    tell((await action()) ?? '');
  } catch (error) {
    tell(error.message, 'error');
    if (error.status === 401) {
      signing.ask(error.message, () => work(begun, action));
    }
  }
  state.isBusy = false;
  show();
  presence.tell(hear);
}

// What goes on.

// Where the case is.
let address = '';

async function look() {
  const image = shownImage();
  const key = keyOf(image);
  // While OHIF builds the viewport anew, the case is the same.
  if (state.isBusy || (!key && window.location.href === address)) {
    return;
  }
  if (key === state.shown) {
    adopt();
    return;
  }
  address = image ? window.location.href : '';
  Object.assign(state, { shown: key, entry: null, versions: [], refining: null });
  past.forget();
  panel.withdrawAll('sign-in');
  delete bar.dataset.warned;
  show();
  if (image) {
    await work('', () => meet(image));
  } else {
    tell('');
    presence.tell(hear);
  }
}

// Masks that OHIF opened get their names and colours, too; what is shown may have changed by that.
function adopt() {
  if (state.entry && !past.lookedAt()) {
    drawing.masks().filter(id => seriesOf(id) && lacksNames(id)).forEach(nameAll);
    show();
  }
}

// A case comes into view.
async function meet(image) {
  const cases = await casesOf(image.StudyInstanceUID);
  const instances = image.instances.map(one => one.SOPInstanceUID);
  state.entry = cases.find(
    one => one.series_uid === image.SeriesInstanceUID && (!one.instance_uid || instances.includes(one.instance_uid))
  );
  if (!state.entry) {
    return 'This series is no image of the task.';
  }
  state.versions = (await ask('GET', '/cases/versions', { image: state.entry.image })).versions;
  unsettled(!isDrawn(state.entry.current));
  await open();
  return '';
}

// What the server tells of the others who have the case open, and of the sign-in.
function hear(told) {
  if (told.status === 401) {
    signing.ask(told.message);
    return;
  }
  signing.warn(told.ends);
  const { current } = told;
  const known = state.versions[0]?.version ?? 0;
  const isTold = document.querySelector('[data-offer=meanwhile], [data-offer=newer]');
  if (!state.isBusy && PEOPLE.includes(current?.role) && current.version > known && !isTold) {
    const isOwn = current.author === state.person.username;
    const who = isOwn ? 'You have, in another window,' : `${current.author} has`;
    panel.offer('newer', `${who} saved version ${current.version} meanwhile.`, [
      ['Compare', () => {
        work('', async () => {
          await reload();
          return past.lookAt(state.versions.find(one => one.version === current.version), ': what was saved meanwhile');
        });
      }],
      ['Open it', () => { work('Opening …', refresh); }],
      ['Leave it', () => { reload().catch(() => {}); }],
    ]);
  }
}

let watching = null;

async function watch() {
  clearTimeout(watching);
  let pause = IDLE_MS;
  if (!document.hidden) {
    try {
      const [job, refining] = await Promise.all([
        ask('GET', '/train/'), state.refining && ask('GET', `/jobs/${state.refining}`),
      ]);
      const isRunning = RUNNING.includes(job.status);
      const isRefining = RUNNING.includes(refining?.status);
      pause = isRunning || isRefining ? BUSY_MS : IDLE_MS;
      if (isRunning) {
        state.trained = job.id;
      }
      // How a training ended is told to those who saw it run.
      const told = [state.trained === job.id ? toldOf(job, isRunning) : '', toldOfRefining(refining, isRefining)];
      panel.say('job', told.filter(Boolean).join(' · '));
    } catch (error) {
      panel.say('job', error.message);
    }
  }
  watching = setTimeout(watch, pause);
}

function toldOf(job, isRunning) {
  if (!isRunning) {
    return job.details.at(-1) ?? job.status;
  }
  const { epoch, dice, seconds_left: left } = job.progress;
  const told = [job.status === 'SUBMITTED' ? 'Training waits' : 'Training'];
  if (epoch) {
    told.push(`epoch ${epoch}`);
  }
  if (dice) {
    told.push(`Dice ${dice.toFixed(2)}`);
  }
  if (left) {
    told.push(`${Math.ceil(left)} s left`);
  }
  return told.join(', ');
}

// The refined mask is not opened by itself: somebody may be drawing on the other one.
function toldOfRefining(job, isRefining) {
  if (!job || isRefining) {
    return job ? 'Refining' : '';
  }
  const hint = job.result?.version ? ' Press Refine to open it.' : '';
  return `${job.details.at(-1) ?? job.status}${hint}`;
}

async function begin() {
  panel.build(press);
  // Without copies the viewer works as well; what is drawn is then kept by the server only.
  await copies.begin().catch(() => {});
  let isTold = false;
  drawing.onTrouble(error => {
    if (!isTold) {
      isTold = true;
      tell(`Save often: ${error.message}`, 'error');
    }
  });
  // Who draws on has not said yet that it may be lost.
  drawing.begin(() => ['warned', 'leaving'].forEach(asked => delete bar.dataset[asked]));
  leaving.begin();
  presence.begin(hear);
  worked.begin();
  keepSlice();
  for (const event of ['pointerdown', 'keydown']) {
    document.addEventListener(event, ({ target }) => bar.contains(target) || touched(), true);
  }
  for (const event of ['mousedown', 'touchstart']) {
    document.addEventListener(event, past.keepFromDrawing, true);
  }
  document.addEventListener('CORNERSTONE_IMAGE_RENDERED', settle, true);
  await work('', async () => {
    [state.info, state.person] = await Promise.all([ask('GET', '/info/'), ask('GET', '/auth/token/valid')]);
  });
  watch();
  setInterval(look, LOOK_MS);
}

// OHIF puts its services on `window` once its extensions are registered.
const waiting = setInterval(() => {
  if (window.services?.segmentationService) {
    clearInterval(waiting);
    begin();
  }
}, 100);
