// Requests to the server. A failure is a Refused (the server said no) or a Lost (no answer: try again).

export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}
export class Lost extends Error {}

const PATIENCE = 30000; // milliseconds

async function request(path, options = {}) {
  let response, body;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), ...options });
    body = await response.json();
  } catch (error) {
    if (response && !response.ok) throw refusal(response.status, {});
    throw new Lost(error.message);
  }
  if (!response.ok) throw refusal(response.status, body);
  return body;
}

// A full disk and a server in trouble may be well again at the next attempt.
function refusal(status, body) {
  return status >= 500 ? Object.assign(new Lost(body.error ?? `the server answered ${status}`), { said: body.error })
    : new Refused(status, body);
}

export const get = (path) => request(path);
export const post = (path, body = {}) => request(path, { method: "POST", body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", "X-Jaxcd": "1" } });
export const send = (method, path) => request(path, { method, headers: { "X-Jaxcd": "1" } });
export const upload = (path, form) => request(path, { method: "POST", body: form, headers: { "X-Jaxcd": "1" },
  signal: AbortSignal.timeout(600000) });
export const pathOf = (pair, what) => `/api/pairs/${encodeURIComponent(pair)}/${what}`;
