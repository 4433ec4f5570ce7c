// Rates: what counters have grown by between two answers, and the last of them for a line.

/// Rates that a line has, and things whose rates are kept.
const KEPT = 60;
const MOST = 3000;

const histories = new Map();

/// Takes the counters of one thing, and returns their rates a second (nothing at first, and after they began anew).
function rates(key, counters, now = performance.now()) {
  const before = histories.get(key);
  // The ones that were asked for last are at the end, and kept.
  histories.delete(key);
  const history = before || { rates: {}, lines: {} };
  histories.set(key, history);
  if (histories.size > MOST) histories.delete(histories.keys().next().value);
  const seconds = (now - history.at) / 1000;
  if (history.counters && seconds < 0.2) return history.rates;
  for (const [name, value] of Object.entries(counters)) {
    const grown = history.counters ? value - history.counters[name] : NaN;
    const rate = grown >= 0 ? grown / seconds : null;
    history.rates[name] = rate;
    const line = (history.lines[name] ||= []);
    line.push(rate);
    if (line.length > KEPT) line.shift();
  }
  history.at = now;
  history.counters = counters;
  return history.rates;
}

/// Takes a value that is no counter.
function value(key, name, now) {
  const history = histories.get(key) || { rates: {}, lines: {} };
  histories.set(key, history);
  const line = (history.lines[name] ||= []);
  line.push(now);
  if (line.length > KEPT) line.shift();
}

const line = (key, name) => histories.get(key)?.lines[name];

/// The counters of a service or a real server.
function trafficRates(key, row) {
  return rates(key, {
    connections: row.connections_total,
    packets: row.packets_in + row.packets_out,
    bits: 8 * (row.bytes_in + row.bytes_out),
  });
}

