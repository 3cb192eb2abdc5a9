// Keys, which can be switched off in their own list.
import { ask, copy, dialogs } from "./acts.js";
import { $, $$, kept, root } from "./base.js";

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

// What a key does. A page with keys of its own adds them.
export const ACTS = {
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
  if (event.key === " " && event.target.closest("a, button, summary, input")) return;
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
  }
});
