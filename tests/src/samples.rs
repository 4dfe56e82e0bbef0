//! The sample events in `events/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use runner::project::Project;
use serde_json::{Value, json};

/// One file of `events/`, parsed.
pub struct Sample {
    /// Function that receives the event: the file's name up to the first dot.
    pub function: String,
    /// File name with `.json`.
    pub name: String,
    /// Content of the file.
    pub event: Value,
}

/// Absolute path of a project file, from a path relative to the project's root.
pub fn project_file(path: &str) -> PathBuf {
    Project::find().unwrap().root.join(path)
}

/// Reads every sample in `events/`.
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

/// Reads one sample, by its name without `.json`.
pub fn sample(name: &str) -> Value {
    let path = project_file("events").join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

/// Sample HTTP request, changed to this user and this body.
pub fn http_event(name: &str, user: &str, body: &Value) -> ApiGatewayV2httpRequest {
    let mut event = sample(name);
    event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(user);
    event["body"] = json!(body.to_string());
    serde_json::from_value(event).unwrap()
}

/// Routes of the HTTP API in `template.yaml`, such as `GET /files`.
pub fn template_routes() -> BTreeSet<String> {
    let text = fs::read_to_string(project_file("template.yaml")).unwrap();
    let template: serde_norway::Value = serde_norway::from_str(&text).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().values();
    let routes = resources.filter(|resource| resource["Type"] == "AWS::ApiGatewayV2::Route");
    let http = |route: &&serde_norway::Value| match &route["Properties"]["ApiId"] {
        serde_norway::Value::Tagged(api) => api.value == "HttpApi",
        _ => false,
    };
    routes
        .filter(http)
        .map(|route| route["Properties"]["RouteKey"].as_str().unwrap().to_owned())
        .collect()
}
