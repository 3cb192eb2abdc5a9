// Comfort only: every page works without this file. Texts are put in as text, never as HTML.
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;
root.dataset.script = "on";

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A browser may keep nothing for us; then a choice lasts as long as the page.
const chosen = {};
function kept(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`bellwire-${name}`, value);
    return localStorage.getItem(`bellwire-${name}`);
  } catch {
    if (value !== undefined) chosen[name] = value;
    return chosen[name] ?? null;
  }
}

function toast(text) {
  const line = make("p", { textContent: text });
  $("#toasts")?.append(line);
  setTimeout(() => line.remove(), 5000);
}

// ---- Reading a page again ----

let readAt = Date.parse(document.body.dataset.now) || Date.now();
const skew = readAt - Date.now(); // The server's clock against this one.
const here = () => location.pathname + location.search;

async function read(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname === "/login") {
    show("out");
    return null;
  }
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  readAt = Date.parse(fresh.body.dataset.now) || Date.now() + skew;
  const counts = $(".shell > nav ul", fresh), shown = $(".shell > nav ul");
  if (counts && shown && !shown.matches(":focus-within")) shown.replaceWith(counts);
  return fresh;
}

const detailsKey = (each) => each.id || $("summary", each)?.textContent.trim();

// Put what was read in the place of what is shown; what a person has opened, picked, typed or focused stays.
function put(old, now) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const open = new Map($$("details", old).map((each) => [detailsKey(each), each.open]));
  const picked = new Set($$("input[name=pick]:checked", old).map((each) => each.value));
  const places = $$(".scroll, pre", old).map((each) => [each.scrollLeft, each.scrollTop]);
  const cursor = old.matches("[data-cursor]") ? old.id : $("[data-cursor]", old)?.id;
  old.replaceWith(now);
  for (const each of $$("details", now)) if (open.has(detailsKey(each))) each.open = open.get(detailsKey(each));
  for (const each of $$("input[name=pick]", now)) if (picked.has(each.value)) each.checked = true;
  $$(".scroll, pre", now).forEach((each, n) => places[n] && each.scrollTo(...places[n]));
  if (cursor) document.getElementById(cursor)?.setAttribute("data-cursor", "");
  zone(now);
  if (focused) refocus(focused, now);
}

function refocus(was, now) {
  const same = (each) =>
    was.id ? each.id === was.id : ["href", "name", "type", "aria-label"].every((name) => each.getAttribute(name) === was.getAttribute(name)) && each.textContent === was.textContent;
  const found = now.tagName === was.tagName && same(now) ? now : $$(was.tagName, now).find(same);
  if (found && "selectionStart" in was && was.type !== "button") {
    found.value = was.value;
    try { found.setSelectionRange(was.selectionStart, was.selectionEnd); } catch { /* this kind has no caret */ }
  }
  if (!found) now.tabIndex = -1;
  (found ?? now).focus({ preventScroll: true });
}

async function swap(url, ids, push) {
  try {
    const fresh = await read(url);
    if (!fresh) return;
    if (push && url !== here()) history.pushState({}, "", url);
    shownAt = here();
    document.title = fresh.title;
    for (const id of ids) {
      const old = document.getElementById(id), now = fresh.getElementById(id);
      if (old && now) put(old, now);
    }
    listen();
  } catch (error) {
    if (push) toast(`The list could not be read. ${error.message} Try again.`);
    else location.reload();
  }
}

let shownAt = here();
addEventListener("popstate", () => { if (here() !== shownAt) swap(here(), ["main"], false); });

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("form[data-swap]")) {
    event.preventDefault();
    const fields = [...new FormData(form, event.submitter)].filter(([, value]) => value !== "");
    const query = new URLSearchParams(fields).toString();
    const path = new URL(form.action).pathname;
    swap(query ? `${path}?${query}` : path, form.dataset.swap.split(" "), true);
  } else if (form.matches("[data-theme-form]")) {
    event.preventDefault();
    const button = event.submitter ?? $("button", form);
    fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form, button)), redirect: "manual" });
    root.dataset.theme = button.value;
    button.value = button.value === "dark" ? "light" : "dark";
  }
});

// ---- Live ----

const STATES = {
  live: ["Live", "This page is kept up to date. Press to pause."],
  paused: ["Paused", "This page stands still. Press to go on."],
  polling: ["Every 5 s", "The stream of changes is not there, so the page is read again every 5 seconds. Press to pause."],
  away: ["Not up to date", "The server does not answer. The page is tried again."],
  out: ["Signed out", "You are not signed in any more. Press to sign in again."],
};
let state, source, polling, timer, retrying, fetching = false, notBefore = 0, failures = 0;
const dirty = new Set();
const news = new Map();
const regions = () => $$("[data-live]").filter((each) => each.id);
const topics = () => [...new Set(regions().flatMap((each) => each.dataset.live.split(" ")))].sort().join(",");
const pauser = make("button", { type: "button", className: "quiet live-state", hidden: true });
$(".tools")?.prepend(pauser);

function show(next) {
  state = next;
  const [word, title] = STATES[next];
  pauser.dataset.state = next;
  pauser.textContent = word;
  pauser.title = title;
  pauser.setAttribute("aria-pressed", String(next === "paused"));
  if (next === "out") stop();
}

pauser.addEventListener("click", () => {
  if (state === "out") return location.assign(`/login?next=${encodeURIComponent(here())}`);
  kept("pause", kept("pause") === "on" ? "off" : "on");
  if (kept("pause") === "on") { stop(); show("paused"); } else { regions().forEach((each) => dirty.add(each.id)); state = ""; listen(); soon(); }
  tail?.draw();
});

function stop() {
  source?.close();
  clearInterval(polling);
  clearTimeout(retrying);
  source = polling = undefined;
}

function listen() {
  const wanted = topics();
  pauser.hidden = !wanted && !$("[data-tail]");
  if (kept("pause") === "on") { stop(); show("paused"); return; }
  if (!wanted || document.hidden || state === "out") { stop(); if (state !== "out") show("live"); return; }
  if (source?.wanted === wanted && source.readyState !== EventSource.CLOSED) return;
  stop();
  source = new EventSource(`/dashboard/changes?${new URLSearchParams({ topics: wanted, since: String(readAt) })}`);
  source.wanted = wanted;
  source.addEventListener("ready", () => { failures = 0; clearInterval(polling); polling = undefined; show("live"); });
  source.addEventListener("changed", (event) => note(JSON.parse(event.data).topics));
  source.addEventListener("gone", () => show("out"));
  source.addEventListener("error", function () {
    if (this !== source || state === "out") return;
    failures += 1;
    if (this.readyState === EventSource.CLOSED || failures > 1) poll();
    // A browser gives up on a refusal; the stream may be there again later.
    if (this.readyState === EventSource.CLOSED) { clearTimeout(retrying); retrying = setTimeout(listen, 30000); }
  });
}

function poll() {
  show("polling");
  polling ??= setInterval(() => { regions().forEach((each) => dirty.add(each.id)); soon(); }, 5000);
}

function note(changed) {
  for (const each of regions()) if (each.dataset.live.split(" ").some((topic) => changed.includes(topic))) dirty.add(each.id);
  if (dirty.size) soon();
}

function soon(wait = 150) {
  clearTimeout(timer);
  timer = setTimeout(refresh, Math.max(wait, notBefore - Date.now()));
}

async function refresh() {
  if (fetching || document.hidden || ["paused", "out"].includes(state) || !dirty.size) return;
  fetching = true;
  const url = here(), began = Date.now(), ids = [...dirty];
  dirty.clear();
  try {
    const fresh = await read(url);
    if (fresh && url === here() && state !== "paused") for (const id of ids) renew(document.getElementById(id), fresh.getElementById(id));
    if (state === "away") show(polling ? "polling" : "live");
  } catch {
    ids.forEach((id) => dirty.add(id));
    if (state !== "out") show("away");
    notBefore = Date.now() + 5000;
  }
  fetching = false;
  // A page that is slow to make is asked for less often.
  notBefore = Math.max(notBefore, Date.now() + Math.max(500, 5 * (Date.now() - began)));
  if ([...dirty].some((id) => !waits(document.getElementById(id)))) soon();
}

const waits = (region) => region && !region.matches("[data-hold]") && inUse(region);

function inUse(region) {
  const selection = getSelection();
  return Boolean(
    region.matches(":focus-visible") || $(":focus-visible", region) ||
    (selection && !selection.isCollapsed && selection.containsNode(region, true)) ||
    $$("input:not([type=hidden]), textarea", region).some((each) => each.name !== "pick" && (each.value !== each.defaultValue || each.checked !== each.defaultChecked)),
  );
}

function renew(old, now) {
  if (!old || !now) return;
  if (old.matches("[data-hold]")) hold(old, now);
  else if (inUse(old)) dirty.add(old.id);
  else put(old, now);
}

// Rows that are shown change in place, new ones wait behind a button: nothing that is being read is moved.
function hold(old, now) {
  const shown = $$("[data-row]", old), fresh = new Map($$("[data-row]", now).map((each) => [each.id, each]));
  if (!shown.length || !fresh.size) { news.delete(old.id); if (!inUse(old)) put(old, now); return; }
  const count = [...fresh.keys()].filter((id) => !shown.some((each) => each.id === id)).length;
  if (count) news.set(old.id, now.cloneNode(true));
  for (const row of shown) {
    const next = fresh.get(row.id);
    if (!next) row.toggleAttribute("data-gone", !count);
    else if (next.innerHTML !== row.innerHTML && !inUse(row)) put(row, next);
  }
  let bar = $(":scope > .news", old);
  if (!count) { bar?.remove(); news.delete(old.id); return; }
  if (!bar) {
    bar = make("div", { className: "news" }, make("button", { type: "button", className: "new-rows primary" }));
    bar.setAttribute("role", "status");
    old.prepend(bar);
  }
  bar.firstChild.textContent = `${count}${count === fresh.size ? "+" : ""} new`;
}

document.addEventListener("focusout", () => dirty.size && soon());
document.addEventListener("selectionchange", () => dirty.size && getSelection().isCollapsed && soon());
document.addEventListener("visibilitychange", () => { listen(); tail?.turn(); if (!document.hidden && dirty.size) soon(); });
addEventListener("pagehide", () => { stop(); tail?.stop(); });
addEventListener("pageshow", (event) => { if (event.persisted) { $$("[data-hide-after]").forEach(hide); listen(); tail?.turn(); } });

// ---- Clicks and changes ----

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard but this.
    const field = make("textarea", { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast("Copied");
}

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  const copied = on("[data-copy]"), summary = on("details.confirm > summary"), link = on("a[data-swap]");
  if (copied) {
    const wanted = copied.dataset.copy, from = wanted.startsWith("#") ? $(wanted) : null;
    copy(from ? (from.value ?? from.textContent) : wanted);
  } else if (summary) {
    event.preventDefault();
    ask(summary.parentElement);
  } else if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    swap(link.getAttribute("href"), link.dataset.swap.split(" "), true);
  } else if (on(".new-rows")) {
    const region = on("[data-hold]");
    if (region && news.has(region.id)) { put(region, news.get(region.id)); news.delete(region.id); }
  } else if (on("[data-zone-toggle]")) {
    kept("zone", kept("zone") === "local" ? "utc" : "local");
    zone(document);
  } else if (on("[data-help]")) {
    on("details")?.removeAttribute("open");
    dialogs("help");
  }
  for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("[data-pick-all]")) for (const each of $$("input[name=pick]")) each.checked = field.checked;
  if (field.matches("[data-pick-all], input[name=pick]")) {
    const count = String($$("input[name=pick]:checked").length);
    for (const each of $$("[data-pick-count]")) each.textContent = count;
  } else if (field.form?.matches("[data-swap]") && field.matches("select, [type=checkbox], [type=radio], [type=date]")) {
    field.form.requestSubmit();
  }
});

// A form that asks first: the same form, as a dialog.
function ask(details) {
  const form = $("form", details), summary = $("summary", details);
  if (!form) return;
  const cancel = make("button", { type: "button", textContent: "Cancel" });
  const dialog = make("dialog", { className: "ask" }, form);
  dialog.setAttribute("aria-label", summary.textContent.trim());
  form.classList.remove("sheet");
  form.append(cancel);
  document.body.append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    cancel.remove();
    form.classList.add("sheet");
    details.append(form);
    dialog.remove();
    summary.focus();
  });
  dialog.showModal();
  ($("input:not([type=hidden]), select, textarea", form) ?? cancel).focus();
}

// ---- Times ----

function zone(within) {
  const local = kept("zone") === "local", button = $("[data-zone-toggle]");
  if (button) { button.textContent = local ? "Local" : "UTC"; button.setAttribute("aria-pressed", String(local)); }
  for (const each of $$("time[data-clock]", within)) {
    each.textContent = local ? new Date(each.dateTime).toLocaleTimeString("en-GB") : each.dateTime.slice(11, 19);
  }
  for (const each of $$("time[title]", within)) each.title = local ? new Date(each.dateTime).toLocaleString("en-GB", { timeZoneName: "short" }) : each.dateTime;
}

function span(seconds) {
  const units = [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]];
  const [large, size, small, part] = units.find(([, least]) => seconds >= least) ?? ["s", 1];
  const rest = part && Math.floor((seconds % size) / part);
  return `${Math.floor(seconds / size)} ${large}` + (rest ? ` ${rest} ${small}` : "");
}

function hide(each) {
  each.replaceChildren(make("span", { className: "muted", textContent: "Hidden again. Reveal it once more if you need it." }));
  each.removeAttribute("data-hide-after");
}

setInterval(() => {
  const now = Date.now();
  for (const each of $$("time[data-countdown]")) {
    const seconds = Math.ceil((Date.parse(each.dateTime) - now - skew) / 1000), text = seconds > 0 ? `in ${span(seconds)}` : "now";
    if (each.textContent !== text) each.textContent = text;
  }
  for (const each of $$("[data-hide-after]")) {
    each.dataset.hideAt ??= now + 1000 * Number(each.dataset.hideAfter);
    if (now >= each.dataset.hideAt) hide(each);
  }
}, 1000);

// ---- Keys ----

let going = 0, lastPick = -1;
const rows = () => $$("main [data-row]").filter((each) => each.offsetParent);
const current = () => $("main [data-row][data-cursor]");

function move(step) {
  const all = rows(), at = all.indexOf(current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
  if (!next) return;
  current()?.removeAttribute("data-cursor");
  next.setAttribute("data-cursor", "");
  $("a", next)?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function pick(range) {
  const all = rows(), at = all.indexOf(current());
  if (at < 0) return;
  for (let n = range && lastPick >= 0 ? Math.min(at, lastPick) : at; n <= (range ? Math.max(at, lastPick) : at); n++) {
    const box = $("input[name=pick]", all[n]);
    if (box && (!range || !box.checked)) box.click();
  }
  lastPick = at;
}

function press(key) {
  const within = current(), wanted = `[data-key="${key}"]`;
  const target = (within && $(wanted, within)) ?? $$(`main ${wanted}`).find((each) => !each.closest("[data-row]"));
  const asked = target?.closest("details.confirm");
  if (asked) ask(asked);
  else if (target?.matches("form")) target.requestSubmit();
  else target?.click();
}

const ACTS = {
  "/": () => $("#find")?.select(),
  j: () => move(1),
  k: () => move(-1),
  x: () => pick(false),
  X: () => pick(true),
  r: () => press("r"),
  c: () => copy(current() ? ($("a", current())?.href ?? location.href) : location.href),
  "?": () => dialogs("help"),
  g: () => { going = Date.now(); },
};

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey) { event.preventDefault(); dialogs("palette"); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || kept("keys") === "off" || $("dialog[open]")) return;
  if (event.target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]")) return;
  const was = going;
  going = 0;
  if (Date.now() - was < 1500) {
    const link = $(`[data-go="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
  } else if (ACTS[event.key]) {
    event.preventDefault();
    ACTS[event.key]();
  } else if (event.key === "Enter" && event.target === document.body) {
    $("a", current() ?? root)?.click();
  } else if (event.key === " " && tail && !event.target.closest("a, button, summary, input")) {
    event.preventDefault();
    tail.toggle();
  }
});

// Dialogs that few open: their script comes when the first is asked for.
const dialogs = async (which) => {
  const module = await import(document.body.dataset.dialogs);
  if (!$("dialog[open]")) module[which]({ $, $$, make, kept });
};

// ---- Live tail: a page of its own, with a script of its own ----

let tail;
const section = $("[data-tail]");
if (section) import(section.dataset.script).then((module) => { tail = module.start(section, { $, $$, kept, show, zone, at: () => state }); });

zone(document);
listen();
