// The page as a whole: which view is open, and when it is read again.

/// Milliseconds between two readings, unless weir takes long to answer.
const PERIOD = 2000;

const VIEWS = {
  services: servicesView, reals: realsView, drops: dropsView, workers: workersView, ports: portsView,
  pools: poolsView, network: networkView, events: eventsView,
};
const NAMES = {
  services: "Services", reals: "Real servers", drops: "Drops", workers: "Workers", ports: "Ports", pools: "Pools", network: "Network", events: "Events",
};

let view = null;
let isPaused = false;
let timer;
let reading = null;

/// Opens what the page's address names.
function open() {
  view?.close?.();
  const [path, given = ""] = location.hash.slice(1).split("?");
  const [name, ...rest] = path.split("/");
  let key;
  try {
    key = decodeURIComponent(rest.join("/"));
  } catch {
    key = "";
  }
  const known = Object.hasOwn(VIEWS, name) ? name : "services";
  view = name === "service" && key ? serviceView(key, given) : VIEWS[known](given);
  const shown = view.of || known;
  for (const link of $("views").querySelectorAll("a")) {
    if (link.hash === `#${shown}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // Until it has been read.
  $("main").setAttribute("aria-busy", "true");
  $("main").dataset.view = location.hash;
  const heading = view.heading || h("h2", { class: "hidden" }, view.title);
  $("main").replaceChildren(...(view.heading ? [] : [heading]), view.element);
  showTitle();
  turn();
}

function showTitle() {
  document.title = `${view.title} – ${$("host").textContent || "weir"}`;
}

/// Reads everything that is shown, and again after a while.
async function turn() {
  clearTimeout(timer);
  reading?.abort();
  const mine = (reading = new AbortController());
  const began = performance.now();
  try {
    await readTotals(mine.signal);
    await view.poll(mine.signal);
    $("main").removeAttribute("aria-busy");
    notice();
  } catch (why) {
    if (mine.signal.aborted) return;
    notice(why);
  }
  if (mine !== reading || isPaused || document.hidden) return;
  // A reader that keeps weir busy asks less often.
  timer = setTimeout(turn, Math.max(PERIOD, 4 * (performance.now() - began)));
}

/// Begins anew, as with another token.
function restart() {
  showToken();
  open();
}

function notice(why) {
  const shown = $("notice");
  let text = "";
  // An answer that stops in its midst.
  if (why?.name === "TimeoutError") why = new Refused(0, "weir does not answer");
  if (why instanceof Refused) {
    text = `${why.message[0].toUpperCase()}${why.message.slice(1)}.`;
    if (why.status === 0) text += " What is shown is of before; this page asks again.";
  } else if (why) {
    text = `This page failed: ${why.message}`;
    console.error(why);
  }
  shown.hidden = !text;
  if (shown.textContent !== text) shown.textContent = text;
}

async function readTotals(signal) {
  const [daemon, workers, ports] = await Promise.all([status(token(), signal), read("/v1/workers", {}, signal), read("/v1/ports", {}, signal)]);
  mayChange = daemon.may_change;
  $("host").textContent = daemon.host;
  showTitle();
  const ill = daemon.ill || daemon.unready;
  const state = ill ? pill(daemon.ill ? "bad" : "fair", daemon.ill ? "not well" : "not ready") : pill("good", "well");
  $("state").className = state.className;
  const words = ill ? `${state.textContent}: ${ill}` : state.textContent;
  if ($("state").textContent !== words) $("state").textContent = words;
  const up = Date.now() / 1000 - daemon.started_s;
  $("about").textContent = [
    `weir ${daemon.version}`, `up for ${span(up)}`, `generation ${daemon.generation}`,
    daemon.health_checks && `health checks down: ${count(daemon.health_checks_down)} of ${count(daemon.health_checks)}`,
    daemon.neighbours.failed && `next hops that do not answer: ${count(daemon.neighbours.failed)}`, daemon.panics && `panics, see the log: ${count(daemon.panics)}`,
    daemon.log_lost_lines && `lost lines of the log: ${count(daemon.log_lost_lines)}`,
  ].filter((it) => it).join(" · ");
  showAwaited(daemon.confirm_ends_s);
  showTotals(daemon, workers, ports);
}

function showTotals(daemon, workers, ports) {
  const over = (rows, of) => rows.reduce((all, row) => all + of(row), 0);
  // Ports on one device have the same counters.
  const devices = [...new Map(ports.map((port) => [port.device, port])).values()];
  const of = rates("totals", {
    received: over(devices, (it) => it.received_packets), bits_in: 8 * over(devices, (it) => it.received_bytes),
    sent: over(devices, (it) => it.transmitted_packets), bits_out: 8 * over(devices, (it) => it.transmitted_bytes),
    dropped: over(workers, (it) => sum(it.dropped_packets)),
  });
  const connections = over(workers, (it) => it.connections);
  const busiest = workers.reduce((most, it) => Math.max(most, it.busy_ratio), 0);
  value("totals", "connections", connections);
  value("totals", "busy", busiest);
  const tiles = [
    ["Services", count(daemon.services)],
    ["Connections", count(connections), "connections"],
    ["Packets received", `${short(of.received)} p/s`, "received"],
    ["Received", short(of.bits_in, "b/s"), "bits_in"],
    ["Packets sent", `${short(of.sent)} p/s`, "sent"],
    ["Sent", short(of.bits_out, "b/s"), "bits_out"],
    ["Packets dropped", `${short(of.dropped)} p/s`, "dropped"],
    ["Busiest worker", `${Math.round(100 * busiest)} %`, "busy"],
    ["Buffers in use", daemon.mbufs ? `${Math.round(100 * (1 - daemon.mbufs_free / daemon.mbufs))} %` : "–"],
  ];
  $("totals").replaceChildren(...tiles.map(([name, value, lined]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, lined && h("div", {}, spark(line("totals", lined), 160))))));
}

function showToken() {
  $("token").textContent = token() ? "Forget the token" : "Enter a token";
}

// The theme: what the system has, or what was chosen.
const THEME = "weir-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  const chosen = localStorage.getItem(THEME) || "auto";
  const is = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
  document.documentElement.dataset.theme = is;
  $("theme").textContent = `Theme: ${chosen}`;
}

function begin() {
  $("views").append(...Object.entries(NAMES).map(([name, title]) => h("li", {}, h("a", { href: `#${name}` }, title))));
  $("theme").addEventListener("click", () => {
    const order = ["auto", "light", "dark"];
    const now = localStorage.getItem(THEME) || "auto";
    localStorage.setItem(THEME, order[(order.indexOf(now) + 1) % order.length]);
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  $("token").addEventListener("click", askToken);
  $("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    $("pause").setAttribute("aria-pressed", String(isPaused));
    $("pause").textContent = isPaused ? "Go on" : "Pause";
    if (isPaused) {
      clearTimeout(timer);
      view.close?.();
    } else turn();
  });
  addEventListener("hashchange", open);
  document.addEventListener("visibilitychange", () => {
    // A page that is not looked at asks for nothing.
    if (!document.hidden) return isPaused || turn();
    clearTimeout(timer);
    view.close?.();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input, select, textarea");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    $("search")?.focus();
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });
  showTheme();
  showToken();
  open();
}

begin();
