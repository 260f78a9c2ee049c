import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { COMMIT, type HubServer, startHub } from "../../../test/hubServer.ts";
import { brief, recipeOf, SourceFolder } from "../../../test/sourceFiles.ts";
import { listSource, placeOnDisk } from "./files.io.ts";

/** Text that does not pack well, to be cut off in the middle. */
const LARGE = Buffer.from(Array.from({ length: 300_000 }, (_, index) => 97 + ((index * index * 7) % 23)));
const SOURCE = { hub: "owner/name" };

let files: SourceFolder;
let hub: HubServer;
beforeEach(async () => {
  files = new SourceFolder();
  hub = await startHub({
    "data/b.txt": LARGE,
    "data/a #1.jsonl.gz": gzipSync('{"text":"one"}\n'),
    "README.md": Buffer.from("read me"),
    "empty.txt": new Uint8Array(0),
  });
  for (const name of ["HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE"]) vi.stubEnv(name, undefined);
  vi.stubEnv("HF_HOME", files.folder);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.close();
  files.remove();
});

const options = () => ({ ...files.options, hubUrl: hub.url });
const list = (source: object = SOURCE) => listSource(recipeOf(source), options());
const read = (source: object = SOURCE) => files.read(source, options());
const failure = async (action: () => Promise<unknown>) => (await files.failure(action)).replaceAll(hub.url, "URL");
const cacheFolder = () => path.join(files.folder, "cache/hub/datasets--owner--name");

describe("a dataset", () => {
  it("is listed by path and pinned to its commit, and no file is fetched", async () => {
    const { files: listed, resolved, source } = await list({ ...SOURCE, exclude: ["README.md"] });
    expect(listed.map((file) => [file.path, file.bytes, file.fingerprint.length])).toEqual([
      ["data/a #1.jsonl.gz", hub.files["data/a #1.jsonl.gz"]!.length, 40],
      ["data/b.txt", 300_000, 64],
      ["empty.txt", 0, 40],
    ]);
    expect([resolved, source.revision]).toEqual([`owner/name@${COMMIT}`, COMMIT]);
    expect(hub.requests).toEqual([
      "/api/datasets/owner/name/revision/main",
      `/api/datasets/owner/name/tree/${COMMIT}`,
      `/api/datasets/owner/name/tree/${COMMIT}`,
    ]);
  });

  it("is read, and from then on without the hub", async () => {
    const records = await read();
    expect(brief(records)).toEqual([
      ["README.md", "read me", 1],
      ["data/a #1.jsonl.gz:1", "one", 1],
      ["data/b.txt", LARGE.toString(), 1],
      ["empty.txt", "", 1],
    ]);
    await hub.close();
    expect(await read()).toEqual(records);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect(await read()).toEqual(records);
    expect(await read({ ...SOURCE, revision: COMMIT })).toEqual(records);
  });

  it("goes on where a download was cut off", async () => {
    const { files: listed, source } = await list();
    const large = listed.find((file) => file.path === "data/b.txt")!;
    hub.cutAfter = 100_000;
    expect(await failure(() => placeOnDisk(large, source, options()))).toMatch(
      /^E_DATA dataset owner\/name@[0-9a-f]{40}: data\/b.txt: can not be fetched \([^()]+\) \[try again with a network connection; what is there of a file is kept and goes on\]$/,
    );
    const kept = statSync(path.join(cacheFolder(), "blobs", `${large.fingerprint}.incomplete`)).size;
    expect(kept).toBeGreaterThan(0);
    hub.cutAfter = undefined;
    hub.requests.length = 0;
    const { file } = await placeOnDisk(large, source, options());
    expect(statSync(file).size).toBe(300_000);
    expect(hub.requests.at(-1)).toBe(`/datasets/owner/name/resolve/${COMMIT}/data/b.txt bytes=${kept}-299999`);
    expect(readdirSync(path.join(cacheFolder(), "blobs"))).toEqual([large.fingerprint]);
  });

  it("whose file is not what was listed is refused, and nothing of it kept", async () => {
    hub.corrupt = true;
    expect(await failure(() => read({ ...SOURCE, include: ["data/b.txt"] }))).toBe(
      `E_DATA dataset owner/name@${COMMIT}: data/b.txt: what arrived is not the file that was listed [try again]`,
    );
    expect(readdirSync(path.join(cacheFolder(), "blobs"))).toEqual([]);
  });

  it("is named when a file of it is damaged", async () => {
    hub.files = { "a.jsonl.gz": Buffer.from("not gzip") };
    expect(await failure(read)).toBe("E_DATA dataset owner/name: a.jsonl.gz: gzip stream is damaged");
  });

  it("is asked for with the user's token", async () => {
    hub.token = "hf_secret";
    const denied = `E_DATA dataset owner/name@main: access denied, or no such dataset (HTTP 401) [set HF_TOKEN to a token that may read it, and accept its conditions on the hub]`;
    expect(await failure(list)).toBe(denied);
    vi.stubEnv("HF_TOKEN", "hf_secret");
    expect((await read({ ...SOURCE, include: ["README.md"] })).length).toBe(1);
    vi.stubEnv("HF_TOKEN", undefined);
    files.write("token", "hf_secret\n");
    expect((await list()).files.length).toBe(4);
  });

  it("that is unknown, or not in the cache without a network, is named", async () => {
    expect(await failure(() => list({ hub: "owner/none" }))).toBe(
      "E_DATA dataset owner/none@main: not found (HTTP 404) [check hub and revision of the source]",
    );
    await hub.close();
    expect(await failure(list)).toBe(
      "E_DATA dataset owner/name@main: can not be fetched (ECONNREFUSED) [try again with a network connection; what is there of a file is kept and goes on]",
    );
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect(await failure(list)).toBe("E_DATA dataset owner/name@main: not in DIR/cache, and HF_HUB_OFFLINE is set");
    expect(await failure(() => list({ ...SOURCE, revision: COMMIT }))).toBe(
      `E_DATA dataset owner/name@${COMMIT}: its list is not in DIR/cache, and HF_HUB_OFFLINE is set`,
    );
  });

  it.each(["../out.txt", "/etc/out.txt", "a/../../out.txt", "..\\out.txt", "C:out.txt"])(
    "with a file called %s is refused",
    async (name) => {
      hub.extraNames = [name];
      expect(await failure(list)).toBe(
        `E_DATA dataset owner/name@${COMMIT}: file name ${JSON.stringify(name)} leads out of its folder`,
      );
    },
  );

  it("stops at an abort", async () => {
    const stop = AbortSignal.abort();
    await expect(listSource(recipeOf(SOURCE), { ...options(), signal: stop })).rejects.toBe(stop.reason);
  });
});
