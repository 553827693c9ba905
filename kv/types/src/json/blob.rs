//! [`Blob`] and [`Count`] in JSON and in OpenAPI.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{Blob, Count};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form<'a> {
    Text(Cow<'a, str>),
    Binary { base64: Cow<'a, str> },
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, serializer)
    }
}

/// Writes bytes as a [`Blob`] of them would be written.
pub(super) fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Form::Text(text.into()),
        Err(_) => Form::Binary { base64: STANDARD.encode(bytes).into() },
    }
    .serialize(serializer)
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)
            .map_err(|_| de::Error::custom("expected a string, or {\"base64\": \"...\"} for bytes"))?;
        match form {
            Form::Text(text) => Ok(Self(text.into_owned().into_bytes())),
            Form::Binary { base64 } => STANDARD
                .decode(base64.as_ref())
                .map(Self)
                .map_err(|e| de::Error::custom(format!("base64: {e}"))),
        }
    }
}

impl PartialSchema for Blob {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some("UTF-8"));
        let binary = ObjectBuilder::new()
            .property("base64", ObjectBuilder::new().schema_type(SchemaType::new(Type::String)))
            .required("base64")
            .description(Some("any other bytes, in base64 (RFC 4648 section 4)"));
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(text).item(binary).build()))
    }
}

impl ToSchema for Blob {}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0) {
            Ok(small) => serializer.serialize_i64(small),
            Err(_) => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, or a string of digits")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Count, E> {
        Ok(Count(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Count, E> {
        Ok(Count(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Count, E> {
        value.parse().map(Count).map_err(E::custom)
    }
}

impl PartialSchema for Count {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .format(Some(schema::SchemaFormat::KnownFormat(schema::KnownFormat::Int64)));
        let digits = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::String))
            .description(Some("beyond 64 bits, in digits"));
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(number).item(digits).build()))
    }
}

impl ToSchema for Count {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_blob_survives_json(bytes: Vec<u8>) {
            let json = serde_json::to_string(&Blob(bytes.clone())).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Blob>(&json).expect("parses").0, bytes);
        }

        #[test]
        fn every_count_survives_json(value: i128) {
            let json = serde_json::to_string(&Count(value)).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Count>(&json).expect("parses").0, value);
        }
    }

    #[test]
    fn text_is_a_plain_string_and_other_bytes_are_marked() {
        assert_eq!(serde_json::to_string(&Blob::from("a\nb")).expect("serializes"), r#""a\nb""#);
        assert_eq!(serde_json::to_string(&Blob(vec![255])).expect("serializes"), r#"{"base64":"/w=="}"#);
        assert!(serde_json::from_str::<Blob>(r#"{"base64":"%"}"#).is_err());
        assert!(serde_json::from_str::<Blob>("7").is_err());
    }
}
