// Does KaTeX read our LaTeX? Give lines "name<TAB>latex" (line breaks as spaces) on standard input:
//   npm install katex && node bench/katex_check.mjs < formulas.tsv
// KATEX=/elsewhere/node_modules/katex/dist/katex.mjs takes it from another folder.
import { readFileSync } from "node:fs";

const { default: katex } = await import(process.env.KATEX ?? "katex");
const lines = readFileSync(0, "utf8").split("\n").filter((line) => line.trim());
let failed = 0;
for (const line of lines) {
  const [name, latex] = line.split("\t");
  try {
    katex.renderToString(latex, { throwOnError: true, strict: "error", displayMode: true });
  } catch (error) {
    failed += 1;
    console.log(`${name}: ${error.message}\n    ${latex}`);
  }
}
console.log(`${lines.length - failed} of ${lines.length} formulas parse`);
process.exit(failed ? 1 : 0);
