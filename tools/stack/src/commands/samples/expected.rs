//! The expected responses to the samples.

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use Expected::{Epoch, Items, NoFailures, Report, Status, Success};

/// The expected response to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A response to API Gateway with this status.
    Status(u16),
    /// A 200 to API Gateway with a result of each of these statuses.
    Items(&'static [u16]),
    /// A response to SQS that asks for no record to be delivered again.
    NoFailures,
    /// A report with a number for each kind of item in `COUNTED`.
    Report,
    /// The epoch that began.
    Epoch,
    /// A response to CloudFormation that reports success.
    Success,
}

/// The expected response to each file of `events/`. The items that samples refer to do not exist, and one
/// sample has an unknown route.
pub(crate) const EXPECTED: &[(&str, Expected)] = &[
    ("administer.begin-epoch.json", Epoch),
    ("account.accept.json", Status(404)),
    ("account.decline.json", Status(404)),
    ("account.delete.json", Status(204)),
    ("account.invitations.json", Status(200)),
    ("account.me.json", Status(200)),
    ("files.content.json", Status(404)),
    ("files.delete.json", Status(404)),
    ("files.erase.json", Status(404)),
    ("files.folder.json", Status(200)),
    ("files.get.json", Status(404)),
    ("files.list.json", Status(200)),
    ("files.patch.json", Status(404)),
    ("files.post-batch.json", Items(&[404, 404])),
    ("files.restore-version.json", Status(404)),
    ("files.restore.json", Status(404)),
    ("files.trash.json", Status(200)),
    ("check-account.create.json", Success),
    ("check-account.update.json", Success),
    ("complete-upload.post.json", Status(404)),
    ("complete-upload.post-sha256.json", Status(404)),
    ("complete-upload.post-batch.json", Items(&[404, 404])),
    ("uploads.delete.json", Status(404)),
    ("uploads.get.json", Status(404)),
    ("uploads.list.json", Status(200)),
    ("uploads.parts.json", Status(404)),
    ("uploads.post-batch.json", Items(&[201, 201, 400])),
    ("uploads.post-multipart.json", Status(201)),
    ("uploads.post-multipart-unread.json", Status(201)),
    ("uploads.post.json", Status(201)),
    ("uploads.unknown-route.json", Status(404)),
    ("empty-bucket.create.json", Success),
    ("fan-out.batch.json", NoFailures),
    ("fan-out.changes.json", NoFailures),
    ("fan-out.poison.json", NoFailures),
    ("changes.get.json", Status(200)),
    ("spaces.delete.json", Status(404)),
    ("spaces.delete-invitation.json", Status(404)),
    ("spaces.delete-member.json", Status(404)),
    ("spaces.get.json", Status(404)),
    ("spaces.invitations.json", Status(404)),
    ("spaces.list.json", Status(200)),
    ("spaces.member.json", Status(404)),
    ("spaces.members.json", Status(404)),
    ("spaces.patch.json", Status(404)),
    ("spaces.post.json", Status(201)),
    ("spaces.post-invitation.json", Status(404)),
    ("spaces.put-member.json", Status(404)),
    ("spaces.restore.json", Status(404)),
    ("migrate.create.json", Success),
    ("migrate.delete.json", Success),
    ("migrate.update.json", Success),
    ("maintenance.schedule.json", Report),
    ("connections.connect.json", Status(401)),
    ("connections.disconnect.json", Status(200)),
    ("connections.message.json", Status(200)),
    ("connections.post-tickets.json", Status(201)),
];

/// The fields of a report, each a number.
const COUNTED: [&str; 8] = [
    "published",
    "put_on_bus",
    "expired",
    "aborted",
    "redriven",
    "erased",
    "freed",
    "purged",
];

impl Expected {
    /// Returns a short description of the response, or an error if the response is not the expected one.
    pub(crate) fn check(self, answer: &Value) -> Result<String> {
        let (right, said) = match self {
            Status(status) => (answer["statusCode"] == status, status.to_string()),
            Items(statuses) => (
                answer["statusCode"] == 200 && item_statuses(answer) == json!(statuses),
                self.to_string(),
            ),
            NoFailures => (answer["batchItemFailures"] == json!([]), self.to_string()),
            Report => (
                COUNTED.iter().all(|count| answer[count].is_u64()),
                answer.to_string(),
            ),
            Epoch => (answer["epoch"].is_string(), self.to_string()),
            Success => (answer["Status"] == "SUCCESS", self.to_string()),
        };
        if !right {
            bail!("{answer} instead of {self}");
        }
        Ok(said)
    }
}

/// The status of each result in the body of a response to a batch.
fn item_statuses(answer: &Value) -> Value {
    let body = answer["body"].as_str().unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let results = body["results"].as_array().into_iter().flatten();
    results.map(|result| result["status"].clone()).collect()
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status(status) => write!(f, "status {status}"),
            Items(statuses) => write!(f, "results with the statuses {statuses:?}"),
            NoFailures => f.write_str("no failures"),
            Report => f.write_str("a report"),
            Epoch => f.write_str("a new epoch"),
            Success => f.write_str("SUCCESS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::commands::samples::NAMED_ENDPOINT;
    use crate::resources::{ANSWERS, BUCKET};
    use runner::project::Project;

    #[test]
    fn every_sample_has_its_answer_here_and_every_answer_its_sample() {
        let files = fs::read_dir(Project::find().unwrap().root.join("events")).unwrap();
        let files: BTreeSet<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected: BTreeSet<String> = EXPECTED.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, expected);
        assert_eq!(expected.len(), EXPECTED.len());
    }

    #[test]
    fn samples_of_cloud_formation_ask_for_answers_where_they_are_looked_for() {
        for &(name, expected) in EXPECTED {
            let event = fs::read(Project::find().unwrap().root.join("events").join(name)).unwrap();
            let event: Value = serde_json::from_slice(&event).unwrap();
            let url = format!("{NAMED_ENDPOINT}/{BUCKET}/{ANSWERS}{name}");
            let asked_for = event.get("ResponseURL").map(|url| url.as_str().unwrap());
            assert_eq!(asked_for, (expected == Success).then_some(url.as_str()), "{name}");
        }
    }

    #[test]
    fn a_wrong_answer_is_not_taken_for_a_right_one() {
        let report = json!({ "published": 1, "put_on_bus": 0, "expired": 0, "aborted": 0, "redriven": 0, "erased": 0, "freed": 0, "purged": 0 });
        for (expected, right) in [
            (Status(404), json!({ "statusCode": 404, "body": "{}" })),
            (
                Items(&[201, 404]),
                json!({ "statusCode": 200, "body": r#"{"results":[{"status":201},{"status":404}]}"# }),
            ),
            (NoFailures, json!({ "batchItemFailures": [] })),
            (Report, report),
            (Epoch, json!({ "epoch": "01a226d1-0000-7000-8000-000000000001" })),
            (Success, json!({ "Status": "SUCCESS" })),
        ] {
            assert!(expected.check(&right).is_ok(), "{right}");
            for wrong in [
                json!(null),
                json!({ "statusCode": 500 }),
                json!({ "statusCode": 200, "body": r#"{"results":[{"status":201}]}"# }),
                json!({ "batchItemFailures": [{ "itemIdentifier": "1" }] }),
                json!({ "published": 1 }),
                json!({ "Status": "FAILED" }),
                json!({ "errorType": "Runtime.ExitError" }),
            ] {
                assert!(expected.check(&wrong).is_err(), "{wrong}");
            }
        }
    }
}
