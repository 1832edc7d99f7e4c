//! One value as PostgreSQL reads it from text.

use std::io::Write;

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeSeq, Serializer};

use super::BadRow;
use crate::postgres::catalog::Class;
use crate::time::EventTime;

pub(in crate::postgres) struct Cell<'a> {
    pub(in crate::postgres) class: Class,
    pub(in crate::postgres) out: &'a mut Vec<u8>,
}

impl Cell<'_> {
    /// Writes the value; says whether there is one.
    pub(in crate::postgres) fn write<T: Serialize + ?Sized>(
        self,
        value: &T,
    ) -> Result<bool, BadRow> {
        if self.class != Class::Json {
            return value.serialize(self);
        }
        let start = self.out.len();
        serde_json::to_writer(&mut *self.out, value).map_err(BadRow::custom)?;
        let json = &self.out[start..];
        // Neither json nor jsonb can say it.
        if nul_in(json).is_some() {
            return nul();
        }
        Ok(json != b"null")
    }

    fn text(self, text: &str) -> Result<bool, BadRow> {
        if text.as_bytes().contains(&0) {
            return nul();
        }
        if self.class == Class::Timestamp {
            self.out.extend_from_slice(timestamp(text)?.as_bytes());
        } else {
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(true)
    }

    fn shown(self, value: impl std::fmt::Display) -> Result<bool, BadRow> {
        write!(self.out, "{value}").map_err(BadRow::custom)?;
        Ok(true)
    }

    fn float(self, value: f64, shown: impl std::fmt::LowerExp) -> Result<bool, BadRow> {
        if value.is_nan() {
            self.shown("NaN")
        } else if value.is_infinite() {
            self.shown(if value > 0.0 { "Infinity" } else { "-Infinity" })
        } else {
            self.shown(format_args!("{shown:e}"))
        }
    }

    fn hex(self, bytes: &[u8]) -> Result<bool, BadRow> {
        self.out.extend_from_slice(b"\\x");
        for byte in bytes {
            write!(self.out, "{byte:02x}").map_err(BadRow::custom)?;
        }
        Ok(true)
    }
}

/// JSON that can be stored: a NUL character is replaced by U+FFFD.
pub(crate) fn without_nul(mut json: String) -> String {
    while let Some(at) = nul_in(json.as_bytes()) {
        json.replace_range(at..at + 5, "ufffd");
    }
    json
}

/// Whether a text in the value has a NUL character.
pub(in crate::postgres) fn has_nul<T: Serialize>(value: &T) -> bool {
    serde_json::to_vec(value).is_ok_and(|json| nul_in(&json).is_some())
}

/// Where, behind its backslash, a string in the JSON has a NUL character. A backslash may be
/// escaped itself.
fn nul_in(json: &[u8]) -> Option<usize> {
    let escaped = |at: usize| json[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
    json.windows(5)
        .enumerate()
        .find(|(at, five)| *five == b"u0000" && escaped(*at))
        .map(|(at, _)| at)
}

fn nul<R>() -> Result<R, BadRow> {
    Err(BadRow("there is a NUL character in the text, which PostgreSQL cannot store".to_owned()))
}

/// A time as PostgreSQL writes it: the ends of time are infinite, and years before 1 are BC.
fn timestamp(text: &str) -> Result<std::borrow::Cow<'_, str>, BadRow> {
    if let Some(micros) = text.strip_suffix("µs") {
        return match micros.parse().map(EventTime::from_micros) {
            Ok(EventTime::MAX) => Ok("infinity".into()),
            Ok(EventTime::MIN) => Ok("-infinity".into()),
            _ => Err(BadRow(format!("the time {text} is beyond the year 9999 or before -9999"))),
        };
    }
    let before_1 = text.strip_prefix('-').or_else(|| text.starts_with("0000-").then_some(text));
    let Some((year, rest)) = before_1.and_then(|text| text.split_once('-')) else {
        return Ok(text.into());
    };
    // The year 0 is 1 BC.
    let year: i32 = year.parse().map_err(|_| BadRow(format!("`{text}` is not a time")))?;
    Ok(format!("{:04}-{rest} BC", year + 1).into())
}

fn unfit<R>(what: &str, class: Class) -> Result<R, BadRow> {
    Err(BadRow(format!("the value is {what}, which does not fit a column of class {class:?}")))
}

macro_rules! shown {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<bool, BadRow> {
            self.shown(value)
        }
    )*};
}

impl<'a> Serializer for Cell<'a> {
    type Ok = bool;
    type Error = BadRow;
    type SerializeSeq = List<'a>;
    type SerializeTuple = Impossible<bool, BadRow>;
    type SerializeTupleStruct = Impossible<bool, BadRow>;
    type SerializeTupleVariant = Impossible<bool, BadRow>;
    type SerializeMap = Impossible<bool, BadRow>;
    type SerializeStruct = Impossible<bool, BadRow>;
    type SerializeStructVariant = Impossible<bool, BadRow>;

    shown!(
        serialize_bool bool,
        serialize_i8 i8,
        serialize_i16 i16,
        serialize_i32 i32,
        serialize_i64 i64,
        serialize_i128 i128,
        serialize_u8 u8,
        serialize_u16 u16,
        serialize_u32 u32,
        serialize_u64 u64,
        serialize_u128 u128
    );

    fn serialize_f32(self, value: f32) -> Result<bool, BadRow> {
        self.float(f64::from(value), value)
    }

    fn serialize_f64(self, value: f64) -> Result<bool, BadRow> {
        self.float(value, value)
    }

    fn serialize_char(self, value: char) -> Result<bool, BadRow> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<bool, BadRow> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<bool, BadRow> {
        match self.class {
            Class::Bytes => self.hex(value),
            class => unfit("bytes", class),
        }
    }

    fn serialize_none(self) -> Result<bool, BadRow> {
        Ok(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, BadRow> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<bool, BadRow> {
        Ok(false)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<bool, BadRow> {
        Ok(false)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<bool, BadRow> {
        self.text(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<bool, BadRow> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, BadRow> {
        unfit("an enum with contents", self.class)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, BadRow> {
        match self.class {
            Class::Bytes => self.out.extend_from_slice(b"\\x"),
            Class::Array => self.out.push(b'{'),
            class => return unfit("a list", class),
        }
        Ok(List { cell: self, first: true, item: Vec::new() })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, BadRow> {
        unfit("a tuple", self.class)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, BadRow> {
        unfit("a tuple", self.class)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, BadRow> {
        unfit("an enum with contents", self.class)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, BadRow> {
        unfit("a map", self.class)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, BadRow> {
        unfit("a struct", self.class)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, BadRow> {
        unfit("an enum with contents", self.class)
    }
}

/// Bytes one by one, or an array.
pub(in crate::postgres) struct List<'a> {
    cell: Cell<'a>,
    first: bool,
    item: Vec<u8>,
}

impl SerializeSeq for List<'_> {
    type Ok = bool;
    type Error = BadRow;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BadRow> {
        self.item.clear();
        // Elements are written as their own types would be: the server reads them.
        let some = Cell { class: Class::Text, out: &mut self.item }.write(value)?;
        if self.cell.class == Class::Bytes {
            let text = std::str::from_utf8(&self.item).ok().filter(|_| some);
            let byte: Option<u8> = text.and_then(|text| text.parse().ok());
            let byte = byte.ok_or_else(|| BadRow("a byte is not in 0..=255".to_owned()))?;
            return write!(self.cell.out, "{byte:02x}").map_err(BadRow::custom);
        }
        if !self.first {
            self.cell.out.push(b',');
        }
        self.first = false;
        if !some {
            self.cell.out.extend_from_slice(b"NULL");
            return Ok(());
        }
        self.cell.out.push(b'"');
        for &byte in &self.item {
            if matches!(byte, b'"' | b'\\') {
                self.cell.out.push(b'\\');
            }
            self.cell.out.push(byte);
        }
        self.cell.out.push(b'"');
        Ok(())
    }

    fn end(self) -> Result<bool, BadRow> {
        if self.cell.class == Class::Array {
            self.cell.out.push(b'}');
        }
        Ok(true)
    }
}
