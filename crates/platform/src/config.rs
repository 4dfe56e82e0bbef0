//! Environment variables, read once at init. What is missing or wrong stops the function there and names itself.

use std::env;
use std::error::Error;
use std::str::FromStr;

use thiserror::Error as ThisError;

/// An environment variable that keeps the function from starting. Never shows the value, for it may be secret.
#[derive(Debug, ThisError)]
pub enum ConfigError {
    /// It is not set, or empty.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// It is set to something that cannot be.
    #[error("environment variable {variable} is invalid")]
    Invalid {
        /// Its name.
        variable: &'static str,
        /// What is wrong with its value.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Where variables come from: the process, or a test's map.
pub struct Vars<'a>(Box<Lookup<'a>>);

impl<'a> Vars<'a> {
    /// The process's environment.
    pub fn from_env() -> Vars<'static> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the environment is read"
        )]
        Vars(Box::new(|name| env::var(name).ok()))
    }

    /// Variables from elsewhere.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self(Box::new(lookup))
    }

    /// A variable that must be set and not empty.
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

    /// A variable that must be set, if only to nothing.
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

    /// A variable that Lambda sets where it has something to say.
    pub(crate) fn of_lambda<T: FromStr>(&self, variable: &str) -> Option<T> {
        (self.0)(variable)?.parse().ok()
    }

    /// A variable that must be set: items separated by commas, perhaps none.
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
