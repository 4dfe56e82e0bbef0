//! A statement with a name.

/// SQL with a first line `-- its_name`. Logs and `pg_stat_activity` show this name.
#[derive(Debug)]
pub(crate) struct Query(&'static str);

impl Query {
    pub(crate) const fn new(sql: &'static str) -> Self {
        Self(sql)
    }

    pub(crate) fn sql(&self) -> &'static str {
        self.0
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0
            .trim_start()
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("-- "))
            .unwrap_or("unnamed")
    }
}
