/** Rows of a Parquet file, by DuckDB: streamed, with one thread, and no other file or network within its reach. */
import {
  DuckDBBlobValue,
  type DuckDBConnection,
  type DuckDBDataChunk,
  DuckDBInstance,
  type DuckDBValueConverter,
  type Json,
  JsonDuckDBValueConverter,
} from "@duckdb/node-api";
import { DataError } from "../../errors.ts";
import { decodeUtf8, type FieldNames, type Located, readFields } from "./formats.ts";

const MEMORY_LIMIT = "1GB";

/** A name or text inside SQL. */
const quoted = (text: string, mark: '"' | "'") => `${mark}${text.replaceAll(mark, mark + mark)}${mark}`;

/** Leaves the engine nothing but one file. The name is matched as it is: a file that is there is no pattern. */
async function confine(connection: DuckDBConnection, file: string): Promise<void> {
  await connection.run("SET temp_directory = ''");
  await connection.run(`SET allowed_paths = [${quoted(file, "'")}]`);
  await connection.run("SET enable_external_access = false");
  await connection.run("SET lock_configuration = true");
}

/** A value as JSON has it: whole numbers as numbers, bytes as text where they are that. */
const plainValue: DuckDBValueConverter<Json> = (value, type) => {
  if (typeof value === "bigint" && Number.isSafeInteger(Number(value))) return Number(value);
  if (value instanceof DuckDBBlobValue) return decodeUtf8(value.bytes) ?? null;
  return JsonDuckDBValueConverter(value, type, plainValue);
};

/** Columns are those in the file alone: none are taken from the names of its folders. */
const TABLE = "read_parquet($1, hive_partitioning = false)";

async function columnsOf(connection: DuckDBConnection, file: string): Promise<string[]> {
  return (await connection.run(`SELECT * FROM ${TABLE} LIMIT 0`, [file])).columnNames();
}

/**
 * The readings of a file's rows, counted from 1.
 * @param file an absolute path; `name` is what messages call it.
 * @throws DataError for a file that is not Parquet, or damaged.
 */
export async function* readParquetRows(
  file: string,
  { name, signal, ...names }: FieldNames & { readonly name: string; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<Iterable<Located>> {
  const settings = { threads: "1", memory_limit: MEMORY_LIMIT, autoload_known_extensions: "false" };
  const instance = await DuckDBInstance.create(":memory:", settings);
  const connection = await instance.connect();
  try {
    await confine(connection, file);
    const wanted = [names.textField, names.idField, "added", "created", "metadata"];
    const columns = (await columnsOf(connection, file)).filter((column) => wanted.includes(column));
    if (!columns.includes(names.textField)) {
      throw new DataError(`${name}: no column "${names.textField}"`, { hint: "set textField of the source" });
    }
    const select = `SELECT ${columns.map((column) => quoted(column, '"')).join(", ")} FROM ${TABLE}`;
    const result = await connection.stream(select, [file]);
    let line = 0;
    const readings = function* (chunk: DuckDBDataChunk): Generator<Located> {
      for (let row = 0; row < chunk.rowCount; row++) {
        const values = chunk.convertRowValues(row, plainValue);
        const fields = Object.fromEntries(columns.map((column, index) => [column, values[index]]));
        yield { line: ++line, reading: readFields(fields, names) };
      }
    };
    for await (const chunk of result) {
      signal?.throwIfAborted();
      yield readings(chunk);
    }
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof DataError) throw cause;
    const [reason = ""] = (cause as Error).message.split("\n");
    throw new DataError(`${name}: not a Parquet file that can be read, ${reason}`, { cause });
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
