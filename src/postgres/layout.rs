//! Which field of a row goes into which column.
//!
//! A field that is a struct itself is taken apart. The field at the end of the path `window.start`
//! belongs to the column `window_start`, or else to `start`. A struct or list for which there is a
//! JSON column of its name goes there whole.

mod shape;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::catalog::{Class, Table};
use super::{quoted_name, sample::sample};
use crate::error::{Error, ErrorKind};
pub(super) use shape::Kind;
use shape::{Shape, shape_of};

/// Where the fields of a row go.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) root: Node,
    /// Names of the columns that are written, in the order of the fields.
    pub(crate) columns: Vec<String>,
    pub(super) classes: Vec<Class>,
}

#[derive(Debug)]
pub(super) enum Node {
    /// The index of a column.
    Column(usize),
    Fields(Vec<(String, Node)>),
}

impl Layout {
    /// The layout of all rows of a type, or `None` if it takes a row to find out.
    pub(crate) fn of_type<T: Serialize + DeserializeOwned>(
        table: &Table,
    ) -> Result<Option<Self>, Error> {
        sample::<T>().map(|row| Self::of_row(&row, table)).transpose()
    }

    /// The layout of rows such as this one.
    pub(crate) fn of_row<T: Serialize>(row: &T, table: &Table) -> Result<Self, Error> {
        let (shape, at) = (shape_of(row), quoted_name(&table.name));
        let Shape::Fields(_) = shape else {
            let message = format!(
                "rows for the table {at} must be structs, whose fields are named as its columns: \
                 map them to one first"
            );
            return Err(Error::new(ErrorKind::Plan, message));
        };
        let mut layout = Layout { root: Node::Column(0), columns: Vec::new(), classes: Vec::new() };
        layout.root = layout.place(&shape, &mut Vec::new(), table)?;
        let missing = |c: &&super::Column| c.required && !layout.columns.contains(&c.name);
        if let Some(column) = table.columns.iter().find(missing) {
            let (name, type_name) = (&column.name, &column.type_name);
            let message = format!(
                "the column `{name}` ({type_name}) of the table {at} must not be null and has no \
                 default, and the rows have no field for it: add the field, or give the column a \
                 default"
            );
            return Err(Error::new(ErrorKind::Plan, message));
        }
        Ok(layout)
    }

    fn place(
        &mut self,
        shape: &Shape,
        path: &mut Vec<String>,
        table: &Table,
    ) -> Result<Node, Error> {
        let column = find(path, table);
        let whole = |c: &super::Column| c.class == Class::Json && !path.is_empty();
        let fields = match (shape, column) {
            (Shape::Fields(fields), column) if !column.is_some_and(whole) => fields,
            (_, Some(column)) => return self.column(shape, column, path, table),
            (_, None) => {
                let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
                let message = format!(
                    "the field `{}` of the rows has no column in the table {}, which has {}: add \
                     the column, or leave the field out",
                    path.join("."),
                    quoted_name(&table.name),
                    names.join(", ")
                );
                return Err(Error::new(ErrorKind::Plan, message));
            }
        };
        let mut placed = Vec::new();
        for (name, shape) in fields {
            path.push(name.clone());
            placed.push((name.clone(), self.place(shape, path, table)?));
            path.pop();
        }
        Ok(Node::Fields(placed))
    }

    fn column(
        &mut self,
        shape: &Shape,
        column: &super::Column,
        path: &[String],
        table: &Table,
    ) -> Result<Node, Error> {
        let (field, at, name) = (path.join("."), quoted_name(&table.name), &column.name);
        let refuse = |why: String| Err(Error::new(ErrorKind::Plan, why));
        if self.columns.contains(name) {
            return refuse(format!(
                "two fields of the rows, one of them `{field}`, belong to the column `{name}` of \
                 the table {at}: map the rows to a struct without nested ones first"
            ));
        }
        if column.generated {
            return refuse(format!(
                "the column `{name}` of the table {at} is worked out by the database, so that the \
                 field `{field}` cannot go there: leave it out"
            ));
        }
        if !fits(shape, column.class) {
            return refuse(format!(
                "the field `{field}` of the rows is {}, and the column `{name}` of the table {at} \
                 is {}: change one of them",
                shape.kind(),
                column.type_name
            ));
        }
        self.columns.push(name.clone());
        self.classes.push(column.class);
        Ok(Node::Column(self.columns.len() - 1))
    }
}

fn find<'a>(path: &[String], table: &'a Table) -> Option<&'a super::Column> {
    table.column(&path.join("_")).or_else(|| table.column(path.last()?))
}

fn fits(shape: &Shape, class: Class) -> bool {
    let kind = shape.kind();
    match class {
        Class::Json => true,
        Class::Bool => matches!(kind, Kind::Bool | Kind::Null),
        Class::Integer => matches!(kind, Kind::Integer | Kind::Null),
        Class::Number => {
            matches!(kind, Kind::Integer | Kind::Float | Kind::Text | Kind::Null)
        }
        Class::Timestamp | Class::Text => matches!(kind, Kind::Text | Kind::Null),
        Class::Bytes => matches!(kind, Kind::Bytes | Kind::Bytelike | Kind::List | Kind::Null),
        Class::Array => matches!(kind, Kind::List | Kind::Bytelike | Kind::Null),
    }
}
