/** A registry of one package on this machine, for tests: version 1.0.0 of "olmoe-test-text". */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { gzipSync } from "node:zlib";

/** One file of a tar archive (ustar). */
function tarEntry(name: string, content: string): Buffer {
  const data = Buffer.from(content);
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write("0000644\0", 100);
  header.write(`${data.length.toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write("0", 156);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export interface TestRegistry {
  readonly url: string;
  /** What the server does with the archive. */
  mode: "whole" | "interrupted";
  /** Archives asked for so far. */
  downloads: number;
  close(): Promise<void>;
}

/**
 * Starts the registry and makes it the one npm uses in `folder`.
 * @param files of the package besides its package.json.
 */
export async function startRegistry(folder: string, files: Readonly<Record<string, string>>): Promise<TestRegistry> {
  const manifest = { name: "olmoe-test-text", version: "1.0.0" };
  const archive = gzipSync(
    Buffer.concat([
      tarEntry("package/package.json", JSON.stringify(manifest)),
      ...Object.entries(files).map(([name, content]) => tarEntry(`package/${name}`, content)),
      Buffer.alloc(1024),
    ]),
  );
  const integrity = `sha512-${createHash("sha512").update(archive).digest("base64")}`;
  const server = createServer((request, response) => {
    if (request.url === "/olmoe-test-text") {
      const dist = { tarball: `${registry.url}archive.tgz`, integrity };
      const versions = { "1.0.0": { ...manifest, dist } };
      response.end(JSON.stringify({ name: manifest.name, "dist-tags": { latest: "1.0.0" }, versions }));
    } else if (request.url === "/archive.tgz") {
      registry.downloads++;
      response.writeHead(200, { "content-length": archive.length });
      if (registry.mode === "whole") response.end(archive);
      else response.write(archive.subarray(0, archive.length / 2), () => response.destroy());
    } else {
      response.writeHead(404).end("{}");
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const registry: TestRegistry = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    mode: "whole",
    downloads: 0,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "package.json"), "{}");
  const cache = path.join(folder, "npm-cache");
  writeFileSync(path.join(folder, ".npmrc"), `registry=${registry.url}\ncache=${cache}\nfetch-retries=0\n`);
  return registry;
}

/** npm passes its settings to the tests it runs as variables, which would win over the folder's .npmrc. */
export const NPM_VARIABLES = Object.keys(process.env).filter((name) => /^npm_config_/i.test(name));
