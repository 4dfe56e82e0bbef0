//! Direction of dependencies between workspace packages: the table in `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use tests::project_file;

/// Libraries that each library may use. A function may use every library, and no other function.
const LIBRARIES: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("platform", &[]),
    ("db", &["model"]),
    ("storage", &["model"]),
    ("bus", &["model", "platform"]),
    ("queue", &["model", "platform", "db"]),
    ("api", &["model", "platform", "db"]),
    ("commands", &["model", "platform", "db", "queue"]),
    ("websocket", &[]),
];

/// Packages that alone may use these crates, except for tests and tools.
const OWNERS: [(&str, &str); 6] = [
    ("aws-sdk-s3", "storage"),
    ("aws-sdk-sqs", "queue"),
    ("aws-sdk-eventbridge", "bus"),
    ("tokio-postgres", "db"),
    ("aws-sdk-apigatewaymanagement", "websocket"),
    ("aws-sdk-secretsmanager", "migrate"),
];

struct Package {
    /// First folder of the package's path, such as `crates`.
    group: String,
    dependencies: BTreeSet<String>,
}

/// Packages of the workspace by name, without their dev-dependencies.
fn packages() -> BTreeMap<String, Package> {
    let root = project_file("");
    let metadata = Command::new("cargo")
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{metadata:?}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let root = text(&metadata["workspace_root"]);
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let path = manifest.strip_prefix(&root).unwrap().trim_start_matches('/');
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.filter(|dependency| dependency["kind"].is_null());
        let found = Package {
            group: path.split('/').next().unwrap().to_owned(),
            dependencies: dependencies.map(|dependency| text(&dependency["name"])).collect(),
        };
        (text(&package["name"]), found)
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(package)
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let packages = packages();
    let libraries: BTreeMap<&str, &[&str]> = LIBRARIES.into();
    for (name, package) in &packages {
        let of_workspace = (package.dependencies.iter()).filter_map(|used| Some((used, packages.get(used)?)));
        for (used, other) in of_workspace {
            let allowed = match package.group.as_str() {
                "crates" => libraries[name.as_str()].contains(&used.as_str()),
                "functions" => other.group == "crates",
                "clients" => used == "model" || other.group == "clients",
                "tools" if name == "fakes" => used == "model",
                "tools" => other.group != "xtask" && other.group != "tests",
                _ => true,
            };
            assert!(allowed, "{name} must not depend on {used}");
        }
    }
    let of_crates = packages.iter().filter(|(_, package)| package.group == "crates");
    let of_crates: Vec<&str> = of_crates.map(|(name, _)| name.as_str()).collect();
    let listed: Vec<&str> = libraries.into_keys().collect();
    assert_eq!(of_crates, listed);
}

#[test]
fn each_service_has_one_crate_that_uses_its_client() {
    for (name, package) in packages() {
        if !["crates", "functions", "clients"].contains(&package.group.as_str()) {
            continue;
        }
        for (client, owner) in OWNERS {
            assert!(
                name == owner || !package.dependencies.contains(client),
                "{name} uses {client}, which is for {owner}"
            );
        }
    }
}
