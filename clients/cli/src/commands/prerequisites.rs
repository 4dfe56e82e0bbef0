//! `doctor --before-deploy`: checks the account and the region for prerequisites of a deployment.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::process::Command;

use crate::arguments::{BeforeDeploy, Size};
use crate::failure::{self, Kind, failure};
use crate::output::Output;

/// Engine of the database in `template.yaml`.
const ENGINE: &str = "postgres";
const ENGINE_VERSION: &str = "18";
const STORAGE: &str = "gp3";

/// Concurrency that Lambda keeps for functions that reserve none (AWS Lambda Developer Guide, "Configuring
/// reserved concurrency for a function").
const UNRESERVED: i64 = 100;

/// "Concurrent executions" of Lambda (Service Quotas).
const LAMBDA_QUOTA: [&str; 4] = ["--service-code", "lambda", "--quota-code", "L-B99A9384"];

/// "VPCs per Region" of Amazon VPC (Service Quotas). The quota of egress-only internet gateways follows it.
const VPC_QUOTA: [&str; 4] = ["--service-code", "vpc", "--quota-code", "L-F678F1CE"];

/// Root certificates of RDS that are compiled into the functions.
const AUTHORITIES: &str = include_str!("../../../../crates/db/amazon-rds.pem");

/// Checks each prerequisite with the AWS CLI. A missing one does not end the checks.
pub(crate) async fn run(arguments: &BeforeDeploy, output: Output) -> anyhow::Result<()> {
    let region = arguments.region.as_deref();
    let aws = Aws { region };
    // The CLI itself resolves the region, from its options, environment or profile.
    let zones = [
        "ec2",
        "describe-availability-zones",
        "--query",
        "AvailabilityZones[].RegionName",
    ];
    let found: Vec<String> = aws.query(&zones).await?;
    let Some(region) = found.into_iter().next() else {
        return Err(failure(
            Kind::Failed,
            "the AWS CLI lists no availability zone; check the region: --region REGION",
        ));
    };
    let aws = Aws {
        region: Some(&region),
    };
    let mut checks = vec![("Lambda concurrency", aws.concurrency(&region, arguments).await)];
    if !arguments.own_network {
        checks.push(("VPCs", aws.vpcs(&region).await));
    }
    if !arguments.own_database {
        checks.push(("RDS certificates", authorities(&region)));
        checks.push(("database class", aws.database(&region, arguments.size).await));
    }
    let mut missing = 0;
    for (name, outcome) in checks {
        missing += usize::from(outcome.is_err());
        report(output, name, outcome)?;
    }
    if missing == 0 {
        return Ok(());
    }
    let message = format!(
        "a deployment with Size={} to {region} would fail, because of {missing} failed checks; run the commands that they name",
        arguments.size
    );
    Err(failure(Kind::Refused, message))
}

/// The state of a prerequisite, or an error that names the missing thing and the command that gets it.
type Outcome = anyhow::Result<String>;

fn report(output: Output, name: &str, outcome: Outcome) -> std::io::Result<()> {
    match outcome {
        Ok(detail) => output.line(
            &json!({ "check": name, "ok": true, "detail": detail }),
            format_args!("✓ {name:20} {detail}"),
        ),
        Err(error) => {
            let message = failure::sentence(&error);
            output.line(
                &json!({ "check": name, "ok": false, "missing": message }),
                format_args!("✗ {name:20} {message}"),
            )
        }
    }
}

fn missing_prerequisite(message: impl Into<String>) -> anyhow::Error {
    failure(Kind::Refused, message)
}

/// The command that requests a higher quota from AWS.
fn quota_increase_command(quota: [&str; 4], desired: impl Display, region: &str) -> String {
    format!(
        "aws service-quotas request-service-quota-increase {} --desired-value {desired} --region {region}",
        quota.join(" ")
    )
}

struct Aws<'a> {
    region: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountLimit {
    concurrent_executions: i64,
    unreserved_concurrent_executions: i64,
}

impl Aws<'_> {
    async fn query<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let mut aws = Command::new("aws");
        aws.args(arguments)
            .args(["--output", "json"])
            .args(
                self.region
                    .map(|region| ["--region", region])
                    .into_iter()
                    .flatten(),
            )
            .kill_on_drop(true);
        let output = aws.output().await.map_err(|error| {
            let message = format!(
                "the AWS CLI, which reads the settings of the account, cannot be run ({error}); \
                 install it: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
            );
            failure(Kind::Failed, message)
        })?;
        let command = arguments[..2].join(" ");
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(failure(
                Kind::Failed,
                format!("aws {command} failed: {}", message.trim()),
            ));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            failure(
                Kind::Failed,
                format!("aws {command} printed an unexpected answer: {error}; update the AWS CLI"),
            )
        })
    }

    async fn concurrency(&self, region: &str, arguments: &BeforeDeploy) -> Outcome {
        let command = ["lambda", "get-account-settings", "--query", "AccountLimit"];
        let limit: AccountLimit = self.query(&command).await?;
        let (quota, left) = (
            limit.concurrent_executions,
            limit.unreserved_concurrent_executions,
        );
        let reserved = match arguments.size.reserved_concurrency() {
            Some(reserved) if !arguments.no_reserved_concurrency => reserved,
            _ => return Ok(format!("the quota is {quota}; this deployment reserves nothing")),
        };
        if reserved + UNRESERVED <= left {
            return Ok(format!(
                "{left} of {quota} are not reserved; this deployment reserves {reserved}"
            ));
        }
        let needed = quota - left + reserved + UNRESERVED;
        Err(missing_prerequisite(format!(
            "{left} of {quota} are not reserved. This deployment reserves {reserved}, and Lambda keeps {UNRESERVED} \
             unreserved, so the quota must be {needed}: {}; or deploy with Size=trial or ReserveConcurrency=false",
            quota_increase_command(LAMBDA_QUOTA, needed.max(1_000), region)
        )))
    }

    async fn vpcs(&self, region: &str) -> Outcome {
        let used: i64 = self
            .query(&["ec2", "describe-vpcs", "--query", "length(Vpcs)"])
            .await?;
        let mut command = vec!["service-quotas", "get-service-quota", "--query", "Quota.Value"];
        command.extend(VPC_QUOTA);
        let quota: f64 = self.query(&command).await?;
        #[expect(clippy::cast_possible_truncation, reason = "a quota is a small whole number")]
        let quota = quota as i64;
        if used < quota {
            return Ok(format!("{used} of {quota} in use"));
        }
        Err(missing_prerequisite(format!(
            "the quota of {quota} is used up; request a higher one: {}; or delete an unused VPC; or deploy into an \
             existing VPC, with VpcId and SubnetIds",
            quota_increase_command(VPC_QUOTA, used + 1, region)
        )))
    }

    async fn database(&self, region: &str, size: Size) -> Outcome {
        let class = size.database_class();
        let query = format!(
            "OrderableDBInstanceOptions[?starts_with(EngineVersion, '{ENGINE_VERSION}.') && StorageType == '{STORAGE}'].EngineVersion"
        );
        let command = [
            "rds",
            "describe-orderable-db-instance-options",
            "--engine",
            ENGINE,
            "--db-instance-class",
            class,
            "--vpc",
            "--query",
            &query,
        ];
        let versions: Vec<String> = self.query(&command).await?;
        match versions.last() {
            Some(version) => Ok(format!("{class} with PostgreSQL {version}")),
            None => Err(missing_prerequisite(format!(
                "RDS offers no {class} with PostgreSQL {ENGINE_VERSION} and {STORAGE} in {region}; choose another size or region, or use an \
                 existing database. List the offers: aws rds describe-orderable-db-instance-options --engine {ENGINE} --vpc --region {region} \
                 --query 'OrderableDBInstanceOptions[].[DBInstanceClass,EngineVersion]' --output text"
            ))),
        }
    }
}

fn authorities(region: &str) -> Outcome {
    if has_authorities(region) {
        return Ok(format!("included for {region}"));
    }
    Err(missing_prerequisite(format!(
        "this release has no RDS certificates for {region}; download the current ones and build it again: python3 tools/rds_authorities.py"
    )))
}

/// Whether RDS endpoints of a region can be verified. `db::rds_authorities` decides it in the functions.
fn has_authorities(region: &str) -> bool {
    let name = format!("Amazon RDS {region} Root CA ");
    let blocks = AUTHORITIES.split("-----BEGIN CERTIFICATE-----").skip(1);
    let mut certificates = blocks.filter_map(|block| {
        let body = block.split("-----END").next()?;
        let body: String = body.split_whitespace().collect();
        STANDARD.decode(body).ok()
    });
    certificates.any(|der| der.windows(name.len()).any(|part| part == name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    const TEMPLATE: &str = include_str!("../../../../template.yaml");

    #[test]
    fn the_database_is_that_of_the_template() {
        assert!(TEMPLATE.contains(&format!(
            "      Engine: {ENGINE}\n      EngineVersion: \"{ENGINE_VERSION}\"\n"
        )));
        assert!(TEMPLATE.contains(&format!("      StorageType: {STORAGE}\n")));
    }

    #[test]
    fn sizes_are_those_of_the_template() {
        let sizes = TEMPLATE.split_once("\n  Sizes:\n").unwrap().1;
        for size in Size::value_variants() {
            let numbers = sizes
                .split_once(&format!("\n    {size}:\n"))
                .map(|(_, after)| after);
            // The first size follows the heading without an empty line.
            let numbers = numbers
                .or_else(|| sizes.strip_prefix(&format!("    {size}:\n")))
                .unwrap();
            let value = |name: &str| {
                let line = numbers.lines().find_map(|line| line.trim().strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            assert_eq!(value("DatabaseClass:"), size.database_class());
            if let Some(reserved_concurrency) = size.reserved_concurrency() {
                assert_eq!(value("Copies:"), reserved_concurrency.to_string());
            }
        }
        let allowed = "AllowedValues: [trial, small, medium, large]";
        assert!(TEMPLATE.contains(allowed) && Size::value_variants().len() == 4);
    }

    // The functions' crates are dependencies of tests on Unix only.
    #[cfg(unix)]
    #[test]
    fn certificates_are_those_of_the_functions() {
        let regions: Vec<&str> = db::rds_authorities::regions().collect();
        assert!(regions.len() >= 27, "{regions:?}");
        assert!(regions.into_iter().all(has_authorities));
        for unknown in ["xx-nowhere-1", "", "eu-central"] {
            assert_eq!(
                has_authorities(unknown),
                db::rds_authorities::has_region(unknown),
                "{unknown:?}"
            );
        }
    }
}
