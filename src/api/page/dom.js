// Elements and words. Texts become text nodes and nothing else: names in a configuration may be anything.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/// An element with attributes, listeners (`onclick` is a function) and children; those that are nothing are left out.
function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((it) => it !== undefined && it !== null && it !== false && it !== ""));
  return made;
}

/// Says something once, also to a screen reader.
function say(text) {
  $("said").textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ($("said").textContent = ""), 8000);
}

/// A word with a colour; the colour is never all that tells it.
const pill = (kind, text, title) => h("span", { class: `state ${kind}`, title }, text);

const whole = new Intl.NumberFormat("en");
const count = (n) => (n === undefined || n === null ? "–" : whole.format(n));

/// A number with a prefix of its unit: 12.3 k.
function short(n, unit = "") {
  if (n === undefined || n === null || Number.isNaN(n)) return "–";
  const prefixes = ["", "k", "M", "G", "T", "P"];
  let place = 0;
  while (Math.abs(n) >= 999.5 && place < prefixes.length - 1) {
    n /= 1000;
    place += 1;
  }
  const digits = place === 0 && Number.isInteger(n) ? 0 : n < 9.995 ? 2 : n < 99.95 ? 1 : 0;
  const scale = prefixes[place] + unit;
  return n.toFixed(digits) + (scale && ` ${scale}`);
}

/// Seconds in at most two units.
function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.max(0, Math.round(seconds));
  const said = [];
  for (const [unit, size] of units) {
    if (left >= size && said.length < 2) {
      said.push(`${Math.floor(left / size)} ${unit}`);
      left %= size;
    } else if (said.length) break;
  }
  return said.join(" ") || "0 s";
}

/// The address of a service, as the commands take it: `tcp:192.0.2.80:80`.
const keyOf = (service) => `${service.protocol}:${placeOf(service)}`;
const placeOf = ({ address, port }) => (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);

/// A line through the last rates; what it says is in words beside it.
function spark(rates, width = 100) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("class", "spark");
  made.setAttribute("viewBox", `0 0 ${width} 22`);
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("aria-hidden", "true");
  const known = (rates || []).filter((rate) => rate !== null);
  if (known.length > 1) {
    const most = Math.max(...known) || 1;
    const step = width / (KEPT - 1);
    const from = width - (known.length - 1) * step;
    const at = (rate, n) => `${(from + n * step).toFixed(1)} ${(20.5 - (19 * rate) / most).toFixed(1)}`;
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", `M${known.map(at).join("L")}`);
    made.append(line);
  }
  return made;
}

