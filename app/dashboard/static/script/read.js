// Reading a page of ours again, and putting what was read in the place of what is shown.
import { $, $$ } from "./base.js";
import { skew, zone } from "./times.js";

// When the server made what is shown.
export let readAt = Date.parse(document.body.dataset.now) || Date.now();
export const here = () => location.pathname + location.search;

// Return a page of ours as a document; null when nobody is signed in any more.
export async function read(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname === "/login") return null;
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  readAt = Date.parse(fresh.body.dataset.now) || Date.now() + skew;
  const counts = $(".shell > nav ul", fresh), shown = $(".shell > nav ul");
  if (counts && shown && !shown.matches(":focus-within")) shown.replaceWith(counts);
  return fresh;
}

const detailsKey = (each) => each.id || $("summary", each)?.textContent.trim();

// Put what was read in the place of what is shown; what a person has opened, picked, typed or focused stays.
export function put(old, now) {
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
