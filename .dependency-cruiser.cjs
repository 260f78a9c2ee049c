/**
 * The layers of src/: a room (a folder, or a file directly in src/) imports only rooms of earlier lines. Also: what a
 * browser does not have stays in few places, nothing shipped needs a development dependency, nothing lies unused.
 * The swc parser sees type imports too; the TypeScript one would need the programming interface of TypeScript 6.
 */
const ROOMS = [
  ["errors"],
  ["util"],
  ["report"],
  ["config", "tensor"],
  ["backend", "tokenizer"],
  ["autograd"],
  ["nn"],
  ["model"],
  ["formats", "data", "optim", "distributed"],
  ["train", "infer"],
  ["adapt", "eval", "routing"],
  ["experiments"],
  ["server"],
  ["cli"],
];

/** Packages that do not run in a browser. */
const NODE_PACKAGES = [
  "@duckdb/node-api",
  "@hono/node-server",
  "@npmcli/config",
  "@resvg/resvg-js",
  "cli-progress",
  "commander",
  "node-api-headers",
  "pacote",
  "tokenizers",
  "vega",
];

/** Files that need Node: whole rooms, and files named io.ts or ending in .io.ts. The public surface re-exports both kinds. */
const NODE_FILES = "^src/(index[.]ts|(cli|server|distributed|backend/native)/|(.*[/.])io[.]ts$)";

const pathOf = (rooms) => `^src/(${rooms.join("|")})(/|[.]ts$)`;

const layers = ROOMS.flatMap((line, level) =>
  line.map((room) => ({
    name: `layer-${room}`,
    severity: "error",
    from: { path: pathOf([room]) },
    to: { path: "^src/", pathNot: pathOf([...ROOMS.slice(0, level).flat(), room]) },
  })),
);

const forbidden = [
  ...layers,
  {
    name: "unknown-room",
    severity: "error",
    from: { path: "^src/", pathNot: pathOf([...ROOMS.flat(), "index", "browser"]) },
    to: {},
  },
  {
    name: "node-in-browser-code",
    comment: "Only io.ts files, cli, server, distributed and backend/native may use Node itself.",
    severity: "error",
    from: { path: "^src/", pathNot: NODE_FILES },
    to: { dependencyTypes: ["core"] },
  },
  {
    name: "node-package-in-browser-code",
    severity: "error",
    from: { path: "^src/", pathNot: NODE_FILES },
    to: { path: `(^|/)node_modules/(${NODE_PACKAGES.join("|")})/` },
  },
  { name: "no-cycle", severity: "error", from: {}, to: { circular: true } },
  {
    name: "no-orphan",
    severity: "error",
    from: { orphan: true, pathNot: "^src/(index|browser|cli/main|.*[.]d)[.]ts$" },
    to: {},
  },
  {
    name: "outside-src",
    comment: "Nothing shipped imports tests, benchmarks or scripts.",
    severity: "error",
    from: { path: "^src/" },
    to: { path: "^(test|bench|scripts|examples)/" },
  },
  {
    name: "development-dependency",
    comment: "build.io.ts imports @yowasp/clang only where it is installed, to compile the wasm kernels.",
    severity: "error",
    from: { path: "^src/", pathNot: "^src/backend/build[.]io[.]ts$" },
    to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
  },
  { name: "unresolved", severity: "error", from: {}, to: { couldNotResolve: true } },
];

module.exports = {
  forbidden,
  options: {
    parser: "swc",
    exclude: "[.]test[.]ts$",
    doNotFollow: "node_modules",
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types", "node", "default"] },
  },
};
