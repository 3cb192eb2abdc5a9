// Buttons, boxes and forms: copying, picking, and asking first.
import { $, $$, make, toast } from "./base.js";

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard but this.
    const field = make("textarea", { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast("Copied");
}

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  const copied = on("[data-copy]"), summary = on("details.confirm > summary");
  if (copied) {
    const wanted = copied.dataset.copy, from = wanted.startsWith("#") ? $(wanted) : null;
    copy(from ? (from.value ?? from.textContent) : wanted);
  } else if (summary) {
    event.preventDefault();
    ask(summary.parentElement);
  } else if (on("[data-help]")) {
    on("details")?.removeAttribute("open");
    dialogs("help");
  }
  for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.matches("[data-pick-all]")) for (const each of $$("input[name=pick]")) each.checked = field.checked;
  if (field.matches("[data-pick-all], input[name=pick]")) {
    const count = String($$("input[name=pick]:checked").length);
    for (const each of $$("[data-pick-count]")) each.textContent = count;
  } else if (field.form?.matches("[data-swap]") && field.matches("select, [type=checkbox], [type=radio], [type=date]")) {
    field.form.requestSubmit();
  }
});

// A form that asks first: the same form, as a dialog.
export function ask(details) {
  const form = $("form", details), summary = $("summary", details);
  if (!form) return;
  const cancel = make("button", { type: "button", textContent: "Cancel" });
  const dialog = make("dialog", { className: "ask" }, form);
  dialog.setAttribute("aria-label", summary.textContent.trim());
  form.classList.remove("sheet");
  form.append(cancel);
  document.body.append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    cancel.remove();
    form.classList.add("sheet");
    details.append(form);
    dialog.remove();
    summary.focus();
  });
  dialog.showModal();
  ($("input:not([type=hidden]), select, textarea", form) ?? cancel).focus();
}

// Dialogs that few open: their script comes when the first is asked for.
export async function dialogs(which) {
  const module = await import("./dialogs.js");
  if (!$("dialog[open]")) module[which]();
}
