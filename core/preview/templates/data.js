"use strict";
(() => {
  const { rows, totals } = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 25; // examples drawn at once: thousands of tokens would stutter
  const state = { filter: "all", text: "", page: 0 };
  rows.forEach((row, index) => {
    row.index = index;
    row.searched = (row.place + "\n" + row.texts.join("")).toLowerCase();
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
    row.texts.forEach((text, index) => {
      const mark = Number(row.marks[index]);
      tokens.append(element("span", "piece" + (mark & 1 ? " t" : "") + (mark & 2 ? " s" : ""), text.replace(/\n/g, "↵\n")));
    });
    node.append(head, tokens);
    return node;
  };
  const fits = (row) => {
    if (state.filter === "problems" && !row.problems.length) return false;
    if (state.filter in totals && row.part !== state.filter) return false;
    return row.searched.includes(state.text);
  };
  const draw = () => {
    const found = rows.filter(fits);
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    state.page = Math.min(Math.max(0, state.page), last);
    const start = state.page * PAGE;
    document.getElementById("rows").replaceChildren(...found.slice(start, start + PAGE).map(card));
    const there = Object.entries(totals).map(([part, count]) => count.toLocaleString("en") + " in " + part).join(", ");
    document.getElementById("count").textContent =
      found.length.toLocaleString("en") + " of the " + rows.length.toLocaleString("en") + " examples on this page; " + there;
    for (const nav of document.querySelectorAll(".pages")) {
      nav.hidden = !last;
      nav.querySelector("output").textContent = "page " + (state.page + 1) + " of " + (last + 1);
      nav.querySelector("[data-step='-1']").disabled = !state.page;
      nav.querySelector("[data-step='1']").disabled = state.page === last;
    }
  };
  const press = (filter) => {
    for (const button of document.querySelectorAll("[data-filter]")) {
      button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
    }
    Object.assign(state, { filter, page: 0 });
    draw();
  };
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => press(button.dataset.filter));
  }
  document.getElementById("search").addEventListener("input", (event) => {
    Object.assign(state, { text: event.target.value.toLowerCase(), page: 0 });
    draw();
  });
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      state.page += Number(button.dataset.step);
      draw();
      document.getElementById("tokens").scrollIntoView();
    });
  }
  const follow = () => {
    const wanted = /^#row-(\d+)$/.exec(location.hash);
    if (!wanted) return;
    // the row may be filtered out, or not be drawn yet
    document.getElementById("search").value = "";
    state.text = "";
    press("all");
    state.page = Math.floor(Number(wanted[1]) / PAGE);
    draw();
    const target = document.getElementById(wanted[0].slice(1));
    if (!target) return;
    target.tabIndex = -1; // who came by the keyboard goes on from there
    target.focus({ preventScroll: true });
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  draw();
  follow();
})();
