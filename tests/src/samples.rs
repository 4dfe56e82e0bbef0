//! The sample events in `events/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use runner::project::Project;
use serde_json::{Value, json};

/// A file of `events/`.
pub struct Sample {
    /// The function that it is for: the file's name up to the first dot.
    pub function: String,
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub event: Value,
}

/// A file of the project.
pub fn project_file(path: &str) -> PathBuf {
    Project::find().unwrap().root.join(path)
}

/// All samples.
pub fn samples() -> Vec<Sample> {
    let entries = fs::read_dir(project_file("events")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (function, _) = name.split_once('.').unwrap();
            Sample {
                function: function.to_owned(),
                event: serde_json::from_slice(&fs::read(&path).unwrap()).unwrap(),
                name,
            }
        })
        .collect()
}

/// One sample, by its name without `.json`.
pub fn sample(name: &str) -> Value {
    let path = project_file("events").join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

/// A sample HTTP request, made by this user and with this body.
pub fn http_event(name: &str, user: &str, body: &Value) -> ApiGatewayV2httpRequest {
    let mut event = sample(name);
    event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(user);
    event["body"] = json!(body.to_string());
    serde_json::from_value(event).unwrap()
}

/// The routes of the template's HTTP API.
pub fn template_routes() -> BTreeSet<String> {
    let text = fs::read_to_string(project_file("template.yaml")).unwrap();
    let template: serde_norway::Value = serde_norway::from_str(&text).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().values();
    let routes = resources.filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Route");
    routes
        .map(|route| route["Properties"]["RouteKey"].as_str().unwrap().to_owned())
        .collect()
}
