// Filters, pages of a list and Back without a load: the page of the new address is read, and its regions are put in.
import { $, root, toast } from "./base.js";
import { listen, show } from "./live.js";
import { here, put, read } from "./read.js";

export async function swap(url, ids, push) {
  try {
    const fresh = await read(url);
    if (!fresh) { show("out"); return; }
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

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  swap(link.getAttribute("href"), link.dataset.swap.split(" "), true);
});
