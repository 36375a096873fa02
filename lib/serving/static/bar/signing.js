// Signing in again without leaving the page, so that nothing drawn is lost: when the sign-in has ended, and before.

import { element, offer, tell, withdraw } from './panel.js';
import { reach, Refusal, TOKEN } from './server.js';
import { state } from './state.js';

const SOON_SECONDS = 15 * 60;

let isEnded = false;

// What could not be done, and is done once somebody is signed in again.
let waiting = null;

// Somebody is signed out.
export function ask(reason, again = null) {
  isEnded = true;
  waiting = again ?? waiting;
  if (!document.querySelector('[data-offer=sign-in]')) {
    form(state.entry ? `${reason} Your drawing is still here.` : reason);
  }
}

// Tells of the end before it comes.
export function warn(seconds) {
  if (isEnded || seconds === null || seconds === undefined) {
    return;
  }
  if (seconds > SOON_SECONDS) {
    withdraw('sign-in');
  } else if (!document.querySelector('[data-offer=sign-in]')) {
    form(`You are signed out in ${Math.max(1, Math.round(seconds / 60))} min.`);
  }
}

function form(reason) {
  const field = element('input', {
    type: 'password', autocomplete: 'current-password', placeholder: 'Your token', ariaLabel: 'Your token',
  });
  const signIn = async () => {
    try {
      await renew(field.value);
    } catch (error) {
      tell(error.message, 'error');
      return true;
    }
    withdraw('sign-in');
    tell(`Signed in again as ${state.person.username}.`);
    const again = waiting;
    waiting = null;
    await again?.();
    return false;
  };
  field.addEventListener('keydown', event => event.key === 'Enter' && signIn());
  offer('sign-in', reason, [['Sign in again', signIn]], [field]);
}

async function renew(token) {
  const reply = await reach('POST', '/auth/ticket', {}, { headers: {}, body: new URLSearchParams({ token }) });
  const told = await reply.json();
  if (state.person && told.username !== state.person.username) {
    throw new Refusal(
      `This is the token of ${told.username}; what is drawn here is by ${state.person.username}. To go on as ` +
      `${told.username}, open the case anew.`, 401
    );
  }
  window.sessionStorage.setItem(TOKEN, told.token);
  state.person = { ...state.person, username: told.username, roles: told.roles };
  isEnded = false;
}
