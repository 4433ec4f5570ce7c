// The machine's side: drops, workers, ports, pools, neighbours and routes, events. Lists that are not long are sorted here.

/// A list that is read as a whole.
function wholeList({ path, query, caption, columns, rowKey, sort, took, wanted, empty }) {
  let rows = [];
  const show = () => table.show(sortRows(wanted ? rows.filter(wanted) : rows, columns, table.sort));
  const sorted = (key, isNumber) => {
    table.sort = turned(table.sort, key, isNumber);
    table.showOrder();
    show();
  };
  const table = new Table({ caption, columns, rowKey, sort, sorted, empty });
  const poll = async (signal) => {
    rows = await read(path, query, signal);
    took?.(rows);
    show();
  };
  return { element: table.element, poll, show };
}

const together = (lists) => (signal) => Promise.all(lists.map((list) => list.poll(signal)));

function dropsView() {
  const key = (row) => `drop ${row.reason}`;
  const all = h("input", { type: "checkbox", onchange: () => list.show() });
  const rate = (row) => trafficRatesOf(key(row)).packets;
  const columns = [
    { title: "Reason", key: "reason", head: true, kind: "nowrap", cell: (row) => row.reason },
    { title: "Packets/s", key: "rate", number: true, value: (row) => rate(row) ?? -1, cell: (row) => short(rate(row)) },
    { title: "Of late", kind: "minor", cell: (row) => spark(line(key(row), "packets")) },
    { title: "Packets", key: "packets", number: true, cell: (row) => count(row.packets) },
    { title: "What it means", kind: "prose", cell: (row) => row.meaning },
    { title: "What to do", kind: "prose", cell: (row) => row.advice },
  ];
  const list = wholeList({
    path: "/v1/drops", caption: "Packets that were dropped, by reason", columns, rowKey: (row) => row.reason,
    sort: { by: "packets", reversed: true }, wanted: (row) => all.checked || row.packets > 0,
    took: (rows) => rows.forEach((row) => rates(key(row), { packets: row.packets })), empty: "No packet was dropped.",
  });
  const controls = h("div", { class: "controls" }, h("label", {}, all, " also reasons that have not occurred"));
  return { title: "Drops", element: h("div", {}, controls, list.element), poll: list.poll };
}

const sum = (values) => Object.values(values).reduce((all, value) => all + value, 0);

function workersView() {
  const key = (row) => `worker ${row.worker}`;
  const rate = (name) => (row) => short(trafficRatesOf(key(row))[name]);
  const busy = (row) => {
    const percent = Math.round(100 * row.busy_ratio);
    return [h("meter", { min: 0, max: 100, high: 80, value: percent, "aria-label": `worker ${row.worker} is busy` }), ` ${percent} %`];
  };
  const columns = [
    { title: "Worker", key: "worker", head: true, cell: (row) => String(row.worker) },
    { title: "CPU", key: "lcore", number: true, cell: (row) => String(row.lcore) },
    { title: "Queues", kind: "name", minor: true, cell: (row) => row.queues.join(", ") },
    { title: "Busy", key: "busy_ratio", number: true, cell: busy },
    { title: "Connections", key: "connections", number: true, cell: (row) => `${count(row.connections)} of ${count(row.connection_capacity)}` },
    { title: "Received/s", number: true, cell: rate("received") },
    { title: "Of late", kind: "minor", cell: (row) => spark(line(key(row), "received")) },
    { title: "Sent/s", number: true, cell: rate("sent") },
    { title: "Handed over/s", number: true, minor: true, cell: rate("handed") },
    { title: "Dropped/s", number: true, cell: rate("dropped") },
    { title: "Evicted connections", key: "evicted_connections", number: true, minor: true, cell: (row) => count(row.evicted_connections) },
  ];
  const took = (rows) => rows.forEach((row) => rates(key(row), {
    received: row.received_packets, sent: row.transmitted_packets, handed: row.handed_over_packets, dropped: sum(row.dropped_packets),
  }));
  const list = wholeList({ path: "/v1/workers", caption: "Workers", columns, rowKey: (row) => row.worker, took });
  return { title: "Workers", element: h("div", {}, list.element), poll: list.poll };
}

function portsView() {
  const key = (row) => `port ${row.port}`;
  const rate = (name, unit) => (row) => short(trafficRatesOf(key(row))[name], unit);
  const state = (row) => {
    if (!row.link_up) return pill("bad", "link down");
    if (row.transmit_stalled || row.receive_stalled) return pill("bad", "stalled", row.transmit_stalled ? "It takes packets and does not send them." : "It receives packets and hands none over.");
    return pill("good", row.link_speed ? `up, ${short(row.link_speed * 1e6, "b/s")}` : "up");
  };
  const columns = [
    { title: "Port", key: "port", head: true, kind: "name", cell: (row) => row.port },
    { title: "Link", kind: "nowrap", cell: state },
    { title: "Received", number: true, cell: rate("in", "b/s") },
    { title: "Of late", kind: "minor", cell: (row) => spark(line(key(row), "in")) },
    { title: "Sent", number: true, cell: rate("out", "b/s") },
    { title: "Packets/s in, out", number: true, minor: true, cell: (row) => `${rate("packets_in")(row)}, ${rate("packets_out")(row)}` },
    { title: "Missed", key: "missed_packets", number: true, cell: (row) => count(row.missed_packets) },
    { title: "Errors in, out", number: true, minor: true, cell: (row) => `${count(row.receive_errors)}, ${count(row.transmit_errors)}` },
    { title: "No buffer", key: "no_mbuf", number: true, minor: true, cell: (row) => count(row.no_mbuf) },
    { title: "Addresses", kind: "prose", cell: (row) => [row.addresses.join(", "), row.duplicate_addresses?.length && pill("bad", `another host has ${row.duplicate_addresses.join(", ")}`)] },
    { title: "Device", kind: "name minor", cell: (row) => `${row.device}${row.vlan === "0" ? "" : `, VLAN ${row.vlan}`}, ${row.driver}, ${row.mac}, MTU ${row.mtu}` },
  ];
  const took = (rows) => rows.forEach((row) => rates(key(row), {
    in: 8 * row.received_bytes, out: 8 * row.transmitted_bytes, packets_in: row.received_packets, packets_out: row.transmitted_packets,
  }));
  const list = wholeList({ path: "/v1/ports", caption: "Ports; the counters of ports on one device are the device's", columns, rowKey: (row) => row.port, took });
  return { title: "Ports", element: h("div", {}, list.element), poll: list.poll };
}

/// The most pools that are asked for: they have a row for each service and real server.
const POOLS = 500;

function poolsView() {
  const use = (row) => {
    const percent = row.pairs ? Math.round((100 * row.used) / row.pairs) : 0;
    return [h("meter", { min: 0, max: 100, high: 80, value: percent, "aria-label": `${row.pool} towards ${row.real} is used` }), ` ${percent} %`];
  };
  const pairs = (title, key, minor) => ({ title, key, number: true, minor, cell: (row) => count(row[key]) });
  const pools = wholeList({
    path: "/v1/pools", query: { limit: POOLS }, caption: `Local pools: pairs of address and port towards each real server (at most ${POOLS} rows)`,
    columns: [
      { title: "Pool", key: "pool", head: true, kind: "name", cell: (row) => row.pool },
      { title: "Service", key: "service", kind: "name", cell: (row) => row.service },
      { title: "Protocol", key: "protocol", minor: true, cell: (row) => row.protocol },
      { title: "Real server", key: "real", kind: "name", cell: (row) => row.real },
      { title: "Use", key: "use", number: true, value: (row) => row.used / (row.pairs || 1), cell: use },
      pairs("Used", "used"), pairs("Closing", "closing", true), pairs("Most", "highest", true), pairs("Pairs", "pairs"), pairs("Exhausted", "exhausted"),
    ],
    rowKey: (row) => `${row.pool} ${row.service} ${row.protocol} ${row.real}`, sort: { by: "use", reversed: true }, empty: "No service has a local pool.",
  });
  const snat = wholeList({
    path: "/v1/snat", caption: "Rules for connections outwards ([[snat]])",
    columns: [
      { title: "From", key: "from", head: true, cell: (row) => row.from },
      { title: "Pool", key: "pool", cell: (row) => row.pool },
      { title: "Connections", number: true, cell: (row) => count(connectionsOf(row)) },
      pairs("Pairs to each remote address and port", "pairs"), pairs("Exhausted", "exhausted"),
    ],
    rowKey: (row) => row.from, empty: "There is no rule of [[snat]].",
  });
  return { title: "Pools", element: h("div", {}, pools.element, h("h3", {}, "Outward connections"), snat.element), poll: together([pools, snat]) };
}

function networkView() {
  const neighbours = wholeList({
    path: "/v1/neighbours", caption: "Neighbours: next hops and their MAC addresses",
    columns: [
      { title: "Address", key: "address", head: true, kind: "name", cell: (row) => row.address },
      { title: "Port", key: "port", cell: (row) => row.port },
      { title: "MAC address", key: "mac", cell: (row) => row.mac ?? "–" },
      { title: "State", key: "state", cell: (row) => [pill(row.state === "failed" ? "bad" : row.state === "incomplete" ? "fair" : "good", row.state), row.static && " static"] },
    ],
    rowKey: (row) => `${row.port} ${row.address}`,
  });
  const routes = wholeList({
    path: "/v1/routes", caption: "Routes",
    columns: [
      { title: "To", key: "to", head: true, kind: "name", cell: (row) => row.to },
      { title: "Via", key: "via", cell: (row) => row.via ?? "connected" },
      { title: "Port", key: "port", cell: (row) => row.port },
    ],
    rowKey: (row) => `${row.to} ${row.via} ${row.port}`,
  });
  return { title: "Network", element: h("div", {}, neighbours.element, h("h3", {}, "Routes"), routes.element), poll: together([neighbours, routes]) };
}

/// Events that are kept, and shown.
const EVENTS = 500;

function eventsView() {
  let events = [];
  let last = 0;
  let follows = null;
  const kinds = h("select", { onchange: () => show() }, h("option", { value: "" }, "all kinds"));
  const level = { error: "bad", warn: "fair" };
  const named = (row) => Object.entries(row.fields).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  const table = new Table({
    caption: `Events, the latest first (at most ${EVENTS})`, rowKey: (row) => row.n, empty: "Nothing of this kind has happened.",
    columns: [
      { title: "Time", head: true, kind: "nowrap", cell: (row) => h("time", { datetime: row.time, title: row.time }, new Date(row.time).toLocaleString("sv")) },
      { title: "Level", kind: "nowrap", cell: (row) => pill(level[row.level] || "", row.level) },
      { title: "Kind", minor: true, cell: (row) => row.kind },
      { title: "What", kind: "prose", cell: (row) => [row.message, h("span", { class: "faint" }, `  ${named(row)}`)] },
    ],
  });
  const show = () => {
    const chosen = kinds.value;
    table.show(events.filter((row) => !chosen || row.kind === chosen).reverse());
  };
  const take = (rows) => {
    const fresh = rows.filter((row) => row.n > last);
    if (!fresh.length) return;
    events = [...events, ...fresh].slice(-EVENTS);
    last = events[events.length - 1].n;
    for (const kind of new Set(fresh.map((row) => row.kind))) {
      if (![...kinds.options].some((option) => option.value === kind)) kinds.append(h("option", { value: kind }, kind));
    }
    show();
  };
  const close = () => {
    follows?.abort();
    follows = null;
  };
  const poll = async (signal) => {
    if (follows) return;
    const rows = await read("/v1/events", last ? { after: last } : { limit: EVENTS }, signal);
    // Numbers begin anew with the daemon.
    if (last && rows.some((row) => row.n <= last)) [events, last] = [[], 0];
    take(rows);
    show();
    if (isPaused || document.hidden) return;
    const follower = (follows = new AbortController());
    // Where too many follow them already, or the connection ends, the next turn reads on.
    follow(last, follower.signal, take).catch(() => {}).finally(() => follows === follower && (follows = null));
  };
  const controls = h("div", { class: "controls" }, h("label", {}, "Show ", kinds));
  return { title: "Events", element: h("div", {}, controls, table.element), poll, close };
}

