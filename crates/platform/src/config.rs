//! Environment variables, read once at init. A missing or invalid variable stops the start with an error that
//! names it.

use std::env;
use std::error::Error;
use std::str::FromStr;

use thiserror::Error as ThisError;

/// A missing or invalid environment variable. The error never shows the value, which may be secret.
#[derive(Debug, ThisError)]
pub enum ConfigError {
    /// The variable is not set, or is empty.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// The value of the variable is invalid.
    #[error("environment variable {variable} is invalid")]
    Invalid {
        /// The variable's name.
        variable: &'static str,
        /// The error of parsing the value.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A source of variables: the process environment, or a map in a test.
pub struct Vars<'a>(Box<Lookup<'a>>);

impl<'a> Vars<'a> {
    /// Reads the process environment.
    pub fn from_env() -> Vars<'static> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the environment is read"
        )]
        Vars(Box::new(|name| env::var(name).ok()))
    }

    /// Reads variables through a function that returns `None` for variables that are not set.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self(Box::new(lookup))
    }

    /// Parses a variable that must be set and not empty.
    pub fn required<T>(&self, variable: &'static str) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: Into<Box<dyn Error + Send + Sync>>,
    {
        let value = (self.0)(variable)
            .filter(|value| !value.is_empty())
            .ok_or(ConfigError::Missing(variable))?;
        value.parse().map_err(|source: T::Err| ConfigError::Invalid {
            variable,
            source: source.into(),
        })
    }

    /// Parses a variable that must be set but may be empty; `None` if it is empty.
    pub fn optional<T>(&self, variable: &'static str) -> Result<Option<T>, ConfigError>
    where
        T: FromStr,
        T::Err: Into<Box<dyn Error + Send + Sync>>,
    {
        match (self.0)(variable) {
            None => Err(ConfigError::Missing(variable)),
            Some(value) if value.is_empty() => Ok(None),
            Some(_) => self.required(variable).map(Some),
        }
    }

    /// Parses a variable that Lambda sets; `None` if it is not set or invalid.
    pub(crate) fn of_lambda<T: FromStr>(&self, variable: &str) -> Option<T> {
        (self.0)(variable)?.parse().ok()
    }

    /// Splits a variable at its commas. The variable must be set but may be empty; empty items are dropped.
    pub fn list(&self, variable: &'static str) -> Result<Vec<String>, ConfigError> {
        let value = (self.0)(variable).ok_or(ConfigError::Missing(variable))?;
        Ok(value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_wrong_names_itself_but_not_its_value() {
        let vars = Vars::from_lookup(|name| match name {
            "EMPTY" => Some(String::new()),
            "WORD" => Some("secret".to_owned()),
            "LIST" => Some("a, b,".to_owned()),
            _ => None,
        });
        assert_eq!(
            vars.required::<u32>("ABSENT").unwrap_err().to_string(),
            "environment variable ABSENT is not set"
        );
        assert_eq!(
            vars.required::<u32>("EMPTY").unwrap_err().to_string(),
            "environment variable EMPTY is not set"
        );
        assert_eq!(
            vars.required::<u32>("WORD").unwrap_err().to_string(),
            "environment variable WORD is invalid"
        );
        assert_eq!(vars.optional::<u32>("EMPTY").unwrap(), None);
        assert_eq!(
            vars.optional::<String>("WORD").unwrap().as_deref(),
            Some("secret")
        );
        assert!(vars.optional::<u32>("WORD").is_err() && vars.optional::<u32>("ABSENT").is_err());
        assert_eq!(vars.list("LIST").unwrap(), ["a", "b"]);
        assert!(vars.list("EMPTY").unwrap().is_empty());
        assert!(vars.list("ABSENT").is_err());
    }
}
