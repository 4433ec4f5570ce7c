// Tables: rows are kept by their keys, and a cell is written anew where it differs only, so that the focus and a selection stay.

/// `columns`: `{ title, cell(row), key?, number?, most?, minor?, head?, kind? }`; a cell is text or an element, and with `number` or `most` the
/// first order has the largest first. `sort`: `{ by, reversed }`,
/// which `sorted(by)` is told to change. `rowKey(row)` names a row.
class Table {
  constructor({ caption, columns, rowKey, sort, sorted, empty }) {
    Object.assign(this, { columns, rowKey, sort, sorted, rows: new Map() });
    this.heads = columns.map((column) => this.head(column));
    this.body = h("tbody");
    this.caption = h("caption", {}, caption);
    this.empty = h("p", { class: "faint", hidden: true }, empty || "There is nothing to show.");
    const table = h("table", {}, this.caption, h("thead", {}, h("tr", {}, this.heads)), this.body);
    // What scrolls sideways can be reached by keyboard.
    const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
    this.element = h("div", {}, scroll, this.empty);
    this.showOrder();
  }

  head(column) {
    const attributes = { scope: "col", class: this.kind(column) };
    if (!column.key) return h("th", attributes, column.title || h("span", { class: "hidden" }, column.hidden));
    const onclick = () => this.sorted(column.key, !!(column.number || column.most));
    return h("th", attributes, h("button", { type: "button", onclick }, column.title, h("span", { "aria-hidden": "true" })));
  }

  kind(column) {
    const kinds = [column.number && "number", column.minor && "minor", column.kind];
    return kinds.filter((kind) => kind).join(" ") || undefined;
  }

  showOrder() {
    this.columns.forEach((column, n) => {
      if (!column.key) return;
      const is = this.sort?.by === column.key;
      if (is) this.heads[n].setAttribute("aria-sort", this.sort.reversed ? "descending" : "ascending");
      else this.heads[n].removeAttribute("aria-sort");
      this.heads[n].querySelector("span").textContent = is ? (this.sort.reversed ? " ▼" : " ▲") : "";
    });
  }

  show(rows) {
    const kept = new Map();
    let last = null;
    for (const row of rows) {
      const key = this.rowKey(row);
      if (kept.has(key)) continue;
      const element = this.rows.get(key) || this.newRow();
      kept.set(key, element);
      this.columns.forEach((column, n) => this.fill(element.cells[n], column.cell(row, element.cells[n])));
      const place = last ? last.nextSibling : this.body.firstChild;
      if (place !== element) this.body.insertBefore(element, place);
      last = element;
    }
    for (const [key, element] of this.rows) if (!kept.has(key)) element.remove();
    this.rows = kept;
    this.empty.hidden = kept.size > 0;
  }

  newRow() {
    const cell = (column) => {
      const attributes = { class: this.kind(column) };
      return column.head ? h("th", { ...attributes, scope: "row" }, "") : h("td", attributes);
    };
    return h("tr", {}, this.columns.map(cell));
  }

  fill(cell, content) {
    // A cell that sees to itself.
    if (content === cell) return;
    const parts = [content].flat().filter((it) => it !== undefined && it !== null && it !== false);
    const made = parts.map((part) => (part instanceof Node ? part : document.createTextNode(String(part))));
    const same = made.length === cell.childNodes.length && made.every((node, n) => node.isEqualNode(cell.childNodes[n]));
    if (!same) cell.replaceChildren(...made);
  }
}

/// Rows in the order of one of the columns, by its `cell` or `value`.
function sortRows(rows, columns, sort) {
  const column = sort && columns.find((it) => it.key === sort.by);
  if (!column) return rows;
  const of = column.value || ((row) => row[column.key]);
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true }));
  const sign = sort.reversed ? -1 : 1;
  return [...rows].sort((a, b) => sign * compare(of(a), of(b)));
}

/// How a click on a column's head changes the order: numbers begin with the largest.
function turned(sort, by, isNumber) {
  return sort?.by === by ? { by, reversed: !sort.reversed } : { by, reversed: isNumber };
}

