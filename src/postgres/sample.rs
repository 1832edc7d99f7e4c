//! A made-up value of a type, so that its fields are known before there is a row.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Types that refuse made-up text often take one of these.
const TEXTS: [&str; 11] = [
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "1970-01-01T00:00:00",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:1",
    "1",
    "PT0S",
    "a",
    "",
];

/// What numbers are tried: some types refuse 0, others 1.
const NUMBERS: [u8; 3] = [1, 0, 2];

/// Types that contain themselves end here.
const DEPTH: usize = 24;

const MOST_TRIES: usize = 500;

/// A value of `T`; `None` for types that cannot be made up, such as those with flattened fields.
pub(super) fn sample<T: DeserializeOwned>() -> Option<T> {
    let mut choices = Vec::new();
    for _ in 0..MOST_TRIES {
        let mut probe = Probe { choices, next: 0, depth: 0, exhausted: false };
        match T::deserialize(&mut probe) {
            Ok(value) => return Some(value),
            Err(_) if probe.next == 0 || probe.exhausted => return None,
            // Most types complain at once: the last choice was the wrong one.
            Err(_) => {
                choices = probe.choices;
                choices.truncate(probe.next);
                *choices.last_mut()? += 1;
            }
        }
    }
    None
}

struct Probe {
    choices: Vec<usize>,
    next: usize,
    depth: usize,
    /// There was nothing left to try.
    exhausted: bool,
}

type Failed = serde::de::value::Error;

impl Probe {
    fn choose<A: Copy>(&mut self, among: &[A]) -> Result<A, Failed> {
        if self.next == self.choices.len() {
            self.choices.push(0);
        }
        let choice = among.get(self.choices[self.next]).copied();
        self.next += 1;
        self.exhausted |= choice.is_none();
        choice.ok_or_else(|| Failed::custom("nothing fits"))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
            visitor.$visit(<$type>::from(self.choose(&NUMBERS)?))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Probe {
    type Error = Failed;

    numbers!(
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64
    );

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_i8(1)
    }

    /// What describes itself is text, or something that has no fields of its own.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str(self.choose(&TEXTS)?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_bool(true)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str(self.choose(&TEXTS)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str(self.choose(&TEXTS)?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_bytes(b"a")
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_bytes(b"a")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        if self.depth > DEPTH {
            return visitor.visit_none();
        }
        self.depth += 1;
        let value = visitor.visit_some(&mut *self);
        self.depth -= 1;
        value
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let left = usize::from(self.depth <= DEPTH);
        self.nested(|probe| visitor.visit_seq(Items { probe, names: &[], left }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.nested(|probe| visitor.visit_seq(Items { probe, names: &[], left }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.deserialize_tuple(left, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.nested(|probe| visitor.visit_map(Items { probe, names: &[], left: 0 }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.nested(|probe| visitor.visit_map(Items { probe, names, left: names.len() }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let name = self.choose(&variants[..variants.len().min(8)])?;
        self.nested(|probe| visitor.visit_enum(OneVariant { probe, name }))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_borrowed_str("a")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_unit()
    }
}

impl Probe {
    fn nested<R>(
        &mut self,
        visit: impl FnOnce(&mut Self) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        if self.depth > 2 * DEPTH {
            self.exhausted = true;
            return Err(Failed::custom("a type within itself"));
        }
        self.depth += 1;
        let value = visit(self);
        self.depth -= 1;
        value
    }
}

struct Items<'a> {
    probe: &'a mut Probe,
    names: &'static [&'static str],
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Failed;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.probe).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_> {
    type Error = Failed;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failed> {
        let Some((name, rest)) = self.names.split_first() else { return Ok(None) };
        self.names = rest;
        let name: StrDeserializer<'_, Failed> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failed> {
        seed.deserialize(&mut *self.probe)
    }
}

struct OneVariant<'a> {
    probe: &'a mut Probe,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for OneVariant<'_> {
    type Error = Failed;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Failed> {
        let name: StrDeserializer<'_, Failed> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for OneVariant<'_> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failed> {
        seed.deserialize(self.probe)
    }

    fn tuple_variant<V: Visitor<'de>>(self, n: usize, visitor: V) -> Result<V::Value, Failed> {
        self.probe.deserialize_tuple(n, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.probe.deserialize_struct("", names, visitor)
    }
}
