"use strict";
// Of a page that is served: tells how far the runs are, and loads again when something finished.
// What the reader chose stays chosen.

const told = document.getElementById("live");
const KEPT = "input[id], input[data-filter], select[data-filter], input[data-slider]";

function choices() {
  return [...document.querySelectorAll(KEPT)];
}

// Controls are known by what they are for: boards and circuits may come in between.
function keyOf(control) {
  const figure = control.closest("figure");
  return [figure ? figure.id : "", control.id, control.dataset.filter ?? "",
    control.matches("[data-slider]") ? "slider" : ""].join("|");
}

function keep() {
  const chosen = choices().filter((one) => one.dataset.touched)
    .map((one) => [keyOf(one), one.type === "checkbox" ? one.checked : one.value]);
  const open = [...document.querySelectorAll("details")].map((one, at) => one.open ? at : -1);
  sessionStorage.setItem("chosen", JSON.stringify(
    { chosen, open: open.filter((at) => at >= 0), top: window.scrollY }));
}

function restore() {
  const text = sessionStorage.getItem("chosen");
  sessionStorage.removeItem("chosen");
  if (text === null) return;
  const { chosen, open, top } = JSON.parse(text);
  const values = new Map(chosen);
  for (const one of choices()) {
    if (!values.has(keyOf(one))) continue;
    if (one.type === "checkbox") one.checked = values.get(keyOf(one));
    else one.value = values.get(keyOf(one));
    one.dataset.touched = "yes";
    one.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const folded = document.querySelectorAll("details");
  for (const at of open) if (folded[at]) folded[at].open = true;
  window.scrollTo(0, top);
}

function line(run) {
  const counts = ["done", "failed", "left"].filter((name) => run[name])
    .map((name) => `${run[name]} ${name}`).join(", ");
  return `${run.name}: ${counts || "no cells"}${run.left && run.line ? ` · ${run.line}` : ""}`;
}

async function ask() {
  let seconds = 3;
  try {
    const state = await (await fetch("state")).json();
    seconds = state.seconds;
    if (state.error) told.textContent = `cannot be read: ${state.error}`;
    else if (state.mark !== told.dataset.mark) { keep(); location.reload(); return; }
    else told.textContent = state.runs.map(line).join("\n");
  } catch {
    told.textContent = "The server has ended; this is what it showed last.";
  }
  setTimeout(ask, 1000 * seconds);
}

document.addEventListener("input", (event) => { event.target.dataset.touched = "yes"; });
restore();
ask();
