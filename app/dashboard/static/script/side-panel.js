// An attempt beside the live tail: the part of its delivery's page that shows it, while the tail goes on.
import { $, make, toast } from "./base.js";
import { show } from "./live.js";
import { read } from "./read.js";
import { zone } from "./times.js";

let panel, from;

function close() {
  panel?.remove();
  panel = undefined;
  if (from?.isConnected) from.focus({ preventScroll: true });
}

export async function open(link) {
  from = link;
  try {
    const fresh = await read(link.href);
    if (from !== link) return; // Another row was pressed meanwhile.
    if (!fresh) { show("out"); return; }
    const attempt = $("#attempt", fresh), button = make("button", { type: "button", textContent: "Close" });
    // What it shows is over: it needs no updates.
    attempt.removeAttribute("data-live");
    panel?.remove();
    const whole = make("a", { className: "button", href: link.href, textContent: "Open the delivery" });
    panel = make("aside", { className: "side-panel", tabIndex: -1, ariaLabel: "Attempt" }, make("div", { className: "acts" }, whole, button), attempt);
    button.addEventListener("click", close);
    panel.addEventListener("keydown", (event) => event.key === "Escape" && close());
    zone(panel);
    $("#main").append(panel);
    panel.focus({ preventScroll: true });
  } catch (error) {
    toast(`The attempt could not be read. ${error.message} Try again.`);
  }
}
