// The bar itself: what it says, what it offers, and its buttons.

import { isExpert, state } from './state.js';

const LONGEST_NAME = 48;

const ACCEPT = 'Store the current annotation as it is';
const NO_EXPERT = 'Annotations are accepted by experts';
const REFINE = 'Have the current annotation refined';
const NO_REFINER =
  'Nothing has learned to refine yet: it learns by itself once enough drafts have been corrected and saved';

const BUTTONS = [
  ['draft', 'Draft', 'Have a draft made and open it'],
  ['refine', 'Refine', REFINE],
  ['before', 'Before', 'Show the mask that the current one was made from, until pressed again'],
  ['versions', 'Versions', 'List the versions of this case: each can be looked at and restored'],
  ['accept', 'Accept', ACCEPT],
  ['save', 'Save', 'Store what is drawn as a new version'],
  ['no-finding', 'No finding', 'Store that none of the structures is there'],
  ['next', 'Next case', 'Open the case to label next'],
  ['train', 'Train', 'Have the model learn from the corrections'],
];

export const bar = document.createElement('div');

const parts = {};

export function element(kind, properties = {}, dataset = {}) {
  const made = Object.assign(document.createElement(kind), properties);
  Object.assign(made.dataset, dataset);
  return made;
}

export const button = (text, press, properties = {}) => {
  const made = element('button', { type: 'button', textContent: text, ...properties });
  made.addEventListener('click', () => {
    // The keys belong to the viewer again.
    made.blur();
    press(made);
  });
  return made;
};

export function build(press) {
  bar.id = 'case-bar';
  bar.setAttribute('role', 'toolbar');
  bar.setAttribute('aria-label', 'Label Refinery');
  for (const [name, kind] of Object.entries({ message: 'span', others: 'span', job: 'span', case: 'span', list: 'div' })) {
    parts[name] = element(kind, {}, { part: name });
  }
  parts.list.hidden = true;
  parts.offers = element('div', {}, { part: 'offers' });
  parts.message.setAttribute('role', 'status');
  const [told, offered] = [element('div'), element('div')];
  const cases = element('a', { href: '/', textContent: 'Cases', title: 'The start page' });
  told.append(parts.message, parts.others, parts.job, cases);
  offered.append(parts.case);
  for (const [action, label, title] of BUTTONS) {
    parts[action] = button(label, () => press(action), { title });
    parts[action].dataset.action = action;
    offered.append(parts[action]);
  }
  bar.append(parts.list, parts.offers, told, offered);
  // OHIF listens to keys everywhere: Enter on a button is not its business.
  for (const event of ['keydown', 'keyup', 'keypress']) {
    bar.addEventListener(event, pressed => pressed.stopPropagation());
  }
  // The viewer makes room for what is offered; a long message may lie over the image.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty('--case-bar-offers', `${parts.offers.offsetHeight}px`);
  }).observe(parts.offers);
  document.body.append(bar);
}

export const labelOf = action => parts[action].textContent;

export function tell(text, kind = 'note') {
  parts.message.textContent = text;
  parts.message.dataset.kind = kind;
}

export function say(part, text) {
  parts[part].textContent = text;
  parts[part].title = text;
}

// A sentence with buttons that stays until it is settled; one of each name. `choices` are pairs of a text and what it
// does; what is chosen ends the offer, unless that answers `true`.
export function offer(name, text, choices, fields = []) {
  withdraw(name);
  const row = element('div', {}, { offer: name });
  const buttons = choices.map(([label, act]) =>
    button(label, async () => {
      if ((await act()) !== true && row.isConnected) {
        row.remove();
      }
    })
  );
  row.append(element('span', { textContent: text }), ...fields, ...buttons);
  parts.offers.append(row);
}

export const withdraw = name => parts.offers.querySelector(`[data-offer="${name}"]`)?.remove();

export const withdrawAll = (...kept) =>
  [...parts.offers.children].filter(row => !kept.includes(row.dataset.offer)).forEach(row => row.remove());

// A list above the bar; `null`: none.
export function list(rows) {
  parts.list.replaceChildren(...(rows ?? []));
  parts.list.hidden = !rows;
  parts.versions.setAttribute('aria-expanded', String(Boolean(rows)));
}

export const isListed = () => !parts.list.hidden;

const named = told => `${told.description} (v${told.version})`;

// What the case is and which version is shown, which need not be the current one.
function stands(shown) {
  const { current } = state.entry;
  if (shown === null || (!shown && !current)) {
    return current ? `a mask made from nothing · current: ${named(current)}` : 'no draft yet';
  }
  const told = shown ?? current;
  return current && told.version !== current.version ? `${named(told)} · current: ${named(current)}` : named(told);
}

// `shown` is the version that the mask in view was made from, `past` the one that is looked at for a while.
export function show(shown, past) {
  const { entry, task, info } = state;
  const told = entry && (past ? `looking at ${named(past)}` : stands(shown));
  parts.case.textContent = entry ? `${task.name} · ${shortened(entry.name)} · ${told}` : (info?.name ?? '');
  parts.case.title = entry ? `${parts.case.textContent}\n${entry.name}\n${entry.image}` : '';
  const refiner = info && task && info.models[`${task.name}_refine`];
  const isReady = Boolean(refiner?.config.ready);
  const isOffered = { refine: refiner, accept: refiner, before: entry?.current?.before || past };
  for (const [action] of BUTTONS) {
    const needsCase = action !== 'next';
    const needsMask = ['refine', 'accept', 'versions'].includes(action);
    const isKept = past && !['before', 'versions', 'next', 'train'].includes(action);
    parts[action].hidden = action in isOffered && !isOffered[action];
    parts[action].disabled =
      state.isBusy || !info || (needsCase && !entry) || (needsMask && !entry?.current) || Boolean(isKept);
  }
  [parts.offers, parts.list].forEach(part => part.toggleAttribute('inert', state.isBusy));
  parts.before.setAttribute('aria-pressed', String(Boolean(past)));
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
