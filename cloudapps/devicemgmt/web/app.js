// The page of device management: live twins, and a form for what may be set.
// No library, no build step. Everything shown is text; nothing is put in as HTML.
"use strict";

const PAGE = 60;          // cards shown before "show more"
const ROWS = 10;          // properties shown of a device before "show all"
const HISTORY = 60;       // values kept for a sparkline
const SILENCE = 45000;    // ms without a byte (three heartbeats) until the stream counts as lost
const RETRY = 2000;       // ms before it is opened again

const $ = (id) => document.getElementById(id);
const devices = new Map();   // id -> {view, history, card}
const dirty = new Set();
const ui = { query: "", filter: "all", shown: PAGE, token: sessionStorage.getItem("token") || "", frame: 0, whole: true };

// ---- small tools

function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value != null) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

function svg(tag, attributes) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  return e;
}

function setText(e, text) { if (e.textContent !== text) e.textContent = text; }

// parse keeps integers beyond 2^53 as the text they came in, where the browser can.
function parse(text) {
  return JSON.parse(text, (key, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context ? context.source : value);
}

function show(value) {
  if (value == null) return "";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(7)));
  return String(value);
}

function age(time) {
  if (!time) return "never";
  const s = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (s < 5) return "now";
  if (s < 100) return s + " s";
  if (s < 6000) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

// ago is age in a sentence.
function ago(time) {
  const a = age(time);
  return a === "now" || a === "never" ? a : a + " ago";
}

const STATE = {
  online: ["good", "online"], offline: ["bad", "offline"], unhealthy: ["bad", "unhealthy"],
  stale: ["warn", "stale"], unknown: ["idle", "never heard of"],
};
const SYNC = { synced: ["good", "✓ in sync"], pending: ["warn", "… pending"], overdue: ["bad", "! overdue"], invalid: ["bad", "! invalid"] };

// ---- the API

function headers(more) {
  const h = { ...more };
  if (ui.token) h.Authorization = "Bearer " + ui.token;
  return h;
}

async function patch(view, property, json) {
  const response = await fetch(`api/v1/devices/${view.namespace}/${view.name}`, {
    method: "PATCH",
    headers: headers({ "Content-Type": "application/merge-patch+json" }),
    body: `{"desired":{${JSON.stringify(property)}:${json}}}`,
  });
  const text = await response.text();
  if (response.status === 401) askToken();
  if (response.ok) return parse(text);
  let message = `The server answered ${response.status}.`;
  try {
    const body = JSON.parse(text);
    const p = (body.problems || [])[0];
    message = p ? p.what + (p.remedy ? ": " + p.remedy : "") + "." : body.error;
  } catch { /* not JSON: the status has to do */ }
  throw new Error(message[0].toUpperCase() + message.slice(1));
}

// jsonOf turns what was typed into JSON. What is no number goes as text: the server
// says what is wrong with it, in one voice for all clients.
function jsonOf(property, text) {
  text = text.trim();
  const number = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
  if (["INT", "FLOAT", "DOUBLE"].includes(property.type) && number.test(text)) return text;
  if (property.type === "BOOLEAN" && (text === "true" || text === "false")) return text;
  return JSON.stringify(text);
}

// stream reads server-sent events by fetch, because EventSource cannot send a token.
async function stream() {
  let lastID = "";
  for (;;) {
    const abort = new AbortController();
    let timer = setTimeout(() => abort.abort(), SILENCE);
    try {
      const response = await fetch("api/v1/events", { headers: headers(lastID ? { "Last-Event-ID": lastID } : {}), signal: abort.signal, cache: "no-store" });
      if (response.status === 401) {
        connection("lost", "a token is needed");
        await askToken();
        continue;
      }
      if (!response.ok) throw new Error("status " + response.status);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(timer);
        timer = setTimeout(() => abort.abort(), SILENCE);
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) lastID = event(part) || lastID;
      }
    } catch { /* told below */ } finally { clearTimeout(timer); }
    connection("lost", "connection lost, trying again");
    await new Promise((done) => setTimeout(done, RETRY));
  }
}

function event(block) {
  let name = "", data = "", id = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) id = line.slice(4);
  }
  switch (name) {
    case "reset":
      for (const d of devices.values()) d.unseen = true;
      connection("connecting", "reading the devices…");
      break;
    case "device": put(parse(data)); break;
    case "gone": remove(JSON.parse(data).id); break;
    case "synced":
      for (const [key, d] of devices) if (d.unseen) remove(key);
      connection("live", "live");
      ui.whole = true;
      schedule();
      break;
  }
  return id;
}

function connection(state, text) {
  $("connection").dataset.state = state;
  setText($("connection-text"), text);
}

// ---- what is known

function put(view) {
  let d = devices.get(view.id);
  if (!d) {
    devices.set(view.id, d = { history: new Map(), card: null });
    ui.whole = true;
  } else if (d.view.state !== view.state) ui.whole = true;
  d.view = view;
  d.unseen = false;
  for (const p of view.properties) remember(d.history, p);
  dirty.add(view.id);
  schedule();
}

function remember(history, p) {
  if (!p.reported || p.reported.value == null || typeof p.reported.value === "string") return;
  let values = history.get(p.name);
  if (!values) history.set(p.name, values = []);
  const t = Date.parse(p.reported.time);
  if (values.length && values[values.length - 1].t >= t) return;
  values.push({ t, v: Number(p.reported.value) });
  if (values.length > HISTORY) values.shift();
}

function remove(id) {
  const d = devices.get(id);
  if (!d) return;
  if (d.card) d.card.root.remove();
  devices.delete(id);
  ui.whole = true;
  schedule();
}

// ---- drawing

function schedule() {
  if (!ui.frame) ui.frame = requestAnimationFrame(draw);
}

function draw() {
  ui.frame = 0;
  tiles();
  if (ui.whole || ui.query) list();
  for (const id of dirty) {
    const d = devices.get(id);
    if (d && d.card) d.card.update(d);
  }
  dirty.clear();
}

const FILTERS = [
  ["all", "devices", () => true],
  ["online", "online", (v) => v.state === "online"],
  ["attention", "need attention", (v) => v.state !== "online" || (v.problems || []).length > 0],
  ["pending", "not in sync", (v) => v.properties.some((p) => ["pending", "overdue", "invalid"].includes(p.sync.state))],
];

function tiles() {
  const box = $("tiles");
  for (const [key, label, test] of FILTERS) {
    let tile = box.querySelector(`[data-key=${key}]`);
    if (!tile) {
      tile = el("button", { class: "tile", type: "button", "data-key": key, onclick: () => choose(key) }, el("strong"), el("span", {}, label));
      box.append(tile);
    }
    let n = 0;
    for (const d of devices.values()) if (test(d.view)) n++;
    setText(tile.firstChild, String(n));
    tile.setAttribute("aria-pressed", String(ui.filter === key));
    tile.dataset.alert = String(key === "attention" && n > 0);
  }
}

function choose(key) {
  ui.filter = ui.filter === key ? "all" : key;
  ui.shown = PAGE;
  ui.whole = true;
  schedule();
}

function found(view) {
  if (!ui.query) return true;
  const words = [view.id, view.node, view.model, view.protocol, ...view.properties.map((p) => p.name)].join(" ").toLowerCase();
  return ui.query.split(/\s+/).every((w) => words.includes(w));
}

// list puts the cards that are to be seen into the page, in order, and keeps those
// that are there already: a form that is open stays open.
function list() {
  ui.whole = false;
  const test = FILTERS.find((f) => f[0] === ui.filter)[2];
  const ids = [...devices.keys()].filter((id) => test(devices.get(id).view) && found(devices.get(id).view)).sort();
  const visible = new Set(ids.slice(0, ui.shown));
  for (const [id, d] of devices) {
    if (d.card && !visible.has(id)) { d.card.root.remove(); d.card = null; }
  }
  let at = $("devices").firstElementChild;
  for (const id of visible) {
    const d = devices.get(id);
    if (!d.card) { d.card = new Card(d); d.card.update(d); }
    if (d.card.root === at) at = at.nextElementSibling;
    else $("devices").insertBefore(d.card.root, at);
  }
  const more = ids.length - visible.size;
  $("more").hidden = more <= 0;
  setText($("more"), `Show ${Math.min(more, PAGE)} more of ${more}`);
  const none = ids.length === 0 && $("connection").dataset.state === "live";
  $("empty").hidden = !none;
  if (none) setText($("empty"), devices.size ? "No device matches." : "No Device is declared yet. Apply a Device and a DeviceModel, and it appears here.");
  setText($("count"), `${ids.length} of ${devices.size} devices`);
}

class Card {
  constructor(d) {
    const v = d.view;
    this.rows = new Map();
    this.all = false;
    this.badge = el("span", { class: "badge" });
    this.meta = el("p", { class: "card-meta" });
    this.problems = el("div");
    this.body = el("tbody");
    this.more = el("button", { class: "all", type: "button", onclick: () => { this.all = !this.all; this.update(devices.get(v.id)); } });
    const head = (text, cls) => el("th", { scope: "col", class: cls }, text);
    this.root = el("article", { class: "card", "aria-label": v.id },
      el("div", { class: "card-head" }, el("h2", {}, el("small", {}, v.namespace + "/"), v.name), this.badge, this.meta),
      this.problems,
      el("table", { class: "props" },
        el("caption", { class: "visually-hidden" }, "Properties of " + v.id),
        el("thead", {}, el("tr", {}, head("Property"), head("Reported"), head("Recent"), head("Desired"), head("Age"),
          el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Set")))),
        this.body),
      this.more);
  }

  update(d) {
    const v = d.view;
    const [kind, text] = STATE[v.state] || STATE.unknown;
    this.badge.dataset.kind = kind;
    setText(this.badge, text);
    this.view = v;
    this.tick();
    this.showProblems(v.problems || []);
    const names = new Set();
    v.properties.forEach((p, i) => {
      names.add(p.name);
      let row = this.rows.get(p.name);
      if (!row) {
        this.rows.set(p.name, row = new Row(v, p));
        this.body.append(row.root, row.editor);
      }
      row.update(v, p, d.history.get(p.name));
      row.root.hidden = !this.all && i >= ROWS && v.properties.length > ROWS + 2;
      if (row.root.hidden) row.close();
    });
    for (const [name, row] of this.rows) {
      if (!names.has(name)) { row.root.remove(); row.editor.remove(); this.rows.delete(name); }
    }
    this.more.hidden = v.properties.length <= ROWS + 2;
    setText(this.more, this.all ? "Show fewer" : `Show all ${v.properties.length} properties`);
  }

  showProblems(problems) {
    const key = JSON.stringify(problems);
    if (key === this.problemKey) return;
    this.problemKey = key;
    this.problems.replaceChildren();
    if (!problems.length) return;
    this.problems.append(el("details", { class: "problems", open: problems.length <= 2 },
      el("summary", {}, problems.length === 1 ? "1 mistake in the declaration" : problems.length + " mistakes in the declaration"),
      el("ul", {}, ...problems.map((p) => el("li", {}, [p.object, p.field].filter(Boolean).join(": ") + ": " + p.what + (p.remedy ? "; " + p.remedy : ""))))));
  }

  // tick renews what depends on the time alone.
  tick() {
    const v = this.view;
    const parts = [v.protocol, v.model, v.node ? "on " + v.node : "no node"];
    parts.push(v.lastSeen ? "heard " + ago(v.lastSeen) : "never heard");
    setText(this.meta, parts.filter(Boolean).join(" · "));
    for (const row of this.rows.values()) row.tick();
  }
}

class Row {
  constructor(view, p) {
    this.value = el("span", { class: "value" });
    this.quality = el("span", { class: "quality" });
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 76 22", "aria-hidden": "true" });
    this.desired = el("span", { class: "value is" });
    this.sync = el("span", { class: "sync" });
    this.age = el("span", { class: "age" });
    this.set = p.writable ? el("button", { class: "small", type: "button", "aria-expanded": "false", "aria-label": `Set ${p.name} of ${view.id}`, onclick: () => this.toggle() }, "Set") : null;
    this.root = el("tr", {},
      el("th", { scope: "row" }, p.name),
      el("td", { class: "c-value" }, this.value, this.quality),
      el("td", { class: "c-spark" }, this.spark),
      el("td", { class: "c-desired" }, this.desired, this.sync),
      el("td", { class: "c-age" }, this.age),
      el("td", { class: "c-set" }, this.set));
    this.editor = el("tr", { class: "edit", hidden: true });
  }

  update(view, p, history) {
    const before = this.text;
    this.view = view;
    this.p = p;
    const r = p.reported;
    this.text = r ? show(r.value) : "";
    this.value.className = "value" + (r && r.stale ? " stale" : "") + (p.type === "STRING" ? " text" : "");
    if (before !== this.text || this.value.childNodes.length === 0) {
      this.value.replaceChildren(this.text || (r ? "–" : ""), this.text && p.unit ? el("span", { class: "unit" }, " " + p.unit) : "");
      if (before !== undefined) { void this.value.offsetWidth; this.value.classList.add("flash"); }
    }
    this.value.title = r ? String(r.value ?? "") : "";
    this.quality.classList.toggle("none", !r);
    setText(this.quality, !r ? "not yet reported" : r.quality !== "good" ? r.quality.replace(":", ": ") : "");
    const d = p.desired;
    setText(this.desired, d ? d.value == null ? d.text : show(d.value) : "");
    const [kind] = SYNC[p.sync.state] || ["idle"];
    this.sync.dataset.kind = kind;
    this.sync.title = p.sync.reason || "";
    this.draw(history || []);
    this.tick();
  }

  tick() {
    const { reported: r, sync } = this.p;
    setText(this.age, r ? age(r.time) + (r.stale ? ", stale" : "") : "");
    let text = (SYNC[sync.state] || ["", ""])[1];
    if (sync.since) text += " for " + age(sync.since);
    if (sync.state === "overdue" || sync.state === "invalid") text += ": " + sync.reason;
    setText(this.sync, text);
  }

  draw(values) {
    if (values.length < 2) { this.spark.replaceChildren(); return; }
    const last = values[values.length - 1];
    if (this.drawn === last.t) return;
    this.drawn = last.t;
    const t0 = values[0].t, dt = last.t - t0 || 1;
    let lo = Infinity, hi = -Infinity;
    for (const { v } of values) { lo = Math.min(lo, v); hi = Math.max(hi, v); }
    const x = (t) => (2 + 72 * (t - t0) / dt).toFixed(1);
    const y = (v) => (hi === lo ? 11 : 19 - 16 * (v - lo) / (hi - lo)).toFixed(1);
    const steps = this.p.type === "BOOLEAN" || this.p.type === "INT";
    let path = `M${x(t0)} ${y(values[0].v)}`;
    for (const { t, v } of values.slice(1)) path += steps ? `H${x(t)}V${y(v)}` : `L${x(t)} ${y(v)}`;
    this.spark.replaceChildren(svg("path", { d: path }), svg("circle", { cx: x(last.t), cy: y(last.v), r: 2 }));
  }

  toggle() { if (this.editor.hidden) this.open(); else this.close(true); }

  open() {
    const p = this.p, id = "set-" + this.view.id.replace(/[^a-z0-9]/g, "-") + "-" + p.name.replace(/[^a-zA-Z0-9]/g, "-");
    const now = show(p.desired ? p.desired.value ?? p.desired.text : p.reported ? p.reported.value : "");
    this.input = p.type === "BOOLEAN"
      ? el("select", { id }, el("option", { value: "true" }, "true"), el("option", { value: "false" }, "false"))
      : el("input", { id, type: "text", autocomplete: "off", inputmode: p.type === "INT" ? "numeric" : p.type === "STRING" ? "text" : "decimal", "aria-describedby": id + "-error" });
    this.input.value = now || (p.type === "BOOLEAN" ? "true" : "");
    this.error = el("p", { class: "error", id: id + "-error", role: "alert" });
    const range = [p.minimum != null ? "from " + show(p.minimum) : "", p.maximum != null ? "to " + show(p.maximum) : ""].filter(Boolean).join(" ");
    this.submit = el("button", { class: "primary", type: "submit" }, "Set");
    const form = el("form", { novalidate: true, onsubmit: (e) => { e.preventDefault(); this.send(jsonOf(this.p, this.input.value)); } },
      el("label", { for: id }, "Desired " + p.name),
      this.input, el("span", { class: "hint" }, [p.unit, range].filter(Boolean).join(", ")), this.submit,
      p.desired ? el("button", { class: "small", type: "button", onclick: () => this.send("null") }, "Remove desired") : null,
      el("button", { class: "small", type: "button", onclick: () => this.close(true) }, "Cancel"),
      this.error);
    form.addEventListener("keydown", (e) => { if (e.key === "Escape") this.close(true); });
    this.editor.replaceChildren(el("td", { colspan: 6 }, form));
    this.editor.hidden = false;
    this.set.setAttribute("aria-expanded", "true");
    this.input.focus();
    if (this.input.select) this.input.select();
  }

  close(focus) {
    if (this.editor.hidden) return;
    this.editor.hidden = true;
    this.editor.replaceChildren();
    this.set.setAttribute("aria-expanded", "false");
    if (focus) this.set.focus();
  }

  async send(json) {
    this.submit.disabled = true;
    setText(this.error, "");
    this.input.removeAttribute("aria-invalid");
    try {
      put(await patch(this.view, this.p.name, json));
      this.close(true);
    } catch (err) {
      setText(this.error, err.message);
      this.input.setAttribute("aria-invalid", "true");
      this.input.focus();
    } finally { this.submit.disabled = false; }
  }
}

// ---- token

let asking = null;

// askToken resolves when the user has given a token.
function askToken() {
  if (asking) return asking;
  asking = new Promise((given) => {
    setText($("login-error"), ui.token ? "This token is not accepted." : "");
    const dialog = $("login");
    const done = () => {
      if (dialog.returnValue === "" && !$("token").value) { dialog.showModal(); return; }
      dialog.removeEventListener("close", done);
      ui.token = $("token").value.trim();
      sessionStorage.setItem("token", ui.token);
      $("token").value = "";
      asking = null;
      given();
    };
    dialog.addEventListener("close", done);
    if (!dialog.open) dialog.showModal();
  });
  return asking;
}

// ---- the demo's cloud link

async function demo() {
  let ok = false;
  try { ok = await readLink(); } catch { /* no demo */ }
  if (!ok) return;
  $("demo").hidden = false;
  $("link-switch").addEventListener("click", flipLink);
  setInterval(() => readLink().catch(() => {}), 5000);
  try {
    const response = await fetch("demo/about");
    if (!response.ok) return;
    const about = await response.json();
    $("about-text").append(el("p", {}, about.note || ""), el("ul", {}, ...(about.parts || []).map((p) => el("li", {}, p))));
    $("about").hidden = false;
  } catch { /* the note is not needed */ }
}

async function readLink() {
  const response = await fetch("demo/link", { cache: "no-store", headers: headers() });
  if (!response.ok) return false;
  showLink(await response.json());
  return true;
}

function showLink(link) {
  $("demo").dataset.up = String(link.up);
  $("link-switch").setAttribute("aria-checked", String(link.up));
  setText($("link-text"), link.up
    ? "Up. Cut it and watch: twins go stale, the edge goes on, and nothing is lost."
    : `Cut ${ago(link.since)}. Desired values wait; telemetry is spooled on the edge.`);
}

async function flipLink() {
  const button = $("link-switch"), up = button.getAttribute("aria-checked") !== "true";
  button.setAttribute("aria-busy", "true");
  setText($("link-error"), "");
  try {
    const response = await fetch("demo/link", { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ up }) });
    if (!response.ok) throw new Error("The link could not be switched: status " + response.status + ".");
    await readLink();
  } catch (err) { setText($("link-error"), err.message); } finally { button.removeAttribute("aria-busy"); }
}

// ---- start

$("search").addEventListener("input", () => {
  ui.query = $("search").value.trim().toLowerCase();
  ui.shown = PAGE;
  ui.whole = true;
  schedule();
});
document.addEventListener("keydown", (e) => {
  if (e.key === "/" && !e.ctrlKey && !e.metaKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    e.preventDefault();
    $("search").focus();
  }
});
$("more").addEventListener("click", () => { ui.shown += PAGE; ui.whole = true; schedule(); });
setInterval(() => { for (const d of devices.values()) if (d.card) d.card.tick(); }, 1000);
tiles();
demo();
stream();
