"use strict";
// Shows the examples that all filters let through, and says how many these are.
const form = document.querySelector(".filters");
const examples = [...document.querySelectorAll(".example")];

function filter() {
  const wanted = [...form.querySelectorAll("select")].filter((select) => select.value !== "");
  for (const example of examples) {
    example.hidden = wanted.some((select) => example.dataset[select.name] !== select.value);
  }
  const shown = examples.filter((example) => !example.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${examples.length}`;
}

if (form) {
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(); // browsers keep what was chosen when a page is loaded again
}
