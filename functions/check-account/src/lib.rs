//! CloudFormation custom resource: checks the account's Lambda quota and the region before the stack creates
//! resources that cost money. If a check fails, the deployment fails with a message that names the remedy.

use aws_lambda_events::cloudformation::CloudFormationCustomResourceRequest;
use platform::client::HttpClient;
use platform::custom_resource::{Change, Error, Request};
use platform::error_chain;
use platform::signed::{self, Services};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error as ThisError;
use tracing::{error, info};

/// The physical id of the resource. It never changes, because CloudFormation deletes a resource whose id
/// changed.
const PHYSICAL_RESOURCE_ID: &str = "syncsphere-account-check";

/// Concurrency that Lambda keeps for functions without a reservation (AWS Lambda Developer Guide,
/// "Configuring reserved concurrency for a function").
const UNRESERVED: i64 = 100;

/// The value of the parameter `Size` with which the database, the content and the users are deleted with the
/// stack.
const TRIAL: &str = "trial";

/// Status of a stack during the rollback of an update (AWS CloudFormation API Reference, "Stack",
/// `StackStatus`).
const TAKEN_BACK: &str = "UPDATE_ROLLBACK_IN_PROGRESS";

/// Path of `GetAccountSettings` (AWS Lambda API Reference).
const ACCOUNT_SETTINGS: &str = "/2016-08-19/account-settings/";

/// The state that all requests of one execution environment share.
pub struct App {
    /// The function's region. `None` if the environment does not set it; on Lambda it is always set.
    pub region: Option<String>,
    /// Client for the account's Lambda settings and the stack's status.
    pub services: Services,
    /// Client that sends the answer to CloudFormation.
    pub http: HttpClient,
}

/// The properties of the resource. CloudFormation sends them as text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Needs {
    /// Sum of the functions' reserved concurrency. 0 if they reserve none.
    reserved: i64,
    /// Whether functions verify the database's certificate with the certificate authorities of Amazon RDS.
    rds_authorities: bool,
}

/// The reason why the deployment cannot succeed.
#[derive(Debug, ThisError)]
enum Missing {
    #[error("the resource's property {0} is not what the template says")]
    Property(&'static str),
    #[error(
        "This stack is of Size={0}: its database, content and users outlive it. Size=trial would delete them with the stack, and shrink the \
         database. Deploy with --parameter-overrides Size={0}, and change Size in samconfig.toml if it stands there."
    )]
    Protection(String),
    #[error("the stack's status could not be read")]
    Status(#[source] signed::Error),
    #[error("the account's Lambda quota could not be read")]
    Unreadable(#[source] signed::Error),
    #[error("Lambda's answer about the account's quota cannot be read")]
    Answer(#[source] serde_json::Error),
    #[error(
        "This account may run {quota} copies of Lambda functions at once in {region}, of which {available} are left to this stack. Its functions \
         reserve {reserved}, and Lambda keeps {UNRESERVED} for others, so it needs a quota of {needed}. Ask for it: aws service-quotas \
         request-service-quota-increase --service-code lambda --quota-code L-B99A9384 --desired-value {desired} --region {region}. Or deploy with \
         Size=trial or ReserveConcurrency=false, which reserve nothing."
    )]
    Concurrency {
        quota: i64,
        available: i64,
        reserved: i64,
        needed: i64,
        desired: i64,
        region: String,
    },
    #[error(
        "This release has no certificate authority of Amazon RDS for {0}, so its functions cannot verify a database there. Download the current \
         ones and deploy again: python3 tools/rds_authorities.py && sam build && sam deploy. Or deploy to another region."
    )]
    Authorities(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountSettings {
    account_limit: AccountLimit,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AccountLimit {
    concurrent_executions: i64,
    unreserved_concurrent_executions: i64,
}

/// Checks the account for one request of CloudFormation and sends the answer.
pub async fn handle(app: &App, request: CloudFormationCustomResourceRequest) -> Result<(), Error> {
    let request = Request::try_from(request)?;
    let outcome = match &request.change {
        Change::Create => check(app, &request.properties, None).await,
        Change::Update(former) => match keeps_protection(app, &request, former).await {
            Ok(()) => check(app, &request.properties, Some(former)).await,
            Err(missing) => Err(missing),
        },
        Change::Delete => Ok(json!({})),
    };
    let outcome = outcome.map_err(|missing| {
        let reason = error_chain(&missing);
        error!(reason, "the deployment cannot succeed");
        reason
    });
    request.answer(&app.http, PHYSICAL_RESOURCE_ID, outcome).await
}

/// Refuses an update of a protected stack to `Size=trial`, which would delete its content with the stack. The
/// rollback of an update from `Size=trial` is allowed.
async fn keeps_protection(app: &App, request: &Request, former: &Value) -> Result<(), Missing> {
    let size = |properties: &Value| properties["Size"].as_str().unwrap_or(TRIAL).to_owned();
    let (size, former) = (size(&request.properties), size(former));
    if size != TRIAL || former == TRIAL {
        return Ok(());
    }
    let status = app.services.stack_status(&request.stack_id).await;
    if status.map_err(Missing::Status)? == TAKEN_BACK {
        return Ok(());
    }
    Err(Missing::Protection(former))
}

async fn check(app: &App, properties: &Value, former: Option<&Value>) -> Result<Value, Missing> {
    let needs = Needs::of(properties)?;
    let region = app.region.as_deref().unwrap_or_default();
    if needs.rds_authorities && !db::rds_authorities::has_region(region) {
        return Err(Missing::Authorities(region.to_owned()));
    }
    let answer = app.services.get("lambda", ACCOUNT_SETTINGS).await;
    let answer = answer.map_err(Missing::Unreadable)?;
    let settings: AccountSettings = serde_json::from_slice(&answer).map_err(Missing::Answer)?;
    let limit = settings.account_limit;
    // The stack's own reservations from before the update are available to it.
    let former = former.map_or(Ok(0), |former| Ok(Needs::of(former)?.reserved))?;
    suffices(limit, needs.reserved, former, region)?;
    let quota = limit.concurrent_executions;
    info!(quota, reserved = needs.reserved, "the account's quota suffices");
    Ok(json!({ "ConcurrentExecutions": quota.to_string() }))
}

/// Checks that the account's quota allows this reservation. It replaces `former`, the stack's reservation
/// until now.
fn suffices(limit: AccountLimit, reserved: i64, former: i64, region: &str) -> Result<(), Missing> {
    let available = limit.unreserved_concurrent_executions + former;
    if reserved <= former || reserved + UNRESERVED <= available {
        return Ok(());
    }
    let quota = limit.concurrent_executions;
    let needed = quota - available + reserved + UNRESERVED;
    Err(Missing::Concurrency {
        quota,
        available,
        reserved,
        needed,
        // At least 1,000, the default quota of an account that is not new.
        desired: needed.max(1_000),
        region: region.to_owned(),
    })
}

impl Needs {
    fn of(properties: &Value) -> Result<Self, Missing> {
        let text = |name: &'static str| properties[name].as_str().ok_or(Missing::Property(name));
        let (reserved, authorities) = ("ReservedConcurrency", "NeedsRdsAuthorities");
        Ok(Self {
            reserved: text(reserved)?.parse().map_err(|_| Missing::Property(reserved))?,
            rds_authorities: text(authorities)?
                .parse()
                .map_err(|_| Missing::Property(authorities))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(quota: i64, reserved: i64) -> AccountLimit {
        AccountLimit {
            concurrent_executions: quota,
            unreserved_concurrent_executions: quota - reserved,
        }
    }

    fn refusal(limit: AccountLimit, reserved: i64, former: i64) -> Option<String> {
        let outcome = suffices(limit, reserved, former, "eu-central-1");
        outcome.err().map(|missing| missing.to_string())
    }

    #[test]
    fn a_new_account_may_reserve_nothing_and_is_told_how_to_get_more() {
        assert_eq!(refusal(limit(10, 0), 0, 0), None);
        let told = refusal(limit(10, 0), 72, 0).unwrap();
        assert!(told.contains("may run 10 copies"), "{told}");
        assert!(told.contains("needs a quota of 172"), "{told}");
        assert!(
            told.contains(
                "--service-code lambda --quota-code L-B99A9384 --desired-value 1000 --region eu-central-1"
            ),
            "{told}"
        );
        assert!(told.contains("Size=trial"), "{told}");
        // CloudFormation shows the first 900 characters.
        assert!(told.len() < 900, "{}", told.len());
    }

    #[test]
    fn the_quota_is_compared_with_what_all_functions_of_the_account_reserve() {
        assert_eq!(refusal(limit(172, 0), 72, 0), None);
        assert!(refusal(limit(171, 0), 72, 0).is_some());
        // Other functions of the account have reservations too.
        assert!(
            refusal(limit(1_000, 0), 972, 0)
                .unwrap()
                .contains("--desired-value 1072")
        );
        let told = refusal(limit(1_000, 800), 227, 0).unwrap();
        assert!(
            told.contains("200 are left") && told.contains("a quota of 1127"),
            "{told}"
        );
    }

    #[test]
    fn what_the_stack_has_reserved_it_may_go_on_reserving() {
        // From small to medium, in an account whose quota is just large enough.
        assert_eq!(refusal(limit(327, 72), 227, 72), None);
        assert!(refusal(limit(326, 72), 227, 72).is_some());
        // An update that reserves no more than before, or its rollback, never fails, even if the quota was
        // lowered in the meantime.
        assert_eq!(refusal(limit(100, 72), 72, 72), None);
        assert_eq!(refusal(limit(100, 72), 72, 227), None);
    }

    #[test]
    fn properties_are_text_and_complete() {
        let needs = |properties: Value| Needs::of(&properties).map_err(|missing| missing.to_string());
        assert_eq!(
            needs(json!({ "ReservedConcurrency": "72", "NeedsRdsAuthorities": "true" })),
            Ok(Needs {
                reserved: 72,
                rds_authorities: true
            })
        );
        let told = needs(json!({ "ReservedConcurrency": "72" })).unwrap_err();
        assert!(told.contains("NeedsRdsAuthorities"), "{told}");
    }
}
