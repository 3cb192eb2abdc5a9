// The list of keys, and the palette: loaded when they are asked for.
import { $$, kept, make } from "./base.js";

const KEYS = [
  ["/", "Search"], ["Ctrl K", "Go to a page or an object"], ["g …", "Go to a page, by its letter"], ["j  k", "Next and previous row"], ["Enter", "Open the row"],
  ["x", "Pick the row"], ["Shift x", "Pick all rows up to here"], ["r", "Retry"], ["c", "Copy the link"], ["Space", "Pause the live tail"], ["?", "This list"],
];

function open(label, ...children) {
  const close = make("button", { type: "button", textContent: "Close" });
  const dialog = make("dialog", {}, make("h2", { textContent: label }), ...children, close);
  dialog.setAttribute("aria-label", label);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function help() {
  const list = make("dl", { className: "keys" });
  const line = (key, text) => list.append(make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: text }));
  KEYS.forEach(([key, text]) => line(key, text));
  for (const link of $$("[data-go]")) line(`g ${link.dataset.go}`, link.firstChild.textContent.trim());
  const box = make("input", { type: "checkbox", checked: kept("keys") !== "off" });
  box.addEventListener("change", () => kept("keys", box.checked ? "on" : "off"));
  open("Keys", list, make("label", { className: "switch" }, box, " Keys without Ctrl are on (in this browser)")).classList.add("help");
}

const OBJECTS = { dlv: "deliveries", evt: "events", ep: "endpoints", app: "applications" };

export function palette() {
  const found = new Map($$("[data-go]").map((link) => [link.getAttribute("href"), `Go to ${link.firstChild.textContent.trim()}`]));
  for (const link of $$("main a[href]")) {
    const kind = link.pathname.match(/^\/dashboard\/(events|deliveries|endpoints|applications)\/([a-z]+_[0-9a-z]{26})/);
    if (kind && !found.has(link.pathname)) found.set(link.pathname, `${kind[1]}: ${link.textContent.trim()} ${kind[2]}`);
  }
  const field = make("input", { type: "text", id: "palette", autocomplete: "off", spellcheck: false, placeholder: "A page, an id, or what to search for" });
  const list = make("ul", { id: "palette-list", role: "listbox", ariaLabel: "Where to go" });
  for (const [name, value] of [["role", "combobox"], ["aria-controls", list.id], ["aria-expanded", "true"], ["aria-label", "Go to"]]) field.setAttribute(name, value);
  const dialog = open("Go to", field, list);
  let at = 0, shown = [];
  const draw = () => {
    const text = field.value.trim(), id = text.match(/^([a-z]+)_[0-9a-z]{26}$/);
    shown = [...found].filter(([href, label]) => `${label} ${href}`.toLowerCase().includes(text.toLowerCase())).slice(0, 12);
    if (id && OBJECTS[id[1]]) shown.unshift([`/dashboard/${OBJECTS[id[1]]}/${text}`, `Open ${text}`]);
    if (text) shown.push([`/dashboard/deliveries?${new URLSearchParams({ q: text })}`, `Search deliveries for “${text}”`]);
    at = Math.max(0, Math.min(at, shown.length - 1));
    list.replaceChildren(...shown.map(([href, label], n) => {
      const line = make("li", { id: `palette-${n}`, role: "option", textContent: label });
      line.setAttribute("aria-selected", String(n === at));
      line.addEventListener("click", () => location.assign(href));
      return line;
    }));
    field.setAttribute("aria-activedescendant", shown.length ? `palette-${at}` : "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  field.addEventListener("input", () => { at = 0; draw(); });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); at += step; draw(); }
    else if (event.key === "Enter" && shown[at]) { event.preventDefault(); location.assign(shown[at][0]); }
  });
  draw();
  field.focus();
  dialog.classList.add("palette");
}
