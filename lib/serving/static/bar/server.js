// What the bar asks the server.

export const TOKEN = 'label-refinery-token';

const MEANWHILE = 'Label-Refinery-Meanwhile';

// What the server refused, or why nothing came from it. `status` is 0 if no reply came; `meanwhile` the version that
// somebody else saved meanwhile, if that is why.
export class Refusal extends Error {
  constructor(message, status, meanwhile = null) {
    super(message);
    Object.assign(this, { status, meanwhile: meanwhile && Number(meanwhile) });
  }

  // Whether it is not known what the server has done.
  get isUnclear() {
    return this.status === 0 || this.status >= 500;
  }
}

export const authorization = () => window.services.userAuthenticationService.getAuthorizationHeader() || {};

export async function reach(method, path, query = {}, options = {}) {
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  let reply;
  try {
    reply = await fetch(`${path}?${new URLSearchParams(asked)}`, { method, headers: authorization(), ...options });
  } catch {
    throw unreachable();
  }
  if (!reply.ok) {
    const told = await reply.json().catch(() => null);
    throw new Refusal(told?.detail ?? withoutWords(reply.status), reply.status, reply.headers.get(MEANWHILE));
  }
  return reply;
}

export const ask = async (method, path, query, options) => (await reach(method, path, query, options)).json();

// Stores a DICOM object through OHIF's data source; the headers of the reply.
export async function store(dataset, query) {
  const [source] = window.extensionManager.getActiveDataSource();
  const request = new XMLHttpRequest();
  const opened = request.open;
  // OHIF has no words for what the mask was made from: they go into the address.
  request.open = (method, url, ...more) => opened.call(request, method, `${url}?${new URLSearchParams(query)}`, ...more);
  try {
    await source.store.dicom(dataset, request);
  } catch (error) {
    // Some faults come before the request.
    if (request.readyState < XMLHttpRequest.HEADERS_RECEIVED && error.message !== 'request failed') {
      throw error;
    }
    if (!request.status) {
      throw unreachable();
    }
    throw new Refusal(sentence(request), request.status, request.getResponseHeader(MEANWHILE));
  }
  return name => request.getResponseHeader(name);
}

const unreachable = () => new Refusal('The server could not be reached, or its reply was lost.', 0);

const withoutWords = status =>
  status >= 500
    ? `The server did not answer by itself: status ${status}.`
    : `The server refused this without a reason: status ${status}.`;

// The sentence that the server gives when it refuses a segmentation stands in its reply (0000,0902).
function sentence(request) {
  try {
    const text = typeof request.response === 'string' ? request.response : new TextDecoder().decode(request.response);
    const told = JSON.parse(text);
    return told.detail || told['00081198'].Value[0]['00000902'].Value[0];
  } catch {
    return withoutWords(request.status);
  }
}
