//! Bounds on a strong keyspace, its requests and its answers.

/// Longest key, bytes. As in eventual keyspaces.
pub const KEY_BYTES_MAX: usize = 4096;
/// Longest value, bytes: etcd's bound on a request (`--max-request-bytes`).
pub const VALUE_BYTES_MAX: usize = 1536 << 10;
/// Largest write, bytes, all keys and values together. Fits the longest value and its keys.
pub const WRITE_BYTES_MAX: usize = 2 << 20;
/// Operations, and comparisons, in one list of a transaction: etcd's `--max-txn-ops`.
pub const TXN_OPS_MAX: usize = 128;
/// Operations and comparisons of a transaction and all nested ones, at most. A guess.
pub const TXN_OPS_ALL_MAX: usize = 1024;
/// Keys that one write deletes, at most: watchers get all events of a revision at once. A guess.
pub const DELETE_KEYS_MAX: usize = 100_000;
/// Keys that the conditions, ranges and deletions of one write visit, at most: a write is applied at once, and delays
/// the entries after it. A read outside a write has no such bound, because it is done in portions.
pub const WRITE_KEYS_MAX: usize = DELETE_KEYS_MAX;
/// Bytes of the rows that one write visits, at most, in both branches of transactions. The leader measures them before
/// it proposes the write. A guess: some tenths of a second of work.
pub const WRITE_VISITED_BYTES_MAX: u64 = 64 << 20;
/// Keys that one lease holds, at most.
pub const LEASE_KEYS_MAX: usize = DELETE_KEYS_MAX;
/// Leases of a keyspace, at most. A guess.
pub const LEASES_MAX: usize = 1_000_000;
/// Keys and values in one answer, bytes, at most, but for one key. The client asks for the rest, from the next key
/// on.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Shortest and longest time of a lease, milliseconds (the longest is etcd's).
pub const LEASE_TTL_MS_MIN: u64 = 1000;
/// See [`LEASE_TTL_MS_MIN`].
pub const LEASE_TTL_MS_MAX: u64 = 9_000_000_000;
