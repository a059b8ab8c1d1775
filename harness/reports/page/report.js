"use strict";
// What a reader can do with the page: sort and filter tables, resize circuits, follow a node.

for (const one of document.querySelectorAll(".scripted")) one.hidden = false;

// ---------------------------------------------------------------- sorting
function valueOf(row, column) {
  const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
  return text === "" ? null : isNaN(text) ? text : Number(text);
}

function compared(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one === "number" ? -1 : 1;
}

function sort(heading) {
  const table = heading.closest("table");
  const body = table.tBodies[0];
  const falling = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const column = heading.cellIndex;
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([one], [other]) =>
    one === null || other === null ? compared(one, other) : compared(one, other) * (falling ? -1 : 1));
  for (const [, row] of rows) body.append(row);
}

for (const heading of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  button.addEventListener("click", () => sort(heading));
  heading.replaceChildren(button);
}

// ---------------------------------------------------------------- filtering
const filters = [...document.querySelectorAll("[data-filter]")];

function filter() {
  const wanted = Object.fromEntries(filters.map((one) => [one.dataset.filter, one.value]));
  let shown = 0;
  for (const board of document.querySelectorAll(".board")) {
    const fits = ["task", "model", "granularity"].every(
      (name) => !wanted[name] || board.dataset[name] === wanted[name]);
    let rows = 0;
    for (const row of board.querySelectorAll("tbody tr")) {
      row.hidden = !row.dataset.method.toLowerCase().includes(wanted.method.toLowerCase());
      rows += !row.hidden;
    }
    board.hidden = !fits || rows === 0;
    shown += board.hidden ? 0 : rows;
  }
  document.getElementById("counted").textContent = `${shown} rows`;
}

for (const one of filters) one.addEventListener("input", filter);
filter();

// ---------------------------------------------------------------- circuits
for (const circuit of document.querySelectorAll("figure.circuit")) {
  const elements = [...circuit.querySelectorAll("[data-rank]")];
  const slider = circuit.querySelector("[data-slider]");
  const nodes = [...circuit.querySelectorAll("[data-node]")];
  let picked = null;

  const show = (isShown, text) => {
    for (const one of elements) one.classList.toggle("off", !isShown(one));
    if (slider) circuit.querySelector("output").textContent = text;
    for (const node of nodes) {
      const name = node.dataset.node;
      node.classList.toggle("unused", !elements.some((one) => !one.classList.contains("off")
        && (one.dataset.source === name || one.dataset.target === name)));
    }
    tell();
  };

  const tell = () => {
    const said = circuit.querySelector(".chosen");
    if (!said) return;
    const shown = elements.filter((one) => !one.classList.contains("off"));
    const into = shown.filter((one) => one.dataset.target === picked).map((one) => one.dataset.name);
    const out = shown.filter((one) => one.dataset.source === picked).map((one) => one.dataset.name);
    for (const one of elements)
      one.classList.toggle("away", picked !== null
        && one.dataset.source !== picked && one.dataset.target !== picked);
    for (const node of nodes) node.classList.toggle("picked", node.dataset.node === picked);
    said.textContent = picked === null ? ""
      : `${picked}: reads ${into.join(", ") || "nothing"}; is read by ${out.join(", ") || "nothing"}`;
  };

  if (slider) {
    const stored = circuit.querySelector("output").textContent;
    slider.addEventListener("input", () => show(
      (one) => Number(one.dataset.rank) < Number(slider.value), `${slider.value} of ${slider.max} drawn`));
    circuit.querySelector("[data-stored]").addEventListener(
      "click", () => show((one) => one.dataset.kept === "yes", stored));
  }
  for (const node of nodes) {
    const pick = () => { picked = picked === node.dataset.node ? null : node.dataset.node; tell(); };
    node.setAttribute("role", "button");
    node.addEventListener("click", pick);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); }
    });
  }
}
