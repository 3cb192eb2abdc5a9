// Times: in the zone that was chosen, counted down, and what is hidden when its time is over.
import { $, $$, kept, make } from "./base.js";

// The server's clock against this one.
export const skew = (Date.parse(document.body.dataset.now) || Date.now()) - Date.now();

export function zone(within) {
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

export function hide(each) {
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

document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-zone-toggle]")) return;
  kept("zone", kept("zone") === "local" ? "utc" : "local");
  zone(document);
});
