// How long somebody has worked on the case: pauses count for a minute at most.

const LONGEST_PAUSE_MS = 60000;
const SIGNS = ['pointermove', 'pointerdown', 'wheel', 'keydown'];

let spent = 0;
let last = performance.now();

function note() {
  const now = performance.now();
  spent += Math.min(now - last, LONGEST_PAUSE_MS);
  last = now;
}

export function begin() {
  SIGNS.forEach(sign => document.addEventListener(sign, note, { capture: true, passive: true }));
}

// A case was opened or stored: what comes now counts for the next version.
export function restart() {
  spent = 0;
  last = performance.now();
}

export function seconds() {
  note();
  return Math.round(spent / 1000);
}
