// Services and real servers: pages of lists that may have tens of thousands of rows. weir searches and sorts them.

const PAGE = 50;

/// A list that comes in pages; what is asked for stands in the page's address, so that a link and a reload keep it.
class Paged {
  /// `query`: what is asked for beside the page's own choice.
  constructor({ path, caption, columns, rowKey, query = {}, choice, search, impaired, sort, took }) {
    Object.assign(this, { path, query, took, base: choice.base });
    const given = new URLSearchParams(choice.given);
    const by = given.get("sort") || sort || "";
    this.wanted = { search: given.get("search") || "", impaired: given.get("impaired") === "true", sort: by, offset: Math.max(0, parseInt(given.get("offset"), 10) || 0) };
    const order = by && { by: by.replace(/^-/, ""), reversed: by.startsWith("-") };
    const sorted = (key, isNumber) => {
      this.table.sort = turned(this.table.sort, key, isNumber);
      this.table.showOrder();
      this.choose({ sort: (this.table.sort.reversed ? "-" : "") + key, offset: 0 });
    };
    this.table = new Table({ caption, columns, rowKey, sort: order, sorted });
    this.table.latest = new Map();
    const controls = [];
    if (search) controls.push(this.searchField(search));
    if (impaired) {
      const box = h("input", { type: "checkbox", onchange: () => this.choose({ impaired: box.checked, offset: 0 }) });
      box.checked = this.wanted.impaired;
      controls.push(h("label", {}, box, ` ${impaired}`));
    }
    const step = (word, by) => h("button", { type: "button", onclick: () => this.choose({ offset: Math.max(0, this.wanted.offset + by) }) }, word);
    this.previous = step("Previous page", -PAGE);
    this.next = step("Next page", PAGE);
    this.place = h("span", { role: "status" });
    const pages = h("div", { class: "pages" }, this.previous, this.next, this.place);
    this.element = h("div", {}, controls.length > 0 && h("div", { class: "controls" }, controls), this.table.element, pages);
  }

  searchField(label) {
    let wait;
    const input = h("input", {
      type: "search", id: "search", value: this.wanted.search, placeholder: "name, address, real server",
      oninput: () => {
        clearTimeout(wait);
        wait = setTimeout(() => this.choose({ search: input.value.trim(), offset: 0 }), 250);
      },
    });
    return h("label", {}, `${label} `, input);
  }

  choose(more) {
    Object.assign(this.wanted, more);
    const given = Object.entries(this.wanted).filter(([, value]) => value);
    const text = new URLSearchParams(given).toString();
    history.replaceState(null, "", `#${this.base}${text && `?${text}`}`);
    turn();
  }

  async poll(signal) {
    const asked = { ...this.query, ...this.wanted, offset: this.wanted.offset || undefined, limit: PAGE };
    const { rows, total } = await readPage(this.path, asked, signal);
    // Rows that were there are gone: the last page that there is.
    if (!rows.length && total && this.wanted.offset) return this.choose({ offset: Math.floor((total - 1) / PAGE) * PAGE });
    this.took?.(rows);
    this.table.latest = new Map(rows.map((row) => [this.table.rowKey(row), row]));
    this.table.show(rows);
    const { offset } = this.wanted;
    const place = rows.length ? `${count(offset + 1)}–${count(offset + rows.length)} of ${count(total)}` : "none";
    if (this.place.textContent !== place) this.place.textContent = place;
    this.previous.disabled = offset === 0;
    this.next.disabled = offset + rows.length >= total;
  }
}

/// What a service is as a whole, in a word or two.
function serviceState(row) {
  const { serving, available_reals: available, needed_reals: needed, real_servers: all, impaired_reals: impaired } = row;
  const few = `${available} of ${all} real servers are available, ${needed} are needed`;
  if (serving === "refused") return pill("bad", "refused", `New connections are refused: ${few}.`);
  if (serving === "fallback") return pill("bad", "fallback", `New connections go to the fallback servers: ${few}.`);
  if (serving === "all") return pill("bad", "all used", `Below its minimum, so that all real servers are used: ${few}.`);
  if (!available) return pill("bad", "none available", "No real server is available.");
  if (impaired) return pill("fair", "impaired", `${impaired} of ${all} real servers get no new connections.`);
  return pill("good", "served");
}

/// What a real server is, in a word or two.
function realState(row) {
  if (row.admin !== "enabled") return pill("fair", row.admin);
  if (row.held) return pill("bad", "held");
  if (!row.up) return pill("bad", "down");
  if (row.overloaded) return pill("fair", "full");
  if (row.fallback) return row.weight ? pill("fair", "in use") : pill("", "standby");
  if (!row.weight) return pill("fair", "unused");
  if (row.slow_start_percent < 100) return pill("fair", `starting, ${row.slow_start_percent} %`);
  return pill("good", "up");
}

/// Why a real server has the weight that it has.
function whyWeight(row) {
  const said = [];
  if (row.why) said.push(row.why);
  if (row.admin_ends_s !== undefined) said.push(`${row.admin} for another ${span(row.admin_ends_s)}`);
  if (row.runtime_weight !== undefined) {
    const ends = row.runtime_weight_ends_s === undefined ? "" : `, for another ${span(row.runtime_weight_ends_s)}`;
    said.push(`an operator's weight ${row.runtime_weight}, the file's is ${row.configured_weight}${ends}`);
  }
  if (row.held_ends_s !== undefined) said.push(`held for another ${span(row.held_ends_s)}`);
  if (row.slow_start_percent < 100) said.push(`it starts slowly: ${row.slow_start_percent} % of its weight`);
  if (row.max_connections !== undefined) said.push(`at most ${count(row.max_connections)} connections`);
  return said.join("; ");
}

const connectionsOf = (row) => row.active_connections + row.inactive_connections;

/// The columns of what goes through: rates, with a line for the bits.
function trafficColumns(key) {
  const rate = (name, unit) => (row) => short(trafficRatesOf(key(row))[name], unit);
  return [
    { title: "Connections", key: "connections", number: true, cell: (row) => count(connectionsOf(row)) },
    { title: "New/s", key: "connections_total", number: true, cell: rate("connections") },
    { title: "Packets/s", key: "packets", number: true, minor: true, cell: rate("packets") },
    { title: "Bit/s", key: "bytes", number: true, cell: rate("bits", "b") },
    { title: "Bit/s of late", kind: "minor", cell: (row) => spark(line(key(row), "bits")) },
  ];
}

const trafficRatesOf = (key) => histories.get(key)?.rates ?? {};
const serviceKey = (row) => `service ${keyOf(row)}`;
const realKey = (row) => `real ${row.protocol}:${row.vip} ${row.real}`;
const serviceLink = (key, name) => h("a", { href: `#service/${encodeURIComponent(key)}` }, name);

function servicesView(given) {
  const columns = [
    { title: "Service", key: "name", head: true, kind: "name", cell: (row) => serviceLink(keyOf(row), row.name) },
    { title: "Address", key: "address", minor: true, kind: "nowrap", cell: keyOf },
    { title: "Mode, scheduler", minor: true, kind: "nowrap", cell: (row) => `${row.mode}, ${row.scheduler}` },
    { title: "State", key: "impaired", kind: "nowrap", most: true, cell: serviceState },
    { title: "Real servers", number: true, cell: (row) => `${row.available_reals} / ${row.real_servers}` },
    ...trafficColumns(serviceKey),
  ];
  const paged = new Paged({
    path: "/v1/services", caption: "Virtual services", columns, rowKey: keyOf, query: { summary: true }, choice: { base: "services", given },
    search: "Search", impaired: "only those with a real server that gets no new connections",
    took: (rows) => rows.forEach((row) => trafficRates(serviceKey(row), row)),
  });
  return { title: "Services", element: h("div", {}, paged.element), poll: (signal) => paged.poll(signal) };
}

/// A list of real servers: those of one service, or of all.
function realsList({ service, choice, search }) {
  const latest = (row) => () => paged.table.latest.get(realKey(row)) || row;
  const check = (row) => {
    if (row.health === "unknown" && !row.health_reason) return h("span", { class: "faint" }, "not checked");
    const since = row.health_since_s === undefined ? "" : ` for ${span(row.health_since_s)}`;
    return `${row.health}${since}${row.health_reason ? `: ${row.health_reason}` : ""}`;
  };
  const columns = [
    { title: "Real server", head: true, kind: "nowrap", cell: (row) => [row.real, row.fallback && h("span", { class: "faint" }, " (fallback)")] },
    !service && { title: "Service", key: "name", kind: "name", cell: (row) => serviceLink(`${row.protocol}:${row.vip}`, row.service) },
    { title: "State", kind: "nowrap", cell: realState },
    { title: "Weight", key: "weight", number: true, cell: (row) => String(row.weight) },
    { title: "Why", kind: "prose", cell: whyWeight },
    ...trafficColumns(realKey),
    { title: "Health check", kind: "prose minor", cell: check },
    { hidden: "Changes", kind: "actions", cell: (row) => realActions(row, latest(row)) },
  ].filter((column) => column);
  const paged = new Paged({
    path: "/v1/reals", caption: service ? "Its real servers" : "Real servers of all services", columns, rowKey: realKey,
    query: { service }, choice, search, impaired: "only those that get no new connections",
    took: (rows) => rows.forEach((row) => trafficRates(realKey(row), row)),
  });
  return paged;
}

function realsView(given) {
  const paged = realsList({ choice: { base: "reals", given }, search: "Search" });
  return { title: "Real servers", element: h("div", {}, paged.element), poll: (signal) => paged.poll(signal) };
}

/// One service, with its real servers.
function serviceView(key, given) {
  const title = h("span", {}, key);
  const facts = h("dl", { class: "facts" });
  const paged = realsList({ service: key, choice: { base: `service/${encodeURIComponent(key)}`, given }, search: "Search" });
  const limits = (row) => Object.entries(row.admission?.limits ?? {}).map(([name, most]) => `${name} ${count(most)}`).join(", ");
  const refused = (row) => Object.entries(row.admission?.refused_packets ?? {}).filter(([, n]) => n).map(([why, n]) => `${count(n)} by ${why}`).join(", ");
  const show = (row) => {
    title.textContent = row.name;
    const history = serviceKey(row);
    const rates = trafficRates(history, row);
    const all = [
      ["State", [serviceState(row), ` ${serviceState(row).title}`]],
      ["Address", keyOf(row)],
      ["Mode", row.mode + (row.local_pool ? `, local pool ${row.local_pool}` : "")],
      ["Scheduler", [row.scheduler, ...(row.flags || [])].join(", ")],
      row.persistence_s !== undefined && ["Persistence", span(row.persistence_s)],
      row.one_packet && ["One packet", "every datagram is scheduled by itself"],
      ["Real servers", `${row.available_reals} of ${row.real_servers} available` + (row.fallback_servers ? `, ${row.fallback_servers} fallback` : "")],
      row.announced !== undefined && ["Announced", row.announced ? "yes" : "no"],
      row.admission && ["Limits", limits(row) || "none"],
      row.admission && ["Refused packets", refused(row) || "none"],
      ["Connections", `${count(connectionsOf(row))}, of which ${count(row.active_connections)} active; ${count(row.connections_total)} since it was configured`],
      ["New connections/s", [short(rates.connections), " ", spark(line(history, "connections"))]],
      ["Packets/s", [short(rates.packets), " ", spark(line(history, "packets"))]],
      ["Bit/s", [short(rates.bits, "b"), " ", spark(line(history, "bits"))]],
    ];
    facts.replaceChildren(...all.filter((it) => it).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  };
  const poll = async (signal) => {
    const [rows] = await Promise.all([read("/v1/services", { service: key, summary: true }, signal), paged.poll(signal)]);
    if (rows[0]) show(rows[0]);
  };
  const back = h("p", {}, h("a", { href: "#services" }, "All services"));
  const name = h("h2", {}, "Service ", title);
  return { title: `Service ${key}`, heading: name, of: "services", element: h("div", {}, back, name, facts, paged.element), poll };
}

