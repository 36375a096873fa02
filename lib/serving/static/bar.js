// The bar below the viewer: which case this is, how far it has come, and what can be done with it.
//
// It runs beside OHIF 3.12 and uses what OHIF offers scripts on `window`: `services`, `commandsManager` and
// `extensionManager`. What DICOM has no words for it asks the server at /cases/, /infer/, /train/ and /activelearning/.
(() => {
  'use strict';

  // A line for what is told, which grows over the image if it must, and one for the case and the buttons.
  const HEIGHT_PX = 60;
  const LOOK_MS = 400;
  const BUSY_MS = 1000;
  const IDLE_MS = 10000;
  const LABELMAP = 'Labelmap';
  const LONGEST_TEXT = 64;
  const LONGEST_NAME = 48;
  const EXPERTS = ['expert', 'admin'];
  const RUNNING = ['SUBMITTED', 'RUNNING'];
  const JOBS = 'Label-Refinery-Jobs';

  const STYLE = `
    #case-bar { position: fixed; z-index: 40; inset: auto 0 0 0; min-height: ${HEIGHT_PX}px; box-sizing: border-box;
      display: flex; flex-direction: column; justify-content: flex-end; gap: 4px; padding: 5px 10px;
      background: #041c4a; color: #fff; font: 13px/1.2 Inter, system-ui, sans-serif; border-top: 1px solid #0d3b82; }
    #case-bar div { display: flex; align-items: center; gap: 8px; }
    #case-bar span { overflow-wrap: anywhere; }
    #case-bar [data-part=case] { color: #b6d4ff; flex: 1 1 0; max-height: 32px; overflow: hidden; }
    #case-bar [data-part=message] { flex: 1 1 0; min-height: 16px; }
    #case-bar [data-part=message][data-kind=error] { color: #ff9d8a; }
    #case-bar [data-part=job] { color: #b6d4ff; flex: 0 1 auto; max-width: 50%; }
    #case-bar button { flex: none; padding: 4px 10px; border: 1px solid #348cfd; border-radius: 4px;
      background: transparent; color: #fff; font: inherit; cursor: pointer; }
    #case-bar button:hover:enabled, #case-bar button:focus-visible { background: #0d3b82; }
    #case-bar button[data-action=save]:enabled { background: #2b6cd4; }
    #case-bar button[data-action][aria-pressed=true] { background: #b6d4ff; color: #041c4a; }
    #case-bar button:disabled { opacity: .45; cursor: default; }
    div:has(> #viewerLayoutResizablePanelGroup) { height: calc(100vh - 52px - ${HEIGHT_PX}px) !important; }
    body:has(#case-bar) #root > div { padding-bottom: ${HEIGHT_PX}px; box-sizing: border-box; }
  `;

  // What the bar knows. `shown` is the image in the active viewport, `entry` what the server tells of it; `trained` is
  // the training that was seen to run, `refining` the job that refines what was saved last.
  const state = {
    info: null, person: null, shown: '', entry: null, task: null, isBusy: false, trained: null, refining: null,
  };

  // What an image that has come into view still lacks: OHIF sets a window and a slice of its own once it is loaded.
  const settling = { window: false, middle: false };

  // While the mask before the current one is shown: the viewport, and what it showed otherwise.
  let looking = null;

  // Whether somebody drew: OHIF also reports changes while it opens a mask, before anybody touched it.
  const drawing = { isTouched: false, isChanged: false };

  // The server.

  function authorization() {
    return window.services.userAuthenticationService.getAuthorizationHeader() || {};
  }

  async function reach(method, path, query = {}) {
    const reply = await fetch(`${path}?${new URLSearchParams(query)}`, { method, headers: authorization() });
    if (!reply.ok) {
      const told = await reply.json().catch(() => null);
      throw new Error(told?.detail ?? `The server answered ${method} ${path} with status ${reply.status}.`);
    }
    return reply;
  }

  const ask = async (method, path, query) => (await reach(method, path, query)).json();

  // The sentence that the server gives when it refuses a segmentation stands in its reply (0000,0902).
  function refusal(error) {
    const reply = error.request?.response ?? error.response;
    try {
      const text = typeof reply === 'string' ? reply : new TextDecoder().decode(reply);
      const told = JSON.parse(text);
      return told.detail || told['00081198'].Value[0]['00000902'].Value[0];
    } catch {
      return error.message;
    }
  }

  // The viewer.

  const dataSource = () => window.extensionManager.getActiveDataSource()[0];
  const activeViewport = () => window.services.viewportGridService.getActiveViewportId();
  const openMask = () => window.services.segmentationService.getActiveSegmentation(activeViewport());

  // The image in the active viewport, also where it lies below a segmentation.
  function shownImage() {
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

  // The series of a mask as OHIF knows it; one that came after the study was opened is fetched.
  async function displaySetOf(studyUid, seriesUid) {
    const { displaySetService } = window.services;
    if (!displaySetService.getDisplaySetsForSeries(seriesUid).length) {
      const source = dataSource();
      source.deleteStudyMetadataPromise(`${source.getConfig().name}:${studyUid}`);
      await source.retrieve.series.metadata({
        StudyInstanceUID: studyUid,
        filters: { seriesInstanceUID: [seriesUid] },
      });
    }
    return displaySetService.getDisplaySetsForSeries(seriesUid)[0];
  }

  async function open(entry) {
    const { segmentationService } = window.services;
    const viewportId = activeViewport();
    // A mask that OHIF still holds would come back with what was drawn on it.
    const before = segmentationService.getSegmentationRepresentations(viewportId);
    before.forEach(one => segmentationService.remove(one.segmentationId));
    Object.assign(drawing, { isTouched: false, isChanged: false });
    const segmentationId = entry.current ? await load(entry, entry.current) : await start();
    await segmentationService.addSegmentationRepresentation(viewportId, { segmentationId, type: LABELMAP });
    nameAll(segmentationId, viewportId);
    forgetMiddles(segmentationId, entry.current?.voxels ?? {});
    choose(segmentationId, viewportId, entry.current?.voxels ?? {});
  }

  async function load({ study_uid: studyUid }, { series_uid: seriesUid }) {
    const displaySet = await displaySetOf(studyUid, seriesUid);
    await displaySet.load({ headers: authorization() });
    return displaySet.displaySetInstanceUID;
  }

  // An empty mask, so that the brush has something to draw on.
  function start() {
    const segments = Object.fromEntries(
      state.task.structures.map(({ name }, index) => [index + 1, { segmentIndex: index + 1, label: name }])
    );
    return window.services.segmentationService.createLabelmapForDisplaySet(shownImage(), { label: 'New', segments });
  }

  const segmentsOf = segmentationId =>
    Object.values(window.services.segmentationService.getSegmentation(segmentationId).segments);

  // Every structure of the task gets its segment and its colour: what is drawn must have the right name.
  function nameAll(segmentationId, viewportId) {
    const { segmentationService } = window.services;
    for (const { name, colour } of state.task.structures) {
      const color = [...colour, 255];
      const segment = segmentsOf(segmentationId).find(one => one.label === name);
      if (segment) {
        segmentationService.setSegmentColor(viewportId, segmentationId, segment.segmentIndex, color);
      } else {
        segmentationService.addSegment(segmentationId, { label: name, color });
      }
    }
  }

  // OHIF takes the corner of the image for the middle of an empty segment, and leaps there when it is chosen.
  function forgetMiddles(segmentationId, voxels) {
    for (const segment of segmentsOf(segmentationId)) {
      if (!voxels[segment.label]) {
        segment.cachedStats = {};
      }
    }
  }

  // The structure of which there is most is drawn next, and its middle is shown.
  function choose(segmentationId, viewportId, voxels) {
    const { segmentationService } = window.services;
    const names = state.task.structures.map(({ name }) => name);
    const most = names.reduce((best, name) => ((voxels[name] ?? 0) > (voxels[best] ?? 0) ? name : best));
    const { segmentIndex } = segmentsOf(segmentationId).find(one => one.label === most);
    segmentationService.setActiveSegment(segmentationId, segmentIndex);
    if (voxels[most]) {
      segmentationService.jumpToSegmentCenter(segmentationId, segmentIndex, viewportId, undefined, false);
    }
  }

  const isDrawn = annotation => Object.values(annotation?.voxels ?? {}).some(count => count > 0);

  // The viewport of the case, once it shows the image.
  function settledViewport() {
    const viewport = window.services.cornerstoneViewportService.getCornerstoneViewport(activeViewport());
    const shown = viewport?.viewportStatus === 'rendered' ? viewport.getCurrentImageId() : '';
    return shownImage()?.instances?.some(one => shown?.includes(one.SOPInstanceUID)) ? viewport : null;
  }

  // The window in which the task's images are read, until somebody touches the image; the middle slice at first.
  function settle() {
    const viewport = settling.window || settling.middle ? settledViewport() : null;
    if (!viewport) {
      return;
    }
    const [lower, upper] = state.task.window_hu ?? [];
    const found = viewport.getProperties().voiRange;
    if (settling.window && !(Math.abs(found?.lower - lower) < 1 && Math.abs(found?.upper - upper) < 1)) {
      viewport.setProperties({ voiRange: { lower, upper } });
      viewport.render();
    }
    if (settling.middle) {
      settling.middle = false;
      viewport.scroll(Math.floor(viewport.getNumberOfSlices() / 2) - viewport.getSliceIndex());
    }
  }

  function touched({ target }) {
    if (bar.contains(target)) {
      return;
    }
    drawing.isTouched = true;
    // Who touches what is not shown yet has not chosen its window.
    if (settling.window && settledViewport()) {
      settling.window = false;
    }
  }

  // The mask before the current one.

  const toggleBefore = () => (looking ? showCurrent() : showBefore());

  // It is shown in place of all that is open, which is only hidden: what is drawn and not saved stays.
  async function showBefore() {
    const { segmentationService } = window.services;
    const { study_uid: studyUid, current } = state.entry;
    const viewportId = activeViewport();
    const displaySet = await displaySetOf(studyUid, current.before.series_uid);
    // OHIF holds a mask once: what was drawn on it and saved as the current one would pass for the one before.
    if (segmentationService.getSegmentation(displaySet.displaySetInstanceUID)) {
      throw new Error(`Version ${current.before.version} is what is open and was drawn on; open the case anew first.`);
    }
    looking = { viewportId, activeId: openMask().segmentationId, segments: visibleSegments(viewportId) };
    try {
      looking.segmentationId = await load(state.entry, current.before);
    } catch (error) {
      looking = null;
      throw error;
    }
    const { segmentationId } = looking;
    setVisible(looking, false);
    await segmentationService.addSegmentationRepresentation(viewportId, { segmentationId, type: LABELMAP });
    nameAll(segmentationId, viewportId);
    const marks = isDrawn(current.before) ? '' : ', which marks nothing';
    return `Version ${current.before.version} is shown, ${current.before.description}${marks}: ` +
      `what version ${current.version} was made from. Press Before again for version ${current.version}.`;
  }

  function showCurrent() {
    const { segmentationService } = window.services;
    const { viewportId, activeId, segmentationId } = looking;
    try {
      setVisible(looking, true);
      segmentationService.setActiveSegmentation(viewportId, activeId);
      segmentationService.remove(segmentationId);
    } finally {
      looking = null;
    }
    return '';
  }

  const visibleSegments = viewportId =>
    window.services.segmentationService.getSegmentationRepresentations(viewportId).flatMap(
      ({ segmentationId, segments }) =>
        Object.values(segments).filter(one => one.visible).map(one => [segmentationId, one.segmentIndex])
    );

  function setVisible({ viewportId, segments }, isVisible) {
    for (const [segmentationId, segmentIndex] of segments) {
      window.services.segmentationService.setSegmentVisibility(
        viewportId, segmentationId, segmentIndex, isVisible, LABELMAP
      );
    }
  }

  // What is past is looked at and not changed: the button and the finger that draw do not reach the image.
  function keepFromDrawing(event) {
    const { cornerstoneViewportService } = window.services;
    const element = looking && cornerstoneViewportService.getCornerstoneViewport(looking.viewportId)?.element;
    if (element?.contains(event.target) && !event.button) {
      event.stopPropagation();
      tell('What was before cannot be changed. Press Before again to go on drawing.', 'error');
    }
  }

  // What the buttons do; a text that comes back is shown.

  const ACTIONS = {
    draft: () => infer(state.task.name),
    refine: () => infer(`${state.task.name}_refine`),
    before: toggleBefore,
    save,
    accept: async () => {
      const { image, current } = state.entry;
      await ask('POST', '/annotations/accept', { image, version: current.version });
      await refresh();
      return 'Accepted.';
    },
    'no-finding': async () => {
      const told = await ask('POST', '/cases/no-finding', { image: state.entry.image });
      await refresh();
      return `Stored: no finding.${follow(told.refining)}`;
    },
    next,
    train: async () => {
      await ask('POST', `/train/${state.task.name}`);
      return '';
    },
  };

  // What an action would lose that should not be lost by one press.
  function lossBy(action) {
    const { current } = state.entry ?? {};
    if (LOSING.includes(action) && drawing.isChanged) {
      return ['Your drawing is not saved.', 'go on without it'];
    }
    if (action === 'no-finding' && current?.stage === 'expert' && isDrawn(current)) {
      return [`Version ${current.version} by ${current.author} marks something.`, 'store that nothing is there'];
    }
    return null;
  }

  const LOSING = ['draft', 'refine', 'accept', 'no-finding', 'next'];

  async function infer(model) {
    const told = await ask('POST', `/infer/${model}`, { image: state.entry.image, output: 'json' });
    state.refining = null;
    await refresh();
    const stays = told.annotation_version === state.entry.current.version ? '' : 'What is further along stays open.';
    // Each reason begins with the structure that it is about.
    const kept = told.kept ? `Not changed: ${told.kept}.` : '';
    return [kept, told.summary, stays].filter(Boolean).join(' ');
  }

  // Stores the open mask without OHIF's dialog. All structures were offered, so all count as looked at.
  async function save() {
    const mask = openMask();
    const { dataset } = await window.commandsManager.runCommand(
      'generateSegmentation',
      { segmentationId: mask.segmentationId, options: { SeriesDescription: description() } },
      'SEGMENTATION'
    );
    if (!dataset.NumberOfFrames) {
      return ACTIONS['no-finding']();
    }
    dataset.SpecificCharacterSet = 'ISO_IR 192';
    addAbsent(dataset, mask);
    const request = new XMLHttpRequest();
    try {
      await dataSource().store.dicom(dataset, request);
    } catch (error) {
      throw new Error(refusal(error));
    }
    Object.assign(drawing, { isTouched: false, isChanged: false });
    await reload();
    await displaySetOf(state.entry.study_uid, state.entry.current.series_uid);
    const [, job] = /\brefining=([^,\s]+)/.exec(request.getResponseHeader(JOBS)) ?? [];
    const { version, stage, parent } = state.entry.current;
    // It may have been refined by now.
    return `Saved as version ${job && stage === 'refined' ? parent : version}.${follow(job)}`;
  }

  // What a junior saved is refined meanwhile; how that ended is told in the part for jobs.
  function follow(job) {
    state.refining = job ?? null;
    return job ? ` It is being refined (job ${job}).` : '';
  }

  const isExpert = () => Boolean(state.person?.roles.some(role => EXPERTS.includes(role)));

  // How viewers list what is stored, as the server calls its own.
  function description() {
    return `${isExpert() ? 'EXPERT' : 'DRAFT'} ${state.person.username}`.slice(0, LONGEST_TEXT);
  }

  // OHIF leaves out segments without voxels; with them the mask says that they were looked for.
  function addAbsent(dataset, mask) {
    const described = [dataset.SegmentSequence].flat();
    const written = described.map(one => one.SegmentLabel);
    const absent = Object.values(mask.segments).map(one => one.label).filter(label => !written.includes(label));
    const last = Math.max(...described.map(one => Number(one.SegmentNumber)));
    const added = absent.map((label, index) => ({
      ...described[0], SegmentNumber: String(last + 1 + index), SegmentLabel: label,
    }));
    dataset.SegmentSequence = [...described, ...added];
  }

  async function next() {
    const [strategy] = Object.keys(state.info.strategies);
    const offer = await ask('POST', `/activelearning/${strategy}?checksum=false`);
    if (!offer.id) {
      return offer.message;
    }
    // Where /open leads to, with what it adds for somebody who is signed in.
    const { url } = await reach('GET', '/open', { image: offer.id });
    window.location.assign(url);
    return 'Opening …';
  }

  // Asks the server anew about the case, and opens its current mask.
  async function refresh() {
    await reload();
    await open(state.entry);
  }

  // The images of a study; what can be done with them may have changed too.
  async function casesOf(study) {
    const [{ cases, task }, info] = await Promise.all([ask('GET', '/cases/', { study }), ask('GET', '/info/')]);
    Object.assign(state, { task, info });
    return cases;
  }

  async function reload() {
    const cases = await casesOf(state.entry.study_uid);
    state.entry = cases.find(one => one.image === state.entry.image);
    show();
  }

  // The bar itself.

  const ACCEPT = 'Store the current annotation as it is';
  const NO_EXPERT = 'Annotations are accepted by experts';
  const REFINE = 'Have the current annotation refined';
  const NO_REFINER =
    'Nothing has learned to refine yet: it learns by itself once enough drafts have been corrected and saved';

  const BUTTONS = [
    ['draft', 'Draft', 'Have a draft made and open it'],
    ['refine', 'Refine', REFINE],
    ['before', 'Before', 'Show the mask that the current one was made from, until pressed again'],
    ['accept', 'Accept', ACCEPT],
    ['save', 'Save', 'Store what is drawn as a new version'],
    ['no-finding', 'No finding', 'Store that none of the structures is there'],
    ['next', 'Next case', 'Open the case to label next'],
    ['train', 'Train', 'Have the model learn from the corrections'],
  ];

  const bar = document.createElement('div');
  const parts = {};

  function build() {
    const style = document.createElement('style');
    style.textContent = STYLE;
    bar.id = 'case-bar';
    bar.setAttribute('role', 'toolbar');
    bar.setAttribute('aria-label', 'Label Refinery');
    for (const name of ['message', 'job', 'case']) {
      parts[name] = document.createElement('span');
      parts[name].dataset.part = name;
    }
    parts.message.setAttribute('role', 'status');
    const [told, offered] = [document.createElement('div'), document.createElement('div')];
    told.append(parts.message, parts.job);
    offered.append(parts.case);
    for (const [action, label, title] of BUTTONS) {
      const button = document.createElement('button');
      Object.assign(button, { type: 'button', textContent: label, title });
      button.dataset.action = action;
      button.addEventListener('click', () => press(action, button));
      parts[action] = button;
      offered.append(button);
    }
    bar.append(told, offered);
    // OHIF listens to keys everywhere: Enter on a button is not its business.
    for (const event of ['keydown', 'keyup', 'keypress']) {
      bar.addEventListener(event, pressed => pressed.stopPropagation());
    }
    document.head.append(style);
    document.body.append(bar);
  }

  function tell(text, kind = 'note') {
    parts.message.textContent = text;
    parts.message.dataset.kind = kind;
  }

  function show() {
    const { entry, task, info } = state;
    const stands = entry && (entry.current ? `${entry.current.description} (v${entry.current.version})` : 'no draft yet');
    parts.case.textContent = entry ? `${task.name} · ${shortened(entry.name)} · ${stands}` : (info?.name ?? '');
    parts.case.title = entry ? `${entry.name}\n${entry.image}` : '';
    const refiner = info && task && info.models[`${task.name}_refine`];
    const isReady = Boolean(refiner?.config.ready);
    const isOffered = { refine: refiner, accept: refiner, before: entry?.current?.before };
    for (const [action] of BUTTONS) {
      const needsCase = action !== 'next';
      const needsMask = ['refine', 'accept'].includes(action);
      const isKept = looking && !['before', 'next', 'train'].includes(action);
      parts[action].hidden = action in isOffered && !isOffered[action];
      parts[action].disabled =
        state.isBusy || !info || (needsCase && !entry) || (needsMask && !entry?.current) || Boolean(isKept);
    }
    parts.before.setAttribute('aria-pressed', String(Boolean(looking)));
    parts.refine.disabled ||= !isReady;
    parts.refine.title = isReady ? REFINE : NO_REFINER;
    parts.accept.disabled ||= !isExpert();
    parts.accept.title = isExpert() ? ACCEPT : NO_EXPERT;
  }

  // The begin and the end of a long name tell most of it.
  function shortened(name) {
    const half = Math.floor((LONGEST_NAME - 1) / 2);
    return name.length > LONGEST_NAME ? `${name.slice(0, half)}…${name.slice(-half)}` : name;
  }

  async function press(action, button) {
    // The keys belong to the viewer again.
    button.blur();
    const loss = bar.dataset.warned === action ? null : lossBy(action);
    if (loss) {
      bar.dataset.warned = action;
      tell(`${loss[0]} Press ${button.textContent} again to ${loss[1]}.`, 'error');
      return;
    }
    delete bar.dataset.warned;
    await work(`${button.textContent} …`, ACTIONS[action]);
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
    }
    state.isBusy = false;
    show();
  }

  // What goes on.

  async function look() {
    const image = shownImage();
    const key = image ? `${image.SeriesInstanceUID}/${image.instances?.[0]?.SOPInstanceUID}` : '';
    if (key === state.shown || state.isBusy) {
      return;
    }
    state.shown = key;
    state.entry = null;
    state.refining = null;
    looking = null;
    delete bar.dataset.warned;
    show();
    if (image) {
      await work('', () => meet(image));
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
    Object.assign(settling, { window: Boolean(state.task.window_hu), middle: !isDrawn(state.entry.current) });
    settle();
    await open(state.entry);
    return '';
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
        parts.job.textContent = told.filter(Boolean).join(' · ');
        parts.job.title = parts.job.textContent;
      } catch (error) {
        parts.job.textContent = error.message;
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
    const { segmentationService } = window.services;
    build();
    segmentationService.subscribe(segmentationService.EVENTS.SEGMENTATION_DATA_MODIFIED, () => {
      drawing.isChanged ||= drawing.isTouched && !looking;
    });
    for (const event of ['pointerdown', 'keydown']) {
      document.addEventListener(event, touched, true);
    }
    for (const event of ['mousedown', 'touchstart']) {
      document.addEventListener(event, keepFromDrawing, true);
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
})();
