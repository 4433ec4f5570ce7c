// Requests. A token is kept in this tab alone, and sent to where the page came from alone.

const TOKEN = "weir-token";

const token = () => sessionStorage.getItem(TOKEN);

function headers(more = {}, bearer = token()) {
  return bearer ? { ...more, Authorization: `Bearer ${bearer}` } : more;
}

/// What the API refused, in its own words.
class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/// Milliseconds until what does not answer is given up, and until a stream of events is that was silent: it has a sign of life every
/// 15 seconds.
const PATIENCE = 15000;
const SILENCE = 40000;

function patient(signal) {
  const late = AbortSignal.timeout(PATIENCE);
  return signal && AbortSignal.any ? AbortSignal.any([signal, late]) : (signal ?? late);
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (why) {
    if (why.name === "AbortError") throw why;
    throw new Refused(0, "weir does not answer");
  }
  if (answer.ok) return answer;
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    detail = (await answer.json()).detail || detail;
  } catch {
    // An error of something between here and weir: its status has to do.
  }
  throw new Refused(answer.status, detail);
}

const address = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
};

/// Reads a list or an object.
async function read(path, query, signal) {
  return (await request(address(path, query), { headers: headers(), signal: patient(signal) })).json();
}

/// Reads one page of a list, and how many rows there are on all pages.
async function readPage(path, query, signal) {
  const answer = await request(address(path, query), { headers: headers(), signal: patient(signal) });
  const rows = await answer.json();
  return { rows, total: Number(answer.headers.get("x-total-count") ?? rows.length) };
}

async function change(path, body) {
  const type = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers: headers(type), body: JSON.stringify(body) })).json();
}

/// What weir says of itself to who has this token.
async function status(bearer, signal) {
  return (await request("/v1/status", { headers: headers({}, bearer), signal: patient(signal) })).json();
}

/// Hands over events as they happen (server-sent events: `EventSource` can send no token), until the signal; from one number on.
async function follow(after, signal, take) {
  const answer = await request(address("/v1/events", { follow: true, after }), { headers: headers(), signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silent = setTimeout(() => reader.cancel(), SILENCE);
    const { value, done } = await reader.read().finally(() => clearTimeout(silent));
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    const rows = parts.map((part) => part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n"));
    const events = rows.filter((row) => row).map((row) => JSON.parse(row));
    if (events.length) take(events);
  }
}

