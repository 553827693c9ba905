//! The command line of `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::value::parse_delimiter;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; - for standard input
    pub file: PathBuf,
    /// Field or column that holds the key; the whole record is the value
    #[arg(long, value_name = "FIELD")]
    pub key_field: Option<String>,
    /// Format of the file [default: by its name, else ndjson]
    #[arg(long, value_enum)]
    pub format: Option<ImportFormat>,
    /// What separates the columns of CSV: one character, or "tab" [default: a comma]
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
    /// Begin with this record, counted from 1: what a failed import names
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub from: u64,
    /// Leave records out that are refused, print each on standard error, and exit with 1 if there were any
    #[arg(long)]
    pub skip_bad: bool,
    /// Write only records whose key does not exist, and count the others. In an eventual keyspace a key exists if the node
    /// asked shows anything under it, of any type: that is looked up before a group of records is sent, so that a client
    /// which writes the key at the same time, here or elsewhere, may still be overwritten, or added to. In a strong keyspace
    /// the write itself checks it, and no other writer is overwritten. Items of queues and leases have no key of their own,
    /// and are always imported. Of several records of one key the first one counts; records of one key that follow each
    /// other, as `export` writes large sets and maps, count as one. It does not resume an import that has ended within a
    /// large set or map, because that one's key exists: --from does
    #[arg(long)]
    pub only_missing: bool,
    /// Read all records, check their form and sizes, and write nothing. With --only-missing, look up which keys exist; keys
    /// that the file has several times count each time
    #[arg(long)]
    pub dry_run: bool,
}

/// The format of a file to import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// One JSON object per line: {"key": ..., "value": ...}, or the output of `export`.
    Ndjson,
    /// A header line, then records.
    Csv,
}
