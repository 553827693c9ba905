//! `--dry-run`: what a keyspace would refuse of a record whatever it holds.

use starling_api::Batch;
use starling_kv::{Limits, store};
use starling_strong::machine::{VERSION_NEWEST, check_write};

use super::send::{Request, strong_puts};

/// Checks the sizes in a record as the node would; the reason if it would refuse it.
pub fn check(request: &Request, only_missing: bool) -> Result<(), String> {
    match request {
        Request::Eventual(writes) => {
            let batch = Batch { writes: writes.clone() };
            store::check_batch(&batch, &Limits::default()).map_err(|error| error.to_string())
        }
        Request::Put(put) => {
            let write = strong_puts(std::iter::once(put), only_missing);
            check_write(VERSION_NEWEST, &write).map_err(|refusal| refusal.to_string())
        }
        Request::Single(write) => check_write(VERSION_NEWEST, write).map_err(|refusal| refusal.to_string()),
    }
}
