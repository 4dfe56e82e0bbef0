//! The line that API Gateway writes to an access log.

use anyhow::{Context as _, Result};

/// Replaces each variable such as `$context.requestId` of a format.
pub(crate) fn access_log(format: &str, value: impl Fn(&str) -> Option<String>) -> Result<String> {
    const START: &str = "$context.";
    let mut parts = format.split(START);
    let mut line = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        let value =
            value(name).with_context(|| format!("the length of {START}{name} in logs is not known"))?;
        line.push_str(&value);
        line.push_str(rest);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_replaced_and_an_unknown_one_is_an_error() {
        let value = |name: &str| match name {
            "requestId" => Some("7".to_owned()),
            "error.message" => Some("-".to_owned()),
            _ => None,
        };
        let format = r#"{"id":"$context.requestId","error":"$context.error.message"}"#;
        assert_eq!(access_log(format, value).unwrap(), r#"{"id":"7","error":"-"}"#);
        let error = access_log("$context.other", value).unwrap_err();
        assert!(error.to_string().contains("$context.other"));
    }
}
