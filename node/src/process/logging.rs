//! The process's log, on standard error.

use std::io::IsTerminal;

use starling_service::StartError;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::log_limit::LogLimit;
use crate::config::{Config, LogFormat};

/// Sets the logger up, once in a process. Returns the bound of its lines.
pub fn start(config: &Config) -> Result<LogLimit, StartError> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| StartError::Setting {
        key: "log.filter",
        value: config.log_filter.clone(),
        reason: error.to_string(),
    })?;
    let limit = LogLimit::default();
    let filter = filter.and(limit.clone());
    let logs = tracing_subscriber::fmt::layer()
        // It would report a full or closed standard error there, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let logs = match config.log_format {
        LogFormat::Text => logs.boxed(),
        LogFormat::Json => logs.json().boxed(),
    };
    tracing_subscriber::registry().with(logs.with_filter(filter)).init();
    Ok(limit)
}
