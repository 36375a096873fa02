// Who else has the case open, and what they saved meanwhile.

import * as drawing from './drawing.js';
import { say } from './panel.js';
import { ask, authorization } from './server.js';
import { newId, state } from './state.js';

const TAB = newId();
const TOLD_MS = 10000;

let open = '';
let asking = null;

// Tells the server what is on the screen; `found` is called with what it knows of others and of the sign-in.
export async function tell(found) {
  clearTimeout(asking);
  asking = setTimeout(() => tell(found), TOLD_MS);
  const image = state.entry?.image ?? '';
  if (image !== open) {
    leave();
    open = image;
  }
  if (!image) {
    return;
  }
  try {
    const told = await ask('POST', '/cases/open', { image, version: drawing.parent(), tab: TAB });
    if (image === state.entry?.image) {
      const nameOf = one => (one.name === state.person.username ? 'you, in another window' : one.name);
      const people = told.others.map(one => (one.version ? `${nameOf(one)} (v${one.version})` : nameOf(one)));
      say('others', people.length ? `Also open: ${[...new Set(people)].join(', ')}` : '');
      found(told);
    }
  } catch (error) {
    // Whoever is away does not see others; saving tells more.
    say('others', '');
    if (error.status === 401) {
      found(error);
    }
  }
}

export function leave() {
  if (open) {
    const query = new URLSearchParams({ image: open, tab: TAB });
    // Nobody waits for the answer of a page that is gone.
    fetch(`/cases/open?${query}`, { method: 'DELETE', headers: authorization(), keepalive: true }).catch(() => {});
  }
  open = '';
  say('others', '');
}

export function begin(found) {
  window.addEventListener('pagehide', leave);
  // Who comes back to a window wants to know what has happened meanwhile.
  window.addEventListener('focus', () => tell(found));
}
