//! A cache of the latest rows of keys that were lately written: a further write or read of such a key needs no
//! read of the engine. The cache equals the engine's rows, because both are written together.

use std::collections::BTreeMap;

/// Bytes of each of the two generations, about. A guess: ten thousand small keys fit.
const GENERATION_BYTES: usize = 4 << 20;
/// Bytes of memory for a row beyond its key and contents, about.
const ROW_OVERHEAD_BYTES: usize = 96;

/// Rows by their keys; `None` if the engine has none under the key.
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Two generations of rows: when the young one is full, it replaces the old one.
#[derive(Default)]
pub struct Hot {
    young: Rows,
    young_bytes: usize,
    old: Rows,
}

impl Hot {
    /// The cached row under a key; `None` if the cache does not know it.
    pub fn get(&self, row_key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.young.get(row_key).or_else(|| self.old.get(row_key))
    }

    /// Records a row that is written, or removed.
    pub fn put(&mut self, row_key: &[u8], row: Option<&[u8]>) {
        if let Some(known) = self.young.get_mut(row_key) {
            let length = |row: Option<&[u8]>| row.map_or(0, <[u8]>::len);
            self.young_bytes = self.young_bytes + length(row) - length(known.as_deref());
            // The previous row's allocation is reused.
            match (known, row) {
                (Some(known), Some(row)) => {
                    known.clear();
                    known.extend_from_slice(row);
                }
                (known, row) => *known = row.map(<[u8]>::to_vec),
            }
        } else {
            self.young_bytes += row_key.len() + row.map_or(0, <[u8]>::len) + ROW_OVERHEAD_BYTES;
            self.young.insert(row_key.to_vec(), row.map(<[u8]>::to_vec));
        }
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Vec<u8> {
        format!("key{number:08}").into_bytes()
    }

    #[test]
    fn the_latest_row_is_known_while_it_is_young() {
        let mut hot = Hot::default();
        assert_eq!(hot.get(b"k"), None);
        for row in [Some(&b"first"[..]), Some(b"a longer second"), None, Some(b"again")] {
            hot.put(b"k", row);
            assert_eq!(hot.get(b"k"), Some(&row.map(<[u8]>::to_vec)));
        }
        let costs = b"k".len() + b"again".len() + ROW_OVERHEAD_BYTES;
        assert_eq!(hot.young_bytes, costs);
    }

    #[test]
    fn what_is_not_written_again_is_forgotten() {
        let mut hot = Hot::default();
        hot.put(b"k", Some(b"v"));
        let row = vec![7; 1000];
        let each = key(0).len() + row.len() + ROW_OVERHEAD_BYTES;
        let generation = GENERATION_BYTES / each + 1;
        for number in 0..generation {
            hot.put(&key(number), Some(&row));
        }
        assert!(hot.get(b"k").is_some(), "old");
        hot.put(b"k", Some(b"w"));
        for number in 0..generation {
            hot.put(&key(number), Some(&row));
            assert_eq!(hot.get(b"k"), Some(&Some(b"w".to_vec())), "the younger one counts");
        }
        for number in 0..generation {
            hot.put(&key(generation + number), Some(&row));
        }
        assert_eq!(hot.get(b"k"), None);
        assert!(hot.old.len() + hot.young.len() <= 2 * generation);
    }
}
