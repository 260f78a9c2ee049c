/** `olmoe explore` as a command and its server, without a browser. */
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OlmoeModel } from "../../src/infer/model.io.ts";
import { type Explorer, serveExplorer } from "../../src/server/explorer.ts";
import { setup } from "../policy/repository.ts";
import { traceBytes } from "../textTraces.ts";
import { olmoe, startOlmoe, temporaryFolder, writeTinyModel } from "./harness.ts";

const BYTES = traceBytes({ texts: ["a", "b", "c"] });
let folder: string;

beforeAll(async () => {
  setup();
  folder = await temporaryFolder();
  await writeFile(join(folder, "abc.trace"), BYTES);
});

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

/** Not by `fetch`, which does not let a Host header be set. */
function ask(url: URL, headers: Readonly<Record<string, string>> = {}, method = "GET", body = ""): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { headers, method }, (response) => {
      let text = "";
      response.setEncoding("latin1").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: text }));
    });
    asked.on("error", reject).end(body);
  });
}

describe("the server", () => {
  let explorer: Explorer;
  let model: OlmoeModel;
  const at = (path: string) => new URL(path, explorer.url);
  const generate = (body: string, headers = {}) => ask(at("/api/generate"), headers, "POST", body);

  beforeAll(async () => {
    await writeTinyModel(folder);
    model = await OlmoeModel.open(folder, { inProcess: true });
    explorer = await serveExplorer({ traces: [join(folder, "abc.trace")], model });
  });

  afterAll(async () => {
    await explorer.close();
    await model.close();
  });

  it("gives the page, which may load nothing and run nothing else", async () => {
    const { status, headers, body } = await ask(at("/"));
    expect([status, headers["content-type"], body.slice(0, 15)]).toEqual([
      200,
      "text/html; charset=UTF-8",
      "<!doctype html>",
    ]);
    expect(headers).toMatchObject({
      "content-security-policy": expect.stringMatching(
        /^default-src 'none'; script-src 'sha256-[\w+/]{43}=' blob:; worker-src blob:; .*; frame-ancestors 'none'$/,
      ),
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
    });
  });

  it("answers nobody who calls it by another name, and no page of another origin", async () => {
    const { port } = new URL(explorer.url);
    expect(await ask(at("/"), { host: "evil.example" })).toMatchObject({
      status: 403,
      body: `{"error":"host \\"evil.example\\", expected 127.0.0.1:${port} or localhost:${port}"}`,
    });
    expect((await ask(at("/api/session"), { origin: "http://evil.example" })).status).toBe(403);
    expect((await ask(at("/api/session"), { host: `localhost:${port}` })).status).toBe(200);
  });

  it("says what it has", async () => {
    expect(JSON.parse((await ask(at("/api/session"))).body)).toEqual({
      traces: [{ name: "abc.trace", bytes: BYTES.length, url: "api/traces/0" }],
      model: {
        name: folder,
        numExperts: 8,
        topK: 2,
        layers: [0, 1],
        vocabSize: 280,
        context: expect.any(Number),
        chat: false,
      },
      run: null,
    });
  });

  it("gives parts of traces and nothing else", async () => {
    const part = await ask(at("/api/traces/0"), { range: "bytes=0-7" });
    expect(part).toMatchObject({
      status: 206,
      body: "OLMOEtrc",
      headers: { "content-range": `bytes 0-7/${BYTES.length}` },
    });
    const end = await ask(at("/api/traces/0"), { range: `bytes=${BYTES.length - 8}-${BYTES.length + 100}` });
    expect(end).toMatchObject({ status: 206, body: "OLMOEend" });
    for (const range of ["", "bytes=5-2", `bytes=${BYTES.length}-${BYTES.length + 1}`, "bytes=0-1,4-5", "bytes=-5"]) {
      expect((await ask(at("/api/traces/0"), { range })).status).toBe(416);
    }
    expect((await ask(at("/api/traces/1"), { range: "bytes=0-7" })).status).toBe(404);
    expect((await ask(at("/api/traces/..%2f..%2fpackage.json"), { range: "bytes=0-7" })).status).toBe(404);
    expect((await ask(at("/package.json"))).status).toBe(404);
    expect((await ask(at("/api/run"))).status).toBe(404);
  });

  it("streams tokens with their routes, the prompt's first", async () => {
    const ids = Array.from(await model.tokenize("the cat"));
    const { experts } = await model.trace(ids);
    const body = JSON.stringify({ prompt: "the cat", maxTokens: 3, temperature: 0, seed: 0 });
    const lines = (await generate(body)).body
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const written = await model.generate("the cat", { maxTokens: 3, temperature: 0 }).result;
    expect(lines.flatMap(({ tokens }) => tokens?.ids ?? [])).toEqual([...ids, ...written.ids.slice(0, 2)]);
    expect(lines.at(-1)).toMatchObject({ end: { finishReason: "length", newTokens: 3, last: { id: written.ids[2] } } });

    const routed = await generate(JSON.stringify({ prompt: "the cat", maxTokens: 0, temperature: 0, seed: 0 }));
    const [{ tokens }] = routed.body
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect([tokens.position, tokens.ids, tokens.experts]).toEqual([0, ids, Array.from(experts!)]);
  });

  it("says what is wrong with a request", async () => {
    const answers: unknown[] = [];
    for (const body of ["", '{"prompt":1,"maxTokens":-1,"temperature":0,"seed":0,"top":1}', "x".repeat(2 ** 24 + 1)]) {
      const { status, body: answer } = await generate(body);
      answers.push([status, answer]);
    }
    expect(answers).toEqual([
      [400, expect.stringMatching(/^\{"error":"generate: /)],
      [400, expect.stringMatching(/prompt: .*maxTokens: .*top: /s)],
      [413, '{"error":"generate: the request is too large, expected at most 16777216 bytes"}'],
    ]);
  });
});

describe("the command", () => {
  it("prints its address, serves until Ctrl-C, and ends with the code of an interrupt", async () => {
    const child = startOlmoe(["explore", join(folder, "abc.trace")]);
    const [line] = await once(child.stdout.setEncoding("utf8"), "data");
    expect(line).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/\n$/);
    const { traces } = JSON.parse((await ask(new URL("api/session", line.trim()))).body);
    expect(traces).toHaveLength(1);
    child.kill("SIGINT");
    const [code] = await once(child, "exit");
    expect(code).toBe(130);
  });

  it("refuses what is not there, and more than the page can show", async () => {
    expect(await olmoe(["explore", join(folder, "nothing")])).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: ${join(folder, "nothing")}: no such file or folder, expected a trace, a model or a training run\nhint: record a trace with olmoe trace\n`,
    });
    for (const name of ["run1", "run2"]) await mkdir(join(folder, name, "checkpoints"), { recursive: true });
    expect(await olmoe(["explore", join(folder, "run1"), join(folder, "run2")])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^olmoe: explore: 2 training runs \(.*\), expected at most one\n/),
    });
  });

  it("says that a port is taken", async () => {
    await using other = await serveExplorer({ traces: [] });
    const { port } = new URL(other.url);
    expect(await olmoe(["explore", "--port", port])).toEqual({
      code: 1,
      stdout: "",
      stderr: `olmoe: port ${port}: it is in use\nhint: choose another --port, or none\n`,
    });
  });
});
