// Live: the server says which topics have changed, and the regions that show them are read again.
import { $, $$, kept, make } from "./base.js";
import { here, put, read, readAt } from "./read.js";
import { hide } from "./times.js";

const STATES = {
  opening: ["Live", "This page asks to be kept up to date. Press to pause."],
  live: ["Live", "This page is kept up to date. Press to pause."],
  paused: ["Paused", "This page stands still. Press to go on."],
  polling: ["Every 5 s", "The stream of changes is not there, so the page is read again every 5 seconds. Press to pause."],
  away: ["Not up to date", "The server does not answer. The page is tried again."],
  out: ["Signed out", "You are not signed in any more. Press to sign in again."],
};
export let state;
let source, polling, timer, retrying, fetching = false, notBefore = 0, failures = 0;
const dirty = new Set();
// Who has a stream of their own and stands still when the page does.
const followers = [];
export const follow = (draw) => followers.push(draw);
const news = new Map();
const regions = () => $$("[data-live]").filter((each) => each.id);
const topics = () => [...new Set(regions().flatMap((each) => each.dataset.live.split(" ")))].sort().join(",");
const pauser = make("button", { type: "button", className: "quiet live-state", hidden: true });
$(".tools")?.prepend(pauser);

export function show(next) {
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
  followers.forEach((follow) => follow());
});

function stop() {
  source?.close();
  clearInterval(polling);
  clearTimeout(retrying);
  source = polling = undefined;
}

export function listen() {
  const wanted = topics();
  pauser.hidden = !wanted && !$("[data-tail]");
  if (kept("pause") === "on") { stop(); show("paused"); return; }
  if (!wanted || document.hidden || state === "out") { stop(); if (state !== "out") show("live"); return; }
  if (source?.wanted === wanted && source.readyState !== EventSource.CLOSED) return;
  stop();
  if (!state) show("opening");
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
    if (!fresh) show("out");
    else if (url === here() && state !== "paused") for (const id of ids) renew(document.getElementById(id), fresh.getElementById(id));
    if (state === "away") show(polling ? "polling" : "live");
  } catch {
    ids.forEach((id) => dirty.add(id));
    if (state !== "out") show("away");
    notBefore = Date.now() + 5000;
  }
  fetching = false;
  // A page that is slow to make is asked for less often, but not less often than one without a stream.
  notBefore = Math.max(notBefore, Date.now() + Math.min(5000, Math.max(500, 5 * (Date.now() - began))));
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
document.addEventListener("visibilitychange", () => { listen(); if (!document.hidden && dirty.size) soon(); });
addEventListener("pagehide", stop);
addEventListener("pageshow", (event) => { if (event.persisted) { $$("[data-hide-after]").forEach(hide); listen(); } });
document.addEventListener("click", (event) => {
  const region = event.target.closest(".new-rows")?.closest("[data-hold]");
  if (!region || !news.has(region.id)) return;
  put(region, news.get(region.id));
  news.delete(region.id);
});
