// The live tail, loaded on its page: rows come as texts, and each is put as text into a copy of the page's own row.
import { $, $$, kept } from "./base.js";
import { ACTS } from "./keys.js";
import { follow, show, state } from "./live.js";
import { open } from "./side-panel.js";
import { zone } from "./times.js";

const MOST = 500;

export function start(section) {
  const body = $("tbody", section), model = $("template", section), says = $("#tail-state"), waiting = [];
  let stream, held = false, over = false, sampling = 1;
  const still = () => held || over || scrollY > 200 || kept("pause") === "on";

  function say() {
    const count = waiting.length === MOST ? `${MOST}+` : waiting.length;
    const quiet = body.rows.length ? "Listening…" : says.dataset.quiet;
    const text = (still() ? `Paused, ${count} new.` : quiet) + (sampling > 1 ? ` More comes in than fits: sampling 1 in ${sampling}.` : "");
    if (says.textContent !== text) says.textContent = text;
    section.toggleAttribute("data-still", still());
  }

  function line(row) {
    const made = model.content.firstElementChild.cloneNode(true);
    made.id = row.id;
    for (const cell of $$("[data-field]", made)) cell.textContent = row[cell.dataset.field];
    $("a", made).href = row.href;
    $("time", made).dateTime = $("time", made).title = row.at;
    $(".pill", made).className = `pill ${row.tone}`;
    zone(made);
    return made;
  }

  function draw() {
    if (!still() && waiting.length) {
      const shown = new Set([...body.rows].map((each) => each.id));
      body.prepend(...waiting.splice(0).filter((row) => !shown.has(row.id)).map(line).reverse());
      while (body.rows.length > MOST) body.lastElementChild.remove();
      if (body.rows.length) $("[data-none]", section)?.remove();
    }
    say();
  }

  function take(told) {
    sampling = told.sampling;
    const known = new Set([...waiting, ...body.rows].map((each) => each.id));
    waiting.push(...told.rows.filter((row) => !known.has(row.id)));
    waiting.splice(0, Math.max(0, waiting.length - MOST));
    draw();
  }

  function turn() {
    stream?.close();
    if (document.hidden || state === "out") return;
    stream = new EventSource(section.dataset.tail);
    stream.addEventListener("ready", () => state !== "paused" && show("live"));
    stream.addEventListener("gone", () => { stream.close(); show("out"); });
    stream.addEventListener("rows", (event) => take(JSON.parse(event.data)));
    stream.addEventListener("error", function () {
      if (this !== stream || state === "out") return;
      show("away");
      if (this.readyState === EventSource.CLOSED) setTimeout(turn, 10000);
    });
  }

  body.addEventListener("pointerenter", () => { over = true; say(); });
  body.addEventListener("pointerleave", () => { over = false; draw(); });
  body.addEventListener("click", (event) => {
    const link = $("a", event.target.closest("tr"));
    if (event.target.closest("a") || !getSelection().isCollapsed) return;
    open(link);
  });
  addEventListener("scroll", draw, { passive: true });
  document.addEventListener("visibilitychange", turn);
  addEventListener("pagehide", () => stream?.close());
  addEventListener("pageshow", (event) => event.persisted && turn());
  ACTS[" "] = () => { held = !held; draw(); };
  follow(draw);
  turn();
  say();
}
