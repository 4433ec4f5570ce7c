// Changes: only with a token, and each after a confirmation.

/// Whether the token that this tab has may change something, and why not.
let mayChange = false;

/// Asks in a dialog. `fields`: `{ name, label, type, value, hint, ... }`; `act(values)` does it, and what it throws is shown there.
/// Returns whether it was done.
function ask({ title, text, fields = [], word, act }) {
  if (document.querySelector("dialog[open]")) return Promise.resolve(false);
  // One of its own for each question: what is told of the end of one is never taken for another's.
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const inputs = fields.map(({ label, hint, ...attributes }) =>
    h("label", {}, h("span", {}, label), h("input", { autocomplete: "off", ...attributes }), hint && h("span", { class: "faint" }, hint)));
  const submit = h("button", { class: "main" }, word);
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = h("form", {}, h("h2", { id: "dialog-title" }, title), h("p", {}, text), inputs, wrong, h("div", { class: "buttons" }, cancel, submit));
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((done) => {
    let isDone = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        await act(Object.fromEntries(new FormData(form)));
        isDone = true;
        dialog.close();
      } catch (why) {
        wrong.textContent = why.message;
      }
      submit.disabled = false;
    });
    dialog.addEventListener("close", () => {
      // With it goes a token that was typed.
      dialog.remove();
      done(isDone);
    }, { once: true });
    dialog.showModal();
    // Where nothing is to be filled in, Enter changes nothing.
    (form.querySelector("input") || cancel).focus();
  });
}

const FOR = { name: "for", label: "For how long", placeholder: "30m", hint: "Such as 30m or 2h; until it is enabled again where nothing is given." };

/// Asks for one change of a real server and makes it.
async function changeReal(what, row) {
  const of = { service: `${row.protocol}:${row.vip}`, real: row.real };
  const who = `${row.real} of ${row.service}`;
  const post = (path, more) => async (values) => {
    const length = values.for?.trim();
    const answer = await change(path, { ...of, ...more?.(values), ...(length && { for: length }) });
    say(`${who}: the effective weight was ${answer.before} and is ${answer.after}.`);
  };
  const kinds = {
    drain: { title: `Drain ${who}?`, text: "It gets no new connections; those that it has go on.", fields: [FOR], word: "Drain", act: post("/v1/drain") },
    disable: {
      title: `Disable ${who}?`,
      text: "It is treated as one that is down: no new connections, and those that it has end where the service's on_down says so.",
      fields: [FOR], word: "Disable", act: post("/v1/disable"),
    },
    enable: {
      title: `Enable ${who}?`,
      text: `This ends drain, disable and an operator's weight: the file's weight, ${row.configured_weight}, counts again.`,
      word: "Enable", act: post("/v1/enable"),
    },
    weight: {
      title: `Another weight for ${who}`,
      text: `The file has ${row.configured_weight}. 0: no new connections.`,
      fields: [{ name: "weight", label: "Weight", type: "number", min: 0, max: 65535, step: 1, required: true, value: row.runtime_weight ?? row.configured_weight }, FOR],
      word: "Set the weight", act: post("/v1/weight", (values) => ({ weight: Number(values.weight) })),
    },
  };
  if (await ask(kinds[what])) turn();
}

/// The buttons of a real server; `latest()` is its row as it is when one is pressed.
function realActions(row, latest) {
  if (!mayChange) return null;
  const button = (what, word) =>
    h("button", { type: "button", "aria-label": `${word} ${row.real} of ${row.service}`, onclick: () => changeReal(what, latest()) }, word);
  const isChanged = row.admin !== "enabled" || row.runtime_weight !== undefined;
  return [
    row.admin === "drained" || button("drain", "Drain"),
    row.admin === "disabled" || button("disable", "Disable"),
    isChanged && button("enable", "Enable"),
    button("weight", "Weight"),
  ].filter((it) => it instanceof Node);
}

/// Shows that a reload waits for a confirmation, with what to do.
function showAwaited(ends) {
  const shown = $("awaited");
  shown.hidden = ends === undefined;
  if (shown.hidden) return shown.replaceChildren();
  if (!shown.firstChild || !!shown.querySelector("button") !== mayChange) {
    const confirm = () => ask({
      title: "Keep the reload?", text: "The configuration that was loaded last stays in force.", word: "Confirm",
      act: async () => { await change("/v1/confirm", {}); say("The reload is confirmed."); },
    });
    const back = () => ask({
      title: "Go back?", text: "The configuration before is in force again.", word: "Go back",
      act: async () => say((await change("/v1/rollback", {})).summary),
    });
    const button = (word, act) => h("button", { type: "button", onclick: async () => (await act()) && turn() }, word);
    shown.replaceChildren(h("span"), ...(mayChange ? [button("Confirm", confirm), button("Go back", back)] : []));
  }
  shown.firstChild.textContent = `The last reload is taken back in ${span(ends)}, unless it is confirmed.`;
}

/// Takes a token, or gives it back.
async function askToken() {
  if (token()) {
    sessionStorage.removeItem(TOKEN);
    mayChange = false;
    say("The token is forgotten.");
    return restart();
  }
  const isPlain = location.protocol === "http:" && !["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const done = await ask({
    title: "Enter a token",
    text: "One of [api] token_file; for changes, one for write. It is kept until this tab is closed." +
      (isPlain ? " This page came without TLS: the token can be read on its way to weir." : ""),
    fields: [{ name: "token", label: "Token", type: "password", required: true, autocomplete: "off", spellcheck: "false" }],
    word: "Use it",
    act: async (values) => {
      const typed = values.token.trim();
      if (!/^[\x21-\x7e]+$/.test(typed)) throw new Error("A token is of letters, digits and signs, without spaces.");
      const found = await status(typed);
      sessionStorage.setItem(TOKEN, typed);
      say(found.may_change ? "The token is for changes: real servers have buttons now." : "The token is for reading, or weir has no [api] token_file: it changes nothing.");
    },
  });
  if (done) restart();
}

