//! `syncsphere doctor --before-deploy`, with a stand-in for the AWS CLI.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's failure is a panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Answers each command with a file of its name, and fails if there is none. It logs its arguments.
const AWS: &str = r#"#!/bin/sh
folder=$(dirname "$0")
echo "$*" >> "$folder/asked"
case "$*" in
*"describe-orderable"*) file=$4-$6 ;;
*) file=$1-$2 ;;
esac
cat "$folder/$file.json" 2>/dev/null && exit 0
echo "An error occurred (AccessDenied): not allowed" >&2
exit 254
"#;

/// An account and a region that meet all prerequisites.
const ACCOUNT: [(&str, &str); 5] = [
    (
        "ec2-describe-availability-zones",
        r#"["eu-central-1", "eu-central-1"]"#,
    ),
    (
        "lambda-get-account-settings",
        r#"{"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}"#,
    ),
    ("ec2-describe-vpcs", "1"),
    ("service-quotas-get-service-quota", "5.0"),
    ("postgres-db.t4g.micro", r#"["18.3", "18.4"]"#),
];

/// A folder with the stand-in, which answers for this account. `but` replaces answers; an empty one makes the
/// command fail.
fn machine(but: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("aws");
    fs::write(&script, AWS).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, answer) in ACCOUNT.iter().chain(but) {
        let file = folder.path().join(format!("{name}.json"));
        if answer.is_empty() {
            let _ = fs::remove_file(file);
        } else {
            fs::write(file, answer).unwrap();
        }
    }
    folder
}

fn doctor(machine: &TempDir, arguments: &[&str]) -> Output {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_syncsphere"));
    doctor
        .args(["--json", "doctor", "--before-deploy"])
        .args(arguments);
    let path = format!("{}:/usr/bin:/bin", machine.path().display());
    doctor.env_clear().env("HOME", machine.path()).env("PATH", path);
    doctor.output().unwrap()
}

/// The exit status, and each check's name, outcome and message.
fn checked(machine: &TempDir, arguments: &[&str]) -> (i32, Vec<(String, bool, String)>) {
    let output = doctor(machine, arguments);
    let lines = String::from_utf8(output.stdout).unwrap();
    let checks = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = line["detail"]
            .as_str()
            .or(line["missing"].as_str())
            .unwrap()
            .to_owned();
        (
            line["check"].as_str().unwrap().to_owned(),
            line["ok"] == true,
            message,
        )
    });
    (output.status.code().unwrap(), checks.collect())
}

/// The name and message of the only check that fails.
fn missing(but: &[(&str, &str)], arguments: &[&str]) -> (String, String) {
    let (status, checks) = checked(&machine(but), arguments);
    assert_eq!(status, 6, "{checks:?}");
    let mut missing: Vec<_> = checks.into_iter().filter(|(_, ok, _)| !ok).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    let (name, _, message) = missing.remove(0);
    (name, message)
}

#[test]
fn an_account_that_meets_all_prerequisites_passes() {
    let machine = machine(&[]);
    let (status, checks) = checked(&machine, &[]);
    assert_eq!(status, 0, "{checks:?}");
    let names: Vec<&str> = checks.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["Lambda concurrency", "VPCs", "RDS certificates", "database class"]
    );
    assert!(checks.iter().all(|(_, ok, _)| *ok), "{checks:?}");
    // All commands after the first name the same region.
    let asked = fs::read_to_string(machine.path().join("asked")).unwrap();
    let others = asked.lines().skip(1);
    assert!(
        others.clone().count() == 4 && others.clone().all(|line| line.ends_with("--region eu-central-1")),
        "{asked}"
    );
}

#[test]
fn a_new_account_can_deploy_trial_and_learns_the_quota_for_small() {
    let new = (
        "lambda-get-account-settings",
        r#"{"ConcurrentExecutions": 10, "UnreservedConcurrentExecutions": 10}"#,
    );
    assert_eq!(checked(&machine(&[new]), &[]).0, 0);
    let small = ("postgres-db.t4g.medium", r#"["18.4"]"#);
    let (name, message) = missing(&[new, small], &["--size", "small"]);
    assert_eq!(name, "Lambda concurrency");
    for part in [
        "the quota must be 175",
        "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384",
        "--desired-value 1000 --region eu-central-1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let arguments = ["--size", "small", "--no-reserved-concurrency"];
    assert_eq!(checked(&machine(&[new, small]), &arguments).0, 0);
}

#[test]
fn a_used_up_vpc_quota_is_reported_with_the_command_that_raises_it() {
    let full = [("ec2-describe-vpcs", "5")];
    let (name, message) = missing(&full, &[]);
    assert_eq!(name, "VPCs");
    assert!(
        message
            .contains("--service-code vpc --quota-code L-F678F1CE --desired-value 6 --region eu-central-1"),
        "{message}"
    );
    assert_eq!(checked(&machine(&full), &["--own-network"]).0, 0);
}

#[test]
fn a_region_without_certificates_or_class_is_reported() {
    let nowhere = [("ec2-describe-availability-zones", r#"["xx-nowhere-1"]"#)];
    let (name, message) = missing(&nowhere, &[]);
    assert_eq!(name, "RDS certificates");
    assert!(
        message.contains("xx-nowhere-1") && message.contains("rds_authorities.py"),
        "{message}"
    );
    let unoffered = [("postgres-db.t4g.micro", "[]")];
    let (name, message) = missing(&unoffered, &[]);
    assert_eq!(name, "database class");
    assert!(
        message.contains("no db.t4g.micro with PostgreSQL 18"),
        "{message}"
    );
    assert_eq!(
        checked(&machine(&unoffered), &["--own-network", "--own-database"]).0,
        0
    );
}

#[test]
fn a_check_that_aws_does_not_answer_fails() {
    let (name, message) = missing(&[("ec2-describe-vpcs", "")], &[]);
    assert_eq!(name, "VPCs");
    assert!(
        message.contains("aws ec2 describe-vpcs failed") && message.contains("AccessDenied"),
        "{message}"
    );
    let nothing = tempfile::tempdir().unwrap();
    let output = doctor(&nothing, &[]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && message.contains("the AWS CLI"),
        "{message}"
    );
}

#[test]
fn options_of_the_check_need_it() {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_syncsphere"));
    let output = doctor.args(["doctor", "--size", "small"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
