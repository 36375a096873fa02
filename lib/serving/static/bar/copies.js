// Copies of drawings that are not stored on the server yet, kept in this browser (IndexedDB).
//
// Each opening of a case has one of its own, so that no drawing takes the place of another one: what a reload, a crash
// or another tab left behind is there until somebody opens or discards it.

const NAME = 'label-refinery';
const STORE = 'drawings';
const CASE = 'case';

let database = null;

const done = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export async function begin() {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore(STORE, { keyPath: 'id' }).createIndex(CASE, ['person', 'image']);
  };
  database = await done(opening);
}

// A copy in place of an earlier one of the same id and, if named, of another one. Writing begins at once, so that a page
// that is being left can still do it.
export const keep = (copy, instead) => change(drawings => {
  drawings.put(copy);
  if (instead) {
    drawings.delete(instead);
  }
});

export const forget = id => change(drawings => drawings.delete(id));

function change(make) {
  if (!database) {
    return Promise.reject(new Error('This browser keeps no copy of what is drawn and not saved.'));
  }
  const changing = database.transaction(STORE, 'readwrite');
  make(changing.objectStore(STORE));
  changing.commit();
  return new Promise((resolve, reject) => {
    changing.oncomplete = resolve;
    changing.onabort = () => reject(changing.error ?? new Error('The browser did not keep the copy.'));
  });
}

// The copies of somebody's drawings on an image, newest first.
export async function of(person, image) {
  if (!database) {
    return [];
  }
  const drawings = database.transaction(STORE).objectStore(STORE).index(CASE);
  const found = await done(drawings.getAll([person, image]));
  return found.sort((one, other) => other.kept - one.kept);
}
