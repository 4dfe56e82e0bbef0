//! Property-based tests of the deployed API: schemathesis generates requests from the API's `OpenAPI`
//! description.

use std::fs;

use anyhow::{Context as _, Result, bail};
use model::FileId;

use crate::deployment::Stack;
use runner::environment::command;
use runner::process;
use runner::project::Project;
use runner::ui;

/// The user who makes the requests.
const USER: &str = "fuzz";

/// The number of generated requests per operation and phase.
const EXAMPLES: &str = "30";

/// Checks of schemathesis that do not apply. The API answers 404 for every unknown route, including a known
/// path with another method. Some rules cannot be expressed in a schema: unique part numbers, text in
/// normalization form C, and the format of page tokens.
const EXCLUDED: &str = "unsupported_method,positive_data_acceptance";

/// Fails if a response is a 5xx, or its status or body does not match the description, or if an invalid
/// request is accepted.
pub(crate) async fn run(project: &Project, stack: &Stack) -> Result<()> {
    stack.create_user(USER).await?;
    let token = stack.sign_in(USER).await?.token().await?;
    let device = stack.device(token.clone())?;
    let mut files: Vec<FileId> = Vec::new();
    for path in ["/kept", "/deleted"] {
        let uploading = device.upload(None, path.parse()?, path.as_bytes());
        files.push(uploading.await.context("cannot upload a file")?.file_id);
    }
    // Without the IDs of existing files, generated requests would rarely refer to one.
    let [kept, deleted] = files[..] else {
        bail!("no files to ask for")
    };
    let settings = format!(
        r#"[[operations]]
include-operation-id = ["showFile", "downloadFile", "moveFile"]
parameters = {{ "path.fileId" = "{kept}" }}

[[operations]]
include-operation-id = "deleteFile"
parameters = {{ "path.fileId" = "{deleted}" }}

# An upload that was given up is still shown, as such.
[[operations]]
include-operation-id = "showUpload"
checks.use_after_free.enabled = false

# An invalid item of a batch is refused by its result, in a 200.
[[operations]]
include-operation-id = ["createUploads", "changeFiles"]
checks.negative_data_rejection.enabled = false
"#
    );
    let file = project.run().join("schemathesis.toml");
    fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;

    ui::line("… schemathesis");
    let program = project.tools().join("schemathesis/bin/schemathesis");
    let mut schemathesis = command(project, &program.display().to_string());
    schemathesis
        .current_dir(project.run())
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(project.root.join("docs/openapi.yaml"))
        .args(["--url", &stack.outputs.http_api_url])
        .args(["--header", &format!("Authorization: Bearer {}", token.as_str())])
        .args(["--exclude-checks", EXCLUDED])
        .args([
            "--max-examples",
            EXAMPLES,
            "--max-redirects",
            "0",
            "--workers",
            "2",
        ])
        .args(["--continue-on-failure", "--no-color"]);
    let status = process::attached(schemathesis).await?;
    if !status.success() {
        bail!("the API is not as docs/openapi.yaml says");
    }
    Ok(())
}
