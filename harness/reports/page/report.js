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
      (name) => !wanted[name] || board.dataset[name] === wanted[name])
      && (!wanted.tag || board.dataset.tags.split(",").includes(wanted.tag));
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
const holder = document.createElement("template");
holder.innerHTML = "<svg></svg>";
const SVG = holder.content.firstChild.namespaceURI;

function element(tag, text, attributes = {}) {
  const svg = ["svg", "rect", "text", "title"].includes(tag);
  const one = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (text !== null) one.textContent = text;
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  return one;
}

// What a head looks at: a square for each query (row) and key, the darker the larger its share.
function pattern(stored, words) {
  const shares = Uint8Array.from(atob(stored), (one) => one.charCodeAt(0));
  const size = 14, left = 74, length = words.length;
  const picture = element("svg", null, { class: "pattern", role: "img",
    "aria-label": "attention pattern on the clean prompt: a row for each token that looks",
    viewBox: `0 0 ${left + size * length + 4} ${left + size * length + 4}`,
    style: `max-width: ${(left + size * length) * 1.2}px` });
  words.forEach((word, at) => {
    const text = word.textContent.slice(0, 10), place = left + size * (at + 0.8);
    picture.append(element("text", text, { x: left - 4, y: place, "text-anchor": "end" }));
    picture.append(element("text", text, text.trim().length < 3
      ? { x: place - 4, y: left - 4, "text-anchor": "middle" }
      : { transform: `translate(${place - 1} ${left - 4}) rotate(-90)` }));
    for (let key = 0; key < length; key += 1) {
      const share = shares[at * length + key] / 255;
      if (share < 0.01) continue;
      const square = element("rect", null, { x: left + size * key, y: left + size * at,
        width: size - 1, height: size - 1, "fill-opacity": share.toFixed(2) });
      square.append(element("title", `${word.textContent} looks at ${words[key].textContent}: ${Math.round(100 * share)} %`));
      picture.append(square);
    }
  });
  return picture;
}

// The example's prompts coloured by what an element carries, and the difference of both.
function strips(row, prompts) {
  const sides = prompts.map((one) => row.dataset[one.dataset.side].split(" ").map(Number));
  const largest = Number(row.dataset.largest);
  return [...sides, sides[0].map((value, at) => value - sides[1][at])].map((values, place) => {
    const strip = (prompts[place] ?? prompts[0]).cloneNode(true);
    strip.querySelector(".twin").textContent = ["clean", "corrupted", "difference"][place];
    strip.querySelectorAll(".word").forEach((word, at) => {
      word.style.setProperty("--v", Math.min(1, Math.abs(values[at]) / 99).toFixed(2));
      word.title = (values[at] / 99 * largest).toPrecision(3);
      word.classList.toggle("below", values[at] < 0);
    });
    return strip;
  });
}

function panel(circuit, name) {
  const row = [...circuit.querySelectorAll("[data-row]")].find((one) => one.dataset.row === name);
  const place = document.getElementById(circuit.dataset.featuresOf) ?? circuit;  // a trace has its circuit's
  const feature = [...place.querySelectorAll(".features > .feature")]
    .find((one) => one.dataset.feature === name.split("@")[0]);
  if (!row && !feature) return [];
  const parts = feature ? [feature.cloneNode(true)] : [element("h4", name)];
  if (!row) return parts;
  const facts = element("dl", null, { class: "facts" });
  const headings = [...row.closest("table").tHead.rows[0].cells];
  [...row.cells].forEach((cell, at) => {
    if (at === 0 || cell.textContent === "") return;
    const fact = document.createElement("div");
    fact.append(element("dt", headings[at].textContent), element("dd", cell.textContent));
    facts.append(fact);
  });
  if (facts.children.length) parts.push(facts);
  const prompts = [...circuit.querySelectorAll(".nodes > .strip")];
  if (row.dataset.clean) parts.push(...strips(row, prompts));
  const stored = JSON.parse(circuit.dataset.patterns ?? "{}")[row.dataset.head];
  if (stored) parts.push(element("p", `${row.dataset.head} looks at, in the clean prompt:`),
    pattern(stored, [...prompts[0].querySelectorAll(".word")]));
  return parts;
}

// `a0.h1->m1<q>@3` joins a0.h1@3 and m1@3; nodes of a trace have tokens of their own.
function ends(name) {
  const [writer, reads] = name.split("->");
  const [reader, place] = reads.split("@");
  const at = place === undefined ? "" : `@${place}`;
  return [writer.includes("@") ? writer : writer + at, reader.replace(/<[qkv]>$/, "") + at];
}

for (const circuit of document.querySelectorAll("figure.circuit")) {
  const elements = [...circuit.querySelectorAll("[data-rank]")];
  const lines = [...circuit.querySelectorAll("path.edge")];
  for (const one of lines) {
    [one.dataset.source, one.dataset.target] = ends(one.dataset.name);
    const said = one.querySelector("title").textContent.slice(one.dataset.name.length);
    one.dataset.score = said.split(",")[0].trim();
  }
  const nodes = [...circuit.querySelectorAll("[data-node]")];
  const slider = circuit.querySelector("[data-slider]");
  const isOff = (one) => one.classList.contains("off");
  let picked = null;

  const show = (isShown, text) => {
    for (const one of elements) one.classList.toggle("off", !isShown(one));
    if (slider) circuit.querySelector("output").textContent = text;
    const gone = new Set(nodes.filter(isOff).map((one) => one.dataset.node));
    for (const one of lines)  // those between elements that are nodes
      if (!one.dataset.rank)
        one.classList.toggle("off", gone.has(one.dataset.source) || gone.has(one.dataset.target));
    const ends = new Set(lines.filter((one) => !isOff(one))
      .flatMap((one) => [one.dataset.source, one.dataset.target]));
    for (const node of nodes)
      if (!node.dataset.rank) node.classList.toggle("unused", !ends.has(node.dataset.node));
    tell();
  };

  const named = (one, end) =>
    `${one.matches(".tie") ? one.dataset[end] : one.dataset.name}${one.dataset.score ? ` (${one.dataset.score})` : ""}`;

  const tell = () => {
    const shown = lines.filter((one) => !isOff(one));
    const into = shown.filter((one) => one.dataset.target === picked).map((one) => named(one, "source"));
    const out = shown.filter((one) => one.dataset.source === picked).map((one) => named(one, "target"));
    for (const one of lines)
      one.classList.toggle("away", picked !== null
        && one.dataset.source !== picked && one.dataset.target !== picked);
    for (const node of nodes) {
      node.classList.toggle("picked", node.dataset.node === picked);
      node.setAttribute("aria-pressed", node.dataset.node === picked);
    }
    const unread = /^a\d+\.[qk]\.\d+$/.test(picked ?? "") ? "its head alone" : "nothing";
    const edges = `: reads ${into.join(", ") || "nothing"}; is read by ${out.join(", ") || unread}`;
    circuit.querySelector(".chosen").textContent = picked === null ? "" : picked + (lines.length ? edges : "");
    const about = circuit.querySelector(".panel");
    if (!about) return;
    about.replaceChildren(...picked === null ? [] : panel(circuit, picked));
    about.hidden = about.children.length === 0;
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
    node.setAttribute("aria-pressed", "false");
    node.addEventListener("click", pick);
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); }
    });
  }
}

// ---------------------------------------------------------------- two circuits in one
for (const place of document.querySelectorAll(".differences")) {
  const select = place.querySelector("[data-compare]");
  const choose = () => {
    for (const one of place.querySelectorAll("[data-difference]")) {
      one.hidden = one.dataset.difference !== select.value;
      one.open = !one.hidden && place.dataset.touched === "yes";
    }
  };
  select.addEventListener("input", () => { place.dataset.touched = "yes"; choose(); });
  choose();
}
