"use strict";
(() => {
  const list = document.getElementById("items");
  if (!list) return;
  const { columns, metric, metrics, format, items } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const room = byId("room"), shown = byId("item"), against = byId("against");
  const ROW = 30; // height of a row of the list in pixels: all alike, so that only those in view need to exist
  const SPARE = 6; // rows made beyond the edges of the view
  const state = { filter: "all", text: "", found: [], chosen: 0, marked: true };

  const score = (item, column) => {
    const answer = item.answers[column];
    return answer && metric ? answer.scores[metric] ?? null : null;
  };
  const right = (item, column) => score(item, column) === 1;
  const tuned = columns.some((column) => column.name === "tuned") ? "tuned" : columns[columns.length - 1].name;
  const others = columns.filter((column) => column.name !== tuned);
  const both = (item) => tuned in item.answers && against.value in item.answers;
  const tests = {
    all: () => true,
    fixed: (item) => both(item) && !right(item, against.value) && right(item, tuned),
    broken: (item) => both(item) && right(item, against.value) && !right(item, tuned),
    wrong: (item) => tuned in item.answers && !right(item, tuned),
    format: (item) => tuned in item.answers && item.answers[tuned].scores[format] === 0,
    cut: (item) => tuned in item.answers && !item.answers[tuned].stopped,
  };
  const searched = items.map((item) =>
    [item.prompt, item.place, ...item.references, ...Object.values(item.answers).map((answer) => answer.text)].join("\n").toLowerCase());

  const element = (name, className, ...content) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...content); // text stays text: answers are data
    return node;
  };
  const outcome = (item, column) => {
    const value = score(item, column);
    if (value === null) return ["", "·", "not scored"];
    if (value > 0 && value < 1) return ["partly", "◐", "partly right"];
    return value === 1 ? ["right", "✓", "right"] : ["wrong", "✗", "wrong"];
  };

  // the list: one row per item found, of which only those in view exist; rows that stay in view stay as they are
  const made = new Map(); // by position
  const row = (position) => {
    const item = items[state.found[position]];
    const node = element("div", "row");
    node.id = "row-" + position;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", String(position === state.chosen));
    node.setAttribute("aria-posinset", position + 1);
    node.setAttribute("aria-setsize", state.found.length);
    node.style.top = position * ROW + "px";
    node.append(element("span", "number", String(item.index + 1)));
    for (const column of columns) {
      const [kind, mark, words] = outcome(item, column.name);
      const sign = element("span", "mark " + kind, mark);
      sign.title = column.label + ": " + words;
      sign.setAttribute("role", "img");
      sign.setAttribute("aria-label", sign.title);
      node.append(sign);
    }
    node.append(element("span", "text", ends[state.found[position]], " → ", item.references[0] ?? ""));
    node.addEventListener("click", () => choose(position));
    return node;
  };
  // what differs between prompts stands at their end more often than at their beginning
  const ends = items.map((item) => {
    const lines = item.prompt.split("\n").map((line) => line.trim()).filter((line) => line && !/^(#|<\|)/.test(line));
    return (lines[lines.length - 1] ?? "").slice(0, 160);
  });
  const drawRows = () => {
    const top = list.scrollTop, height = list.clientHeight;
    const first = Math.max(0, Math.floor(top / ROW) - SPARE);
    const last = Math.min(state.found.length, Math.ceil((top + height) / ROW) + SPARE);
    for (const [position, node] of made) {
      if (position >= first && position < last) continue;
      node.remove();
      made.delete(position);
    }
    const start = Math.min(...made.keys()), above = [], below = [];
    for (let position = first; position < last; position++) {
      if (made.has(position)) continue;
      const node = row(position);
      made.set(position, node);
      (position < start ? above : below).push(node);
    }
    room.prepend(...above);
    room.append(...below);
    if (made.has(state.chosen)) list.setAttribute("aria-activedescendant", "row-" + state.chosen);
    else list.removeAttribute("aria-activedescendant");
  };

  // the item chosen: prompt, expected answer, and every column's answer with its differences
  const answerText = (item, text) => {
    const node = element("pre");
    const parts = state.marked && item.references.length && !item.references.includes(text) ? difference(item.references[0], text) : null;
    if (!parts) node.append(text);
    else for (const [kind, part] of parts) node.append(kind === "same" ? part : element(kind, "", part));
    return node;
  };
  const answerBox = (item, column) => {
    const answer = item.answers[column.name];
    const [kind, mark, words] = outcome(item, column.name);
    const figures = metrics.filter((name) => typeof answer.scores[name] === "number")
      .map((name) => name.replaceAll("_", " ") + " " + Number(answer.scores[name].toFixed(2)));
    const title = [column.label, kind ? mark + " " + words : "", ...figures, answer.tokens + " tokens", answer.stopped ? "" : "cut off"];
    return element("div", "answer " + kind, element("strong", "", title.filter(Boolean).join(" · ")), answerText(item, answer.text));
  };
  const drawItem = () => {
    const item = items[state.found[state.chosen]];
    if (!item) { shown.replaceChildren(element("p", "note", "No item is left: change the filter or the search.")); return; }
    const answers = element("div", "answers", element("div", "answer expected", element("strong", "", "expected"), element("pre", "", item.references.join("\n"))));
    for (const column of columns) if (column.name in item.answers) answers.append(answerBox(item, column));
    shown.replaceChildren(element("article", "", element("h3", "", "item " + (item.index + 1) + " · " + item.place), element("pre", "prompt", item.prompt), answers));
    keepReachable(shown.querySelector(".prompt"));
  };
  const choose = (position) => {
    made.get(state.chosen)?.setAttribute("aria-selected", "false");
    state.chosen = Math.max(0, Math.min(state.found.length - 1, position));
    const top = state.chosen * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    drawRows();
    made.get(state.chosen)?.setAttribute("aria-selected", "true");
    drawItem();
  };
  const search = () => {
    const test = tests[state.filter];
    state.found = [];
    items.forEach((item, index) => { if (test(item) && searched[index].includes(state.text)) state.found.push(index); });
    byId("count").textContent = state.found.length + " of " + items.length + " items";
    room.replaceChildren();
    made.clear();
    room.style.height = state.found.length * ROW + "px";
    list.scrollTop = 0;
    choose(0);
  };
  const count = () => {
    for (const button of document.querySelectorAll("[data-filter]")) {
      const kind = button.dataset.filter;
      button.dataset.label ??= button.textContent;
      button.textContent = button.dataset.label + " " + items.filter(tests[kind]).length;
      button.hidden = (kind === "format" && !format) || (["fixed", "broken"].includes(kind) && (!others.length || !metric));
    }
  };

  against.replaceChildren(...others.map((column) => Object.assign(element("option", "", column.label), { value: column.name })));
  against.closest("label").hidden = others.length < 2;
  against.addEventListener("change", () => { count(); search(); });
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("[data-filter]")) other.setAttribute("aria-pressed", String(other === button));
      state.filter = button.dataset.filter;
      search();
    });
  }
  byId("search").addEventListener("input", (event) => { state.text = event.target.value.toLowerCase(); search(); });
  byId("diff").addEventListener("click", (event) => {
    state.marked = !state.marked;
    event.target.setAttribute("aria-pressed", String(state.marked));
    drawItem();
  });
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(state.chosen + steps[event.key]);
  });
  let waiting = false;
  list.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawRows(); });
  });
  new ResizeObserver(drawRows).observe(list);
  count();
  search();
})();
