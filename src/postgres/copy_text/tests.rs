use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::postgres::catalog::{Class, Column, Table};
use crate::{EventTime, Window, WindowResult};

fn table(columns: &[(&str, Class)]) -> Table {
    let column = |(name, class): &(&str, Class)| Column {
        name: (*name).to_owned(),
        type_name: format!("{class:?}"),
        plain_type: String::new(),
        class: *class,
        required: false,
        nullable: true,
        generated: false,
    };
    Table {
        name: "t".to_owned(),
        columns: columns.iter().map(column).collect(),
        unique: Vec::new(),
        denied: Vec::new(),
    }
}

fn line<T: Serialize>(row: &T, columns: &[(&str, Class)]) -> Result<String, String> {
    let layout = Layout::of_row(row, &table(columns)).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    let written = Line::default().append(&layout, row, &mut out);
    let line = String::from_utf8(out).unwrap();
    assert_eq!(written.is_ok(), line.ends_with('\n'), "a part of a row is left: {line:?}");
    written.map_err(|e| e.to_string())?;
    Ok(line.strip_suffix('\n').unwrap().to_owned())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct One<T> {
    v: T,
}

fn one<T: Serialize>(v: T, class: Class) -> Result<String, String> {
    line(&One { v }, &[("v", class)])
}

#[test]
fn results_of_windows_are_taken_apart() {
    let window = Window { start: EventTime::from_seconds(0), end: EventTime::MAX };
    let row = WindowResult { key: ("a", 7_u8), window, value: Some(1.5) };
    let columns = [
        ("value", Class::Number),
        ("end", Class::Timestamp),
        ("window_start", Class::Timestamp),
        ("key_0", Class::Text),
        ("start", Class::Timestamp),
        ("1", Class::Integer),
    ];
    assert_eq!(line(&row, &columns).unwrap(), "a\t7\t1970-01-01T00:00:00Z\tinfinity\t1.5e0");
    let layout = Layout::of_type::<WindowResult<(String, u8), Option<f64>>>(&table(&columns));
    let columns = layout.unwrap().unwrap().columns;
    assert_eq!(columns, ["key_0", "1", "window_start", "end", "value"]);
}

#[test]
fn values_are_written_as_the_server_reads_them() {
    assert_eq!(one("a\tb\nc\\d\re", Class::Text).unwrap(), "a\\tb\\nc\\\\d\\re");
    assert_eq!(one("\\N", Class::Text).unwrap(), "\\\\N");
    assert_eq!(one("", Class::Text).unwrap(), "");
    assert_eq!(one(None::<u8>, Class::Integer).unwrap(), "\\N");
    assert_eq!(one(i64::MIN, Class::Integer).unwrap(), "-9223372036854775808");
    assert_eq!(one(u64::MAX, Class::Number).unwrap(), "18446744073709551615");
    assert_eq!(one(f64::NAN, Class::Number).unwrap(), "NaN");
    assert_eq!(one(f32::NEG_INFINITY, Class::Number).unwrap(), "-Infinity");
    assert_eq!(one(0.1_f32, Class::Number).unwrap(), "1e-1");
    assert_eq!(one(true, Class::Bool).unwrap(), "true");
    assert_eq!(one(vec![0_u8, 255], Class::Bytes).unwrap(), "\\\\x00ff");
    assert_eq!(one(vec![1, 2], Class::Array).unwrap(), "{\"1\",\"2\"}");
    let texts = vec![Some("a\"b\\c,{}"), None];
    assert_eq!(one(texts, Class::Array).unwrap(), "{\"a\\\\\"b\\\\\\\\c,{}\",NULL}");
    assert_eq!(one(vec![1, 2], Class::Json).unwrap(), "[1,2]");
    assert_eq!(one("a\"\n", Class::Json).unwrap(), "\"a\\\\\"\\\\n\"");
    assert_eq!(one(None::<u8>, Class::Json).unwrap(), "\\N");
    assert_eq!(one(One { v: 1 }, Class::Json).unwrap(), "{\"v\":1}");
}

#[test]
fn what_postgres_cannot_store_is_refused() {
    for refused in [one("a\0b", Class::Text), one("a\0b", Class::Json)] {
        assert!(refused.unwrap_err().starts_with("column `v`: there is a NUL"));
    }
    // An escaped backslash before the same digits is none.
    assert_eq!(one("\\u0000", Class::Json).unwrap(), "\"\\\\\\\\u0000\"");
    let beyond = EventTime::from_micros(i64::MAX - 1);
    assert!(one(beyond, Class::Timestamp).unwrap_err().contains("beyond the year 9999"));
    let mismatch = one("text", Class::Integer).unwrap_err();
    assert!(mismatch.contains("`v` of the rows is text") && mismatch.contains("Integer"));
    let message = line(&One { v: 1 }, &[("w", Class::Integer)]).unwrap_err();
    assert!(message.contains("`v` of the rows has no column") && message.contains("w"));
    assert!(line(&1, &[("v", Class::Integer)]).unwrap_err().contains("must be structs"));
}

#[test]
fn times_before_the_year_1_are_bc() {
    for (year, shown) in [(-9998, "9999"), (-1, "0002"), (0, "0001")] {
        let time: jiff::Timestamp =
            format!("{year:+07}-03-01T00:00:00Z").replace("+000000", "0000").parse().unwrap();
        let time = EventTime::from_micros(time.as_microsecond());
        assert_eq!(one(time, Class::Timestamp).unwrap(), format!("{shown}-03-01T00:00:00Z BC"));
    }
}

#[test]
fn fields_are_known_without_a_row() {
    #[derive(Serialize, Deserialize)]
    struct Nested {
        at: EventTime,
        peer: std::net::SocketAddrV4,
        who: Option<Box<Who>>,
        kind: Sort,
    }
    #[derive(Serialize, Deserialize)]
    struct Who {
        id: std::num::NonZeroU16,
        address: std::net::IpAddr,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Sort {
        Small,
        #[allow(dead_code, reason = "only its name counts")]
        Large,
    }
    let columns = [
        ("at", Class::Timestamp),
        ("peer", Class::Text),
        ("who_id", Class::Integer),
        ("address", Class::Text),
        ("kind", Class::Text),
    ];
    let layout = Layout::of_type::<Nested>(&table(&columns)).unwrap().unwrap();
    assert_eq!(layout.columns, columns.map(|column| column.0));
    let columns = &columns[..4];
    let error = Layout::of_type::<Nested>(&table(columns)).unwrap_err().to_string();
    assert!(error.contains("`kind` of the rows has no column"), "{error}");
    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        inner: One<u8>,
    }
    assert!(Layout::of_type::<Flat>(&table(columns)).unwrap().is_none());
    assert_eq!(line(&Flat { inner: One { v: 3 } }, &[("v", Class::Integer)]).unwrap(), "3");
    assert!(Layout::of_type::<u64>(&table(columns)).is_err());
}

proptest! {
    /// What the server makes of a line is what was in the row.
    #[test]
    fn lines_are_read_back(
        texts in prop::collection::vec(
            prop::option::of("[\\x01-\\x7f\u{e9}\u{20ac}\\\\\t\n\r]{0,12}"),
            3,
        )
    ) {
        let names = ["0", "1", "2"].map(|name| (name, Class::Text));
        let row = (&texts[0], &texts[1], &texts[2]);
        let sample = (Some(""), Some(""), Some(""));
        let layout = Layout::of_row(&sample, &table(&names)).unwrap();
        let mut out = Vec::new();
        Line::default().append(&layout, &row, &mut out).unwrap();
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json = line_as_json(&layout.columns, &out);
        let read: std::collections::BTreeMap<String, Option<String>> =
            serde_json::from_str(&json).unwrap();
        prop_assert_eq!(read.into_values().collect::<Vec<_>>(), texts);
    }
}
