"use strict";
(() => {
  const order = { none: 0, ascending: 1, descending: -1 };
  const compare = (column, numeric, sign) => (a, b) => {
    const [x, y] = [a, b].map((row) => row.cells[column].dataset.key);
    // What has no value comes last, whichever way the column is sorted.
    if (x === "" || y === "") return (x === "") - (y === "");
    const difference = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
    return sign * (difference > 0 ? 1 : difference < 0 ? -1 : 0);
  };
  // Controls stay below their line, whatever they score.
  const last = (row) => row.classList.contains("control");
  const sort = (table, rows, head) => {
    const first = head.dataset.first;
    const second = first === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === first ? second : now === second ? "none" : first;
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const numeric = head.classList.contains("number");
    const by = compare(head.cellIndex, numeric, order[next]);
    const sorted = next === "none" ? rows : [...rows].sort((a, b) => last(a) - last(b) || by(a, b));
    table.tBodies[0].append(...sorted);
  };
  for (const table of document.querySelectorAll("table")) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) continue;
    for (const head of table.tHead.rows[0].cells) {
      // The label stays outside the button: a printed header repeats no buttons.
      const button = document.createElement("button");
      const label = head.textContent;
      button.type = "button";
      button.setAttribute("aria-label", `Sort by ${label}`);
      head.setAttribute("aria-label", label);
      head.setAttribute("aria-sort", "none");
      head.title = head.dataset.help ? `${head.dataset.help}. Click to sort.` : "Click to sort.";
      head.classList.contains("number") ? head.prepend(button) : head.append(button);
      head.addEventListener("click", () => sort(table, rows, head));
    }
  }
})();
