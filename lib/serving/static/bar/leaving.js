// Nobody leaves a drawing that is not saved without having been told: the browser asks, and so do OHIF's own ways out.

import * as drawing from './drawing.js';
import { bar, tell } from './panel.js';
import { state } from './state.js';

// What in OHIF leads away from the case, by the events that do it.
const WAYS = {
  click: '[data-cy=return-to-work-list]',
  dblclick: '[data-cy^=study-browser-thumbnail]',
  drop: '[data-cy=viewport-grid]',
};

let isAgreed = false;
let place = 0;
let isPutBack = false;

const isLosing = () => Boolean(state.entry) && !isAgreed && drawing.isChanged();

// The page may be left now: somebody has been asked.
export function agree() {
  isAgreed = true;
}

// A case has come into view: the way back from it begins here.
export function arrive() {
  isAgreed = false;
  delete bar.dataset.leaving;
  place = window.history.state?.idx ?? 0;
}

// Whether a way out is closed for once; a second try goes through, and the drawing is offered when the case opens again.
function isHeld(way) {
  if (!isLosing() || bar.dataset.leaving === way) {
    return false;
  }
  drawing.keep();
  bar.dataset.leaving = way;
  tell('Your drawing is not saved. Press Save, or leave once more: it is offered when the case opens again.', 'error');
  return true;
}

function hold(event, way) {
  if (isHeld(way)) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}

export function begin() {
  window.addEventListener('beforeunload', event => {
    drawing.keep();
    if (isLosing()) {
      event.preventDefault();
    }
  });
  for (const [kind, selector] of Object.entries(WAYS)) {
    document.addEventListener(kind, event => {
      if (event.target.closest?.(selector)) {
        hold(event, kind);
      }
    }, true);
  }
  // Back and forward within OHIF: the address has changed already, and is put back.
  window.addEventListener('popstate', event => {
    if (isPutBack) {
      isPutBack = false;
      event.stopImmediatePropagation();
    } else if (isHeld('history')) {
      isPutBack = true;
      event.stopImmediatePropagation();
      window.history.go(place - (event.state?.idx ?? place - 1));
    }
  }, true);
}
