//! A statement that names itself.

/// SQL whose first line is `-- its_name`, which logs and `pg_stat_activity` show.
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
