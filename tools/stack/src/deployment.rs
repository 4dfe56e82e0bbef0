//! Builds and deploys the template, as an engineer would to AWS, and describes the deployed stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use client::{Client, Session, UserPool};
use model::DeviceId;
use runner::arguments::Profile;
use runner::build::{self, BUILD_REMEDY, architecture};
use runner::environment::{command, emulated};
use runner::postgres::{OWNER, ROLE};
use runner::process;
use runner::project::Project;
use runner::services::Ports;
use runner::ui::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cors;
use crate::emulator;
use crate::secrets;

/// The name of the CloudFormation stack in the emulator.
pub const STACK: &str = "syncsphere-local";

/// The password of all local users.
pub const PASSWORD: &str = "Correct-Horse-1";

/// The addresses and resources of a deployed stack. Tests read them from a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// The endpoint URL of the emulator for AWS clients.
    pub aws_endpoint: String,
    /// The URL of the stack's database for the schema's owner.
    pub database_url: String,
    /// The template's outputs.
    #[serde(flatten)]
    pub outputs: Outputs,
    pub(crate) port: u16,
}

/// The outputs of the template, on which clients and scripts rely.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
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
    /// Packages the functions and deploys the template to the emulator. Without `release`, the functions are
    /// the binaries that `xtask` has just compiled for this machine.
    pub(crate) async fn deploy(project: &Project, ports: Ports, profile: Profile) -> Result<Self> {
        if profile.release {
            Self::build(project, ports, &project.root).await?;
            return Self::deploy_built(project, ports, &project.root).await;
        }
        let packaged = package(project).await?;
        Self::deploy_template(project, ports, &project.root, Some(&packaged)).await
    }

    /// `sam build` of the release in `folder`, which uses cargo-lambda, as for AWS.
    ///
    /// SAM builds one function at a time. All functions are therefore built beforehand, with the same flags
    /// and on all cores.
    pub(crate) async fn build(project: &Project, ports: Ports, folder: &Path) -> Result<()> {
        build::build_functions(project, folder).await?;
        let step = Step::begin("packaging (sam build)");
        let mut sam = emulated(command(project, "sam"), ports);
        sam.current_dir(folder).args([
            "build",
            "--config-env",
            "local",
            "--parameter-overrides",
            &format!("Architecture={}", architecture()?),
        ]);
        process::run(&step, &project.logs().join("sam-build.log"), sam, BUILD_REMEDY).await?;
        step.done("");
        Ok(())
    }

    /// `sam deploy` of the release in `folder`, which [`build`](Self::build) has built.
    pub(crate) async fn deploy_built(project: &Project, ports: Ports, folder: &Path) -> Result<Self> {
        Self::deploy_template(project, ports, folder, None).await
    }

    /// `sam deploy` of the release in `folder`, with either a packaged template or the output of `sam build`.
    async fn deploy_template(
        project: &Project,
        ports: Ports,
        folder: &Path,
        packaged: Option<&Path>,
    ) -> Result<Self> {
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
        if takes("EventBusName") {
            // The account's own bus, which always exists.
            overrides.push("EventBusName=default".to_owned());
        }
        if takes("Traces") {
            // Unlike Lambda, the emulator gives an invocation a trace id only if it is traced.
            overrides.push("Traces=Active".to_owned());
        }
        if takes("DatabaseSecretArn") {
            overrides.extend([
                format!("DatabaseUrl={}", ports.database_url(ROLE)),
                format!("DatabaseSecretArn={}", secrets::owner(ports).await?),
                // The emulator does not support CodeDeploy.
                "GradualDeployments=false".to_owned(),
            ]);
        } else {
            // This release is older than the role for functions, so its functions connect as the owner.
            overrides.push(format!("DatabaseUrl={}", ports.database_url(OWNER)));
        }
        let mut sam = emulated(command(project, "sam"), ports);
        sam.current_dir(folder)
            .args(["deploy", "--config-env", "local", "--parameter-overrides"])
            .args(overrides);
        if let Some(packaged) = packaged {
            // By default SAM looks for its settings in the folder of the template.
            let settings = folder.join("samconfig.toml");
            sam.arg("--config-file")
                .arg(settings)
                .arg("--template-file")
                .arg(packaged);
        }
        let remedy = "the emulator's log is .local/run/emulator.log";
        process::run(&step, &project.run().join("sam-deploy.log"), sam, remedy).await?;
        let stack = Self {
            aws_endpoint: ports.aws_endpoint(),
            database_url: ports.database_url(OWNER),
            outputs: outputs(project, ports).await?,
            port: ports.emulator,
        };
        cors::repair(ports, &stack.outputs).await?;
        let template = folder.join("template.yaml").display().to_string();
        script(project, ports, "responses.py", &[STACK, &template])
            .await
            .context("cannot make the responses of the WebSocket API")?;
        let file = project.stack_file();
        fs::write(&file, serde_json::to_vec_pretty(&stack)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        step.done(&stack.outputs.http_api_url);
        Ok(stack)
    }

    /// The stack that `cargo xtask up` keeps running. Fails if there is none.
    pub(crate) fn running(project: &Project) -> Result<Self> {
        let text =
            fs::read(project.stack_file()).context("no stack is running; start one: cargo xtask up")?;
        serde_json::from_slice(&text).context("the running stack cannot be read; restart it: cargo xtask up")
    }

    /// Creates a user with the local password, or sets the password of an existing user.
    pub async fn create_user(&self, user: &str) -> Result<()> {
        let pool = &self.outputs.user_pool_id;
        let creating = json!({ "UserPoolId": pool, "Username": user, "MessageAction": "SUPPRESS" });
        let created = emulator::cognito(&self.aws_endpoint, "AdminCreateUser", &creating).await?;
        if !created.is_success() && !created.is("UsernameExistsException") {
            return Err(created.error("cannot create the user"));
        }
        let password =
            json!({ "UserPoolId": pool, "Username": user, "Password": PASSWORD, "Permanent": true });
        let set = emulator::cognito(&self.aws_endpoint, "AdminSetUserPassword", &password).await?;
        if set.is_success() {
            Ok(())
        } else {
            Err(set.error("cannot set the user's password"))
        }
    }

    /// Creates several users, as [`create_user`](Self::create_user) does.
    pub(crate) async fn create_users(&self, users: &[&str]) -> Result<()> {
        for user in users {
            self.create_user(user).await?;
        }
        Ok(())
    }

    /// Signs a user in with the local password.
    pub async fn sign_in(&self, user: &str) -> Result<Session> {
        let pool = UserPool {
            endpoint: self.aws_endpoint.clone(),
            client_id: self.outputs.user_pool_client_id.clone(),
        };
        Session::sign_in(pool, user, PASSWORD)
            .await
            .context("cannot sign in")
    }

    /// A new device of a signed-in user. Its client does not retry, so that every failure is visible.
    pub fn device(&self, session: impl Into<Session>) -> Result<Client> {
        let device_id = DeviceId::from(platform::ids::new_id());
        let device = Client::new(&self.outputs.http_api_url, session, Some(device_id));
        Ok(device
            .context("cannot make a client")?
            .with_retry_budget(Duration::ZERO))
    }
}

/// Packages the functions that cargo has compiled for this machine. Returns the path of a template that
/// refers to the packages.
async fn package(project: &Project) -> Result<PathBuf> {
    let step = Step::begin("packaging");
    let folder = project.root.join(".local/packages");
    let python = project.tools().join("sam/bin/python");
    let mut packaging = command(project, &python.display().to_string());
    packaging
        .args(["tools/stack/package.py", "template.yaml"])
        .arg(build::programs(project))
        .arg(&folder);
    process::run(
        &step,
        &project.logs().join("package.log"),
        packaging,
        BUILD_REMEDY,
    )
    .await?;
    step.done("");
    Ok(folder.join("template.yaml"))
}

async fn outputs(project: &Project, ports: Ports) -> Result<Outputs> {
    let printed = script(project, ports, "outputs.py", &[STACK])
        .await
        .context("cannot read the stack's outputs")?;
    let outputs: Map<String, Value> =
        serde_json::from_slice(&printed).context("the stack's outputs are not JSON")?;
    let outputs: Map<String, Value> = outputs
        .into_iter()
        .map(|(name, value)| (decapitalized(&name), value))
        .collect();
    serde_json::from_value(outputs.into()).context("the stack lacks an output")
}

/// Runs a script of this folder with the emulator's Python, which has the AWS SDK. Returns what it prints.
async fn script(project: &Project, ports: Ports, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let python = project.tools().join("emulator/bin/python");
    let mut script = emulated(command(project, &python.display().to_string()), ports);
    script.arg(format!("tools/stack/{name}")).args(arguments);
    let answer = script.output().await.context("cannot run Python")?;
    if !answer.status.success() {
        bail!("{}", String::from_utf8_lossy(&answer.stderr));
    }
    Ok(answer.stdout)
}

/// An output name of `CloudFormation` in camel case, with a lowercase first letter.
pub(crate) fn decapitalized(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    name
}
