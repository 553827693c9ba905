//! The vocabulary as JSON: bytes as text where they are UTF-8, wide integers and hashes as digits.

#![allow(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the fields of a type by reference"
)]

mod blob;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Blob, Count};

/// Bytes as [`Blob`] writes them.
pub(crate) mod bytes {
    use super::{Blob, Deserialize, Deserializer, Serializer, blob};

    pub fn serialize<T: AsRef<[u8]>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
        blob::serialize_bytes(bytes.as_ref(), serializer)
    }

    pub fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        Blob::deserialize(deserializer).map(|blob| blob.0.into())
    }
}

/// Bytes, or `null` for none. A field that is absent is an error.
pub(crate) mod bytes_or_null {
    use super::{Blob, Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Blob::from).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Blob>::deserialize(deserializer)?.map(|blob| blob.0))
    }
}

/// A list of bytes.
pub(crate) mod list {
    use super::{Blob, Deserialize, Deserializer, Serializer};

    pub fn serialize<T: AsRef<[u8]>, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|bytes| Blob::from(bytes.as_ref())))
    }

    pub fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<Blob>::deserialize(deserializer)?.into_iter().map(|blob| blob.0.into()).collect())
    }
}

/// A sum as [`Count`] writes it.
pub(crate) mod count {
    use super::{Count, Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(sum: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        Count(*sum).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        Count::deserialize(deserializer).map(|count| count.0)
    }
}

/// A hash as 64 hexadecimal digits.
pub(crate) mod hex_bytes {
    use std::fmt;

    use super::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        struct Digits<'h>(&'h [u8; 32]);
        impl fmt::Display for Digits<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        serializer.collect_str(&Digits(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let digits = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("not a hash: write 64 hexadecimal digits");
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(hash)
    }
}

/// Whether a number is left out of the JSON.
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether a switch is left out of the JSON.
pub(crate) fn is_true(switch: &bool) -> bool {
    *switch
}

/// The default of a switch that is on.
pub(crate) fn yes() -> bool {
    true
}
