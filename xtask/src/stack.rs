//! Building and deploying the template, as an engineer would to AWS, and what comes out of it.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_sdk_cognitoidentityprovider::types::MessageActionType;
use client::{Client, Session, UserPool};
use model::DeviceId;
use serde::{Deserialize, Serialize};

use crate::cors;
use crate::environment::{command, emulated};
use crate::postgres::{OWNER, ROLE};
use crate::process;
use crate::project::Project;
use crate::secrets;
use crate::services::Ports;
use crate::ui::Step;

/// The stack's name in the emulator.
pub const STACK: &str = "syncsphere-local";

/// The password of local users.
pub const PASSWORD: &str = "Correct-Horse-1";

/// What a developer can do when building fails.
pub(crate) const BUILD_REMEDY: &str = "mend the code and run the command again";

/// A deployed stack: where its parts are. Also what tests read.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// Where AWS clients find the emulator.
    pub aws_endpoint: String,
    /// The stack's database, for who owns the schema.
    pub database_url: String,
    /// The template's outputs.
    #[serde(flatten)]
    pub outputs: Outputs,
    pub(crate) port: u16,
}

/// The template's outputs, which clients and scripts rely on.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the template describes them")]
pub struct Outputs {
    pub http_api_url: String,
    pub web_socket_url: String,
    pub user_pool_id: String,
    pub user_pool_client_id: String,
    pub bucket_name: String,
    pub queue_url: String,
    pub dead_letter_queue_url: String,
}

impl Stack {
    /// Builds the functions and deploys the template to the emulator.
    pub(crate) async fn deploy(project: &Project, ports: Ports) -> Result<Self> {
        Self::build(project, ports, &project.root).await?;
        Self::deploy_built(project, ports, &project.root).await
    }

    /// `sam build` of the release in a folder: the binaries, by cargo-lambda.
    ///
    /// SAM has it build one function after the other; first building all at once, with the same flags, uses every core.
    pub(crate) async fn build(project: &Project, ports: Ports, folder: &Path) -> Result<()> {
        build_functions(project, folder).await?;
        let step = Step::begin("packaging (sam build)");
        let mut sam = emulated(command(project, "sam"), ports);
        sam.current_dir(folder).args([
            "build",
            "--config-env",
            "local",
            "--parameter-overrides",
            &format!("Architecture={}", architecture()?),
        ]);
        process::run(&step, &project.run().join("build.log"), sam, BUILD_REMEDY).await?;
        step.done("");
        Ok(())
    }

    /// `sam deploy` of the release in a folder, which is built.
    pub(crate) async fn deploy_built(project: &Project, ports: Ports, folder: &Path) -> Result<Self> {
        let step = Step::begin("deploying (sam deploy)");
        let template =
            fs::read_to_string(folder.join("template.yaml")).context("cannot read template.yaml")?;
        let takes = |parameter: &str| template.contains(&format!("\n  {parameter}:\n    Type:"));
        let mut overrides = vec![
            format!("Architecture={}", architecture()?),
            format!("LocalEndpoint={}", ports.emulator()),
        ];
        if takes("AllowedOrigins") {
            overrides.push(format!("AllowedOrigins={}", ports.web_origin()));
        }
        if takes("DatabaseSecretArn") {
            overrides.extend([
                format!("DatabaseUrl={}", ports.database_url(ROLE)),
                format!("DatabaseSecretArn={}", secrets::owner(ports).await?),
                // The emulator has no CodeDeploy.
                "GradualDeployments=false".to_owned(),
            ]);
        } else {
            // A release from before there was a role for functions.
            overrides.push(format!("DatabaseUrl={}", ports.database_url(OWNER)));
        }
        let mut sam = emulated(command(project, "sam"), ports);
        sam.current_dir(folder)
            .args(["deploy", "--config-env", "local", "--parameter-overrides"])
            .args(overrides);
        let remedy = "the emulator's log is .local/run/emulator.log";
        process::run(&step, &project.run().join("deploy.log"), sam, remedy).await?;
        let stack = Self {
            aws_endpoint: ports.aws_endpoint(),
            database_url: ports.database_url(OWNER),
            outputs: outputs(project, ports).await?,
            port: ports.emulator,
        };
        cors::repair(ports, &stack.outputs).await?;
        let file = project.stack_file();
        fs::write(&file, serde_json::to_vec_pretty(&stack)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        step.done(&stack.outputs.http_api_url);
        Ok(stack)
    }

    /// The stack that another command keeps running.
    pub(crate) fn running(project: &Project) -> Result<Self> {
        let text =
            fs::read(project.stack_file()).context("no stack is running; start one: cargo xtask up")?;
        serde_json::from_slice(&text).context("the running stack cannot be read; restart it: cargo xtask up")
    }

    /// Makes a user with the local password, or leaves the one that is there.
    pub async fn create_user(&self, user: &str) -> Result<()> {
        let cognito =
            aws_sdk_cognitoidentityprovider::Client::new(&crate::up::aws_config(&self.aws_endpoint).await?);
        let creating = cognito
            .admin_create_user()
            .user_pool_id(&self.outputs.user_pool_id)
            .username(user)
            .message_action(MessageActionType::Suppress);
        match creating.send().await {
            Ok(_) => {}
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(aws_sdk_cognitoidentityprovider::operation::admin_create_user::AdminCreateUserError::is_username_exists_exception) => {}
            Err(error) => return Err(error).context("cannot create the user"),
        }
        cognito
            .admin_set_user_password()
            .user_pool_id(&self.outputs.user_pool_id)
            .username(user)
            .password(PASSWORD)
            .permanent(true)
            .send()
            .await
            .context("cannot set the user's password")?;
        Ok(())
    }

    /// Creates several.
    pub(crate) async fn create_users(&self, users: &[&str]) -> Result<()> {
        for user in users {
            self.create_user(user).await?;
        }
        Ok(())
    }

    /// Signs a user in.
    pub async fn sign_in(&self, user: &str) -> Result<Session> {
        let pool = UserPool {
            endpoint: self.aws_endpoint.clone(),
            client_id: self.outputs.user_pool_client_id.clone(),
        };
        Session::sign_in(pool, user, PASSWORD)
            .await
            .context("cannot sign in")
    }

    /// A device of a signed-in user, which shows each failure.
    pub fn device(&self, session: impl Into<Session>) -> Result<Client> {
        let device_id = DeviceId::from(edge::ids::new_id());
        let device = Client::new(&self.outputs.http_api_url, session, Some(device_id));
        Ok(device
            .context("cannot make a client")?
            .with_patience(Duration::ZERO))
    }
}

/// The release binaries as they are deployed, each `bootstrap` in its function's folder; returns the folder of these.
pub(crate) async fn build_functions(project: &Project, folder: &Path) -> Result<PathBuf> {
    let step = Step::begin("building (cargo lambda)");
    // In two parts, or SAM, which builds one function after the other, would compile half of them once more: the S3 client depends on a crate that
    // is a C library too (crc-fast), so that what that needs is compiled otherwise where there is such a client.
    let (with_s3, without): (Vec<_>, Vec<_>) = functions(folder)?
        .into_iter()
        .partition(|(_, manifest)| manifest.contains("aws-sdk-s3"));
    for part in [with_s3, without] {
        let binaries = part.into_iter().flat_map(|(name, _)| ["--bin".to_owned(), name]);
        cargo_lambda_build(project, folder, &binaries.collect::<Vec<_>>(), &step).await?;
    }
    step.done("");
    Ok(folder.join("target/lambda"))
}

/// `cargo lambda build --release` with some arguments.
pub(crate) async fn cargo_lambda_build(
    project: &Project,
    folder: &Path,
    arguments: &[String],
    step: &Step,
) -> Result<()> {
    let mut cargo = command(project, "cargo");
    cargo.current_dir(folder);
    cargo.args(["lambda", "build", "--release"]).args(arguments);
    if architecture()? == "arm64" {
        cargo.arg("--arm64");
    }
    process::run(step, &project.run().join("cargo-lambda.log"), cargo, BUILD_REMEDY).await
}

/// The functions of a release, which are what in `functions/` has a program, with their manifests.
fn functions(folder: &Path) -> Result<Vec<(String, String)>> {
    let all = folder.join("functions");
    let entries = fs::read_dir(&all).with_context(|| format!("cannot read {}", all.display()))?;
    let mut functions = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let function = entry.path();
        if function.join("src/main.rs").exists() {
            let manifest =
                fs::read_to_string(function.join("Cargo.toml")).context("a function has no manifest")?;
            functions.push((entry.file_name().to_string_lossy().into_owned(), manifest));
        }
    }
    functions.sort_unstable();
    Ok(functions)
}

/// What Lambda calls this machine's architecture.
pub(crate) fn architecture() -> Result<&'static str> {
    match ARCH {
        "x86_64" => Ok("x86_64"),
        "aarch64" => Ok("arm64"),
        other => bail!("Lambda does not run on {other}, so its functions cannot run on this machine"),
    }
}

async fn outputs(project: &Project, ports: Ports) -> Result<Outputs> {
    #[derive(Deserialize)]
    struct Output {
        #[serde(rename = "OutputKey")]
        key: String,
        #[serde(rename = "OutputValue")]
        value: String,
    }
    let mut sam = emulated(command(project, "sam"), ports);
    sam.args([
        "list",
        "stack-outputs",
        "--stack-name",
        STACK,
        "--region",
        crate::environment::REGION,
        "--output",
        "json",
    ]);
    let answer = sam.output().await.context("cannot run sam")?;
    if !answer.status.success() {
        bail!(
            "sam list stack-outputs failed: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
    let outputs: Vec<Output> =
        serde_json::from_slice(&answer.stdout).context("the stack's outputs are not JSON")?;
    let outputs: serde_json::Map<_, _> = outputs
        .into_iter()
        .map(|output| (decapitalized(&output.key), output.value.into()))
        .collect();
    serde_json::from_value(outputs.into()).context("the stack lacks an output")
}

/// A name of `CloudFormation`'s as JSON has it elsewhere.
pub(crate) fn decapitalized(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    name
}
