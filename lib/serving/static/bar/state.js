// What the bar knows, shared by its parts.

// `shown` is the image in the active viewport, `entry` what the server tells of it, `versions` the masks of it that can
// be looked at, newest first; `trained` is the training that was seen to run, `refining` the job that refines what was
// saved last.
export const state = {
  info: null, person: null, shown: '', entry: null, versions: [], task: null, isBusy: false, trained: null,
  refining: null,
};

const EXPERTS = ['expert', 'admin'];

export const isExpert = () => Boolean(state.person?.roles.some(role => EXPERTS.includes(role)));

// What tells the windows and the drawings of one person apart.
export const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(36)).join('-');

// The hour and the minute, and the day if it is another one.
export function moment(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString('en-GB', { timeStyle: 'short', ...(isToday ? {} : { dateStyle: 'medium' }) });
}
