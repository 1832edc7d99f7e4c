//! What fields a row has, found by serializing one.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// What a value is, without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    Bytes,
    /// A list of numbers that may be bytes.
    Bytelike,
    List,
    /// A map, or an enum with contents.
    Nested,
    /// Nothing is known of it.
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "a bool",
            Kind::Integer => "an integer",
            Kind::Float => "a float",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::Bytelike | Kind::List => "a list",
            Kind::Nested => "a map, struct or enum with contents",
            Kind::Null => "always null",
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Leaf(Kind),
    Fields(Vec<(String, Shape)>),
}

impl Shape {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Shape::Leaf(kind) => *kind,
            Shape::Fields(_) => Kind::Nested,
        }
    }
}

/// The shape of a value. What cannot be serialized has none.
pub(super) fn shape_of<T: Serialize + ?Sized>(value: &T) -> Shape {
    value.serialize(Recorder { top: true }).unwrap_or(Shape::Leaf(Kind::Null))
}

#[derive(Clone, Copy)]
struct Recorder {
    /// A map is a row, too: rows with flattened fields are serialized as maps.
    top: bool,
}

type Failed = fmt::Error;

struct Fields {
    fields: Vec<(String, Shape)>,
    name: Option<String>,
    /// What becomes of it in the end, unless it has fields.
    instead: Option<Kind>,
}

impl Fields {
    fn add<T: Serialize + ?Sized>(&mut self, name: String, value: &T) {
        let shape = value.serialize(Recorder { top: false }).unwrap_or(Shape::Leaf(Kind::Null));
        self.fields.push((name, shape));
    }

    fn next<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        let name = self.name.take().unwrap_or_else(|| self.fields.len().to_string());
        self.add(name, value);
        Ok(())
    }

    fn end(self) -> Result<Shape, Failed> {
        Ok(match self.instead {
            Some(kind) => Shape::Leaf(kind),
            None => Shape::Fields(self.fields),
        })
    }
}

macro_rules! leaves {
    ($($method:ident $type:ty => $kind:ident),*) => {$(
        fn $method(self, _: $type) -> Result<Shape, Failed> {
            Ok(Shape::Leaf(Kind::$kind))
        }
    )*};
}

fn fields(instead: Option<Kind>) -> Result<Fields, Failed> {
    Ok(Fields { fields: Vec::new(), name: None, instead })
}

impl Serializer for Recorder {
    type Ok = Shape;
    type Error = Failed;
    type SerializeSeq = List;
    type SerializeTuple = Fields;
    type SerializeTupleStruct = Fields;
    type SerializeTupleVariant = Fields;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    leaves!(
        serialize_bool bool => Bool,
        serialize_i8 i8 => Integer,
        serialize_i16 i16 => Integer,
        serialize_i32 i32 => Integer,
        serialize_i64 i64 => Integer,
        serialize_i128 i128 => Integer,
        serialize_u8 u8 => Integer,
        serialize_u16 u16 => Integer,
        serialize_u32 u32 => Integer,
        serialize_u64 u64 => Integer,
        serialize_u128 u128 => Integer,
        serialize_f32 f32 => Float,
        serialize_f64 f64 => Float,
        serialize_char char => Text,
        serialize_str &str => Text,
        serialize_bytes &[u8] => Bytes,
        serialize_unit_struct &'static str => Null
    );

    fn serialize_none(self) -> Result<Shape, Failed> {
        Ok(Shape::Leaf(Kind::Null))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Shape, Failed> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Shape, Failed> {
        Ok(Shape::Leaf(Kind::Null))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Shape, Failed> {
        Ok(Shape::Leaf(Kind::Text))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Shape, Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Shape, Failed> {
        Ok(Shape::Leaf(Kind::Nested))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, Failed> {
        Ok(List(Kind::Bytelike))
    }

    fn serialize_tuple(self, _: usize) -> Result<Fields, Failed> {
        fields(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Fields, Failed> {
        fields(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields, Failed> {
        fields(Some(Kind::Nested))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, Failed> {
        fields((!self.top).then_some(Kind::Nested))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Failed> {
        fields(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields, Failed> {
        fields(Some(Kind::Nested))
    }
}

struct List(Kind);

impl SerializeSeq for List {
    type Ok = Shape;
    type Error = Failed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        if shape_of(value).kind() != Kind::Integer {
            self.0 = Kind::List;
        }
        Ok(())
    }

    fn end(self) -> Result<Shape, Failed> {
        Ok(Shape::Leaf(self.0))
    }
}

macro_rules! items {
    ($($of:ident $method:ident),*) => {$(
        impl $of for Fields {
            type Ok = Shape;
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
                self.next(value)
            }

            fn end(self) -> Result<Shape, Failed> {
                Fields::end(self)
            }
        }
    )*};
}

items!(
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! structs {
    ($($of:ident),*) => {$(
        impl $of for Fields {
            type Ok = Shape;
            type Error = Failed;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Failed> {
                self.add(name.to_owned(), value);
                Ok(())
            }

            fn end(self) -> Result<Shape, Failed> {
                Fields::end(self)
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Fields {
    type Ok = Shape;
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        let name = serde_json::to_value(key).map_err(Failed::custom)?;
        self.name = Some(name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.next(value)
    }

    fn end(self) -> Result<Shape, Failed> {
        Fields::end(self)
    }
}
