/**
 * Vectors in SQL. In libsql's words: 32-bit floats in a blob, which is what its `vector32` makes of text. In PostgreSQL's: an array
 * of reals, compared by pgvector where that is installed, and by a sum in SQL where it is not (`skein_cosine_distance`).
 *
 * Distances are exact: every vector under the namespace is looked at, after the filter. libsql's index (`libsql_vector_idx`,
 * `vector_top_k`) is not used: it finds neighbours among all items before a namespace or a filter can choose, so a search
 * under one user's namespace may come back empty; and each vector put costs it 10 to 60 ms on the writer at 1536
 * dimensions, where reading and comparing one costs 10 to 25 microseconds.
 */
import { endianness } from "node:os";
import { type Expression, type RawBuilder, sql } from "kysely";
import { perDialect } from "./expressions.ts";

/** A vector as a parameter of a query, and as a column holds it. */
export function asVector(vector: Float32Array): Uint8Array {
  const bytes = Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
  return endianness() === "LE" ? bytes : Buffer.from(bytes).swap32();
}

/** What `asVector` made, as PostgreSQL writes an array. */
export function asArrayText(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return `{${Array.from({ length: bytes.byteLength / 4 }, (_, index) => view.getFloat32(index * 4, true)).join()}}`;
}

/** 0 for the same direction, 2 for the opposite one. A vector of zeros has no direction: 1, like none other. */
export function cosineDistance(column: Expression<unknown>, vector: Float32Array): RawBuilder<number> {
  const bytes = asVector(vector);
  return perDialect(
    sql<number>`coalesce(vector_distance_cos(${column}, ${bytes}), 1)`,
    sql<number>`skein_cosine_distance(${column}, cast(${asArrayText(bytes)} as real[]))`,
  );
}
