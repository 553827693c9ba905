//! The kinds of values a setting can have, and how each is read from TOML, from text, and shown.

use std::path::PathBuf;

use starling_service::Durability;
use toml::Value;

/// A type of a setting's value.
pub trait Kind: Sized {
    /// Parses it from a configuration file; the error names what was expected.
    fn from_toml(value: &Value) -> Result<Self, String>;
    /// Parses it from an environment variable or a flag; the error names what was expected.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Shows it as TOML.
    fn show(&self) -> String;
}

impl Kind for String {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_str().map(Into::into).ok_or_else(|| "expected a string".into())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        Value::String(self.clone()).to_string()
    }
}

impl Kind for PathBuf {
    fn from_toml(value: &Value) -> Result<Self, String> {
        String::from_toml(value).map(Into::into)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected a path".into()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string().show()
    }
}

/// An empty text is `None`, so that a lower layer can be overruled.
impl Kind for Option<String> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        String::from_toml(value).map(|text| (!text.is_empty()).then_some(text))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn show(&self) -> String {
        self.clone().unwrap_or_default().show()
    }
}

impl Kind for bool {
    fn from_toml(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "expected true or false".into())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Kind for u64 {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| Self::try_from(number).ok());
        number.ok_or_else(|| "expected a whole number, not negative".into())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.replace('_', "").parse().map_err(|_| "expected a whole number, not negative".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// In the environment and on the command line the items are separated by commas.
impl Kind for Vec<String> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let wrong = || "expected a list of strings".to_owned();
        value
            .as_array()
            .ok_or_else(wrong)?
            .iter()
            .map(|item| String::from_toml(item).map_err(|_| wrong()))
            .collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Into::into).collect())
    }

    fn show(&self) -> String {
        Value::Array(self.iter().cloned().map(Value::String).collect()).to_string()
    }
}

impl Kind for Durability {
    fn from_toml(value: &Value) -> Result<Self, String> {
        Self::from_text(value.as_str().unwrap_or_default())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let all = [Self::Always, Self::EverySecond, Self::No];
        all.into_iter().find(|d| d.name() == text).ok_or_else(|| "expected always, everysec or no".into())
    }

    fn show(&self) -> String {
        self.name().to_owned().show()
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

impl Kind for LogFormat {
    fn from_toml(value: &Value) -> Result<Self, String> {
        Self::from_text(value.as_str().unwrap_or_default())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        }
    }
}
