//! The columns of the tables that `kubectl get` prints.

/// The JSON type of a table column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// An RFC 3339 time that the client prints as an age.
    Date,
}

impl CellType {
    /// The name in a column definition's `type`.
    pub fn name(self) -> &'static str {
        match self {
            CellType::String => "string",
            CellType::Integer => "integer",
            CellType::Number => "number",
            CellType::Boolean => "boolean",
            CellType::Date => "date",
        }
    }
}

/// One column of the table that `kubectl get` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// Type of the cells.
    pub cell: CellType,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'static str,
    /// Text for tools that explain columns; may be empty.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A text column that is always shown.
    pub const fn text(name: &'static str) -> Self {
        Self {
            name,
            cell: CellType::String,
            format: "",
            description: "",
            priority: 0,
        }
    }

    /// A whole-number column that is always shown.
    pub const fn integer(name: &'static str) -> Self {
        Self {
            cell: CellType::Integer,
            ..Self::text(name)
        }
    }

    /// A yes/no column that is always shown.
    pub const fn boolean(name: &'static str) -> Self {
        Self {
            cell: CellType::Boolean,
            ..Self::text(name)
        }
    }

    /// A time column that is always shown.
    pub const fn date(name: &'static str) -> Self {
        Self {
            cell: CellType::Date,
            ..Self::text(name)
        }
    }

    /// The same column, shown only with `-o wide`.
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }

    /// The same column, as the one that identifies the row.
    pub const fn name_format(self) -> Self {
        Self {
            format: "name",
            ..self
        }
    }

    /// The column that every table begins with.
    pub const NAME: Self = Self::text("Name").name_format();
    /// The column that most tables end with.
    pub const AGE: Self = Self::text("Age");
}
