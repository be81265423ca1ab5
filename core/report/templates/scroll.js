"use strict";
// What is wider or longer than its place can be scrolled with the keys: it takes part in the order of Tab, and says so.
const keepReachable = (() => {
  const mark = (node) => {
    const sideways = node.scrollWidth > node.clientWidth;
    const marks = { tabindex: "0", role: "group", "aria-label": sideways ? "wider than the page, scrolls sideways" : "prompt, scrolls" };
    for (const [name, value] of Object.entries(marks)) {
      if (sideways || node.scrollHeight > node.clientHeight) node.setAttribute(name, value);
      else node.removeAttribute(name);
    }
  };
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
  return (node) => observer.observe(node); // told at once, and whenever its place changes
})();
document.querySelectorAll(".scroll, .prompt").forEach(keepReachable);
