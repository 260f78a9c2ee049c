import { mkdirSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { brief, recipeOf, SourceFolder, writeParquet } from "../../../test/sourceFiles.ts";
import { readCsvRows } from "./csv.ts";
import { compressionOf, DOLMA_FIELDS, formatOf } from "./formats.ts";

let files: SourceFolder;
beforeEach(() => {
  files = new SourceFolder();
});
afterEach(() => files.remove());

describe("formatOf", () => {
  it.each([
    ["a.jsonl", "jsonl", undefined],
    ["a/b.JSON.GZ", "jsonl", "gzip"],
    ["a.ndjson.zst", "jsonl", "zstd"],
    ["a.jsonl.bz2", "jsonl", "bzip2"],
    ["a.parquet", "parquet", undefined],
    ["a.csv.gz", "csv", "gzip"],
    ["a.tsv", "csv", undefined],
    ["a.HTM", "html", undefined],
    ["a.md", "text", undefined],
    ["a.txt.zst", "text", "zstd"],
    ["folder.jsonl/a", "text", undefined],
    ["constructor", "text", undefined],
    ["a.constructor", "text", undefined],
  ] as const)("of %s is %s, packed as %s", (file, format, compression) => {
    expect([formatOf(file, "auto"), compressionOf(file)]).toEqual([format, compression]);
  });

  it("is the recipe's where it names one", () => {
    expect([formatOf("a.jsonl", "markdown"), formatOf("a.gz", "dolma"), formatOf("a", "csv")]).toEqual([
      "text",
      "jsonl",
      "csv",
    ]);
  });
});

describe("plain text and code", () => {
  it("loses its byte order mark and carriage returns", async () => {
    files.write("code/a.py", "\ufeffif x:\r\n\tpass\r\n");
    files.write("code/b.rs", Uint8Array.of(0x66, 0xff));
    files.write("code/c.txt.gz", gzipSync("packed"));
    expect(brief(await files.read({ path: "code", include: ["**"] }))).toEqual([
      ["a.py", "if x:\n\tpass\n", 1],
      [1, "not UTF-8"],
      ["c.txt.gz", "packed", 1],
    ]);
  });

  it("is included by default, as are all formats by row", async () => {
    for (const name of ["a.md", "b.cpp", "c.html", "d.json.gz", "e.csv", "f.jsonl.zst", "g.parquet"])
      files.write(name, "");
    for (const name of ["package.json", "x.png", "Makefile"]) files.write(name, "");
    const { listSource } = await import("./files.io.ts");
    const { files: listed } = await listSource(recipeOf({ path: "." }), files.options);
    expect(listed.map((file) => file.path)).toEqual([
      "a.md",
      "b.cpp",
      "c.html",
      "d.json.gz",
      "e.csv",
      "f.jsonl.zst",
      "g.parquet",
    ]);
  });
});

describe("JSONL", () => {
  it("keeps Dolma's fields", async () => {
    const record = {
      id: 7,
      text: "t",
      added: "2024-01-02",
      created: "2023",
      metadata: { stars: 3 },
      source: "x",
      version: 1,
    };
    files.write("a.jsonl", `${JSON.stringify(record)}\n${JSON.stringify({ text: "u", added: 1, metadata: [1] })}\n`);
    expect(await files.read({ path: "a.jsonl" })).toEqual([
      {
        line: 1,
        document: {
          id: "7",
          text: "t",
          added: "2024-01-02",
          created: "2023",
          metadata: { stars: 3 },
          source: "s",
          path: "a.jsonl",
          line: 1,
        },
      },
      { line: 2, document: { id: "a.jsonl:2", text: "u", source: "s", path: "a.jsonl", line: 2 } },
    ]);
  });

  it("takes text and id from the fields named", async () => {
    files.write("a.jsonl", '{"content":"yes","key":"k","id":"no","text":"no"}');
    expect(brief(await files.read({ path: "a.jsonl", textField: "content", idField: "key" }))).toEqual([
      ["k", "yes", 1],
    ]);
  });

  it("has a fault for each line that holds no document, and goes on", async () => {
    const deep = `{"text":"x","metadata":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}`;
    files.write(
      "a.jsonl",
      `${["[".repeat(500_000), deep, '{"text":"\\udc00"}', '{"text":null}', '{"text":"ok"}'].join("\n")}\n`,
    );
    expect(brief(await files.read({ path: "a.jsonl" }))).toEqual([
      [1, "not JSON"],
      [2, "nested deeper than 64 levels"],
      [3, "text has half a surrogate pair"],
      [4, 'no text in field "text"'],
      ["a.jsonl:5", "ok", 5],
    ]);
  });

  it("refuses a line of more than 32 MiB and reads the rest", async () => {
    const long = Buffer.alloc(32 * 2 ** 20 + 1, "x");
    files.write("a.jsonl", Buffer.concat([Buffer.from('{"text":"a"}\n'), long, Buffer.from('\n{"text":"b"}')]));
    expect(brief(await files.read({ path: "a.jsonl" }))).toEqual([
      ["a.jsonl:1", "a", 1],
      [2, "longer than 33554432 bytes"],
      ["a.jsonl:3", "b", 3],
    ]);
  });
});

describe("CSV", () => {
  it("gives a document for each row, with the line it begins at", async () => {
    files.write(
      "a.csv",
      '\ufeffid,text,created,other\r\n1,"two\nlines, ""quoted""",2020,x\r\n,plain,,\r\n\r\n3,,2021,\r\n',
    );
    expect(await files.read({ path: "a.csv" })).toEqual([
      {
        line: 2,
        document: { id: "1", text: 'two\nlines, "quoted"', created: "2020", source: "s", path: "a.csv", line: 2 },
      },
      { line: 4, document: { id: "a.csv:4", text: "plain", source: "s", path: "a.csv", line: 4 } },
      { line: 6, document: { id: "3", text: "", created: "2021", source: "s", path: "a.csv", line: 6 } },
    ]);
  });

  it("is separated by tabs in a .tsv, packed or not", async () => {
    files.write("a.tsv.gz", gzipSync("text\tid\na,b\tx\n"));
    expect(brief(await files.read({ path: "a.tsv.gz" }))).toEqual([["x", "a,b", 2]]);
  });

  it("has a fault for each broken row, in order, and goes on", async () => {
    const rows = ["text,id", "a,1", "b,2,3", "c", '"d"x,4', "e,5", Buffer.of(0xff), '"f', "g,7"];
    files.write(
      "a.csv",
      Buffer.concat(
        rows.map((row) => Buffer.concat([Buffer.from(row), Buffer.from(row instanceof Buffer ? ",6\n" : "\n")])),
      ),
    );
    expect(brief(await files.read({ path: "a.csv" }))).toEqual([
      ["1", "a", 2],
      [3, "3 fields, the first row has 2"],
      [4, "1 fields, the first row has 2"],
      [5, "text after a closing quote"],
      ["5", "e", 6],
      [7, "not UTF-8"],
      [8, "quote is not closed"],
    ]);
  });

  it("refuses a row of more than 32 MiB with one fault and reads the rest", async () => {
    files.write(
      "a.csv",
      Buffer.concat([Buffer.from("text,id\na,1\n"), Buffer.alloc(33 * 2 ** 20, "x"), Buffer.from("\nb,3\n")]),
    );
    expect(brief(await files.read({ path: "a.csv" }))).toEqual([
      ["1", "a", 2],
      [3, "longer than 33554432 bytes"],
      ["3", "b", 4],
    ]);
  });

  it("refuses a row of a million fields", async () => {
    files.write("a.csv", `text,id\n${",".repeat(1_000_000)}\nb,3\n`);
    expect(brief(await files.read({ path: "a.csv" }))).toEqual([
      [2, "more than 65536 fields"],
      ["3", "b", 3],
    ]);
  });

  it("gives the same rows however its bytes arrive", async () => {
    const bytes = Buffer.from('\ufeff"text",id\r\n"a ""b""\n,",1\r\n\r\n"c"x,2\nd"e,3\nf\n\u00e9,"4"\r\n"g');
    const rowsOf = async (chunkBytes: number) => {
      const chunks = async function* () {
        for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
      };
      const rows = [];
      for await (const batch of readCsvRows(chunks(), "a.csv", DOLMA_FIELDS, 100)) rows.push(...batch);
      return rows;
    };
    const whole = await rowsOf(bytes.length);
    expect(whole).toEqual([
      { line: 2, reading: { text: 'a "b"\n,', id: "1" } },
      { line: 5, reading: { fault: "text after a closing quote" } },
      { line: 6, reading: { text: 'd"e', id: "3" } },
      { line: 7, reading: { fault: "1 fields, the first row has 2" } },
      { line: 8, reading: { text: "\u00e9", id: "4" } },
      { line: 9, reading: { fault: "quote is not closed" } },
    ]);
    for (let chunkBytes = 3; chunkBytes < 40; chunkBytes++) expect(await rowsOf(chunkBytes)).toEqual(whole);
  });

  it("without a column for the text is refused", async () => {
    files.write("a.csv", "id,body\n1,x\n");
    expect(await files.failure(() => files.read({ path: "a.csv" }))).toBe(
      'E_DATA DIR/a.csv: no column "text" [set textField of the source]',
    );
  });
});

describe("Parquet", () => {
  it("gives a document for each row, counted from 1", async () => {
    const values = "(1, 'one', DATE '2024-01-02', {stars: 5::BIGINT}), (2, NULL, NULL, NULL), (3, 'three', NULL, NULL)";
    await writeParquet(
      path.join(files.folder, "a.parquet"),
      `SELECT * FROM (VALUES ${values}) t(id, text, created, metadata)`,
    );
    expect(await files.read({ path: "a.parquet" })).toEqual([
      {
        line: 1,
        document: {
          id: "1",
          text: "one",
          created: "2024-01-02",
          metadata: { stars: 5 },
          source: "s",
          path: "a.parquet",
          line: 1,
        },
      },
      { line: 2, fault: 'no text in field "text"' },
      { line: 3, document: { id: "3", text: "three", source: "s", path: "a.parquet", line: 3 } },
    ]);
  });

  it("keeps the order of rows over many row groups, and reads text that is stored as bytes", async () => {
    const file = path.join(files.folder, "a.parquet");
    await writeParquet(file, 'SELECT i AS "the key", (\'t\' || i)::BLOB AS "a ""body""" FROM range(200000) t(i)');
    const records = await files.read({ path: "a.parquet", textField: 'a "body"', idField: "the key" });
    expect(brief(records)).toEqual(Array.from({ length: 200_000 }, (_, row) => [`${row}`, `t${row}`, row + 1]));
  });

  it("is named as it is, whatever its name would mean in SQL or as a glob", async () => {
    const folder = path.join(files.folder, "it's [a] *; text=no");
    mkdirSync(folder);
    await writeParquet(path.join(files.folder, "x.parquet"), "SELECT 'no' AS text");
    await writeParquet(path.join(folder, "x.parquet"), "SELECT 'yes' AS text");
    const { renameSync } = await import("node:fs");
    renameSync(path.join(folder, "x.parquet"), path.join(folder, "'); DROP [*].parquet"));
    expect(brief(await files.read({ path: "it's [a] *; text=no" }))).toEqual([["'); DROP [*].parquet:1", "yes", 1]]);
  });

  it("without a column for the text, or that is something else, is refused", async () => {
    await writeParquet(path.join(files.folder, "a.parquet"), "SELECT 1 AS id");
    expect(await files.failure(() => files.read({ path: "a.parquet" }))).toBe(
      'E_DATA DIR/a.parquet: no column "text" [set textField of the source]',
    );
    files.write("b.parquet", "PAR1 but not really");
    expect(await files.failure(() => files.read({ path: "b.parquet" }))).toMatch(
      /^E_DATA DIR\/b.parquet: not a Parquet file that can be read, Invalid Input Error: No magic bytes found/,
    );
  });
});

describe("HTML", () => {
  it("gives the main text, its blocks apart", async () => {
    files.write(
      "a.html",
      `<!doctype html><title>T</title><style>x{}</style><script>bad()</script><body><nav>menu</nav><h1>Title</h1>
       <p>One &amp; two<br>three, <a href="/x">four</a></p><ul><li>a</li><li>b</li></ul><pre>  code\n x</pre>
       <table><tr><th>h</th><td>c</td></tr><tr><td>d</td></tr></table><footer>f</footer></body>`,
    );
    files.write("b.htm", "<body><div>aside</div><main><p>only</p><p>this</p></main></body>");
    files.write("c.html", "<div>".repeat(1001));
    files.write("d.html", `${"<div>".repeat(990)}deep`);
    expect(brief(await files.read({ path: "." }))).toEqual([
      ["a.html", "Title\n\nOne & two\nthree, four\n\n- a\n- b\n\n  code\n x\n\nh c\nd", 1],
      ["b.htm", "only\n\nthis", 1],
      [1, "HTML that can not be read, nested deeper than 1000 levels"],
      ["d.html", "deep", 1],
    ]);
  });
});

describe("dolma", () => {
  const attribute = (id: string, attributes: object) => `${JSON.stringify({ id, attributes })}\n`;

  it("reads documents with the attributes named, in units of strings", async () => {
    files.write("documents/x/a.jsonl.gz", gzipSync('{"id":"1","text":"\u{1F600}ab"}\nbroken\n{"id":"2","text":"c"}\n'));
    const first = attribute("1", { e__t__n: [[1, 2, 0.5]] }) + attribute("bad", {}) + attribute("2", { e__t__n: [] });
    files.write("attributes/one/x/a.jsonl.gz", gzipSync(first));
    files.write(
      "attributes/two/x/a.jsonl.gz",
      gzipSync(attribute("1", { f: [[0, 3, 1]] }) + attribute("2", { f: [[0, 1, 1]] })),
    );
    files.write("attributes/other/x/a.jsonl.gz", "not read");
    const records = await files.read({
      path: ".",
      format: "dolma",
      attributes: ["one", "two"],
      include: ["documents/**"],
    });
    const place = { source: "s", path: "documents/x/a.jsonl.gz" };
    expect(records).toEqual([
      {
        line: 1,
        document: { id: "1", text: "\u{1F600}ab", line: 1, ...place },
        attributes: { e__t__n: [[2, 3, 0.5]], f: [[0, 4, 1]] },
      },
      { line: 2, fault: "not JSON" },
      { line: 3, document: { id: "2", text: "c", line: 3, ...place }, attributes: { e__t__n: [], f: [[0, 1, 1]] } },
    ]);
  });

  it("refuses attributes that are missing or of other documents", async () => {
    files.write("documents/a.jsonl", '{"id":"1","text":"ab"}\n');
    const read = () => files.failure(() => files.read({ path: ".", format: "dolma", attributes: ["x"] }));
    const hint = "[the attributes were made from other documents; make them again]";
    expect(await read()).toBe(
      'E_DATA source "s": no file attributes/x/a.jsonl with the attributes of documents/a.jsonl [change attributes, include or exclude of the source]',
    );
    files.write("attributes/x/a.jsonl", attribute("2", {}));
    expect(await read()).toBe(`E_DATA DIR/attributes/x/a.jsonl:1: no row for document "1" ${hint}`);
    files.write("attributes/x/a.jsonl", attribute("1", { a: [[0, 3, 1]] }));
    expect(await read()).toBe(`E_DATA DIR/attributes/x/a.jsonl:1: a span of a is outside its text ${hint}`);
    files.write("attributes/x/a.jsonl", '{"id":"1","attributes":{"a":[[0,1]]}}');
    expect(await read()).toBe(`E_DATA DIR/attributes/x/a.jsonl:1: not a row of Dolma attributes ${hint}`);
  });

  it("needs a folder documents", async () => {
    files.write("a.jsonl", "{}");
    expect(await files.failure(() => files.read({ path: ".", format: "dolma", include: ["*.jsonl"] }))).toBe(
      'E_DATA source "s": no file in a folder documents in DIR matches *.jsonl [change include or exclude of the source]',
    );
  });
});
