// Comfort only: every page works without a script. Texts are put in as text, never as HTML.
import "./acts.js";
import { $, root } from "./base.js";
import "./keys.js";
import { listen } from "./live.js";
import "./swap.js";
import { zone } from "./times.js";

const tail = $("[data-tail]");
if (tail) import("./tail.js").then((module) => module.start(tail));
zone(document);
listen();
root.dataset.script = "on";
