/** A small server with the part of the Hugging Face hub's interface that datasets are read by. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export interface HubServer {
  readonly url: string;
  /** Method-less request lines with their range, in order. */
  readonly requests: string[];
  /** Files of the dataset `owner/name`; a large one has a SHA-256, others git's digest. */
  files: Record<string, Uint8Array>;
  /** Names the tree has besides. */
  extraNames: string[];
  /** The token that is asked for. */
  token: string | undefined;
  /** Bytes after which a download is cut off. */
  cutAfter: number | undefined;
  /** Sends other bytes than were listed. */
  corrupt: boolean;
  close(): Promise<void>;
}

const LARGE_BYTES = 1000;

function treeEntry(path: string, content: Uint8Array): object {
  const git = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
  if (content.length < LARGE_BYTES) return { type: "file", path, size: content.length, oid: git };
  const oid = createHash("sha256").update(content).digest("hex");
  return { type: "file", path, size: content.length, oid: git, lfs: { oid, size: content.length, pointerSize: 130 } };
}

function sendFile(hub: HubServer, content: Uint8Array, request: IncomingMessage, response: ServerResponse): void {
  const body = hub.corrupt ? content.map((byte) => byte ^ 1) : content;
  const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const part = body.subarray(Number(from), to === "" ? body.length : Number(to) + 1);
  const isPart = request.headers.range !== undefined;
  response.writeHead(isPart ? 206 : 200, {
    ETag: '"x"',
    "Content-Length": part.length,
    ...(isPart ? { "Content-Range": `bytes ${from}-${Number(from) + part.length - 1}/${body.length}` } : {}),
  });
  if (hub.cutAfter === undefined || part.length <= hub.cutAfter) response.end(part);
  else response.write(part.subarray(0, hub.cutAfter), () => setTimeout(() => response.destroy(), 20));
}

function answer(hub: HubServer, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, search } = new URL(request.url ?? "/", "http://localhost");
  hub.requests.push(`${pathname}${request.headers.range === undefined ? "" : ` ${request.headers.range}`}`);
  const send = (status: number, body: unknown, headers: Record<string, string> = {}) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
  if (hub.token !== undefined && request.headers.authorization !== `Bearer ${hub.token}`) {
    send(401, { error: "Unauthorized" });
    return;
  }
  const content = hub.files[decodeURIComponent(pathname.split(`/resolve/${COMMIT}/`)[1] ?? "")];
  if (pathname === "/api/datasets/owner/name/revision/main") {
    send(200, { _id: "1", id: "owner/name", sha: COMMIT, lastModified: "2024-01-01" });
  } else if (pathname === `/api/datasets/owner/name/tree/${COMMIT}`) {
    const entries = Object.entries(hub.files).map(([path, bytes]) => treeEntry(path, bytes));
    const extra = hub.extraNames.map((path) => treeEntry(path, new Uint8Array(1)));
    const all = [{ type: "directory", path: "data", oid: COMMIT, size: 0 }, ...entries, ...extra];
    // Two pages.
    if (search.includes("cursor")) send(200, all.slice(2));
    else send(200, all.slice(0, 2), { Link: `<${hub.url}${pathname}?cursor=2>; rel="next"` });
  } else if (pathname.startsWith("/datasets/owner/name/resolve/") && content !== undefined) {
    sendFile(hub, content, request, response);
  } else send(404, { error: "Not here" });
}

export async function startHub(files: Record<string, Uint8Array>): Promise<HubServer> {
  const server = createServer((request, response) => answer(hub, request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const hub: HubServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    files,
    extraNames: [],
    token: undefined,
    cutAfter: undefined,
    corrupt: false,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return hub;
}
