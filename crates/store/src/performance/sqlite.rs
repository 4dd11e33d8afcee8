//! What can be found out of a SQLite file, which counts nothing of its use.

use std::collections::BTreeMap;

use super::measured::{IndexFigures, Measured, TableFigures, Unknown};
use super::{query_all, query_one};
use crate::error::StoreError;
use crate::store::Store;

const VERSION: &str = "SELECT sqlite_version() AS version, \
     (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size()) AS size_bytes, \
     (SELECT freelist_count FROM pragma_freelist_count()) AS free_pages";

const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
     AND name <> 'seaql_migrations' ORDER BY name";

const INDEXES: &str = "SELECT t.name AS table_name, i.name AS name, i.origin = 'pk' AS is_primary, \
     i.\"unique\" AS is_unique, s.sql AS sql, (SELECT group_concat(x.name || CASE WHEN x.desc THEN ' DESC' ELSE '' END, ',') \
     FROM pragma_index_xinfo(i.name) AS x WHERE x.key = 1) AS columns \
     FROM sqlite_schema AS t JOIN pragma_index_list(t.name) AS i LEFT JOIN sqlite_schema AS s ON s.name = i.name \
     WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'seaql_migrations' ORDER BY t.name, i.name";

const HAS_STATISTICS: &str = "SELECT count(*) AS found FROM sqlite_schema WHERE name = 'sqlite_stat1'";

/// The first number of a line of `sqlite_stat1` is the number of rows.
const STATISTICS: &str = "SELECT tbl AS name, max(CAST(stat AS INTEGER)) AS live FROM sqlite_stat1 GROUP BY tbl";

const SIZES: &str = "SELECT name, sum(pgsize) AS size_bytes FROM dbstat GROUP BY name";

/// Above this size a file is not walked through for the sizes of what is in it.
const WALKED_BYTES_MAX: i64 = 1 << 30;

impl Store {
    /// Fills in what SQLite knows, and says what it does not.
    pub(super) async fn measure_sqlite(&self, measured: &mut Measured) -> Result<(), StoreError> {
        if let Some(row) = query_one(self.database(), VERSION).await? {
            measured.version = row.try_get("", "version")?;
            measured.size_bytes = row.try_get("", "size_bytes")?;
        }
        let sizes = self.sizes(measured).await?;
        let rows = self.row_estimates(measured).await?;
        for row in query_all(self.database(), TABLES).await? {
            let name: String = row.try_get("", "name")?;
            let (size_bytes, live) = (sizes.get(&name).copied(), rows.get(&name).copied());
            measured.tables.push(TableFigures { name, live, size_bytes, ..TableFigures::default() });
        }
        for row in query_all(self.database(), INDEXES).await? {
            let name: String = row.try_get("", "name")?;
            let sql: Option<String> = row.try_get("", "sql")?;
            let columns: Option<String> = row.try_get("", "columns")?;
            measured.indexes.push(IndexFigures {
                table: row.try_get("", "table_name")?,
                is_primary: row.try_get("", "is_primary")?,
                is_unique: row.try_get("", "is_unique")?,
                columns: columns.unwrap_or_default().split(',').map(str::to_owned).collect(),
                condition: sql.as_deref().and_then(condition),
                size_bytes: sizes.get(&name).copied(),
                scans: None,
                name,
            });
        }
        for (what, why) in [
            ("inserts, updates, HOT updates, deletes and dead rows of tables", "SQLite does not count them"),
            ("how often tables and indexes are read, and so which indexes nobody uses", "SQLite does not count it"),
            (
                "vacuum and analyze",
                "SQLite keeps no record of them; rows that are gone leave free pages, not dead rows",
            ),
            ("the share of reads that its page cache answers", "SQLite tells it to the connection alone"),
            ("how long queries take to plan", "SQLite plans while it prepares, and does not time it"),
            ("which statements take the most time", "SQLite does not keep statistics of statements"),
        ] {
            measured.unknown.push(Unknown::new(what, why));
        }
        Ok(())
    }

    /// The sizes of tables and indexes, where they can be had at a bearable price.
    async fn sizes(&self, measured: &mut Measured) -> Result<BTreeMap<String, i64>, StoreError> {
        let what = "sizes of tables and indexes";
        if measured.size_bytes.unwrap_or_default() > WALKED_BYTES_MAX {
            measured.unknown.push(Unknown::new(what, "the file is over 1 GiB, and would have to be read as a whole"));
            return Ok(BTreeMap::new());
        }
        let Ok(rows) = query_all(self.database(), SIZES).await else {
            measured.unknown.push(Unknown::new(what, "this build of SQLite has no dbstat"));
            return Ok(BTreeMap::new());
        };
        let size = |row: &sea_orm::QueryResult| Ok((row.try_get("", "name")?, row.try_get("", "size_bytes")?));
        rows.iter().map(size).collect()
    }

    /// How many rows tables had when ANALYZE last looked.
    async fn row_estimates(&self, measured: &mut Measured) -> Result<BTreeMap<String, i64>, StoreError> {
        let found: i64 = match query_one(self.database(), HAS_STATISTICS).await? {
            Some(row) => row.try_get("", "found")?,
            None => 0,
        };
        if found == 0 {
            let why = "nobody has run ANALYZE yet: sqlite3 FILE 'ANALYZE;'";
            measured.unknown.push(Unknown::new("how many rows tables have", why));
            return Ok(BTreeMap::new());
        }
        let live = |row: &sea_orm::QueryResult| Ok((row.try_get("", "name")?, row.try_get("", "live")?));
        query_all(self.database(), STATISTICS).await?.iter().map(live).collect()
    }
}

/// The condition of a partial index, from its definition.
fn condition(sql: &str) -> Option<String> {
    sql.split_once(" WHERE ").map(|(_, condition)| condition.to_owned())
}
