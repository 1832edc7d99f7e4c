//! Rows as lines of `COPY .. FROM STDIN`, in its text format.

pub(super) mod cell;

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::ser::{
    Error as _, Impossible, SerializeMap, SerializeStruct, SerializeTuple, SerializeTupleStruct,
    Serializer,
};

use super::layout::{Layout, Node};
use cell::Cell;
pub(crate) use cell::without_nul;

/// Why a row cannot be written.
#[derive(Debug)]
pub(crate) struct BadRow(String);

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadRow {}

impl serde::ser::Error for BadRow {
    fn custom<T: fmt::Display>(message: T) -> Self {
        BadRow(message.to_string())
    }
}

/// Writes one line at a time.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The values of the row, one after the other, as they are.
    values: Vec<u8>,
    /// Where the value of each column is; `None` is null.
    places: Vec<Option<Range<usize>>>,
}

impl Line {
    /// Appends a row to `out`, with the end of its line. Nothing is appended of a row that cannot
    /// be written.
    pub(crate) fn append<T: Serialize>(
        &mut self,
        layout: &Layout,
        row: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), BadRow> {
        self.values.clear();
        self.places.clear();
        self.places.resize(layout.columns.len(), None);
        row.serialize(Fields { line: self, layout, node: &layout.root })?;
        for (index, place) in self.places.iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            match place {
                Some(place) => escape(&self.values[place.clone()], out),
                None => out.extend_from_slice(b"\\N"),
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn column<T: Serialize + ?Sized>(
        &mut self,
        layout: &Layout,
        index: usize,
        value: &T,
    ) -> Result<(), BadRow> {
        let start = self.values.len();
        let class = layout.classes[index];
        let cell = Cell { class, out: &mut self.values };
        let in_column = |e: BadRow| BadRow(format!("column `{}`: {e}", layout.columns[index]));
        if cell.write(value).map_err(in_column)? {
            self.places[index] = Some(start..self.values.len());
        } else {
            self.values.truncate(start);
        }
        Ok(())
    }
}

/// Tabs, line ends and backslashes would otherwise be taken for what they mean to COPY.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(byte),
        }
    }
}

/// A line for people: a JSON object of its columns, whose values are texts or null.
pub(crate) fn line_as_json(columns: &[String], line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let values = line.split(|byte| *byte == b'\t').map(unescape);
    let object: serde_json::Map<_, _> = columns.iter().cloned().zip(values).collect();
    serde_json::Value::Object(object).to_string()
}

fn unescape(value: &[u8]) -> serde_json::Value {
    if value == b"\\N" {
        return serde_json::Value::Null;
    }
    let (mut out, mut bytes) = (Vec::with_capacity(value.len()), value.iter());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next().map(|byte| match byte {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                other => *other,
            })),
            _ => out.push(byte),
        }
    }
    serde_json::Value::String(String::from_utf8_lossy(&out).into_owned())
}

/// Takes a row, or a struct in it, apart.
struct Fields<'a> {
    line: &'a mut Line,
    layout: &'a Layout,
    node: &'a Node,
}

/// The fields of one struct, as they come.
struct Each<'a> {
    line: &'a mut Line,
    layout: &'a Layout,
    fields: &'a [(String, Node)],
    /// The field that probably comes next.
    next: usize,
    /// Of a map: the name that was given.
    name: Option<String>,
}

impl Each<'_> {
    fn named<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), BadRow> {
        let is = |field: &&(String, Node)| field.0 == name;
        let index = match self.fields.get(self.next).filter(is) {
            Some(_) => self.next,
            None => self.fields.iter().position(|field| is(&field)).ok_or_else(|| {
                BadRow(format!("the field `{name}` has no column, since other rows lack it"))
            })?,
        };
        self.next = index + 1;
        match &self.fields[index].1 {
            Node::Column(column) => self.line.column(self.layout, *column, value),
            node => value.serialize(Fields { line: self.line, layout: self.layout, node }),
        }
    }

    fn following<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BadRow> {
        let name = self.fields.get(self.next).map(|field| field.0.as_str()).unwrap_or_default();
        self.named(name, value)
    }
}

impl<'a> Fields<'a> {
    fn each(self) -> Result<Each<'a>, BadRow> {
        match self.node {
            Node::Fields(fields) => {
                let Fields { line, layout, .. } = self;
                Ok(Each { line, layout, fields, next: 0, name: None })
            }
            Node::Column(_) => other_shape(),
        }
    }
}

fn other_shape<R>() -> Result<R, BadRow> {
    Err(BadRow("the row has other fields than its type has by default".to_owned()))
}

macro_rules! refused {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, _: $type) -> Result<(), BadRow> {
            other_shape()
        }
    )*};
}

impl<'a> Serializer for Fields<'a> {
    type Ok = ();
    type Error = BadRow;
    type SerializeSeq = Impossible<(), BadRow>;
    type SerializeTuple = Each<'a>;
    type SerializeTupleStruct = Each<'a>;
    type SerializeTupleVariant = Impossible<(), BadRow>;
    type SerializeMap = Each<'a>;
    type SerializeStruct = Each<'a>;
    type SerializeStructVariant = Impossible<(), BadRow>;

    refused!(
        serialize_bool bool,
        serialize_i8 i8,
        serialize_i16 i16,
        serialize_i32 i32,
        serialize_i64 i64,
        serialize_u8 u8,
        serialize_u16 u16,
        serialize_u32 u32,
        serialize_u64 u64,
        serialize_f32 f32,
        serialize_f64 f64,
        serialize_char char,
        serialize_str &str,
        serialize_bytes &[u8],
        serialize_unit_struct &'static str
    );

    /// All its columns are null.
    fn serialize_none(self) -> Result<(), BadRow> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), BadRow> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), BadRow> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), BadRow> {
        other_shape()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), BadRow> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), BadRow> {
        other_shape()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, BadRow> {
        other_shape()
    }

    fn serialize_tuple(self, _: usize) -> Result<Each<'a>, BadRow> {
        self.each()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Each<'a>, BadRow> {
        self.each()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, BadRow> {
        other_shape()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Each<'a>, BadRow> {
        self.each()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Each<'a>, BadRow> {
        self.each()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, BadRow> {
        other_shape()
    }
}

impl SerializeStruct for Each<'_> {
    type Ok = ();
    type Error = BadRow;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), BadRow> {
        self.named(name, value)
    }

    fn end(self) -> Result<(), BadRow> {
        Ok(())
    }
}

impl SerializeTuple for Each<'_> {
    type Ok = ();
    type Error = BadRow;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BadRow> {
        self.following(value)
    }

    fn end(self) -> Result<(), BadRow> {
        Ok(())
    }
}

impl SerializeTupleStruct for Each<'_> {
    type Ok = ();
    type Error = BadRow;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BadRow> {
        self.following(value)
    }

    fn end(self) -> Result<(), BadRow> {
        Ok(())
    }
}

impl SerializeMap for Each<'_> {
    type Ok = ();
    type Error = BadRow;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), BadRow> {
        let name = serde_json::to_value(key).map_err(BadRow::custom)?;
        self.name = Some(name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), BadRow> {
        let name = self.name.take().unwrap_or_default();
        self.named(&name, value)
    }

    fn end(self) -> Result<(), BadRow> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
