"use strict";
(() => {
  // The table shows Dice; any other metric on request.
  const data = JSON.parse(document.getElementById("data").textContent);
  const chosen = document.getElementById("metric");
  const rows = [...document.getElementById("cases").tBodies[0].rows];
  const text = (value, decimals) => {
    if (value === null) return "-";
    return value === "inf" ? "infinite" : value.toFixed(decimals);
  };
  chosen.addEventListener("change", () => {
    const values = data.values[chosen.value];
    for (const row of rows) {
      row.querySelectorAll("td[data-class]").forEach((cell, index) => {
        const value = values[row.dataset.case][index];
        cell.textContent = text(value, data.decimals[chosen.value]);
        cell.dataset.value = value === null ? "" : value === "inf" ? "Infinity" : value;
      });
    }
  });
})();
