"use strict";
// The differences of two short texts, character by character: [[kind, text], ...], kind "same", "ins" (only in the
// second) or "del" (only in the first); null where they have too little in common for differences to tell anything.
const difference = (first, second) => {
  const LARGEST = 4e6; // cells of the table below
  const ALIKE = 0.5;
  const RUN = Math.max([...first].length, [...second].length) < 12 ? 1 : 3; // letters in a row that count as in common
  const a = [...first], b = [...second];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const left = a.slice(start, a.length - end), right = b.slice(start, b.length - end);
  const rows = left.length + 1, columns = right.length + 1;
  if (rows * columns > LARGEST) return null;
  const common = new Uint16Array(rows * columns); // of what follows: the longest common subsequence
  for (let i = rows - 2; i >= 0; i--) {
    for (let j = columns - 2; j >= 0; j--) {
      common[i * columns + j] = left[i] === right[j]
        ? common[(i + 1) * columns + j + 1] + 1
        : Math.max(common[(i + 1) * columns + j], common[i * columns + j + 1]);
    }
  }
  if (start + end + common[0] < ALIKE * Math.max(a.length, b.length)) return null;
  const parts = [];
  const add = (kind, text) => {
    const last = parts[parts.length - 1];
    if (last && last[0] === kind) last[1] += text;
    else if (text) parts.push([kind, text]);
  };
  add("same", a.slice(0, start).join(""));
  let i = 0, j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) { add("same", left[i]); i++; j++; }
    else if (i < left.length && (j >= right.length || common[(i + 1) * columns + j] >= common[i * columns + j + 1])) add("del", left[i++]);
    else add("ins", right[j++]);
  }
  add("same", a.slice(a.length - end).join(""));
  // any two long texts have letters in common: only runs of them make two answers alike
  const alike = parts.reduce((sum, [kind, text]) => sum + (kind === "same" && text.length >= RUN ? text.length : 0), 0);
  return alike < ALIKE * Math.max(a.length, b.length) ? null : parts;
};
