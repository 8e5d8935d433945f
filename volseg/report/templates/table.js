"use strict";
(() => {
  const table = document.getElementById("cases");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];

  // Numbers by size, other words by name, empty cells last in either direction.
  const compare = (column, direction) => (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].dataset.value ?? "");
    if (a === "" || b === "") return (a === "") - (b === "");
    const numbers = [Number(a), Number(b)];
    const order = numbers.some(Number.isNaN)
      ? a.localeCompare(b, undefined, { numeric: true })
      : numbers[0] - numbers[1];
    return direction * order;
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      body.append(...[...body.rows].sort(compare(column, ascending ? 1 : -1)));
    });
  });

  const filter = document.getElementById("filter");
  const severity = document.getElementById("severity"); // of cohorts
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden =
        Number(row.dataset.rank ?? 0) < Number(severity?.value ?? 0) ||
        !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    document.getElementById("count").textContent = `${shown} of ${body.rows.length} cases`;
  };
  filter.addEventListener("input", show);
  severity?.addEventListener("change", show);
})();
