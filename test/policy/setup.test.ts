/** scripts/setup.mjs in a small copy of the repository, with the packages of this one. */
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "./repository.ts";

const run = promisify(execFile);
const folder = mkdtempSync(path.join(tmpdir(), "olmoe-setup-"));
const inFolder = (file: string) => path.join(folder, file);
const write = (file: string, text: string) => writeFileSync(inFolder(file), text);

interface Run {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the copy's setup; times in its output become 0. */
async function runSetup(nodeOptions: readonly string[] = [], env = process.env): Promise<Run> {
  const args = [...nodeOptions, "scripts/setup.mjs", "--all"];
  const { stdout, stderr, code = 0 } = await run(process.execPath, args, { cwd: folder, env }).catch((error) => error);
  return { status: code, stdout: stdout.replace(/\d+\.\d s/g, "0 s"), stderr };
}

const NOTHING: Run = { status: 0, stdout: "", stderr: "" };

describe("setup", () => {
  beforeAll(() => {
    for (const file of ["scripts/setup.mjs", "package.json", "package-lock.json", "kernels", "build/kernels"]) {
      cpSync(path.join(ROOT, file), inFolder(file), { recursive: true });
    }
    for (const file of [
      "tsconfig.json",
      "tsconfig.build.json",
      "src/errors.ts",
      "src/tensor",
      "src/backend",
      "src/util",
    ]) {
      cpSync(path.join(ROOT, file), inFolder(file), { recursive: true });
    }
    symlinkSync(path.join(ROOT, "node_modules"), inFolder("node_modules"));
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  it("compiles and builds at the first call and does nothing at the second", async () => {
    const first = await runSetup();
    expect(first).toEqual({
      status: 0,
      stderr: "",
      stdout: expect.stringMatching(/^setup: compiling src \.\.\. 0 s\n/),
    });
    for (const file of ["dist/kernels.wasm", "dist/kernels-threads.wasm"])
      expect(existsSync(inFolder(file))).toBe(true);
    expect(await runSetup()).toEqual(NOTHING);
  });

  it("compiles once when called twice at the same time", async () => {
    write("src/added.ts", "export const added = 1;\n");
    const outputs = (await Promise.all([runSetup(), runSetup()])).map(({ stdout }) => stdout);
    expect(outputs.filter((stdout) => stdout.includes("compiling src"))).toHaveLength(1);
    expect(existsSync(inFolder("dist/added.js"))).toBe(true);
  });

  it("leaves nothing of a removed source behind", async () => {
    rmSync(inFolder("src/added.ts"));
    expect(await runSetup()).toMatchObject({ status: 0, stderr: "" });
    expect(readdirSync(inFolder("dist")).filter((name) => name.startsWith("added"))).toEqual([]);
  });

  it("reports what does not compile and keeps the last good code", async () => {
    write("src/added.ts", 'export const added: number = "one";\n');
    const { status, stderr } = await runSetup();
    expect(status).toBe(1);
    expect(stderr).toContain("src/added.ts(1,14): error TS2322");
    expect(existsSync(inFolder("dist/errors.js"))).toBe(true);
    expect(readdirSync(inFolder("build"))).toEqual(["kernels"]);
    rmSync(inFolder("src/added.ts"));
    expect(await runSetup()).toEqual(NOTHING);
  });

  it("takes over the lock of a setup that was killed, also when its process id is in use again", async () => {
    const ended = run(process.execPath, ["--version"]);
    await ended;
    write("build/setup.lock", String(ended.child.pid));
    expect(await runSetup()).toEqual(NOTHING);
    write("build/setup.lock", String(process.pid));
    const longAgo = Date.now() / 1000 - 3600;
    utimesSync(inFolder("build/setup.lock"), longAgo, longAgo);
    expect(await runSetup()).toEqual(NOTHING);
  });

  it("says once that wasm is used where there is no C++ compiler", async () => {
    const env = { ...process.env, PATH: inFolder("nothing") };
    expect(await runSetup([], env)).toEqual({
      status: 0,
      stderr: "",
      stdout: expect.stringMatching(
        /^setup: building the wasm kernels \.\.\. 0 s\nsetup: kernels: no C\+\+ compiler \(.*\); wasm is used, .*\n$/,
      ),
    });
    expect(await runSetup([], env)).toEqual(NOTHING);
  });

  it("refuses a Node that is too old with one line", async () => {
    const old = 'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"18.19.1"})';
    expect(await runSetup(["--import", old])).toEqual({
      status: 1,
      stdout: "",
      stderr: "setup: this is Node 18.19.1, Node 20.19 or newer is needed (https://nodejs.org)\n",
    });
  });
});
