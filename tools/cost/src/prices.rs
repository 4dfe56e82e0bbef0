//! The prices of AWS and the assumptions of the model, from tools/cost/prices.yaml.

use std::fs;

use anyhow::{Context as _, Result};
use runner::project::Project;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Prices {
    pub(crate) region: String,
    /// The day on which the prices were read.
    pub(crate) date: String,
    #[serde(rename = "prices")]
    pub(crate) list: List,
    pub(crate) assumptions: Assumptions,
}

/// A price in US dollars.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Price {
    pub(crate) dollars: f64,
    /// The number of units that cost `dollars`.
    pub(crate) per: f64,
    pub(crate) unit: String,
    /// AWS's page.
    pub(crate) source: String,
    /// The page on which the price was read; `None` if the price has no source.
    #[serde(default)]
    pub(crate) quoted_by: Option<String>,
    /// The date of that page, or `undated`.
    #[serde(default)]
    pub(crate) quoted: Option<String>,
}

impl Price {
    /// The price of a number of units.
    pub(crate) fn of(&self, units: f64) -> f64 {
        units * self.dollars / self.per
    }

    /// The mark of a price without a source.
    pub(crate) fn mark(&self) -> &'static str {
        if self.quoted_by.is_none() { " †" } else { "" }
    }
}

/// Declares the list and a method that returns all of it, so that the document names every price.
macro_rules! list {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct List {
            $(pub(crate) $name: Price,)*
        }

        impl List {
            /// All prices.
            pub(crate) fn all(&self) -> Vec<&Price> {
                vec![$(&self.$name),*]
            }
        }
    };
}

list!(
    http_request,
    web_socket_message,
    connection_minute,
    invocation,
    gigabyte_second,
    s3_put,
    s3_get,
    sqs_request,
    logs_ingested,
    logs_stored,
    trace,
    data_out,
    scheduled_run,
    custom_metric,
    dashboard,
    alarm_metric,
    secret,
    database_trial,
    database_small,
    database_medium,
    database_storage,
);

/// Numbers that are not counted. The file gives their sources.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Assumptions {
    pub(crate) hours: f64,
    pub(crate) heartbeat_minutes: Intervals,
    pub(crate) connection_minutes: f64,
    pub(crate) traced_share: f64,
    pub(crate) pollers: f64,
    pub(crate) polls_per_minute: f64,
    pub(crate) custom_metrics: f64,
    pub(crate) database_storage: f64,
}

/// Minutes between two heartbeats, by the action of their message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intervals {
    pub(crate) ping: f64,
    pub(crate) heartbeat: f64,
}

impl Prices {
    pub(crate) fn read(project: &Project) -> Result<Self> {
        let file = project.root.join("tools/cost/prices.yaml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_norway::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use platform::metrics::Metric;

    use super::*;

    #[test]
    fn every_metric_of_the_functions_is_priced() {
        let all = fan_out::METRICS
            .iter()
            .chain(&maintenance::METRICS)
            .chain(&commands::METRICS)
            .chain(&api::METRICS);
        let names: BTreeSet<&str> = all
            .map(|metric| match *metric {
                Metric::Count(name)
                | Metric::Gauge(name)
                | Metric::Seconds(name)
                | Metric::Milliseconds(name) => name,
            })
            .filter(|name| !name.contains("Bus"))
            .collect();
        let assumptions = Prices::read(&Project::find().unwrap()).unwrap().assumptions;
        let counted = f64::from(u32::try_from(names.len()).unwrap());
        assert!(
            (assumptions.custom_metrics - counted).abs() < 0.5,
            "customMetrics in tools/cost/prices.yaml is not {counted}"
        );
    }

    #[test]
    fn every_price_names_a_page_of_aws_and_a_quotation_has_a_date() {
        let prices = Prices::read(&Project::find().unwrap()).unwrap();
        for price in prices.list.all() {
            let unit = &price.unit;
            assert!(price.source.starts_with("https://aws.amazon.com/"), "{unit}");
            assert!(price.dollars > 0.0 && price.per >= 1.0, "{unit}");
            assert_eq!(price.quoted_by.is_some(), price.quoted.is_some(), "{unit}");
        }
    }
}
