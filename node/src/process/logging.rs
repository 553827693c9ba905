//! The process's log, on standard error.

use std::io::IsTerminal;

use starling_service::StartError;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Sets the logger up, once in a process.
pub fn start(config: &Config) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| StartError::Setting {
        key: "log.filter",
        value: config.log_filter.clone(),
        reason: error.to_string(),
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would report a full or closed standard error there, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
