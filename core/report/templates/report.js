"use strict";
(() => {
  const list = document.getElementById("items");
  if (!list) return;
  const { columns, metric, metrics, items } = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50; // cards made at once: a page of thousands would stutter
  const state = { filter: "all", text: "", shown: PAGE };

  const score = (item, column) => {
    const answer = item.answers[column];
    return answer && metric ? answer.scores[metric] : null;
  };
  const right = (item, column) => score(item, column) === 1;
  // what tuning is held against: the base, or what else was scored without it
  const before = ["base", ...columns.map((column) => column.name)].find((name) => name !== "tuned" && columns.some((column) => column.name === name));
  const both = (item) => "tuned" in item.answers && before in item.answers;
  const tests = {
    all: () => true,
    fixed: (item) => both(item) && !right(item, before) && right(item, "tuned"),
    broken: (item) => both(item) && right(item, before) && !right(item, "tuned"),
    wrong: (item) => "tuned" in item.answers && !right(item, "tuned"),
  };
  const searched = items.map((item) =>
    [item.prompt, item.place, ...item.references, ...Object.values(item.answers).map((answer) => answer.text)].join("\n").toLowerCase());

  const element = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // never as HTML: answers are data
    return node;
  };
  const box = (title, text, verdict) => {
    const node = element("div", "answer " + verdict);
    node.append(element("strong", "", title), element("pre", "", text));
    return node;
  };
  const words = (item, column) => {
    const answer = item.answers[column.name];
    const parts = metrics.filter((name) => typeof answer.scores[name] === "number")
      .map((name) => name.replaceAll("_", " ") + " " + Number(answer.scores[name].toFixed(2)));
    const mark = score(item, column.name) === null ? "" : right(item, column.name) ? "✓ right" : "✗ wrong";
    return [column.label, mark, ...parts, answer.stopped ? "" : "cut off"].filter(Boolean).join(" · ");
  };
  const card = (item) => {
    const node = element("article");
    node.append(element("h3", "", "item " + (item.index + 1) + " · " + item.place), element("pre", "", item.prompt));
    const answers = element("div", "answers");
    answers.append(box("expected", item.references.join("\n"), "expected"));
    for (const column of columns) {
      if (column.name in item.answers) {
        const verdict = score(item, column.name) === null ? "" : right(item, column.name) ? "right" : "wrong";
        answers.append(box(words(item, column), item.answers[column.name].text, verdict));
      }
    }
    node.append(answers);
    return node;
  };
  const draw = () => {
    const found = items.filter((item, index) => tests[state.filter](item) && searched[index].includes(state.text));
    list.replaceChildren(...found.slice(0, state.shown).map(card));
    document.getElementById("count").textContent = found.length + " of " + items.length + " items";
    document.getElementById("pages").hidden = found.length <= state.shown;
  };
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("[data-filter]")) other.setAttribute("aria-pressed", String(other === button));
      Object.assign(state, { filter: button.dataset.filter, shown: PAGE });
      draw();
    });
  }
  document.getElementById("search").addEventListener("input", (event) => {
    Object.assign(state, { text: event.target.value.toLowerCase(), shown: PAGE });
    draw();
  });
  document.getElementById("more").addEventListener("click", () => { state.shown += PAGE; draw(); });
  draw();
})();
