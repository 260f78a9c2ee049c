/**
 * Makes a fresh clone ready: packages, compiled TypeScript, kernels. Every step is skipped when its result is already
 * there, so that all npm scripts can call this first; --all also builds what tests and packages need. Plain JavaScript
 * on Node's own modules, because it runs before anything is installed.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

const MINIMUM_NODE = [20, 19];
const LOCK = "build/setup.lock";
/** A lock older than this belongs to a setup that is gone, whatever runs under its process id now. */
const LOCK_LIFETIME_MS = 20 * 60_000;

class SetupError extends Error {}

const readJson = (file) => JSON.parse(fs.readFileSync(file, "utf8"));

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor >= MINIMUM_NODE[1])) return;
  throw new SetupError(
    `this is Node ${process.versions.node}, Node ${MINIMUM_NODE.join(".")} or newer is needed (https://nodejs.org)`,
  );
}

/** Prints what is done and then how long it took. */
async function timed(what, work) {
  const start = performance.now();
  process.stdout.write(`setup: ${what} ... `);
  try {
    const result = await work();
    process.stdout.write(`${((performance.now() - start) / 1000).toFixed(1)} s\n`);
    return result;
  } catch (error) {
    process.stdout.write("failed\n");
    throw error;
  }
}

/** Runs a program whose output is shown only when it fails. */
function run(program, args, hint, options = {}) {
  const { status, signal, error, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", ...options });
  if (status === 0) return;
  const fault = error?.message ?? (signal ? `ended by ${signal}` : `exit code ${status}`);
  throw new SetupError(`${[program, ...args].join(" ")}: ${fault}\n${stdout ?? ""}${stderr ?? ""}\nHint: ${hint}`);
}

/** Calls a function of a module in a process of its own, and waits until that ends in some way. */
function inProcess(module, call) {
  const code = `await (await import("${module}")).${call}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], { stdio: "ignore" });
  return new Promise((resolve) => child.on("close", resolve).on("error", resolve));
}

/**
 * Whether node_modules holds the versions of package-lock.json. npm keeps its own list of what it installed, which is
 * also right after a plain npm install; optional packages for other platforms are missing from it.
 */
function packagesInstalled() {
  if (!fs.existsSync("node_modules/.package-lock.json")) return false;
  const installed = readJson("node_modules/.package-lock.json").packages;
  return Object.entries(readJson("package-lock.json").packages).every(
    ([path, { version, optional }]) => path === "" || (optional ?? false) || installed[path]?.version === version,
  );
}

function installPackages() {
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  run(npm, ["ci", "--no-audit", "--no-fund"], "check the network, then run npm run setup again", {
    shell: process.platform === "win32",
  });
}

/** One digest over files and further texts, to see whether anything changed since the last setup. */
function digestOf(files, ...texts) {
  const hash = createHash("sha256").update(JSON.stringify(texts));
  for (const file of [...files].sort()) hash.update(`${file}\0`).update(fs.readFileSync(file)).update("\0");
  return hash.digest("hex");
}

function readStamp(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    return undefined;
  }
}

function sourceFiles() {
  const names = fs.readdirSync("src", { recursive: true }).filter((name) => /(?<!\.test)\.ts$/.test(name));
  return ["tsconfig.json", "tsconfig.build.json", ...names.map((name) => join("src", name))];
}

/** Compiles into a new folder and swaps it in: no file of a removed source stays, a failure leaves the old folder. */
function compile(digest) {
  const fresh = `build/dist.${process.pid}`;
  const old = `${fresh}.old`;
  try {
    const args = ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir", fresh];
    run(process.execPath, args, "correct the sources named above");
    // In a clone npx runs the file itself; in an installed package npm sees to it.
    const main = join(fresh, "cli", "main.js");
    if (fs.existsSync(main)) fs.chmodSync(main, 0o755);
    fs.writeFileSync(join(fresh, ".sources"), digest);
    if (fs.existsSync("dist")) fs.renameSync("dist", old);
    fs.renameSync(fresh, "dist");
  } finally {
    for (const folder of [fresh, old]) fs.rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Builds the native kernels for this machine, with `all` those of every instruction set. Wasm, which takes longest, only
 * where there is no native code or `all`: then its two variants also go beside the compiled code, where a package carries
 * them.
 */
async function buildKernels(all) {
  const builder = pathToFileURL("dist/backend/build.io.js").href;
  const { buildNative, buildWasm, compilerVersion, NATIVE_VARIANTS } = await import(builder);
  const { openBackend } = await import(pathToFileURL("dist/backend/io.js").href);
  const { WASM_FILES } = await import(pathToFileURL("dist/backend/wasm/library.js").href);
  const compiler = await compilerVersion();
  const sources = fs.readdirSync("kernels").map((name) => join("kernels", name));
  const builders = ["dist/backend/build.io.js", "dist/backend/wasm/library.js"];
  // Kernels are built for a processor as well as on it: a folder that is moved to another one has others.
  const digest = digestOf([...sources, ...builders], compiler, process.platform, process.arch, cpus()[0]?.model);
  const stamps = all ? ["build/kernels/.all"] : ["build/kernels/.native", "build/kernels/.all"];
  let fault;
  if (!stamps.some((stamp) => readStamp(stamp) === digest)) {
    const build = async () => {
      const notices = [];
      const others = all ? Promise.allSettled(NATIVE_VARIANTS.map((isa) => buildNative(isa))) : undefined;
      try {
        (await openBackend({ backend: "native", threads: 1, onNotice: (text) => notices.push(text) })).close();
      } catch (error) {
        fault = error;
      }
      await others;
      return notices;
    };
    const notices = compiler === undefined ? await build() : await timed("building the native kernels", build);
    for (const notice of notices) console.log(`setup: ${notice}`);
    if (fault === undefined) fs.writeFileSync(stamps[0], digest);
    else if (fault.code !== "E_UNSUPPORTED") throw fault;
  }
  if (!(all || fault) || readStamp("dist/.wasm") === digest) return;
  await timed("building the wasm kernels", async () => {
    // The compiler takes one thread for itself, so each variant has a process. What fails there fails again below.
    await Promise.all(Object.keys(WASM_FILES).map((variant) => inProcess(builder, `buildWasm("${variant}")`)));
    for (const [variant, name] of Object.entries(WASM_FILES)) {
      fs.copyFileSync(await buildWasm(variant), `dist/${name}.new`);
      fs.renameSync(`dist/${name}.new`, `dist/${name}`);
    }
    fs.writeFileSync("dist/.wasm", digest);
  });
  if (fault) console.log(`setup: ${fault.message}; wasm is used, which is slower. Hint: ${fault.hint}`);
}

/** Builds the page of `olmoe explore`, which is made of explorer/ and of parts of src/. */
async function buildPage() {
  const files = fs.readdirSync("explorer", { recursive: true }).filter((name) => /\.(tsx?|css|html)$/.test(name));
  const parts = [...sourceFiles(), ...files.map((name) => join("explorer", name)), "scripts/explorer.mjs"];
  const digest = digestOf([...parts, "package-lock.json"]);
  if (readStamp("dist/.explorer") === digest) return;
  await timed("building the explorer", async () => {
    const { buildExplorer } = await import(pathToFileURL("scripts/explorer.mjs").href);
    await buildExplorer("dist/explorer.html.new");
    fs.renameSync("dist/explorer.html.new", "dist/explorer.html");
    fs.writeFileSync("dist/.explorer", digest);
  });
}

function isRunning(processId) {
  try {
    return process.kill(processId, 0);
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Takes the lock file, or removes it when its owner is gone. */
async function takeLock() {
  try {
    fs.writeFileSync(LOCK, String(process.pid), { flag: "wx" });
    // Another setup may have judged the previous owner's file at the same moment and removed this one instead.
    await sleep(50);
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    const owner = readStamp(LOCK);
    const age = Date.now() - (fs.statSync(LOCK, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
    if (owner !== undefined && (!isRunning(Number(owner)) || age > LOCK_LIFETIME_MS)) fs.rmSync(LOCK, { force: true });
  }
  return readStamp(LOCK) === String(process.pid);
}

/** Only one setup works at a time. */
async function locked(work) {
  fs.mkdirSync("build/kernels", { recursive: true });
  for (let told = false; !(await takeLock()); await sleep(200)) {
    const owner = readStamp(LOCK);
    if (!told && owner !== undefined) console.log(`setup: waiting for another setup (process ${owner}, ${LOCK})`);
    told ||= owner !== undefined;
  }
  try {
    await work();
  } finally {
    fs.rmSync(LOCK, { force: true });
  }
}

try {
  checkNode();
  process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
  await locked(async () => {
    if (!packagesInstalled()) await timed("installing packages (npm ci)", installPackages);
    const digest = digestOf(sourceFiles());
    if (readStamp("dist/.sources") !== digest) await timed("compiling src", () => compile(digest));
    if (fs.existsSync("explorer")) await buildPage();
    await buildKernels(process.argv.includes("--all"));
  });
} catch (error) {
  if (!(error instanceof SetupError) && error.code !== "E_UNSUPPORTED") throw error;
  console.error(`setup: ${error.message}`);
  process.exitCode = 1;
}
