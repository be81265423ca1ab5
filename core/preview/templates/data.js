"use strict";
(() => {
  const { rows, total } = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25; // examples drawn at once: thousands of tokens would stutter
  const state = { filter: "all", text: "", shown: PAGE };
  rows.forEach((row, index) => {
    row.index = index;
    row.searched = (row.place + "\n" + row.pieces.map((piece) => piece[0]).join("")).toLowerCase();
  });

  const element = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // never as HTML: examples are data
    return node;
  };
  const card = (row) => {
    const node = element("article");
    node.id = "row-" + row.index;
    const head = element("h3", "", row.head);
    for (const problem of row.problems) head.append(element("b", "", problem));
    const tokens = element("div", "tokens");
    for (const [text, mark] of row.pieces) {
      tokens.append(element("span", "piece" + (mark & 1 ? " t" : "") + (mark & 2 ? " s" : ""), text.replace(/\n/g, "↵\n")));
    }
    node.append(head, tokens);
    return node;
  };
  const draw = () => {
    const found = rows.filter((row) => (state.filter === "all" || row.problems.length) && row.searched.includes(state.text));
    document.getElementById("rows").replaceChildren(...found.slice(0, state.shown).map(card));
    document.getElementById("count").textContent = found.length + " of " + rows.length + " examples here, " + total + " in training";
    document.getElementById("pages").hidden = found.length <= state.shown;
  };
  const press = (filter) => {
    for (const button of document.querySelectorAll("[data-filter]")) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
    }
    Object.assign(state, { filter, shown: PAGE });
    draw();
  };
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => press(button.dataset.filter));
  }
  document.getElementById("search").addEventListener("input", (event) => {
    Object.assign(state, { text: event.target.value.toLowerCase(), shown: PAGE });
    draw();
  });
  document.getElementById("more").addEventListener("click", () => { state.shown += PAGE; draw(); });
  const follow = () => {
    const wanted = /^#row-(\d+)$/.exec(location.hash);
    if (!wanted) return;
    // the row may be filtered out, or not be drawn yet
    document.getElementById("search").value = "";
    state.text = "";
    press("all");
    state.shown = Math.max(PAGE, Number(wanted[1]) + 1);
    draw();
    const target = document.getElementById(wanted[0].slice(1));
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  draw();
  follow();
})();
