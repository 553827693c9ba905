//! Texts of the store's errors: what happened and, after the last colon, what to do next.

/// What to do when a text does not say.
const GENERAL: &str = "`starling doctor` checks the store, `starling status` shows the node";

/// Both parts of a text.
pub fn split(text: &str) -> (&str, &str) {
    text.rsplit_once(": ").unwrap_or((text, GENERAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_store_says_what_to_do() {
        let full = starling_kv::Error::Full.to_string();
        assert_eq!(
            split(&full),
            ("the disk is full", "free at least 64 MB, then write again a few seconds later")
        );
        assert_eq!(split("no idea"), ("no idea", GENERAL));
    }
}
