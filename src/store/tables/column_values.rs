//! Column values: an `INSERT` or `UPDATE` in which each column's name stands beside its value.
//!
//! In a statement of twenty columns with positional values, an exchanged pair would not be noticed.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};

/// Columns of one row and their values.
#[derive(Default)]
pub(crate) struct ColumnValues {
    columns: Vec<&'static str>,
    values: SqliteArguments,
}

impl ColumnValues {
    /// Adds a column.
    pub(crate) fn set<'t>(
        mut self,
        column: &'static str,
        value: impl Encode<'t, Sqlite> + Type<Sqlite>,
    ) -> ColumnValues {
        // Numbers, text and bytes are encoded by copying them, which does not fail.
        self.values.add(value).expect("a value of a column can be encoded");
        self.columns.push(column);
        self
    }

    /// Returns the statement that inserts the row.
    pub(crate) fn insert_into(self, table: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        self.insert_into_with(table, "")
    }

    /// Returns the statement that inserts the row, continued by `rest`, whose values are to be bound by the caller.
    pub(crate) fn insert_into_with(
        self,
        table: &'static str,
        rest: &'static str,
    ) -> Query<'static, Sqlite, SqliteArguments> {
        let placeholders = vec!["?"; self.columns.len()].join(", ");
        // It is made of the program's own text only.
        let sql =
            AssertSqlSafe(format!("INSERT INTO {table} ({}) VALUES ({placeholders}){rest}", self.columns.join(", ")));
        sqlx::query_with(sql, self.values)
    }

    /// Returns the statement that inserts the row, or changes the one with the same value in column `key`.
    pub(crate) fn upsert_into(self, table: &'static str, key: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        let placeholders = vec!["?"; self.columns.len()].join(", ");
        let changed: Vec<String> = self
            .columns
            .iter()
            .filter(|&&column| column != key)
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let sql = AssertSqlSafe(format!(
            "INSERT INTO {table} ({}) VALUES ({placeholders}) ON CONFLICT ({key}) DO UPDATE SET {}",
            self.columns.join(", "),
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
        let changed: Vec<String> = self.columns.iter().map(|column| format!("{column} = ?")).collect();
        let sql = AssertSqlSafe(format!("UPDATE {table} SET {} {condition}", changed.join(", ")));
        sqlx::query_with(sql, self.values)
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
}
