//! Strict deserializer: converts values of the `config` crate without changing their kind.
//!
//! That crate's own deserializer accepts `true`, `"yes"` and `1.5` for a whole number, and `660` for text.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Value of a key. A value with an origin is the text of a variable. It becomes a number only for a key of that type,
/// so a secret of `00123` or `true` stays text.
pub(super) struct StrictValue(pub(super) Value);

impl StrictValue {
    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.0.origin(), &self.0.kind) {
            (Some(_), ValueKind::String(text)) => match text.parse() {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Error::custom(format!("must be a whole number, not \"{text}\""))),
            },
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for StrictValue {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.kind {
            // `config` adds this value before a list entry that a variable has added.
            ValueKind::Nil => {
                visitor.visit_map(MapDeserializer::<_, Error>::new(std::iter::empty::<(String, StrictValue)>()))
            }
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(value) => visitor.visit_i64(value),
            ValueKind::I128(value) => visitor.visit_i128(value),
            ValueKind::U64(value) => visitor.visit_u64(value),
            ValueKind::U128(value) => visitor.visit_u128(value),
            ValueKind::Float(value) => visitor.visit_f64(value),
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(StrictValue))),
            ValueKind::Table(table) => {
                // Sorted, so that the same mistakes always lead to the same first error.
                let sorted: BTreeMap<_, _> = table.into_iter().map(|(key, value)| (key, StrictValue(value))).collect();
                visitor.visit_map(MapDeserializer::new(sorted.into_iter()))
            }
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.number(visitor)
    }

    /// A variable has `true` or `false` as text.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.0.origin(), &self.0.kind) {
            (Some(_), ValueKind::String(text)) => match text.parse() {
                Ok(value) => visitor.visit_bool(value),
                Err(_) => Err(Error::custom(format!("must be true or false, not \"{text}\""))),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(String::deserialize(self)?))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for StrictValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: Value) -> Result<u32, String> {
        u32::deserialize(StrictValue(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for value in [Value::new(None, true), Value::new(None, 1.0), Value::new(None, "1"), Value::new(None, -1)] {
            number(value).unwrap_err();
        }
        for value in [Value::new(None, true), Value::new(None, 1.0), Value::new(None, 660)] {
            String::deserialize(StrictValue(value)).unwrap_err();
        }
        assert_eq!(number(Value::new(None, 1)), Ok(1));
    }

    #[test]
    fn the_text_of_a_variable_becomes_true_or_false() {
        let bool = |value| bool::deserialize(StrictValue(value)).map_err(|error| error.to_string());
        let from_variable = |text: &str| Value::new(Some(&"V".to_owned()), text);
        assert_eq!([bool(from_variable("true")), bool(from_variable("false"))], [Ok(true), Ok(false)]);
        assert_eq!(bool(from_variable("1")).unwrap_err(), "must be true or false, not \"1\"");
        assert_eq!(bool(Value::new(None, true)), Ok(true));
        for value in [Value::new(None, "true"), Value::new(None, 1)] {
            bool(value).unwrap_err();
        }
    }

    #[test]
    fn a_variables_text_becomes_a_number_only_where_expected() {
        let from_variable = |text: &str| Value::new(Some(&"V".to_owned()), text);
        assert_eq!(number(from_variable("008")), Ok(8));
        assert_eq!(number(from_variable("true")).unwrap_err(), "must be a whole number, not \"true\"");
        assert_eq!(number(from_variable("1.0")).unwrap_err(), "must be a whole number, not \"1.0\"");
        assert_eq!(String::deserialize(StrictValue(from_variable("008"))).unwrap(), "008");
    }
}
