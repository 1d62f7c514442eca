//! Column values: an `INSERT` or `UPDATE` in which each column's name stands beside its value.
//!
//! In a statement of twenty columns with positional values, an exchanged pair would not be noticed.

use std::fmt::Write as _;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};

/// Rows of one table: their columns and values. Behind the rows of one table can follow those of another, which are
/// then inserted by the same call of the connection's thread.
#[derive(Default)]
pub(crate) struct ColumnValues {
    /// Complete statements, whose values come first.
    statements: String,
    columns: Vec<Column>,
    values: SqliteArguments,
    /// The complete rows before the present one.
    rows: usize,
    /// The columns that the present row has so far; the first row defines them.
    set: usize,
}

/// A column and the expression of its value, with one parameter.
struct Column {
    name: &'static str,
    expression: &'static str,
}

impl ColumnValues {
    /// Adds a column to the row.
    ///
    /// # Panics
    /// If the row has other columns, or another order of them, than the first row.
    pub(crate) fn set<'t>(self, column: &'static str, value: impl Encode<'t, Sqlite> + Type<Sqlite>) -> ColumnValues {
        self.set_expression(column, "?", value)
    }

    /// Adds a column whose value is an expression with `value` as its one parameter.
    ///
    /// # Panics
    /// As [`ColumnValues::set`].
    pub(crate) fn set_expression<'t>(
        mut self,
        name: &'static str,
        expression: &'static str,
        value: impl Encode<'t, Sqlite> + Type<Sqlite>,
    ) -> ColumnValues {
        // Numbers, text and bytes are encoded by copying them, which does not fail.
        self.values.add(value).expect("a value of a column can be encoded");
        match self.columns.get(self.set) {
            Some(column) => assert_eq!((column.name, column.expression), (name, expression), "the columns of all rows"),
            None => {
                assert_eq!(self.rows, 0, "column {name} is missing in the first row");
                self.columns.push(Column { name, expression });
            }
        }
        self.set += 1;
        self
    }

    /// Ends the row; what is set from now on belongs to the next one.
    ///
    /// # Panics
    /// If the row lacks a column of the first row.
    pub(crate) fn end_row(mut self) -> ColumnValues {
        assert_eq!(self.set, self.columns.len(), "a row lacks columns");
        self.rows += 1;
        self.set = 0;
        self
    }

    /// Ends the statement that inserts the rows; what is set from now on belongs to the next statement. Without a row
    /// there is no statement.
    pub(crate) fn end_insert(mut self, table: &'static str) -> ColumnValues {
        if self.set > 0 {
            self = self.end_row();
        }
        if self.rows > 0 {
            let expressions: Vec<&str> = self.columns.iter().map(|column| column.expression).collect();
            let row = format!("({})", expressions.join(", "));
            let rows = vec![row.as_str(); self.rows].join(", ");
            let names = self.names().join(", ");
            write!(self.statements, "INSERT INTO {table} ({names}) VALUES {rows}; ").expect("writing to text");
        }
        ColumnValues { statements: self.statements, values: self.values, ..ColumnValues::default() }
    }

    /// Returns the ended statements, followed by `rest`, whose values are to be bound by the caller.
    pub(crate) fn into_query(self, rest: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        // It is made of the program's own text only.
        sqlx::query_with(AssertSqlSafe(self.statements + rest), self.values)
    }

    /// Returns the statement that inserts the row.
    pub(crate) fn insert_into(self, table: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        self.end_insert(table).into_query("")
    }

    /// Returns the statement that inserts the row, or changes the one with the same value in column `key`.
    pub(crate) fn upsert_into(self, table: &'static str, key: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        let placeholders = vec!["?"; self.columns.len()].join(", ");
        let names = self.names();
        let changed: Vec<String> = names
            .iter()
            .filter(|&&column| column != key)
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let sql = AssertSqlSafe(format!(
            "INSERT INTO {table} ({}) VALUES ({placeholders}) ON CONFLICT ({key}) DO UPDATE SET {}",
            names.join(", "),
            changed.join(", ")
        ));
        sqlx::query_with(sql, self.values)
    }

    /// Returns the statement that changes rows; `condition` is its `WHERE` clause, whose values are to be bound by the
    /// caller.
    pub(crate) fn update(
        self,
        table: &'static str,
        condition: &'static str,
    ) -> Query<'static, Sqlite, SqliteArguments> {
        let changed: Vec<String> = self.names().iter().map(|column| format!("{column} = ?")).collect();
        let sql = AssertSqlSafe(format!("UPDATE {table} SET {} {condition}", changed.join(", ")));
        sqlx::query_with(sql, self.values)
    }

    fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|column| column.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

    #[tokio::test]
    async fn each_value_is_stored_in_its_column() {
        let mut conn = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE t (name TEXT PRIMARY KEY, a INTEGER, b TEXT)").execute(&mut conn).await.unwrap();
        let row = |a: i64, b: Option<&'static str>| ColumnValues::default().set("b", b).set("name", "n").set("a", a);
        row(1, Some("x")).insert_into("t").execute(&mut conn).await.unwrap();
        row(2, None).upsert_into("t", "name").execute(&mut conn).await.unwrap();
        let changed = ColumnValues::default().set("b", "y").update("t", "WHERE a = ?").bind(2_i64);
        assert_eq!(changed.execute(&mut conn).await.unwrap().rows_affected(), 1);
        let rows = sqlx::query("SELECT name, a, b FROM t").fetch_all(&mut conn).await.unwrap();
        assert_eq!(rows.len(), 1);
        let (a, b): (i64, String) = (rows[0].try_get("a").unwrap(), rows[0].try_get("b").unwrap());
        assert_eq!((a, b.as_str()), (2, "y"));
    }

    #[tokio::test]
    async fn rows_of_several_tables_are_inserted_in_one_call() {
        let mut conn = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE u (c INTEGER)").execute(&mut conn).await.unwrap();
        let mut rows = ColumnValues::default();
        for (a, b) in [(1, "x"), (2, "y"), (3, "z")] {
            rows = rows.set("a", a).set("b", b).end_row();
        }
        let rows = rows.end_insert("t").end_insert("u");
        let rows = rows.set_expression("c", "(SELECT max(a) FROM t) - ?", 1).end_insert("u");
        let last = rows.into_query("SELECT ?").bind(7).fetch_all(&mut conn).await.unwrap();
        assert_eq!(last[0].try_get::<i64, _>(0).unwrap(), 7);
        let t: String = sqlx::query_scalar("SELECT group_concat(a || b) FROM t").fetch_one(&mut conn).await.unwrap();
        let u: i64 = sqlx::query_scalar("SELECT sum(c) FROM u").fetch_one(&mut conn).await.unwrap();
        assert_eq!((t.as_str(), u), ("1x,2y,3z", 2));
    }

    #[test]
    #[should_panic(expected = "the columns of all rows")]
    fn rows_with_exchanged_columns_are_refused() {
        let rows = ColumnValues::default().set("a", 1).set("b", 2).end_row();
        let _ = rows.set("b", 2).set("a", 1);
    }

    #[test]
    #[should_panic(expected = "a row lacks columns")]
    fn a_row_that_lacks_a_column_is_refused() {
        let rows = ColumnValues::default().set("a", 1).set("b", 2).end_row();
        let _ = rows.set("a", 1).end_row();
    }
}
