//! Configuration: one table of settings, read from flags, environment and file.

mod kind;
mod load;
mod reference;
mod service;
mod table;

pub use kind::LogFormat;
pub use load::{ConfigError, FILE_NAME, Flag, Loaded, load};
pub use reference::reference;
pub use table::{Config, Row, SETTINGS, default_data_dir};
