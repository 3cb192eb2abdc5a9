// Comfort only: every page works without this file.
const $ = (selector, within = document) => within.querySelector(selector);
const root = document.documentElement;
root.dataset.script = "on";

export function toast(text) {
  const line = Object.assign(document.createElement("p"), { textContent: text });
  $("#toasts").append(line);
  setTimeout(() => line.remove(), 4000);
}

// Read a page again, and put its named regions in the place of those that are shown.
export async function swap(url, ids, { push = false } = {}) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.redirected && new URL(answer.url).pathname.startsWith("/login")) return location.assign(answer.url);
  if (!answer.ok) return toast(`The page could not be read again (${answer.status}). Load it anew.`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ids) {
    const old = document.getElementById(id), now = fresh.getElementById(id);
    if (!old || !now) continue;
    const open = [...old.querySelectorAll("details[open][id]")].map((each) => each.id);
    old.replaceWith(now);
    open.forEach((each) => document.getElementById(each)?.setAttribute("open", ""));
  }
  if (push) history.pushState({}, "", url);
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  const wanted = copy.dataset.copy;
  await navigator.clipboard.writeText(wanted.startsWith("#") ? $(wanted).textContent : wanted);
  toast("Copied");
});

addEventListener("popstate", () => location.reload());
