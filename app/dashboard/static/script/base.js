// What every part of the script uses.
export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
export const root = document.documentElement;

export function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A browser may keep nothing for us; then a choice lasts as long as the page.
const chosen = {};
export function kept(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(`bellwire-${name}`, value);
    return localStorage.getItem(`bellwire-${name}`);
  } catch {
    if (value !== undefined) chosen[name] = value;
    return chosen[name] ?? null;
  }
}

export function toast(text) {
  const line = make("p", { textContent: text });
  $("#toasts")?.append(line);
  setTimeout(() => line.remove(), 5000);
}
